"""How sure is a share that few patients miss? Exact bounds, where a bootstrap is too sure of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import beta

from lib.stats import Interval

FEW = 5  # patients with a miss: up to these a bootstrap of a share is too sure of itself


def no_surer_than_counts(found: Interval, trials: int) -> Interval:
    """The interval of a share, as wide at least as the exact one of `trials` independent trials where few of them miss.

    A bootstrap gives a share of 0 or 1 no width, since no resample can differ, and its neighbours too little. The count of
    misses is their share times the trials, so a mean over seeds has one too (Clopper & Pearson 1934; Korn & Graubard 1998).
    Beyond FEW it stands still: the bound of more misses is that of the bootstrap, but never closer to 1 than that of FEW.
    """
    tail = (1 - found.level) / 2
    hits, misses = np.minimum(FEW, trials * np.array([found.estimate, 1 - found.estimate]))
    low = beta.ppf(tail, trials - misses, misses + 1)  # nan without a hit, as high is without a miss
    high = beta.ppf(1 - tail, hits + 1, trials - hits)
    return dataclasses.replace(
        found, low=float(np.fmin(found.low, low)), high=float(np.fmax(found.high, high))
    )
