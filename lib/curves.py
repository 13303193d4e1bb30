"""What do the ROC and the precision-recall curve look like, and how far could they lie elsewhere?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from lib import evaluate, metrics, stats

GRID = np.linspace(0, 1, 101)


def roc(tables: Sequence[pd.DataFrame], *, n_boot: int = 500, seed: int = 42) -> pd.DataFrame:
    """Sensitivity of one model along the share of false alarms, with a pointwise 95% band.

    tables   predictions, one a seed; the mean over seeds is drawn, and the band resamples patients and seeds
    returns  columns x (1 - specificity), y (sensitivity), low, high; 101 rows
    """
    return _banded(tables, _sensitivity, n_boot=n_boot, seed=seed)


def precision_recall(tables: Sequence[pd.DataFrame], *, n_boot: int = 500, seed: int = 42) -> pd.DataFrame:
    """Precision of one model where sensitivity first reaches x, as `roc`: columns x, y, low, high."""
    return _banded(tables, _precision, n_boot=n_boot, seed=seed)


def _sensitivity(found: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """What is called positive, [r, distinct scores] twice -> sensitivity [r, grid] where at most x of the negatives are; nan without any."""
    total = found[:, -1:]
    false_alarms = wrong / wrong[:, -1:]
    reached = np.concatenate([np.zeros_like(total), found / total], axis=1)
    steps = [np.searchsorted(row, GRID + 1e-12, side="right") for row in false_alarms]
    return np.where(wrong[:, -1:] > 0, np.take_along_axis(reached, np.array(steps), axis=1), np.nan)


def _precision(found: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """What is called positive, [r, distinct scores] twice -> precision [r, grid] where sensitivity is at least x first."""
    called, share = found + wrong, found / found[:, -1:]
    first = np.maximum(GRID, 1e-12)  # a threshold that finds nothing has no precision
    steps = np.array([np.searchsorted(row, first - 1e-13, side="left") for row in share])
    steps = np.minimum(steps, share.shape[1] - 1)
    precision = np.take_along_axis(found, steps, axis=1) / np.take_along_axis(called, steps, axis=1)
    return np.where(found[:, -1:] > 0, precision, np.nan)


def _banded(tables: Sequence[pd.DataFrame], curve: Callable, *, n_boot: int, seed: int) -> pd.DataFrame:
    tests = [evaluate.part(table, "test") for table in tables]
    lines, clouds = map(np.array, zip(*(_drawn(test, curve, n_boot, seed) for test in tests), strict=True))
    # As intervals of single figures are, of few seeds too: point by point along x.
    bands = [
        stats.over_seeds(lines[:, x], clouds[:, :, x], tests, seed=seed, stream=0).interval()
        for x in range(len(GRID))
    ]
    columns = {
        "y": [b.estimate for b in bands],
        "low": [b.low for b in bands],
        "high": [b.high for b in bands],
    }
    return pd.DataFrame({"x": GRID} | columns)


def _drawn(test: pd.DataFrame, curve: Callable, n_boot: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The curve of one seed's test images [grid], and in every resample of their patients [n_boot, grid]."""
    sample = test["y_true"].to_numpy(dtype=float), test["logit"].to_numpy(dtype=float)
    line = curve(*metrics.called(*sample, np.ones((1, len(test)))))[0]
    pieces = stats.patient_weights(test["patient"], n_boot, seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        return line, np.concatenate([curve(*metrics.called(*sample, weights)) for weights in pieces])
