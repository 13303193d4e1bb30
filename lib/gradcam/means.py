"""What is the mean over images, when patients are resampled?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib import stats
from lib.stats import Interval

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
