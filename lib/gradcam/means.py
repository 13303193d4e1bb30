"""What is the mean over images, when patients are resampled, and seeds where there are several?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib import stats
from lib.stats import Draws, Interval

# A percentile interval is too narrow for few patients. In simulations of normal values whose mean is 0, a 95% interval
# leaves 0 out in 49% at 2 patients, 27% at 3, 18% at 4, 15% at 5 and 9% at 8: from fewer than these nothing is concluded.
FEWEST = 8


def known(interval: Interval) -> bool:
    """Whether an interval may be read: it is there, and of at least FEWEST patients."""
    return interval.n_patients >= FEWEST and bool(np.isfinite([interval.low, interval.high]).all())


@stats.weighted
def mean(y_true: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None):
    """Mean score, or under each row of weights (R, n) -> (R,)."""
    return score.mean() if weights is None else weights @ score / weights.sum(1)


def mean_interval(values: np.ndarray, patients: np.ndarray, *, n_boot: int, seed: int) -> Interval:
    """The mean of one value an image, with a patient-bootstrap interval; values that are nan are left out.

    Where fewer than two patients have a value, the interval is nan and says so by its n. Ask `known` before reading it.
    """
    values, patients = np.asarray(values, float), np.asarray(patients)
    kept = np.isfinite(values)
    n_patients = len(np.unique(patients[kept]))
    if n_patients < 2:
        estimate = float(values[kept].mean()) if kept.any() else np.nan
        return Interval(estimate, np.nan, np.nan, 0.95, int(kept.sum()), n_patients)
    table = pd.DataFrame({"patient": patients[kept], "y_true": 0, "score": values[kept]})
    return stats.patient_bootstrap(table, mean, n_boot=n_boot, seed=seed, both_classes=False)


def over_seeds(
    values: np.ndarray, patients: np.ndarray, seeds: Sequence[tuple[int, ...]], *, n_boot: int, seed: int
) -> Interval:
    """The mean of several values an image, patients and seeds resampled; values that are nan are left out.

    values  (R, B), a row for each measurement, such as one a seed or one a pair of seeds
    seeds   of each row, those that it rests on; a row counts as often as all of them were drawn
    """
    if len(values) == 1:
        return mean_interval(values[0], patients, n_boot=n_boot, seed=seed)
    values, patients = np.asarray(values, float), np.asarray(patients)
    kept = np.isfinite(values).any(0)
    n, n_patients = int(kept.sum()), len(np.unique(patients[kept]))
    if n_patients < 2:
        return Interval(
            float(values[np.isfinite(values)].mean()) if n else np.nan, np.nan, np.nan, 0.95, n, n_patients
        )
    valid, filled = np.isfinite(values[:, kept]), np.nan_to_num(values[:, kept])
    images = np.concatenate(
        list(stats.patient_weights(pd.Series(patients[kept]), n_boot, seed=seed))
    )  # (n_boot, B)
    k = len(set(itertools.chain.from_iterable(seeds)))
    drawn = np.random.default_rng([seed, 1]).multinomial(k, np.full(k, 1 / k), size=n_boot)  # (n_boot, k)
    rows = np.stack([drawn[:, list(own)].prod(1) for own in seeds], axis=1)  # (n_boot, R)
    with np.errstate(invalid="ignore"):  # a draw of one seed alone holds no pair
        means = ((rows @ filled) * images).sum(1) / ((rows @ valid) * images).sum(1)
    return Draws(
        np.array([filled.sum() / valid.sum()]), means, n, n_patients, _scarce(values, seeds, k)
    ).interval()


def _scarce(values: np.ndarray, seeds: Sequence[tuple[int, ...]], k: int) -> tuple[tuple[float, int], ...]:
    """The variance of the mean that its k seeds bring along, and their number; nothing where they are too few to tell.

    Of rows that rest on a seed each by their spread, of others by leaving one seed out after the other (jackknife; Tukey 1958).
    """
    alone = all(len(own) == 1 for own in seeds)
    rows = [[n] for n in range(len(values))] if alone else [
        [n for n, own in enumerate(seeds) if left not in own] for left in range(k)
    ]  # fmt: skip
    each = np.array(
        [values[own][np.isfinite(values[own])].mean() for own in rows if np.isfinite(values[own]).any()]
    )
    if len(each) < 2:
        return ()
    return ((float(each.var(ddof=1)) / k if alone else float((k - 1) * each.var()), k),)
