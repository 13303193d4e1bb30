"""What exactly is asked? Images, a layer and a class, checked; whatever is wrong is named."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lib.models import CNNLSTM

CLASSES = ("normal", "pneumonia")


class ExplainError(ValueError):
    """Something that cannot be explained; the message names it."""


def stages(model: CNNLSTM) -> list[nn.Module]:
    """The backbone's layers in the order in which an image passes them."""
    return model.backbone.stages() if hasattr(model.backbone, "stages") else list(model.backbone.children())


def layer_names(model: CNNLSTM) -> list[str]:
    """Names of the backbone's layers and of a channel reducer, from the image on; any other spatial layer works too."""
    names = {id(module): name for name, module in model.named_modules()}
    last = [] if isinstance(model.channel_reducer, nn.Identity) else [model.channel_reducer]
    return [names[id(part)] for part in [*stages(model), *last]]


def default_layer(model: CNNLSTM) -> str:
    """The last layer of Xception; the last of the `convolutions` of any other backbone. Raises ExplainError where it has none."""
    if hasattr(model.backbone, "stages"):
        names = {id(module): name for name, module in model.named_modules()}
        return names[id(model.backbone.stages()[-1])]
    found = convolutions(model)
    if not found:
        raise ExplainError(f"{type(model).__name__} has no convolution to explain; name a layer")
    return found[-1]


def convolutions(model: CNNLSTM) -> list[str]:
    """The backbone's convolutions from the image on, each after the ReLU that follows it, where one does.

    Before it, a channel's negative values times a negative weight would count as evidence, though the head never sees them.
    """
    names = {id(module): name for name, module in model.named_modules()}
    parts = list(model.backbone.modules())
    return [
        names[id(after if isinstance(after, nn.ReLU) else part)]
        for part, after in itertools.zip_longest(parts, parts[1:])
        if isinstance(part, nn.Conv2d)
    ]


def find_layer(model: CNNLSTM, layer: str | None) -> tuple[str, nn.Module]:
    """The name and the module that `layer` means. Raises ExplainError if the model does not hold it."""
    modules = dict(model.named_modules())
    name = default_layer(model) if layer is None else layer
    if name not in modules or not name:
        offered = layer_names(model)
        near = difflib.get_close_matches(name, [n for n in modules if n], 3, 0.4) or offered[-3:]
        raise ExplainError(
            f"{type(model).__name__} has no layer {name!r}; near it are {', '.join(near)}, "
            "and question.layer_names(model) lists the backbone's"
        )
    return name, modules[name]


def targets_of(target: int | Sequence[int] | Tensor | None, logits: Tensor) -> Tensor:
    """The class to explain for each image, (B,) of 0 and 1. Raises ExplainError for anything else."""
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).nonzero()[0])
        raise ExplainError(
            f"the model's logit for image {bad} is {float(logits[bad].detach())}; are its weights intact?"
        )
    if target is None:
        return (logits > 0).long()
    given = target.tolist() if isinstance(target, (Tensor, np.ndarray)) else target
    each = list(given) if isinstance(given, (list, tuple)) else [given] * len(logits)
    if len(each) != len(logits):
        raise ExplainError(
            f"{len(each)} targets were given for {len(logits)} images; give one, or one an image"
        )
    wrong = [value for value in each if value not in (0, 1)]
    if wrong:
        raise ExplainError(
            f"target is {wrong[0]!r}; it must be 0 (normal), 1 (pneumonia) or None (the predicted class)"
        )
    return torch.tensor([int(value) for value in each], device=logits.device)


def class_score(logits: Tensor, targets: Tensor) -> Tensor:
    """One logit speaks for both classes: the score of pneumonia is the logit, that of normal minus the logit."""
    return logits * (2 * targets - 1)


def checked(images: Tensor) -> Tensor:
    """The images, if they are a batch of finite, normalised images. Raises ExplainError, naming what is wrong."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        found = tuple(images.shape) if hasattr(images, "shape") else type(images).__name__
        raise ExplainError(f"images must be a tensor of shape (B, 3, H, W), not {found}")
    if not images.is_floating_point():
        raise ExplainError(f"images are {images.dtype}; pass them through pixels.to_input first")
    if not len(images):
        raise ExplainError("the batch is empty; there is no image to explain")
    finite = torch.isfinite(images).flatten(1).all(1)
    if not finite.all():
        raise ExplainError(
            f"image {int((~finite).nonzero()[0])} of the batch holds values that are not finite"
        )
    return images.detach()
