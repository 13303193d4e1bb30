"""Where in the image does a logit come from? Class activation maps of a whole batch, from any spatial layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lib import memory
from lib.gradcam import overlay
from lib.gradcam.geometry import Grid, grid_of
from lib.gradcam.question import (
    ExplainError,
    checked,
    class_score,
    default_layer,
    find_layer,
    stages,
    targets_of,
)
from lib.gradcam.undisturbed import Capture, classify, logits_of, undisturbed
from lib.inference import folded
from lib.models import CNNLSTM

METHODS = ("gradcam", "gradcam++", "ablation")
ABLATED_AT_ONCE = 2**24  # values of a layer's input held for the ablated copies of an image


@dataclass(frozen=True)
class Maps:
    """One map an image, not scaled: what speaks for the target, at the layer's resolution.

    values   (B, h, w) float32, zero or more
    logits   (B,) float32, positive for pneumonia
    targets  (B,) the class explained, 0 normal, 1 pneumonia
    size     (H, W) of the images
    grid     where in the image the cells look; None where they tile it evenly
    """

    values: np.ndarray
    logits: np.ndarray
    targets: np.ndarray
    layer: str
    method: str
    size: tuple[int, int]
    grid: Grid | None = None

    @property
    def blank(self) -> np.ndarray:
        """(B,) which maps are all zero, or the same everywhere: the image has no explanation here."""
        return overlay.blank(self.values)

    def take(self, positions: Sequence[int]) -> Maps:
        """The maps of some of the images."""
        chosen = {name: getattr(self, name)[positions] for name in ("values", "logits", "targets")}
        return replace(self, **chosen)

    def pictures(self) -> np.ndarray:
        """(B, H, W) at the size of the images, not scaled: each cell where it looks."""
        return overlay.resize(self.values, self.size, self.grid)

    def scaled(self) -> np.ndarray:
        """(B, H, W) in [0, 1] at the size of the images, each by its own range. A blank map is nan."""
        return overlay.scale(self.pictures())

    def heat(self, *, colours: str = overlay.COLOURS) -> np.ndarray:
        """(B, H, W, 3) uint8: the heat maps, each scaled by its own range. A blank map is gray."""
        return overlay.heat(self.scaled(), colours=colours)

    def overlay(
        self, images: Tensor | np.ndarray, *, alpha: float = 0.4, colours: str = overlay.COLOURS
    ) -> np.ndarray:
        """(B, H, W, 3) uint8: the heat maps over the images, which show through a blank map unchanged.

        images  as given to `explain` (B, 3, H, W), or gray pixels (B, H, W) uint8
        """
        pixels = to_pixels(images) if isinstance(images, Tensor) else images
        pictures = overlay.blend(pixels, self.heat(colours=colours), alpha=alpha)
        pictures[self.blank] = pixels[self.blank][..., None]
        return pictures


def explain(
    model: CNNLSTM,
    images: Tensor,
    *,
    layer: str | None = None,
    target: int | Sequence[int] | Tensor | None = None,
    method: str = "gradcam",
    fast: bool = False,
) -> Maps:
    """Class activation maps of a batch (B, 3, H, W): one forward pass, and one backward pass down to the layer.

    layer   the dotted name of a module; None: the last layer of Xception, the last convolution of the custom model, as in
            the original notebook, both after their ReLU
    target  1 (pneumonia, the logit), 0 (normal, minus the logit), one of these for each image, or None: the class that
            each image's logit predicts, at probability 0.5
    method  gradcam (Selvaraju et al. 2017), gradcam++ (Chattopadhay et al. 2018) or ablation, which takes no gradient:
            a channel's weight is the loss of score without it, at one reading a live channel (after Desai & Ramaswamy
            2020, who divide it by the score, which would turn a map around where the score is negative)
    fast    a folded copy of the backbone in bfloat16, for about twice the speed where the processor has it; maps differ
            in their third decimal. For the default layer only, and not for ablation, whose small differences of score
            it would drown: everything else is computed as without it.
    The model keeps its mode, its gradients and its statistics, whatever happens. Raises ExplainError for a layer that
    is not there or not spatial, a target outside the classes, an unknown method, an empty batch or values not finite.
    """
    if method not in METHODS:
        raise ExplainError(f"unknown method {method!r}; the methods are {', '.join(METHODS)}")
    images = checked(images)
    name, module = find_layer(model, layer)
    capture = Capture()
    memory.keep_freed_memory()
    with undisturbed(model):
        # Channels last, the layout that convolutions run fastest in.
        images = images.to(next(model.parameters()).device, memory_format=torch.channels_last)
        quick = fast and method != "ablation" and name == default_layer(model)
        asked = _quick_copy(model) if quick else model
        with asked.get_submodule(name).register_forward_hook(capture):
            logits = logits_of(asked, images)
        activation = _spatial(capture.output, name)
        targets = targets_of(target, logits)
        score = class_score(logits, targets)
        if method == "ablation":
            weights = _ablation_weights(model, images, module, activation.detach(), score.detach(), targets)
        else:
            (gradient,) = torch.autograd.grad(score.sum(), activation)
            weights = WEIGHTS[method](activation.detach(), gradient)
        values = torch.einsum("bc,bchw->bhw", weights, activation.detach()).relu()
    return Maps(
        values=values.float().cpu().numpy(),
        logits=logits.detach().float().cpu().numpy(),
        targets=targets.cpu().numpy(),
        layer=name,
        method=method,
        size=tuple(images.shape[2:]),
        grid=grid_of(model, module, images.shape[-1]),
    )


def _quick_copy(model: CNNLSTM) -> CNNLSTM:
    """The same model up to rounding: BatchNorm folded away and the backbone in bfloat16, the head the model's own."""
    twin = copy.copy(model)
    twin._modules = dict(model._modules)  # what is replaced below stays in the model
    twin.backbone = folded(model.backbone, torch.bfloat16)
    twin.channel_reducer = folded(model.channel_reducer, torch.bfloat16)
    return twin


