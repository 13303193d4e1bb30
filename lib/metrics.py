"""What is one figure of a set of predictions? Every metric, for one sample or for thousands of resamples at once.

A metric takes (y_true [n], score [n]) and gives a float, or takes weights [r, n] besides and gives r values: image i
then counts weights[k, i] times in resample k. `cells` gives four of each. A metric that a sample does not define (no image of a class, nothing
called positive) is nan, but for MCC. Scores are logits for `cuts` and what ranks, and probabilities of pneumonia for the rest; an image is called pneumonia at
score >= threshold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from lib.stats import weighted

BINS = 10  # of equal width, for the expected calibration error


def _vectorised(function: Callable) -> Callable:
    """A function of (y_true, score, weights [r, n]) -> [r], made to serve a plain sample as well."""

    @functools.wraps(function)
    def metric(y_true, score, weights=None):
        y_true, score = np.asarray(y_true, dtype=float), np.asarray(score, dtype=float)
        plain = weights is None
        with np.errstate(divide="ignore", invalid="ignore"):
            values = function(y_true, score, np.ones((1, len(y_true))) if plain else weights)
        return float(values[0]) if plain else values

    return weighted(metric)


def called(y_true: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives at or above each distinct score, highest score first: two arrays [r, distinct scores]."""
    levels = np.unique(-score)
    return tuple(_counted(np.flatnonzero(of), -score, weights, levels) for of in (y_true == 1, y_true != 1))


