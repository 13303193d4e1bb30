"""Do two models differ on the same images? DeLong, McNemar, and the difference a test set could have shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm, rankdata, t


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test of no difference: first minus second."""

    name: str
    difference: float
    error: float  # standard error of the difference; nan where the test has none
    p_value: float
    n: int
    n_patients: int


def delong(y_true, first, second, *, patient=None) -> PairedTest:
    """Difference of two AUCs on the same images (DeLong, DeLong & Clarke-Pearson 1988).

    y_true   [n] 0 or 1; first, second  scores [n]
    patient  [n] or None; with it, images of one patient may resemble one another (Obuchowski 1997): the parts of a
             patient's images are added up before the variance is taken. Without it every image counts as a patient.
    Raises ValueError if a class has fewer than 2 patients.
    """
    y_true = np.asarray(y_true) == 1
    patient = np.arange(len(y_true)) if patient is None else pd.factorize(np.asarray(patient), sort=True)[0]
    for label, members in (("pneumonia", y_true), ("normal", ~y_true)):
        if len(np.unique(patient[members])) < 2:
            raise ValueError(f"DeLong's test needs at least 2 patients of each class; {label} has fewer")
    parts = [_placements(y_true, np.asarray(score, dtype=float)) for score in (first, second)]
    aucs = [placement[y_true].mean() for placement in parts]
    difference = aucs[0] - aucs[1]
    error = np.sqrt(max(_clustered_variance(parts[0] - parts[1], difference, y_true, patient), 0.0))
    if error < 1e-12:  # the same ranking twice, or a change that no image contradicts
        p_value = 1.0 if abs(difference) < 1e-12 else 0.0
    else:
        p_value = 2 * norm.sf(abs(difference) / error)
    return PairedTest(
        "DeLong", float(difference), float(error), float(p_value), len(y_true), int(patient.max()) + 1
    )


def _placements(y_true: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Share of the other class that each image is rightly above or below, [n] (Sun & Xu 2014: by midranks)."""
    overall = rankdata(score)
    placements = np.empty(len(score))
    placements[y_true] = (overall[y_true] - rankdata(score[y_true])) / (~y_true).sum()
    placements[~y_true] = 1 - (overall[~y_true] - rankdata(score[~y_true])) / y_true.sum()
    return placements


def _clustered_variance(parts: np.ndarray, mean: float, y_true: np.ndarray, patient: np.ndarray) -> float:
    """Obuchowski's variance of a mean of placements, or of a difference of two."""
    centred = parts - mean
    sums, terms = [], 0.0
    for members in (y_true, ~y_true):
        clusters = len(np.unique(patient[members]))
        total = np.bincount(patient[members], centred[members], minlength=patient.max() + 1) / members.sum()
        terms += clusters / (clusters - 1) * (total**2).sum()
        sums.append(total)
    everyone = len(np.unique(patient))
    return terms + 2 * everyone / (everyone - 1) * (sums[0] * sums[1]).sum()


def mcnemar(y_true, first, second, *, patient=None) -> PairedTest:
    """Exact test of equal accuracy from the images that only one model gets right (McNemar 1947).

    y_true         [n] 0 or 1; first, second  calls [n], true for pneumonia
    patient        [n] or None, to count patients; the test itself takes images as independent and the calls as given: of
                   many images of a patient, or of calls at thresholds that few patients chose, its p-value is too small
    """
    y_true = np.asarray(y_true) == 1
    right = [(np.asarray(calls) == 1) == y_true for calls in (first, second)]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    n_patients = len(y_true) if patient is None else len(np.unique(np.asarray(patient)))
    difference = (only_first - only_second) / len(y_true)
    return PairedTest("McNemar", difference, float("nan"), float(p_value), len(y_true), n_patients)


def detectable(error: float, freedom: float = np.inf) -> float:
    """The smallest true difference that a two-sided test at 5% finds with a probability of 80%.

    error    standard error of the difference
    freedom  its degrees of freedom: Student's quantiles, as in the interval of few seeds
    """
    return float((t.ppf(0.975, freedom) + t.ppf(0.8, freedom)) * error)
