"""How are training images varied? One random affine map and gray-value curve an image, on the batch's own device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# At strength 1. No flip: the heart lies on the left, and a mirrored chest is another finding.
ROTATION = math.radians(20)
SCALE = 0.25
SHIFT = 0.15  # of half the frame
BRIGHTNESS = 0.35  # of half the gray range
CONTRAST = 0.5  # log2 of the factor
GAMMA = 0.7  # log2 of the exponent


def augment(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Images (B, 1 or 3, H, W) in [-1, 1] -> the same shape, each varied on its own; strength 0 changes nothing.

    generator  a CPU generator: the same draws whatever the device
    """
    if strength == 0:
        return images
    draws = (
        2 * torch.rand(len(images), 8, generator=generator) - 1
    ) * strength  # (B, 8) in [-strength, strength]
    draws = draws.to(images.device)
    grid = F.affine_grid(_affine(draws[:, :5]), list(images.shape), align_corners=False)
    varied = F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)
    brightness, contrast, gamma = (draws[:, column, None, None, None] for column in (5, 6, 7))
    gray = ((varied + 1) / 2).clamp(1e-6, 1) ** torch.exp2(GAMMA * gamma)
    varied = (2 * gray - 1) * torch.exp2(CONTRAST * contrast) + BRIGHTNESS * brightness
    return varied.clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def _affine(draws: Tensor) -> Tensor:
    """Draws (B, 5) -> matrices (B, 2, 3) of rotation, scale along each axis and shift."""
    angle, wide, high = ROTATION * draws[:, 0], 1 + SCALE * draws[:, 1], 1 + SCALE * draws[:, 2]
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos * wide, -sin * high, SHIFT * draws[:, 3], sin * wide, cos * high, SHIFT * draws[:, 4]]
    return torch.stack(rows, dim=1).view(-1, 2, 3)
