"""How do images reach a model? Batches of the store in a seeded order, as normalised tensors, varied on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lib.augment import augment as vary
from lib.store import PixelStore, prepare

__all__ = ["PixelStore", "batches", "prepare", "to_input"]


def to_input(pixels: Tensor) -> Tensor:
    """uint8 (B, S, S) -> float (B, 3, S, S) with mean 0.5 and std 0.5 taken off, channels_last."""
    return _coloured(_scaled(pixels))


def batches(
    store: PixelStore,
    rows: np.ndarray,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
    augment: float = 0.0,
    stretch: float = 0.0,
) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
    """Batches (images (B, 3, S, S), labels float (B,), rows (B,)) of the given rows.

    generator  shuffles the rows and draws the augmentation; without one the rows keep their order
    augment    strength, 0 to 1; needs a generator
    stretch    largest log of the factor by which the width alone is varied; needs a generator
    Raises ValueError for augmentation without a generator.
    """
    if (augment or stretch) and generator is None:
        raise ValueError(
            f"augment is {augment} and stretch {stretch}; augmentation needs a generator to draw from"
        )
    rows = np.asarray(rows)
    if generator is not None:
        rows = rows[torch.randperm(len(rows), generator=generator).numpy()]
    labels = store.index["label"].to_numpy(np.float32)
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        gray = _scaled(torch.as_tensor(store.pixels[chosen]).to(device, non_blocking=True))
        if augment or stretch:
            gray = vary(gray, augment, generator, stretch=stretch)
        yield _coloured(gray), torch.from_numpy(labels[chosen]).to(device), chosen


def _scaled(pixels: Tensor) -> Tensor:
    return pixels[:, None].float().div_(127.5).sub_(1)  # (B, 1, S, S): (v / 255 - 0.5) / 0.5


def _coloured(gray: Tensor) -> Tensor:
    return gray.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)  # (B, 3, S, S)
