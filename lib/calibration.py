"""Can a probability be taken at its word? Temperature scaling, and observed against predicted frequency."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from lib import stats
from lib.metrics import BINS

RANGE = (0.05, 20.0)  # of the temperature


def fit_temperature(held: pd.DataFrame) -> float:
    """The temperature T that makes logit / T most likely on images held out (Guo et al. 2017).

    held  columns y_true, logit. T above 1: the model was too sure of itself. Where none of these images is on the wrong
          side of logit 0 there is no best T and the lower bound 0.05 comes out
    Raises ValueError if a class is missing.
    """
    sign = 2 * held["y_true"].to_numpy(dtype=float) - 1
    if len(np.unique(sign)) < 2:
        raise ValueError("temperature scaling needs held-out images of both classes")
    margin = sign * held["logit"].to_numpy(dtype=float)
    if margin.min() >= 0:  # the loss falls with T, for large logits by too little for the search to see
        return RANGE[0]

    def loss(log_temperature: float) -> float:
        return -log_expit(margin / np.exp(log_temperature)).mean()

    found = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-9})
    return float(np.exp(found.x))


def scaled(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The table with `logit` divided by the temperature and `probability` to match."""
    logit = table["logit"] / temperature
    return table.assign(logit=logit, probability=expit(logit.to_numpy()))


def reliability(table: pd.DataFrame, *, n_boot: int = 500, seed: int) -> pd.DataFrame:
    """Observed frequency of pneumonia in 10 equal bins of probability, empty bins left out.

    table    columns patient, y_true, probability
    returns  predicted (mean probability), observed, low, high, n, n_patients; the interval is nan in a bin with images
             of one patient only
    """
    probability = table["probability"].to_numpy()
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    rows = []
    for _, part in table.groupby(bins):
        row = {"predicted": part["probability"].mean(), "observed": part["y_true"].mean()}
        row |= {"low": np.nan, "high": np.nan, "n": len(part), "n_patients": part["patient"].nunique()}
        if row["n_patients"] > 1:
            found = stats.patient_bootstrap(
                part, _frequency, n_boot=n_boot, seed=seed, score="probability", both_classes=False
            )
            row |= {"low": found.low, "high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


@stats.weighted
def _frequency(y_true, score, weights=None):
    return y_true.mean() if weights is None else weights @ y_true / weights.sum(1)