def _counted(rows: np.ndarray, score: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """How much of the weights of `rows` lies at or below each of the `levels`, which rise: [r, levels]."""
    rows = rows[np.argsort(score[rows], kind="stable")]
    counted = np.zeros((len(weights), len(rows) + 1))
    np.cumsum(weights[:, rows], axis=1, out=counted[:, 1:])
    return counted[:, np.searchsorted(score[rows], levels, side="right")]


@_vectorised
def auc(y_true, score, weights):
    """Area under the ROC curve: how many of the negatives lie below a positive; ties count half (Hanley & McNeil 1982)."""
    ill, well = np.flatnonzero(y_true == 1), np.flatnonzero(y_true != 1)
    well = well[np.argsort(score[well], kind="stable")]
    first, last = (np.searchsorted(score[well], score[ill], side) for side in ("left", "right"))
    below = np.zeros((len(weights), len(well) + 1))  # how many negatives lie below each, and in all
    np.cumsum(weights[:, well], axis=1, out=below[:, 1:])
    positives = weights[:, ill]
    found = (positives * (below[:, first] + below[:, last])).sum(1) / 2
    return found / (positives.sum(1) * below[:, -1])


@_vectorised
def average_precision(y_true, score, weights):
    """Mean precision over the positives, without interpolation, as scikit-learn defines it."""
    found, wrong = called(y_true, score, weights)
    above, total = found + wrong, found[:, -1]
    precision = found / np.where(above, above, 1)
    return np.where(total, (np.diff(found, axis=1, prepend=0) * precision).sum(1) / total, np.nan)


def sensitivity_at_specificity(target: float) -> Callable:
    """Metric: the highest sensitivity on the ROC curve where specificity is at least `target`.

    A property of the curve: its threshold is read off the same sample, so nobody could have set it beforehand.
    """

    @_vectorised
    def metric(y_true, score, weights):
        found, wrong = called(y_true, score, weights)
        negatives = wrong[:, -1:]
        best = np.where(wrong <= (1 - target) * negatives + 1e-9, found, 0).max(1)
        return np.where(negatives[:, 0] > 0, best / found[:, -1], np.nan)

    metric.__name__ = f"sensitivity_at_{target * 100:g}_specificity"
    return metric


@_vectorised
def brier(y_true, score, weights):
    """Mean squared distance of the probability from the outcome (Brier 1950)."""
    return weights @ (score - y_true) ** 2 / weights.sum(1)


@_vectorised
def log_loss(y_true, score, weights):
    """Mean negative log likelihood, in nats; probabilities are kept off 0 and 1 by one machine epsilon."""
    p = np.clip(score, np.finfo(float).eps, 1 - np.finfo(float).eps)
    return weights @ -(y_true * np.log(p) + (1 - y_true) * np.log1p(-p)) / weights.sum(1)


@_vectorised
def expected_calibration_error(y_true, score, weights):
    """Gap between mean probability and observed frequency, averaged over 10 equal bins by their images (Naeini 2015).

    Never negative, so chance alone makes it positive, and more so in a resample: its interval leans upwards.
    """
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    member = (bins[:, None] == np.arange(BINS)).astype(float)  # (n, bins)
    gaps = weights @ (member * (score - y_true)[:, None])  # (r, bins)
    return np.abs(gaps).sum(1) / weights.sum(1)


def cuts(y_true, score, weights=None) -> dict[str, np.ndarray]:
    """Where to cut, by operating point: a score for each resample [r] ([1] without weights), nan where it lacks a class.

    A cut lies halfway between two neighbouring scores of the images that the resample holds, or 1 beyond the outermost. Of
    several equally good ones Youden's index takes the one nearest to 0; a target of sensitivity or specificity takes the
    cut that costs the other least.
    """
    y_true, score = np.asarray(y_true, dtype=float), np.asarray(score, dtype=float)
    weights = np.ones((1, len(y_true))) if weights is None else weights
    missed, cleared = (
        np.pad(below, ((0, 0), (1, 0))) for below in called(y_true, -score, weights)
    )  # (r, levels + 1): what lies below each cut, the lowest score first
    cut = _halfway(np.unique(score), np.diff(missed + cleared, axis=1) > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = (missed[:, -1:] - missed) / missed[:, -1:]
        specificity = cleared / cleared[:, -1:]
    index = sensitivity + specificity
    best = ~np.isnan(cut) & (index.max(1, keepdims=True) - index <= 1e-12)
    nearest = np.where(best, np.abs(cut), np.inf).argmin(1)
    found = {
        "youden": np.take_along_axis(cut, nearest[:, None], axis=1)[:, 0],
        "sensitivity_95": np.fmax.reduce(np.where(sensitivity >= 0.95, cut, np.nan), axis=1),
        "specificity_90": np.fmin.reduce(np.where(specificity >= 0.90, cut, np.nan), axis=1),
        "specificity_95": np.fmin.reduce(np.where(specificity >= 0.95, cut, np.nan), axis=1),
    }
    return {point: np.where(np.isnan(index[:, 0]), np.nan, values) for point, values in found.items()}


def _halfway(levels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Cuts [r, levels + 1]: one below each level that is held [r, levels], one above all; nan below levels that are not."""
    last = np.maximum.accumulate(np.where(held, np.arange(len(levels)), -1), axis=1)
    before = np.pad(last[:, :-1], ((0, 0), (1, 0)), constant_values=-1)  # the nearest held level further down
    cut = np.where(before < 0, levels - 1, (levels + levels[before]) / 2)
    return np.column_stack([np.where(held, cut, np.nan), levels[last[:, -1]] + 1])


def confusion(y_true, score, weights=None, *, threshold: float | np.ndarray) -> tuple[np.ndarray, ...]:
    """True positives, false positives, false negatives and true negatives, each [r] ([1] without weights).

    threshold  one, or one a resample [r]; at nan all four are nan
    """
    truth = np.stack([np.asarray(y_true) == 1, np.asarray(y_true) != 1], axis=1).astype(float)  # (n, 2)
    threshold = np.reshape(threshold, (-1, 1))
    weights = np.ones((1, len(truth))) if weights is None else weights
    positive = np.where(np.asarray(score) >= threshold, weights, 0.0) @ truth  # (r, 2)
    positive = np.where(np.isnan(threshold), np.nan, positive)
    return *positive.T, *(weights @ truth - positive).T


def cells(threshold: float) -> Callable:
    """Metric of four values: true positives, false positives, false negatives and true negatives at a threshold.

    (y_true [n], score [n]) -> [4], with weights [r, n] besides -> [4, r]. It takes a fourth argument: thresholds [r] of the
    resamples' own, in place of this one.
    """

    @weighted
    def metric(y_true, score, weights=None, own=threshold):
        found = np.stack(confusion(y_true, score, weights, threshold=own))
        return found[:, 0] if weights is None else found

    return metric


def _mcc(tp, fp, fn, tn):
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return np.where(scale == 0, 0.0, (tp * tn - fp * fn) / np.where(scale > 0, scale, 1))


# Each from the four cells. MCC of a model that calls everything alike is 0, its limit (Chicco & Jurman 2020), and so it is where a class is missing.
OPERATING = {
    "accuracy": lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn),
    "balanced_accuracy": lambda tp, fp, fn, tn: (tp / (tp + fn) + tn / (tn + fp)) / 2,
    "f1": lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn),
    "mcc": _mcc,
    "sensitivity": lambda tp, fp, fn, tn: tp / (tp + fn),
    "specificity": lambda tp, fp, fn, tn: tn / (tn + fp),
    "ppv": lambda tp, fp, fn, tn: tp / (tp + fp),
    "npv": lambda tp, fp, fn, tn: tn / (tn + fn),
}
RANKING = {
    "auc": auc,
    "average_precision": average_precision,
    "sensitivity_at_90_specificity": sensitivity_at_specificity(0.90),
    "sensitivity_at_95_specificity": sensitivity_at_specificity(0.95),
}
PROBABILITY = {"brier": brier, "log_loss": log_loss, "ece": expected_calibration_error}
NAMES = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "sensitivity_at_90_specificity": "Sensitivity at 90% specificity",
    "sensitivity_at_95_specificity": "Sensitivity at 95% specificity",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "mcc": "MCC",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "ece": "Expected calibration error",
}


def title(name: str) -> str:
    """What a page calls a metric of NAMES, or one after temperature scaling, such as `brier_scaled`."""
    return NAMES[name.removesuffix("_scaled")] + (
        ", after temperature scaling" if name.endswith("_scaled") else ""
    )


LOWER_IS_BETTER = ("brier", "log_loss", "ece")


def operating(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of OPERATING from the four `cells`, [4] or [4, r]; nan where they do not define it (MCC: 0)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: metric(*cells) for name, metric in OPERATING.items()}
