"""Where do Xception's ImageNet weights come from? timm's hub or a file, checked against the architecture."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

from lib import files, models
from lib.config import Config
from lib.trouble import SourceError

CLASSIFIERS = (
    "fc.",
    "last_linear.",
    "head.fc.",
    "classifier.",
)  # of 1,000 classes, which the study does not use
INSTEAD = "run `make data WEIGHTS=<file>` with a file of timm's legacy_xception (.safetensors or .pth)"


def take(config: Config, file: Path) -> None:
    """Put the weights of a file at `config.weights_file`. Raises SourceError for a missing, damaged or foreign one."""
    if not file.is_file():
        raise SourceError(f"there is no weights file {file}; {INSTEAD}")
    try:
        state = models.read_weights(file)
    except models.WeightsError as error:
        cause = type(error.__cause__).__name__
        raise SourceError(f"{file} is no weights file that can be read ({cause}); {INSTEAD}") from error
    _keep(config, state, str(file))


def fetch(config: Config) -> None:
    """Put the weights of timm's hub at `config.weights_file`. Raises SourceError without a network."""
    try:
        state = timm.create_model("legacy_xception", features_only=True, pretrained=True).body.state_dict()
    except Exception as error:  # the hub's libraries raise many kinds
        cause = str(getattr(error, "reason", error)).strip().splitlines()
        raise SourceError(
            f"the ImageNet weights of Xception could not be fetched ({cause[0] if cause else type(error).__name__}); "
            f"check the network and run `make data` again, or {INSTEAD}"
        ) from error
    _keep(config, state, "the file of timm's hub")


def _keep(config: Config, state: dict[str, Tensor], origin: str) -> None:
    """Write the backbone's tensors, unless they do not fit it."""
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise SourceError(f"{origin} holds more than the tensors of one model; {INSTEAD}")
    backbone = {
        key.removeprefix("body."): value.clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
        if not key.startswith(CLASSIFIERS)
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / config.weights_file.name
        safetensors.torch.save_file(backbone, file)
        try:
            models.load_weights(models.XceptionBackbone(0).body, file)
        except models.WeightsError as error:
            raise SourceError(f"{str(error).replace(str(file), origin)}; {INSTEAD}") from error
        with files.replacing(config.weights_file) as beside:
            shutil.copyfile(file, beside)
