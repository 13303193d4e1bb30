"""Which patients does a thumbnail not tell apart? Pairs of one normal and one with pneumonia that look alike from afar, or that
were taken alike as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from lib import images, overlap
from lib.config import fingerprint

SIDE = 16  # pixels of a thumbnail: outline, exposure and collimation, no fine structure
COMPONENTS = 40
FOLDS = 5
CALIPER = 0.1  # largest difference of a pair's scores, in log-odds
DECIMALS = 3  # of a score, so that machines that sum in another order choose the same pairs
# The pairs of the published runs. They were chosen before the scores were computed to the last digit, when another
# processor chose other pairs (168 of 203 images the same), so they are read, and every machine continues those runs.
PUBLISHED = Path(__file__).with_name("pairs.json")


def patients(
    table: pd.DataFrame, pixels: np.ndarray, *, share: float, seed: int, size: pd.DataFrame | None = None
) -> set[str]:
    """The patients of at most `share` of `table`, as many normal as ill, between whom a thumbnail does not decide.

    Matching (Rosenbaum & Rubin 1985) on the log-odds of pneumonia that a thumbnail gives, each patient scored by a
    model that was fitted without that patient. Among such pairs the shortcuts that a thumbnail shows are worth nothing,
    so what tells them apart is something else: what is in the lungs, but also what else a thumbnail does not show, such as
    the size of the original and how it was cut. With `size`, the score also has these and a thumbnail of the original's
    centre square, so that pairs are alike in them too.

    table   columns label and patient (never empty), one row an image
    pixels  uint8 (N, S, S), the rows of `table`; with `size`, squashed copies
    size    columns width and height of the originals, pixels, the rows of `table`
    """
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    if (question := asked(table, share=share, seed=seed, everything=size is not None)) in published:
        return set(published[question])
    folds = min(FOLDS, table["patient"].nunique())
    scored = table[["patient", "label"]].assign(score=_scores(table, pixels, folds, size))
    found = _pairs(scored.groupby("patient").agg(label=("label", "max"), score=("score", "mean")))
    most = max(1, round(share * table["patient"].nunique() / 2))
    chosen = np.random.default_rng(seed).permutation(len(found))[:most]
    return {patient for place in chosen for patient in found[place]}


def asked(table: pd.DataFrame, *, share: float, seed: int, everything: bool = False) -> str:
    """Under which name PUBLISHED keeps the pairs of these patients, whatever the packaging of their images."""
    known = table[["patient", "label"]].drop_duplicates().sort_values(["patient", "label"])
    return fingerprint([share, seed, known.to_csv(index=False), *(["everything"] if everything else [])])


def _scores(
    table: pd.DataFrame, pixels: np.ndarray, folds: int, size: pd.DataFrame | None = None
) -> np.ndarray:
    """Log-odds of pneumonia, (N,), by an image's thumbnail; with `size` also by its centre square's and how it was taken."""
    shown = [pixels] if size is None else [pixels, _centre_squares(pixels, size)]
    seen = [np.stack([images.fit(image, SIDE, "squash").ravel() for image in kind]) for kind in shown]
    reduced = PCA(min(COMPONENTS, len(table) // 2), svd_solver="full")
    parts = [(reduced, slice(k * SIDE**2, (k + 1) * SIDE**2)) for k in range(len(seen))]
    if size is not None:
        parts.append((PolynomialFeatures(2, include_bias=False), slice(len(seen) * SIDE**2, None)))
        seen.append(_taken(size))
    # Newton's method ends where the likelihood does, to ten digits; a quasi-Newton one stops short, elsewhere on every machine.
    fitted = LogisticRegression(C=0.1, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    model = make_pipeline(make_column_transformer(*parts), StandardScaler(), fitted)
    with threadpool_limits(1):  # small matrices
        scores = cross_val_predict(
            model, np.hstack(seen).astype(np.float64), table["label"], groups=table["patient"], cv=GroupKFold(folds), method="decision_function"
        )  # fmt: skip
    return scores.round(DECIMALS)


def _centre_squares(squashed: np.ndarray, size: pd.DataFrame) -> Iterator[np.ndarray]:
    """What of each squashed copy (S, S) is the centre square of its original."""
    for image, width, height in zip(squashed, size["width"], size["height"], strict=True):
        rows, columns = (round(len(image) * min(width, height) / side) for side in (height, width))
        top, left = (len(image) - rows) // 2, (len(image) - columns) // 2
        yield np.ascontiguousarray(image[top : top + rows, left : left + columns])


def _taken(size: pd.DataFrame) -> np.ndarray:
    """How images were taken, (N, 3): the logs of their originals' height and aspect ratio, and whether these are whole JPEG blocks."""
    high, wide = size["height"].to_numpy(), size["width"].to_numpy()
    return np.column_stack([np.log(high), np.log(wide / high), overlap.whole_blocks(size)])


def _pairs(scored: pd.DataFrame) -> list[tuple[str, str]]:
    """(normal, ill) patients within the caliper, paired so that the differences add up to the least."""
    normal, ill = (scored[scored["label"] == label] for label in (0, 1))
    apart = np.abs(np.subtract.outer(normal["score"].to_numpy(), ill["score"].to_numpy()))
    close = apart <= CALIPER
    rows, columns = linear_sum_assignment(np.where(close, apart, len(scored)))
    return [(normal.index[i], ill.index[j]) for i, j in zip(rows, columns, strict=True) if close[i, j]]
