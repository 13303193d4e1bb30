"""How alike are two maps of one image? Rank correlation and structural similarity."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.stats import rankdata

from lib.gradcam.overlay import blank


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of maps (B, h, w) with maps (B, h, w), image by image: (B,); nan where one is blank."""
    _check(a, b)
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (a, b)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    norm = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    empty = blank(a) | blank(b)
    return np.where(empty, np.nan, (centred[0] * centred[1]).sum(1) / np.where(norm > 0, norm, 1))


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of maps scaled to [0, 1], (B, H, W): (B,); nan where one is blank (nan).

    Gaussian window of 11 pixels with standard deviation 1.5, constants (0.01, 0.03), as in the paper.
    """
    _check(a, b)
    return np.array([_ssim(x.astype(np.float64), y.astype(np.float64)) for x, y in zip(a, b, strict=True)])


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    if np.isnan(x).any() or np.isnan(y).any():
        return np.nan
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((found / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean())


def _window(x: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(
            f"maps must have one shape (B, h, w) to be compared; these have {a.shape} and {b.shape}"
        )
