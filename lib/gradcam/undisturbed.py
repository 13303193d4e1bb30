"""How is a model asked why, without being changed? Eval mode and no weight gradients for a while; a layer's output, captured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lib.models import CNNLSTM


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Inside: eval mode, autograd on, no parameter recorded. After: every mode and `requires_grad` as it was.

    Gradients of parameters and the statistics of BatchNorm are never touched. With no parameter recorded, the graph
    begins at whatever tensor the caller makes require a gradient: nothing is spent on the layers before it.
    """
    modes = [(module, module.training) for module in model.modules()]
    recorded = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in recorded:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in recorded:
            parameter.requires_grad_(True)
        for module, mode in modes:  # one by one: a model's train() may treat its parts differently
            module.training = mode


class Capture:
    """A forward hook that keeps a layer's output as a leaf of the graph, and passes a copy on.

    The copy is what later layers change in place (Xception's ReLUs do), so `output` stays the layer's own.
    """

    def __init__(self) -> None:
        self.output: Tensor | None = None

    def __call__(self, layer: nn.Module, inputs: tuple, output: object) -> object:
        if not isinstance(output, Tensor):
            self.output = None
            return output
        self.output = output.detach().to(torch.promote_types(output.dtype, torch.float32), copy=True)
        self.output.requires_grad_(True)
        return self.output.to(output.dtype, copy=True)


def logits_of(model: CNNLSTM, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) -> logits (B,), in a way that has a backward pass in eval mode.

    The backbone computes in its own precision; the head reads in that of the images.
    """
    features = model.features(images.to(next(model.backbone.parameters(), images).dtype))
    return classify(model, features.to(images.dtype))


def classify(model: CNNLSTM, features: Tensor) -> Tensor:
    """A map (B, C, h, w) -> logits (B,). On a GPU cuDNN's recurrent backward refuses eval mode; the native one does not."""
    with torch.backends.cudnn.flags(enabled=False):
        return model.classify(features)


def read(model: CNNLSTM, tokens: Tensor) -> Tensor:
    """Tokens (B, T, C) in the model's order -> logits (B,), as `classify`."""
    with torch.backends.cudnn.flags(enabled=False):
        return model.read(tokens)
