"""How are training images varied? One random affine map, sharpness, noise and gray-value curve an image, on the batch's own
device; and, further in, the style and the border of their maps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# At strength 1. No flip: the heart lies on the left, and a mirrored chest is another finding.
ROTATION = math.radians(20)
SCALE = 0.25
SHIFT = 0.15  # of half the frame
SHARPNESS = 0.7  # share of the fine structure that is taken away or added
NOISE = 0.1  # largest standard deviation, of half the gray range
BRIGHTNESS = 0.35  # of half the gray range
CONTRAST = 0.5  # log2 of the factor
GAMMA = 0.7  # log2 of the exponent


def augment(images: Tensor, strength: float, generator: torch.Generator, *, stretch: float = 0.0) -> Tensor:
    """Images (B, 1 or 3, H, W) in [-1, 1] -> the same shape, each varied on its own; strength 0 and stretch 0 change nothing.

    generator  a CPU generator: the same draws whatever the device
    stretch    largest change of the width alone, as the log of the factor. Squashing to a square turned the aspect ratio of
               an original into the width of the chest; this loosens whatever bond that has with the class
    """
    if strength == stretch == 0:
        return images
    drawn = 2 * torch.rand(len(images), 10, generator=generator) - 1  # (B, 10)
    draws = (strength * drawn).to(images.device, images.dtype)
    grid = _grid(draws[:, :5], *images.shape[2:])
    if stretch:
        factor = torch.exp(stretch * (2 * torch.rand(len(images), generator=generator) - 1)).to(grid)
        grid = torch.stack([grid[..., 0] * factor[:, None, None], grid[..., 1]], -1)
    varied = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    brightness, contrast, gamma, sharpness, noise = (draws[:, k, None, None, None] for k in range(5, 10))
    varied = torch.lerp(_blurred(varied), varied, 1 + SHARPNESS * sharpness)
    grain = torch.randn(len(images), 1, *images.shape[2:], generator=generator).to(varied)
    varied = varied + NOISE * noise.abs() * grain
    # In place: on a CPU, fresh memory costs more than the arithmetic.
    varied.add_(1).mul_(0.5).clamp_(1e-6, 1).pow_(torch.exp2(GAMMA * gamma))
    factor = torch.exp2(CONTRAST * contrast)
    return varied.mul_(2 * factor).add_(BRIGHTNESS * brightness - factor).clamp_(-1, 1)


def _blurred(images: Tensor) -> Tensor:
    """The mean of 5 x 5 pixels around each: what is left is the fine structure."""
    return F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


def _grid(draws: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel is taken from, (B, H, W, 2) as (x, y) in [-1, 1]: rotation, a scale along each axis, a shift."""
    angle = ROTATION * draws[:, 0]
    wide, high = 1 + SCALE * draws[:, 1], 1 + SCALE * draws[:, 2]
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = _centres(width, draws), _centres(height, draws)
    columns = torch.stack([cos * wide, sin * wide], -1)[:, None, :] * x[:, None]  # (B, W, 2)
    rows = torch.stack([-sin * high, cos * high], -1)[:, None, :] * y[:, None]  # (B, H, 2)
    return columns[:, None] + (rows + SHIFT * draws[:, None, 3:5])[:, :, None]


def _centres(count: int, like: Tensor) -> Tensor:
    return (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1) / count - 1


STYLE_BETA = 0.3  # of the Beta distribution that mixes two styles: mostly one of them, seldom half and half


def mix_style(maps: Tensor, share: float) -> Tensor:
    """Maps (B, C, h, w) -> the same shape, where `share` of the images take on some of another image's style.

    The style is the mean and the spread of each channel: exposure, contrast and the like, which here go with the class,
    while the arrangement stays (MixStyle, Zhou et al. 2021). Draws from torch's own random numbers.
    """
    mean = maps.mean((2, 3), keepdim=True, dtype=torch.float32)  # (B, C, 1, 1)
    spread = (maps.float().var((2, 3), keepdim=True) + 1e-6).sqrt()
    other = torch.randperm(len(maps), device=maps.device)
    mixing = torch.distributions.Beta(STYLE_BETA, STYLE_BETA).sample((len(maps), 1, 1, 1)).to(maps.device)
    own = torch.where(torch.rand_like(mixing) < share, mixing, 1.0)
    new_mean = torch.lerp(mean[other], mean, own)
    new_spread = torch.lerp(spread[other], spread, own)
    return ((maps - mean) / spread * new_spread + new_mean).to(maps.dtype)


BORDER = 0.22  # of the side: the widest border that is exchanged, 3 of the 14 cells that Xception's frozen prefix leaves


def mix_border(maps: Tensor, share: float) -> Tensor:
    """Maps (B, C, h, w) -> the same shape, where `share` of the images take the border of another image's map.

    What surrounds the lungs (arms, collimation, markers, background) goes with the class here, and less so in other places.
    A border that may be anyone's says less (the cells that are kept have seen their own). Each side's width is drawn on its own, up to BORDER: CutMix
    (Yun et al. 2019) with the window in the middle, whose label stays. Draws from torch's own random numbers.
    """
    count, (height, width) = len(maps), maps.shape[2:]
    other = torch.randperm(count)
    widest = (torch.tensor([height, height, width, width]) * BORDER).long()  # top, bottom, left, right
    cut = (torch.rand(count, 4) * (widest + 1)).long() * (torch.rand(count, 1) < share)
    rows, columns = torch.arange(height), torch.arange(width)
    inside = (rows >= cut[:, :1]) & (rows < height - cut[:, 1:2])  # (B, h)
    across = (columns >= cut[:, 2:3]) & (columns < width - cut[:, 3:])  # (B, w)
    kept = (inside[:, None, :, None] & across[:, None, None, :]).to(maps.device)
    return torch.where(kept, maps, maps[other.to(maps.device)])
