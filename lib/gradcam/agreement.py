"""Do two models, or two seeds of one, mark the same places? Beyond what any two chest radiographs share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lib.gradcam.means import over_seeds
from lib.gradcam.similarity import rank_correlation
from lib.stats import Interval

OTHERS = 64  # images of other patients that each map is compared with, at most


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of two sets of maps, or on average of every two of several.

    same      of the same image, mean and interval
    other     one set's map with another's maps of other patients whose images are called the same: agreement that
              owes nothing to the image but its class
    beyond    same - other, with its interval
    """

    same: Interval
    other: float
    beyond: Interval


def agree(
    sets: Sequence[np.ndarray],
    patients: np.ndarray,
    called: np.ndarray,
    *,
    n_boot: int,
    seed: int,
) -> Agreement:
    """Agreement over every two of several sets of maps of the same B images, such as those of two models or of several seeds.

    sets    two or more, each (B, h, w), h and w its own; two are compared at the coarser resolution of them
    called  (B,) what the images are called; maps of images called otherwise are not compared
    Patients are resampled, and the sets along with them where there are more than two: two have but one pair.
    Each pair is compared by itself: in one long list of all pairs, a set would meet itself under other patients' maps.
    """
    patients, called = np.asarray(patients), np.asarray(called)
    pairs = list(itertools.combinations(range(len(sets)), 2))
    found = [_compared(sets[a], sets[b], patients, called) for a, b in pairs]
    same, expected = (np.stack(values) for values in zip(*found, strict=True))  # (pairs, B)
    kept = np.isfinite(same) & np.isfinite(expected)
    how = {"seeds": pairs, "n_boot": n_boot, "seed": seed}
    return Agreement(
        over_seeds(same, patients, **how),
        float(expected[kept].mean()) if kept.any() else float("nan"),
        over_seeds(same - expected, patients, **how),
    )


def _compared(
    first: np.ndarray, second: np.ndarray, patients: np.ndarray, called: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each of the first maps with the second of the same image, and on average of other patients: (B,) each."""
    side = tuple(min(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True))
    a, b = (
        np.stack([cv2.resize(m, side[::-1], interpolation=cv2.INTER_AREA) for m in maps])
        for maps in (first, second)
    )
    total, counted = np.zeros(len(a)), np.zeros(len(a))
    for shift in range(1, len(a)):
        partner = np.roll(np.arange(len(a)), shift)
        wanted = (patients != patients[partner]) & (called == called[partner]) & (counted < OTHERS)
        if wanted.any():
            found = np.full(len(a), np.nan)
            found[wanted] = rank_correlation(a[wanted], b[partner[wanted]])
            total += np.nan_to_num(found)
            counted += np.isfinite(found)
    expected = np.where(counted > 0, total / np.maximum(counted, 1), np.nan)
    return rank_correlation(a, b), expected
