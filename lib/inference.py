"""How does a part that is not being trained run fast? BatchNorm folded into convolutions, reduced precision, no autograd."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lib.models import CNNLSTM


def folded(module: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of `module` for inference: each BatchNorm folded into the convolution before it, weights in `dtype`.

    A BatchNorm belongs to the last convolution registered before it, which holds for Xception and for the channel
    reducer. Raises ValueError where their channels do not match.
    """
    twin = copy.deepcopy(module).eval().requires_grad_(False)
    convolution = None
    for name, layer in list(twin.named_modules()):
        if isinstance(layer, nn.Conv2d):
            convolution = layer
        elif isinstance(layer, nn.BatchNorm2d):
            if convolution is None or convolution.out_channels != layer.num_features:
                raise ValueError(
                    f"the BatchNorm {name!r} has no convolution of {layer.num_features} channels before it"
                )
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight, convolution.bias, layer.running_mean, layer.running_var, layer.eps,
                layer.weight, layer.bias,
            )  # fmt: skip
            twin.set_submodule(name, nn.Identity())
            convolution = None
    return twin.to(dtype).to(memory_format=torch.channels_last)


class Frozen(nn.Module):
    """The frozen prefix of a model, folded: images (B, 3, H, W) -> what the trained rest takes.

    Images themselves where the model has no frozen prefix.
    """

    def __init__(self, model: CNNLSTM, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        stages = getattr(model.backbone, "frozen_stages", 0)
        self.stages = folded(nn.Sequential(*model.backbone.stages()[:stages]), dtype) if stages else None

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return images if self.stages is None else self.stages(images.to(self.dtype))


class Rest(nn.Module):
    """What follows the frozen prefix: its output -> logits (B,). This is the module that is trained."""

    def __init__(self, model: CNNLSTM) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        backbone = self.model.backbone
        features = getattr(backbone, "trainable_part", backbone)(x)
        return self.model.classify(self.model.channel_reducer(features))


class FastRest(nn.Module):
    """A folded copy of the trained rest, for evaluation: output of `Frozen` -> logits (B,), float32.

    The map is computed in `dtype`; the head reads it in float32, since logits in bfloat16 would tie.
    """

    def __init__(self, model: CNNLSTM, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        stages = getattr(model.backbone, "frozen_stages", 0)
        rest = nn.Sequential(*model.backbone.stages()[stages:]) if stages else model.backbone
        self.features = folded(nn.Sequential(rest, model.channel_reducer), dtype)
        self.head = copy.deepcopy(
            nn.ModuleDict({"sequence": model.sequence, "classifier": model.classifier})
        ).eval()
        self.reorder = model.reorder

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x.to(self.dtype)).float()
        height, width = features.shape[2:]
        tokens = self.reorder(features.flatten(2).transpose(1, 2), height, width)
        return self.head["classifier"](self.head["sequence"](tokens)).squeeze(1)
