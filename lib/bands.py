"""How much of each size of detail does an image hold? Radiographs brought to one spectrum, before a model sees them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 14  # pixels of a side: a finer image is halved once more
MOST = 4.0  # times a band is amplified at most, so that a blurred image's noise stays noise
MARGIN = (0.05, 0.1)  # of height and width, on each side: what lies there (markers, black frame) has no say


class EvenBands(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> the same shape, each octave of detail with the spread that training images have.

    Exposure, contrast and sharpness tell the classes apart here and differ between places; their spectrum is taken from all
    images alike, and where things lie is left. An image is split by a Laplacian pyramid (Burt & Adelson 1983) and
    each band is scaled to a reference, as in energy-based normalisation of chest radiographs (Philipsen et al. 2015), here
    once and over the whole image. The mean becomes 0.
    """

    # Standard deviations, the finest band first and what the pyramid leaves last: means over training images of 224 pixels.
    SPREADS = (0.025, 0.044, 0.068, 0.095, 0.133, 0.247)

    def forward(self, images: Tensor) -> Tensor:
        left, bands = images.float().mean(1, keepdim=True), []  # (B, 1, H, W)
        while min(left.shape[2:]) >= SMALLEST and len(bands) < len(self.SPREADS) - 1:
            coarse = F.avg_pool2d(left, 2, ceil_mode=True)
            bands.append(left - _enlarged(coarse, left))
            left = coarse
        evened = _scaled(left, self.SPREADS[-1])
        for band, spread in reversed(list(zip(bands, self.SPREADS, strict=False))):
            evened = _enlarged(evened, band) + _scaled(band, spread)
        evened = evened.expand(-1, 3, -1, -1).to(images.dtype)
        return evened.contiguous(memory_format=torch.channels_last)


def _enlarged(coarse: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(coarse, like.shape[2:], mode="bilinear", align_corners=False)


def _scaled(band: Tensor, spread: float) -> Tensor:
    """(B, 1, h, w) less its mean and at the given spread; both are those of the middle of the image."""
    rows, columns = (round(share * side) for share, side in zip(MARGIN, band.shape[2:], strict=True))
    middle = band[..., rows : band.shape[2] - rows, columns : band.shape[3] - columns]
    variance, mean = torch.var_mean(middle, (2, 3), keepdim=True)
    # Clamped before the root, which has no slope at 0: an explanation's flat baseline gets gradients too.
    return (band - mean) * (spread / variance.clamp(min=(spread / MOST) ** 2).sqrt())
