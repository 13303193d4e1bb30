"""What did a model say of which image, and where is the line drawn? Predictions tables, their splits, thresholds.

A predictions table has the columns image, patient, split, subtype, y_true and logit; a model has one a seed. Its splits are
val, test and, where the profile draws them, calibration. Thresholds and temperatures are chosen on the calibration rows,
or without them on the validation rows; every figure is of the test rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from lib import metrics, stats
from lib.config import MODELS

COLUMNS = ("image", "patient", "split", "subtype", "y_true", "logit")
POINTS = {
    "half": "0.5",
    "youden": "Youden's index",
    "sensitivity_95": "sensitivity at least 95%",
    "specificity_90": "specificity at least 90%",
    "specificity_95": "specificity at least 95%",
}
CHOSEN = "youden"  # the operating point of the headline

Predictions = dict[str, Sequence[pd.DataFrame]]  # by model, one table a seed


def read(path: Path) -> pd.DataFrame:
    """A predictions table from CSV, every logit as it was written, with its `probability`.

    Raises ValueError, naming the file, when columns are missing or a logit is not a number.
    """
    try:
        return with_probability(pd.read_csv(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a predictions table: {error}") from error


def recorded(folder: Path) -> Predictions:
    """The recorded predictions tables below a results folder, by model, in the order of their seeds."""
    tables = {}
    for model in MODELS:
        paths = (folder / "predictions").glob(f"{model}-seed*.csv")
        paths = [path for path in paths if not path.stem.endswith(".history")]
        if paths:
            tables[model] = [read(path) for path in sorted(paths, key=_seed)]
    return tables


def _seed(path: Path) -> int:
    return int(path.stem.split("-seed")[1])


def with_probability(table: pd.DataFrame) -> pd.DataFrame:
    """The table and its column `probability`, the sigmoid of the logit."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"it lacks the columns {', '.join(missing)}")
    logits = pd.to_numeric(table["logit"])
    if not np.isfinite(logits).all():
        bad = table.loc[~np.isfinite(logits), "image"]
        raise ValueError(f"the logit of {bad.iloc[0]} is not finite, nor are {len(bad) - 1} others")
    return table.assign(probability=expit(logits.to_numpy(dtype=float)))


def part(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of one split, with `probability`. Raises ValueError when there are none."""
    rows = table[table["split"] == split]
    if not len(rows):
        raise ValueError(
            f"the predictions hold no images of split {split!r}, only {sorted(set(table['split']))}"
        )
    return with_probability(rows).reset_index(drop=True)


def deciding(table: pd.DataFrame) -> pd.DataFrame:
    """The rows on which thresholds and temperatures are chosen: calibration, or validation where there are none."""
    return part(table, "calibration" if (table["split"] == "calibration").any() else "val")


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table of several models, of the mean logit of each image (a deep ensemble; Lakshminarayanan et al. 2017, who average
    probabilities).

    Raises ValueError when the tables are not of the same images in the same order.
    """
    first = tables[0]
    if any(not table["image"].equals(first["image"]) for table in tables):
        raise ValueError("the tables are of different images, so their logits have no common mean")
    return with_probability(first.assign(logit=np.mean([table["logit"] for table in tables], axis=0)))


def thresholds(table: pd.DataFrame) -> dict[str, float]:
    """A probability for each of POINTS, chosen on the `deciding` rows alone; an image at or above it is pneumonia.

    A cut lies halfway (in logits) between two neighbouring images of these, or 1 beyond the outermost. Of several equally good ones Youden's
    index takes the one nearest to 0.5; a target of sensitivity or specificity takes the cut that costs the other least.
    """
    held = deciding(table)
    if held["y_true"].nunique() < 2:
        raise ValueError("thresholds need held-out images of both classes")
    chosen = metrics.cuts(held["y_true"], held["logit"])
    return {"half": 0.5} | {point: float(expit(cut[0])) for point, cut in chosen.items()}


def thresholds_redrawn(table: pd.DataFrame, *, n_boot: int, seed: int) -> dict[str, np.ndarray]:
    """What `thresholds` gives for each resample of the `deciding` patients, by point [n_boot]; nan where it lacks a class,
    but for `half`.

    Tables with the same patients have the same resamples, drawn apart from those of the test patients.
    """
    held = deciding(table)
    blocks = [
        metrics.cuts(held["y_true"], held["logit"], weights)
        for weights in stats.patient_weights(held["patient"], n_boot, seed=seed, stream=1)
    ]
    found = {point: expit(np.concatenate([block[point] for block in blocks])) for point in blocks[0]}
    return {"half": np.full(n_boot, 0.5)} | found