def explain_in_batches(model: CNNLSTM, images: Tensor, *, batch_size: int = 16, target=None, **how) -> Maps:
    """`explain` for more images than fit into memory at once: the same maps, `batch_size` images at a time."""
    images = checked(images)
    target = target.tolist() if isinstance(target, (Tensor, np.ndarray)) else target
    parts = []
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        own = target[chosen] if isinstance(target, (list, tuple)) else target
        parts.append(explain(model, images[chosen], target=own, **how))
    joined = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in ("values", "logits", "targets")
    }
    return replace(parts[0], **joined)


def _gradcam_weights(activation: Tensor, gradient: Tensor) -> Tensor:
    """(B, C): the mean gradient of each channel."""
    return gradient.mean((2, 3))


def _gradcam_pp_weights(activation: Tensor, gradient: Tensor) -> Tensor:
    """(B, C): positive gradients, weighted by equation 19 of the paper.

    The paper's activations are rectified; rectifying them here keeps the denominator positive at a convolution, too.
    """
    total = activation.relu().sum((2, 3), keepdim=True)
    # The squared gradient is cancelled from both sides of the fraction, so small gradients do not underflow.
    alpha = 1 / (2 + total * gradient.relu())
    return (alpha * gradient.relu()).sum((2, 3))


WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam_weights,
    "gradcam++": _gradcam_pp_weights,
}


@torch.no_grad()
def _ablation_weights(
    model: CNNLSTM, images: Tensor, module: nn.Module, activation: Tensor, score: Tensor, targets: Tensor
) -> Tensor:
    """(B, C): by how much the target's score falls when a channel is set to zero."""
    start, parts = _from_layer_on(model, module)
    entered: list[Tensor] = []
    with start.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].clone())):
        model.features(images)
    inputs = entered[0]
    at_once = max(1, min(128, ABLATED_AT_ONCE // inputs[0].numel()))
    weights = torch.zeros(activation.shape[:2], device=activation.device)
    for i in range(len(images)):
        live = activation[i].abs().amax((1, 2)).nonzero().squeeze(1)  # a silent channel loses nothing
        for channels in live.split(at_once):
            x = inputs[i : i + 1].repeat(len(channels), 1, 1, 1)
            with module.register_forward_hook(_without(channels)):
                for part in parts:
                    x = part(x)
            without = class_score(classify(model, x), targets[i])
            weights[i, channels] = score[i] - without
    return weights


def _without(channels: Tensor) -> Callable:
    """A forward hook that silences channel k of `channels` in image k of the batch."""

    def hook(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        output[torch.arange(len(channels)), channels] = 0
        return output

    return hook


def _from_layer_on(model: CNNLSTM, module: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The part of the model that holds `module`, and the parts from there to the tokens."""
    parts = [*stages(model), model.channel_reducer]
    for i, part in enumerate(parts):
        if any(module is inner for inner in part.modules()):
            return part, parts[i:]
    return model.backbone, [model.backbone, model.channel_reducer]


def to_pixels(images: Tensor) -> np.ndarray:
    """Normalised images (B, 3, H, W) -> gray pixels (B, H, W), uint8."""
    gray = images.detach().float().mean(1) * 0.5 + 0.5
    return (gray * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _spatial(output: Tensor | None, name: str) -> Tensor:
    if output is None or output.ndim != 4:
        shape = "none, or not one tensor" if output is None else str(tuple(output.shape))
        raise ExplainError(
            f"the layer {name!r} is not spatial: its output must be (B, C, h, w), and is {shape}"
        )
    return output
