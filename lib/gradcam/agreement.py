"""Do two models, or two seeds of one, mark the same places? Beyond what any two chest radiographs share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

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

    sets    two or more, each (B, h, w)
    called  (B,) what the images are called; maps of images called otherwise are not compared
    Patients are resampled, and the sets along with them where there are more than two: two have but one pair. What maps of two
    patients share depends on both, so for `beyond` each patient is resampled in either part (the projection of Hajek 1968).
    Each pair is compared by itself: in one long list of all pairs, a set would meet itself under other patients' maps.
    """
    patients, called = np.asarray(patients), np.asarray(called)
    pairs = list(itertools.combinations(range(len(sets)), 2))
    found = [_compared(sets[a], sets[b], patients, called) for a, b in pairs]
    same, as_first, as_second = (np.stack(values) for values in zip(*found, strict=True))  # (pairs, B)
    kept = np.isfinite(same) & np.isfinite(as_first) & np.isfinite(as_second)
    other = np.array(
        [own[use].mean() if use.any() else np.nan for own, use in zip(as_first, kept, strict=True)]
    )
    shared = as_first + as_second - other[:, None]
    how = {"seeds": pairs, "n_boot": n_boot, "seed": seed}
    return Agreement(
        over_seeds(same, patients, **how),
        float(as_first[kept].mean()) if kept.any() else float("nan"),
        over_seeds(same - shared, patients, **how),
    )


def _compared(
    first: np.ndarray, second: np.ndarray, patients: np.ndarray, called: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlation of each patient's first map with its second one; on average of its first with the second ones of others, and of
    its second with the first ones of others: (B,) each."""
    totals, counted = np.zeros((2, len(first))), np.zeros((2, len(first)))
    for shift in range(1, len(first)):
        partner = np.roll(np.arange(len(first)), shift)
        wanted = (patients != patients[partner]) & (called == called[partner]) & (counted[0] < OTHERS)
        if wanted.any():
            found = rank_correlation(first[wanted], second[partner[wanted]])
            for part, who in enumerate((wanted, partner[wanted])):
                totals[part, who] += np.nan_to_num(found)
                counted[part, who] += np.isfinite(found)
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is no other patient: nan
        as_first, as_second = totals / counted
    return rank_correlation(first, second), as_first, as_second
