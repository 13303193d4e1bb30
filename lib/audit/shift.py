"""Is the test set like the training set? Simple measurements of each image, their differences, and a classifier that tells the two apart."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from lib import metrics, originals
from lib.stats import Interval, interval, patient_bootstrap, patient_weights
from lib.store import PixelStore

CLASSES = {0: "normal", 1: "pneumonia"}
EDGE = 0.08  # of the side: the width of the border
NAMES = {
    "mean": "mean gray",
    "spread": "spread of gray",
    "p5": "5th percentile",
    "median": "median gray",
    "p95": "95th percentile",
    "entropy": "entropy",
    "sharpness": "sharpness (log)",
    "border": "border gray",
    "black": "share of black",
    "upper": "upper minus lower half",
    "sides": "left minus right half",
    "width": "width",
    "height": "height",
    "aspect": "width / height",
}


def measure(store: PixelStore) -> pd.DataFrame:
    """One row an image, one column a simple measurement (the keys of NAMES); gray values 0 to 255, sizes of the original."""
    rows = [_measure(np.asarray(image)) for image in store.pixels]
    measured = pd.DataFrame(rows)
    measured[["width", "height"]] = originals.of(store)
    measured["aspect"] = measured["width"] / measured["height"]
    return measured


def _measure(image: np.ndarray) -> dict[str, float]:
    side = len(image)
    share = np.bincount(image.ravel(), minlength=256) / image.size
    levels, below = np.arange(256), share.cumsum()
    mean = share @ levels
    edge = max(1, round(EDGE * side))
    ring = np.concatenate(
        [image[:edge].ravel(), image[-edge:].ravel(), image[:, :edge].ravel(), image[:, -edge:].ravel()]
    )
    filled = share[share > 0]
    return {
        "mean": mean,
        "spread": np.sqrt(share @ (levels - mean) ** 2),
        "p5": np.searchsorted(below, 0.05),
        "median": np.searchsorted(below, 0.5),
        "p95": np.searchsorted(below, 0.95),
        "entropy": -(filled * np.log2(filled)).sum(),
        "sharpness": np.log(cv2.Laplacian(image, cv2.CV_16S).var() + 1),
        "border": ring.mean(),
        "black": share[:10].sum(),
        "upper": image[: side // 2].mean() - image[side // 2 :].mean(),
        "sides": image[:, : side // 2].mean() - image[:, side // 2 :].mean(),
    }


def differences(store: PixelStore, measured: pd.DataFrame, *, n_boot: int, seed: int) -> pd.DataFrame:
    """How test differs from train, one row a class and measurement, in standard deviations of the class in train.

    columns: label, measurement, difference (an Interval that resamples patients). Measurements that do not vary are left out.
    """
    rows = []
    for label in CLASSES:
        part = store.index["label"] == label
        found = store.index[part & store.index["split"].isin(["train", "test"])]
        here = (found["split"] == "test").to_numpy()
        weights = np.concatenate(list(patient_weights(found["patient"], n_boot, seed=seed)))
        for name in measured.columns:
            values = measured.loc[found.index, name].to_numpy(float)
            if (scale := values[~here].std()) > 1e-9:
                rows.append((label, name, _difference(values / scale, here, weights, found)))
    return pd.DataFrame(rows, columns=["label", "measurement", "difference"])


def _difference(values: np.ndarray, here: np.ndarray, weights: np.ndarray, found: pd.DataFrame) -> Interval:
    with np.errstate(invalid="ignore"):
        means = [(weights[:, side] @ values[side]) / weights[:, side].sum(1) for side in (here, ~here)]
    return interval(
        values[here].mean() - values[~here].mean(), means[0] - means[1], level=0.95, n=len(found),
        n_patients=found["patient"].nunique(),
    )  # fmt: skip


def tell_apart(
    store: PixelStore,
    measured: pd.DataFrame,
    *,
    split: str = "test",
    label: int | None = None,
    n_boot: int,
    seed: int,
) -> Interval | None:
    """AUC of a classifier that tells images of `split` from training images by their measurements; 0.5 means alike.

    Gradient-boosted trees, scored on patients they were not fitted on (5 folds by patient); all images, or those of one
    `label`. None where a side has fewer than 5 patients, one a fold.
    """
    keep = store.index["split"].isin(["train", split])
    if label is not None:
        keep &= store.index["label"] == label
    found = store.index[keep]
    truth = (found["split"] == split).to_numpy(int)
    if min(found.loc[truth == side, "patient"].nunique() for side in (0, 1)) < 5:
        return None
    inputs, scores = measured.loc[found.index].to_numpy(float), np.zeros(len(found))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fit, held_out in folds.split(inputs, truth, found["patient"]):
        trees = HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=8, learning_rate=0.1, class_weight="balanced", random_state=seed
        )
        with threadpool_limits(1):  # so little work goes faster without threads that wait for each other
            scores[held_out] = trees.fit(inputs[fit], truth[fit]).predict_proba(inputs[held_out])[:, 1]
    scored = pd.DataFrame({"patient": found["patient"], "y_true": truth, "score": scores})
    return patient_bootstrap(scored, metrics.auc, n_boot=n_boot, seed=seed)
