"""How does a map become a picture? Scaling to [0, 1], colours, and the blend with the image."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np

from lib.gradcam.geometry import Grid

COLOURS = (
    "inferno"  # perceptually uniform; the original notebook's "jet" invents edges where the map has none
)


def resize(maps: np.ndarray, size: tuple[int, int], grid: Grid | None = None) -> np.ndarray:
    """Maps (B, h, w) -> (B, H, W), bilinear; size is (H, W).

    grid  where the cells look; beyond the outermost ones their value goes on. None: they tile the image evenly.
    """
    height, width = size
    if grid is None:
        return np.stack([cv2.resize(m.astype(np.float32), (width, height)) for m in maps])
    rows, columns = ((np.arange(side) - grid.start) / grid.step for side in size)
    places = [np.float32(axis) for axis in np.meshgrid(columns, rows)]
    how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    return np.stack([cv2.remap(m.astype(np.float32), *places, **how) for m in maps])


def blank(maps: np.ndarray) -> np.ndarray:
    """Which of the maps (B, h, w) show no place above another: all zero, or the same everywhere up to rounding. (B,)"""
    flat = maps.reshape(len(maps), -1)
    return ~(np.ptp(flat, axis=1) > 1e-6 * np.abs(flat).max(axis=1))


def scale(maps: np.ndarray) -> np.ndarray:
    """Maps (B, h, w) -> [0, 1]; a blank map becomes nan, since scaling would turn its rounding into a picture.

    Each map goes from its own minimum to its own maximum, so strengths cannot be compared between images.
    """
    maps = np.asarray(maps, np.float32)
    empty = blank(maps)
    scaled = np.full_like(maps, np.nan)
    low = maps.min(axis=(1, 2), keepdims=True)[~empty]
    high = maps.max(axis=(1, 2), keepdims=True)[~empty]
    scaled[~empty] = (maps[~empty] - low) / (high - low)
    return scaled


def heat(scaled: np.ndarray, *, colours: str = COLOURS) -> np.ndarray:
    """Scaled maps (B, H, W) -> colours (B, H, W, 3), uint8. What is nan (a blank map) becomes gray."""
    try:
        table = matplotlib.colormaps[colours].with_extremes(bad="0.5")
    except KeyError:
        raise ValueError(
            f"there is no colour map {colours!r}; take inferno, viridis, cividis or jet"
        ) from None
    return table(np.ma.masked_invalid(scaled), bytes=True)[..., :3]


def blend(pixels: np.ndarray, colours: np.ndarray, *, alpha: float = 0.4) -> np.ndarray:
    """Gray images (B, H, W) under colours (B, H, W, 3), both uint8; alpha 0 shows the image, 1 the colours."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 (the image alone) and 1 (the map alone)")
    under = np.repeat(np.asarray(pixels, np.float32)[..., None], 3, axis=-1)
    return np.rint((1 - alpha) * under + alpha * colours).astype(np.uint8)
