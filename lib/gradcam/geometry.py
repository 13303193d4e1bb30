"""Where in the image does a cell of a layer's map look? Centres of receptive fields."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lib.gradcam.question import stages
from lib.models import CNNLSTM

WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Grid:
    """Cell k of a row or column looks at pixel `start + k * step`, counted from 0 at the first pixel's middle."""

    start: float
    step: float


def grid_of(model: CNNLSTM, layer: nn.Module, side: int) -> Grid | None:
    """The grid of a layer of the backbone, for images of `side` pixels (Araujo et al. 2019, doi 10.23915/distill.00021).

    The cells of a network without padding, such as the first layers of Xception, do not tile the image evenly: at 224
    pixels the 7 x 7 cells of its last layer look 12.5 pixels further up and left than even tiles would.
    None where cells do tile it evenly, as after an adaptive pooling, or where the layer is no part of backbone or reducer.
    """
    passed = _passed(model, layer)
    if passed is None:
        return None
    start, step = 0.0, 1.0
    for module in passed:
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return None
        if isinstance(module, nn.Upsample):
            step *= side / _first(module.size)
            start = (start + 0.5) * step - 0.5
        elif isinstance(module, WINDOWS):
            dilation = _first(getattr(module, "dilation", 1))
            reach = dilation * (_first(module.kernel_size) - 1) / 2 - _first(module.padding)
            start += reach * step
            step *= _first(module.stride)
    return Grid(start, step)


def _passed(model: CNNLSTM, layer: nn.Module) -> list[nn.Module] | None:
    """The modules that an image passes up to the end of `layer`; a block's shortcut, which keeps step with it, is left out."""
    named = [pair for part in [*stages(model), model.channel_reducer] for pair in part.named_modules()]
    inner = {id(module) for module in layer.modules()}
    ends = [k for k, (_, module) in enumerate(named) if id(module) in inner]
    if not ends:
        return None
    return [module for name, module in named[: ends[-1] + 1] if "skip" not in name or module is layer]


def _first(value) -> int:
    return value[0] if isinstance(value, tuple) else value
