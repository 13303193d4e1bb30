"""Where in the image does a logit come from? Class activation maps of a whole batch, from any spatial layer."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lib import overlay
from lib.models import CNNLSTM
from lib.undisturbed import Capture, classify, hooked, logits_of, undisturbed

METHODS = ("gradcam", "gradcam++", "ablation")
CLASSES = ("normal", "pneumonia")
ABLATED_AT_ONCE = 2**24  # values of a layer's input held for the ablated copies of an image


class ExplainError(ValueError):
    """Something that cannot be explained; the message names it."""


@dataclass(frozen=True)
class Maps:
    """One map an image, not scaled: what speaks for the target, at the layer's resolution.

    values   (B, h, w) float32, zero or more
    logits   (B,) float32, positive for pneumonia
    targets  (B,) the class explained, 0 normal, 1 pneumonia
    size     (H, W) of the images
    """

    values: np.ndarray
    logits: np.ndarray
    targets: np.ndarray
    layer: str
    method: str
    size: tuple[int, int]

    @property
    def blank(self) -> np.ndarray:
        """(B,) which maps are all zero, or the same everywhere: the image has no explanation here."""
        return overlay.blank(self.values)

    def scaled(self, *, by: str = "image") -> np.ndarray:
        """(B, H, W) in [0, 1] at the size of the images, each by its own range (`by="batch"`: by a common one).

        A blank map is nan.
        """
        return overlay.scale(overlay.resize(self.values, self.size), by=by)

    def heat(self, *, colours: str = overlay.COLOURS, by: str = "image") -> np.ndarray:
        """(B, H, W, 3) uint8: the heat maps. A blank map is gray."""
        return overlay.heat(self.scaled(by=by), colours=colours)

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
    layer: str | nn.Module | None = None,
    target: int | str | Sequence[int] | Tensor | None = None,
    method: str = "gradcam",
) -> Maps:
    """Class activation maps of a batch (B, 3, H, W): one forward pass, and one backward pass down to the layer.

    layer   a module of the model or its dotted name; None: the last layer of Xception, the last convolution of the
            custom model, as in the original notebook
    target  1 (pneumonia, the logit), 0 (normal, minus the logit), "logit" (the same as 1), one of these for each image,
            or None: the class that each image's logit predicts, at probability 0.5
    method  gradcam (Selvaraju et al. 2017), gradcam++ (Chattopadhay et al. 2018) or ablation, which takes no gradient:
            a channel's weight is the loss of score without it (Desai & Ramaswamy 2020), at one reading a live channel
    The model keeps its mode, its gradients and its statistics, whatever happens. Raises ExplainError for a layer that
    is not there or not spatial, a target outside the classes, an unknown method, an empty batch or values not finite.
    """
    if method not in METHODS:
        raise ExplainError(f"unknown method {method!r}; the methods are {', '.join(METHODS)}")
    images = checked(images)
    name, module = find_layer(model, layer)
    capture = Capture()
    with undisturbed(model):
        # Channels last, the layout that convolutions run fastest in.
        images = images.to(next(model.parameters()).device, memory_format=torch.channels_last)
        with hooked(module, capture):
            logits = logits_of(model, images)
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
    )


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
    with hooked(start, lambda _, inputs: entered.append(inputs[0].clone()), before=True):
        model.features(images)
    inputs = entered[0]
    at_once = max(1, min(128, ABLATED_AT_ONCE // inputs[0].numel()))
    weights = torch.zeros(activation.shape[:2], device=activation.device)
    for i in range(len(images)):
        live = activation[i].abs().amax((1, 2)).nonzero().squeeze(1)  # a silent channel loses nothing
        for channels in live.split(at_once):
            x = inputs[i : i + 1].repeat(len(channels), 1, 1, 1)
            with hooked(module, _without(channels)):
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


def stages(model: CNNLSTM) -> list[nn.Module]:
    """The backbone's layers in the order in which an image passes them."""
    return model.backbone.stages() if hasattr(model.backbone, "stages") else list(model.backbone.children())


def layer_names(model: CNNLSTM) -> list[str]:
    """Names of the backbone's layers and of a channel reducer, from the image on; any other spatial layer works too."""
    names = {id(module): name for name, module in model.named_modules()}
    last = [] if isinstance(model.channel_reducer, nn.Identity) else [model.channel_reducer]
    return [names[id(part)] for part in [*stages(model), *last]]


def default_layer(model: CNNLSTM) -> str:
    """The last layer of Xception (after its ReLU); the last convolution (before it) of any other backbone."""
    names = {id(module): name for name, module in model.named_modules()}
    if hasattr(model.backbone, "stages"):
        return names[id(model.backbone.stages()[-1])]
    convolutions = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        raise ExplainError(f"{type(model).__name__} has no convolution to explain; name a layer")
    return names[id(convolutions[-1])]


def find_layer(model: CNNLSTM, layer: str | nn.Module | None) -> tuple[str, nn.Module]:
    """The name and the module that `layer` means. Raises ExplainError if the model does not hold it."""
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        for name, module in modules.items():
            if module is layer:
                return name, module
        raise ExplainError(f"the layer {type(layer).__name__} given is not part of {type(model).__name__}")
    name = default_layer(model) if layer is None else layer
    if name not in modules or not name:
        offered = layer_names(model)
        near = difflib.get_close_matches(str(name), [n for n in modules if n], 3, 0.4) or offered[-3:]
        raise ExplainError(
            f"{type(model).__name__} has no layer {name!r}; near it are {', '.join(near)}, "
            "and gradcam.layer_names(model) lists the backbone's"
        )
    return name, modules[name]


def targets_of(target: int | str | Sequence[int] | Tensor | None, logits: Tensor) -> Tensor:
    """The class to explain for each image, (B,) of 0 and 1. Raises ExplainError for anything else."""
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).nonzero()[0])
        raise ExplainError(
            f"the model's logit for image {bad} is {float(logits[bad])}; are its weights intact?"
        )
    if target is None:
        return (logits > 0).long()
    if isinstance(target, str):
        target = 1 if target == "logit" else target
    given = target.tolist() if isinstance(target, (Tensor, np.ndarray)) else target
    each = list(given) if isinstance(given, (list, tuple)) else [given] * len(logits)
    if len(each) != len(logits):
        raise ExplainError(
            f"{len(each)} targets were given for {len(logits)} images; give one, or one an image"
        )
    wrong = [value for value in each if value not in (0, 1)]
    if wrong:
        raise ExplainError(
            f"target is {wrong[0]!r}; it must be 0 (normal), 1 (pneumonia), 'logit' or None (the predicted class)"
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
