"""Can the label be told without looking at the lungs? Simple models of parts of the image without lungs, and yardsticks."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from lib import metrics, originals, overlap
from lib.stats import Interval, patient_bootstrap
from lib.store import PixelStore

SIDE = 32  # pixels of the images that the probes read
EDGE, CORNER = 3, 7  # pixels of SIDE: width of the border, side of a corner
COMPONENTS = 40  # principal components between pixels and logistic regression
NAMES = {
    "size": "size and aspect ratio of the original alone",
    "cut": "whole JPEG blocks of the original alone",
    "bytes": "length of the file alone",
    "gray": "mean and spread of gray alone",
    "edge": "border and corners alone",
    "no lungs": "image with the lungs blacked out",
    "thumbnail": "16 x 16 thumbnail",
}


def probes(store: PixelStore, *, n_boot: int, seed: int) -> pd.DataFrame:
    """How well each probe, fitted on train, tells pneumonia from normal in validation and test.

    columns: probe (a key of NAMES), split, auc (an Interval that resamples patients; None where all inputs are alike or a
    class is missing)
    """
    truth, rows = store.index["label"].to_numpy(), []
    train = store.rows("train")
    for name, inputs in _inputs(store).items():
        informative = np.ptp(inputs[train], axis=0).max() > 0
        scores = _score(inputs, train, truth[train], seed) if informative else None
        for split in ("val", "test"):
            found = store.rows(split)
            asked = informative and len(np.unique(truth[found])) == 2
            auc = _auc(store, found, truth[found], scores[found], n_boot, seed) if asked else None
            rows.append((name, split, auc))
    return pd.DataFrame(rows, columns=["probe", "split", "auc"])


def lungs(store: PixelStore) -> np.ndarray:
    """Where lungs usually are, bool (SIDE, SIDE): the dark regions inside the mean training image, widened.

    One region for all images: an outline drawn for each would itself tell how dark its lungs are.
    """
    mean = shrunk(store.pixels[store.rows("train")], SIDE).mean(0)
    low, high = SIDE // 8, SIDE - SIDE // 8
    inner = np.zeros((SIDE, SIDE), np.uint8)
    gray = cv2.normalize(mean, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    level, _ = cv2.threshold(
        gray[low:high, low:high].reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU
    )
    inner[low:high, low:high] = gray[low:high, low:high] <= level
    for half in (
        slice(None, SIDE // 2),
        slice(SIDE // 2, None),
    ):  # each lung's largest dark region, filled out
        inner[:, half] = _largest(inner[:, half])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return cv2.dilate(inner, kernel).astype(bool)


def _largest(dark: np.ndarray) -> np.ndarray:
    """The convex hull of the largest connected region of ones; zeros where there is none."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(dark))
    hull = np.zeros_like(dark)
    if count > 1:
        region = labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        points = np.argwhere(region)[:, ::-1].astype(np.int32)
        cv2.fillConvexPoly(hull := np.ascontiguousarray(hull), cv2.convexHull(points), 1)
    return hull


def _inputs(store: PixelStore) -> dict[str, np.ndarray]:
    """What each probe sees of every image, float (N, d)."""
    index = store.index
    small = shrunk(store.pixels, SIDE)
    shape = originals.of(store)
    width, height = shape.to_numpy().T
    size = np.stack([width, height, width / height], axis=1)
    gray = np.stack([small.mean((1, 2)), small.std((1, 2))], axis=1)
    thumbnail = shrunk(store.pixels, 16).reshape(len(small), -1)
    return {
        "size": size,
        "cut": overlap.whole_blocks(shape)[:, None].astype(float),
        "bytes": index[["bytes"]].to_numpy(float),
        "gray": gray,
        "edge": small[:, edge()],
        "no lungs": small[:, ~lungs(store)],
        "thumbnail": thumbnail,
    }


def edge() -> np.ndarray:
    """The border and the corners, bool (SIDE, SIDE)."""
    outside = np.ones((SIDE, SIDE), bool)
    outside[EDGE:-EDGE, EDGE:-EDGE] = False
    far = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]) < CORNER
    return outside | (far[:, None] & far)


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Images uint8 (N, S, S) -> float32 (N, side, side), by averaging areas."""
    return np.stack(
        [cv2.resize(np.asarray(p), (side, side), interpolation=cv2.INTER_AREA) for p in pixels]
    ).astype(np.float32)


def _score(inputs: np.ndarray, train: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
    """Scores of all images by a model of the training images: trees on few numbers, logistic regression on pixels."""
    if inputs.shape[1] < 10:
        model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=seed)
    else:
        components = min(COMPONENTS, inputs.shape[1], len(train) - 1)
        model = make_pipeline(
            StandardScaler(), PCA(components, random_state=seed), StandardScaler(), LogisticRegression(C=0.1, max_iter=500)
        )  # fmt: skip
    with threadpool_limits(1):  # so little work goes faster without threads that wait for each other
        return model.fit(inputs[train], target).predict_proba(inputs)[:, 1]


def _auc(
    store: PixelStore, rows: np.ndarray, truth: np.ndarray, scores: np.ndarray, n_boot: int, seed: int
) -> Interval:
    scored = pd.DataFrame(
        {"patient": store.index["patient"].to_numpy()[rows], "y_true": truth, "score": scores}
    )
    return patient_bootstrap(scored, metrics.auc, n_boot=n_boot, seed=seed)
