"""Where do Xception's ImageNet weights come from? timm's hub or a file, checked against the architecture."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from lib import files, models
from lib.config import Config
from lib.errors import SourceError

CLASSIFIERS = (
    "fc.",
    "last_linear.",
    "head.fc.",
    "classifier.",
)  # of 1,000 classes, which the study does not use
# `digest` of the weights that the recorded results started from: those of Keras Applications, under timm's names.
PUBLISHED = "e64053ffef76b1277d58adef192cfb56517efda8d632ddd22af56a43383c68b5"
INSTEAD = "run `make data WEIGHTS=<file>` with a file of timm's legacy_xception (.safetensors or .pth)"


def take(config: Config, file: Path) -> bool:
    """Put the weights of a file at `config.weights_file`; whether they are the published ones.

    Raises SourceError for a missing, damaged or foreign file.
    """
    if not file.is_file():
        raise SourceError(f"there is no weights file {file}; {INSTEAD}")
    try:
        state = models.read_weights(file)
    except models.WeightsError as error:
        cause = type(error.__cause__).__name__
        raise SourceError(f"{file} is no weights file that can be read ({cause}); {INSTEAD}") from error
    return _keep(config, state, str(file))


def fetch(config: Config) -> bool:
    """Put the weights of timm's hub at `config.weights_file`; whether they are the published ones.

    Raises SourceError without a network.
    """
    try:
        state = timm.create_model("legacy_xception", features_only=True, pretrained=True).body.state_dict()
    except Exception as error:  # the hub's libraries raise many kinds
        cause = str(getattr(error, "reason", error)).strip().splitlines()
        raise SourceError(
            f"the ImageNet weights of Xception could not be fetched ({cause[0] if cause else type(error).__name__}); "
            f"check the network and run `make data` again, or {INSTEAD}"
        ) from error
    return _keep(config, state, "the file of timm's hub")


def digest(body: nn.Module) -> str:
    """SHA-256 of a backbone's weights in half precision, in which files of single and of half precision are the same."""
    found = hashlib.sha256()
    for name, value in sorted(body.state_dict().items()):
        if not name.endswith("num_batches_tracked"):  # a counter, which published files leave out
            found.update(name.encode())
            found.update(value.half().contiguous().numpy().tobytes())
    return found.hexdigest()


def _keep(config: Config, state: dict[str, Tensor], origin: str) -> bool:
    """Write the backbone's tensors, unless they do not fit it or are no numbers; whether they are the published ones."""
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise SourceError(f"{origin} holds more than the tensors of one model; {INSTEAD}")
    backbone = {
        key.removeprefix("body."): value.clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
        if not key.startswith(CLASSIFIERS)
    }
    if broken := [key for key, value in backbone.items() if not torch.isfinite(value).all()]:
        raise SourceError(
            f"{origin} is damaged: {len(broken)} of its tensors hold values that are no numbers, such as {broken[0]}; {INSTEAD}"
        )
    body = models.XceptionBackbone(0).body
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / config.weights_file.name
        try:
            safetensors.torch.save_file(backbone, file)
        except safetensors.SafetensorError as error:
            raise SourceError(
                f"the weights could not be written to {folder} ({error}); free some disk space there, or name another "
                "place in TMPDIR, and run `make data` again"
            ) from error
        try:
            models.load_weights(body, file)
        except models.WeightsError as error:
            raise SourceError(f"{str(error).replace(str(file), origin)}; {INSTEAD}") from error
        kept = config.weights_file
        if not (
            kept.exists() and files.sha256(kept) == files.sha256(file)
        ):  # the same again makes nothing out of date
            with files.replacing(kept) as beside:
                shutil.copyfile(file, beside)
    return digest(body) == PUBLISHED
