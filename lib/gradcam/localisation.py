"""Where does a map's mass lie? Border and corners (shortcuts), and known lesions (phantoms)."""

from __future__ import annotations

import numpy as np

from lib.gradcam.overlay import blank, resize, scale

BORDER = 0.1  # width of the frame, as a share of the side
CORNER = 0.2  # side of a corner's square, as a share of the side


def regions(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The border's frame and the four corners' squares, bool (H, W), where markers, tubes and text live."""
    height, width = size
    y = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None] / height
    x = np.minimum(np.arange(width), np.arange(width)[::-1])[None] / width
    return {"border": (y < BORDER) | (x < BORDER), "corners": (y < CORNER) & (x < CORNER)}


def mass_ratio(values: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A map's share of mass in `region` over the region's share of area, (B,): 1 is what an even map has; nan if blank.

    values  maps (B, h, w), zero or more; region  bool (H, W)
    """
    mass = resize(values, region.shape).clip(min=0)
    total = mass.sum(axis=(1, 2))
    inside = mass[:, region].sum(1) / np.where(total > 0, total, 1)
    return np.where(blank(values) | (total <= 0), np.nan, inside / region.mean())


def pointing(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Whether each map's highest point lies in the lesion (Zhang et al. 2018, without their tolerance of 15 pixels), (B,) of 0 and
    1. A blank map misses.

    masks  bool (B, H, W), each with a lesion
    """
    _check(values, masks)
    pictures = resize(values, masks.shape[1:]).reshape(len(masks), -1)
    hits = masks.reshape(len(masks), -1)[np.arange(len(masks)), pictures.argmax(1)]
    return np.where(blank(values), 0.0, hits.astype(float))


def soft_iou(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Overlap of each scaled map with the lesion: sum of minima over sum of maxima, (B,), 0 to 1. A blank map has 0."""
    _check(values, masks)
    pictures = np.nan_to_num(scale(resize(values, masks.shape[1:])))
    lesion = masks.astype(np.float32)
    return np.minimum(pictures, lesion).sum((1, 2)) / np.maximum(pictures, lesion).sum((1, 2))


def _check(values: np.ndarray, masks: np.ndarray) -> None:
    if len(values) != len(masks):
        raise ValueError(f"{len(values)} maps and {len(masks)} masks do not belong together")
    without = ~masks.any(axis=(1, 2))
    if without.any():
        raise ValueError(
            f"the mask of image {int(np.flatnonzero(without)[0])} is empty; it has no lesion to find"
        )
