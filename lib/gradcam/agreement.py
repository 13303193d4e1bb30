"""Do two models, or two seeds of one, mark the same places? Beyond what any two chest radiographs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lib.gradcam.means import mean_interval
from lib.gradcam.similarity import rank_correlation
from lib.stats import Interval

OTHERS = 64  # images of other patients that each map is compared with, at most


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of two sets of maps.

    same      of the same image, mean and interval
    other     the first set's map with the second's maps of other patients: agreement that owes nothing to the image
    beyond    same - other, with its interval
    """

    same: Interval
    other: float
    beyond: Interval


def agree(
    first: np.ndarray, second: np.ndarray, patients: np.ndarray, *, n_boot: int, seed: int
) -> Agreement:
    """Agreement of maps (B, h, w) with maps (B, h', w') of the same B images, at the coarser of the two resolutions."""
    return agree_over([(first, second)], patients, n_boot=n_boot, seed=seed)


def agree_over(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], patients: np.ndarray, *, n_boot: int, seed: int
) -> Agreement:
    """Agreement over pairs of sets of maps of the same B images, such as every two of several seeds.

    Each pair is compared by itself: in one long list of all pairs, a set would meet itself under other patients' maps.
    """
    found = [_compared(first, second, np.asarray(patients)) for first, second in pairs]
    same, expected = (np.concatenate(values) for values in zip(*found, strict=True))  # (pairs * B,)
    patients = np.tile(patients, len(pairs))
    kept = np.isfinite(same) & np.isfinite(expected)
    return Agreement(
        mean_interval(same, patients, n_boot=n_boot, seed=seed),
        float(expected[kept].mean()) if kept.any() else float("nan"),
        mean_interval(same - expected, patients, n_boot=n_boot, seed=seed),
    )


def _compared(first: np.ndarray, second: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each of the first maps with the second of the same image, and on average of other patients: (B,) each."""
    side = tuple(min(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True))
    a, b = (
        np.stack([cv2.resize(m, side[::-1], interpolation=cv2.INTER_AREA) for m in maps])
        for maps in (first, second)
    )
    other = np.full((len(a), len(a)), np.nan)
    for shift in np.unique(np.linspace(1, len(a) - 1, min(len(a) - 1, OTHERS)).round().astype(int)):
        partner = np.roll(np.arange(len(a)), shift)
        different = patients != patients[partner]
        other[shift] = np.where(different, rank_correlation(a, b[partner]), np.nan)
    counted = np.isfinite(other).sum(0)
    expected = np.where(counted > 0, np.nansum(other, axis=0) / np.maximum(counted, 1), np.nan)
    return rank_correlation(a, b), expected
