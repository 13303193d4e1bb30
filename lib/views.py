"""How is one image read more than once? The same image at several zooms, whose logits are averaged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def zoomed(images: Tensor, zoom: float) -> Tensor:
    """Images (B, C, H, W) in [-1, 1] -> the same shape, enlarged about the centre by `zoom`; black beyond the frame.

    Averaging over such views at test time (Krizhevsky et al. 2012) leaves the weights as they are.
    """
    if zoom == 1:
        return images
    about_centre = torch.tensor(
        [[1 / zoom, 0, 0], [0, 1 / zoom, 0]], dtype=images.dtype, device=images.device
    )
    grid = F.affine_grid(about_centre.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    seen = F.grid_sample(images + 1, grid, align_corners=False) - 1  # outside is 0, and 0 is black only so
    return seen.contiguous(memory_format=torch.channels_last)
