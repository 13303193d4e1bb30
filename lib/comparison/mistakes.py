"""Which test images do the models get wrong, together and alone?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib import evaluate
from lib.evaluate import Predictions

BOTH = "both"


def table(predictions: Predictions) -> pd.DataFrame:
    """One row a test image that a model gets wrong in more than half of its seeds, those first
    whose probability, the mean of all models, lies furthest from the truth.

    Columns image, patient, subtype, y_true, kind (missed pneumonia or false alarm), by (both, or the one model's name) and,
    for each model, <model>_probability and <model>_wrong (mean, and share of wrong calls, over seeds).
    """
    sides = {model: _averaged(tables) for model, tables in predictions.items()}
    first, *_ = sides.values()
    rows = first[["patient", "subtype", "y_true"]].copy()
    for model, side in sides.items():
        rows[[f"{model}_probability", f"{model}_wrong"]] = side[["probability", "wrong"]]
    wrong = pd.DataFrame({model: rows[f"{model}_wrong"] > 0.5 for model in sides})
    rows["by"] = np.where(wrong.all(axis=1), BOTH, wrong.idxmax(axis=1))
    rows["kind"] = np.where(rows["y_true"] == 1, "missed pneumonia", "false alarm")
    away = (rows[[f"{model}_probability" for model in sides]].mean(axis=1) - rows["y_true"]).abs()
    return (
        rows.assign(away=away)[wrong.any(axis=1)]
        .sort_values("away", ascending=False)
        .drop(columns="away")
        .reset_index()
    )


def _averaged(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean probability and share of wrong calls of each test image over one model's seeds, by image."""
    rows = []
    for own in tables:
        test = evaluate.part(own, "test")
        called = test["probability"] >= evaluate.thresholds(own)[evaluate.CHOSEN]
        rows.append(test.assign(wrong=(called != (test["y_true"] == 1)).astype(float)))
    keys = ["image", "patient", "subtype", "y_true"]
    mean = pd.concat(rows).groupby(keys, sort=True)[["probability", "wrong"]].mean()
    return mean.reset_index(["patient", "subtype", "y_true"])


def counts(mistakes: pd.DataFrame) -> pd.DataFrame:
    """Images by kind of mistake (rows) and by who makes it (columns)."""
    return pd.crosstab(mistakes["kind"], mistakes["by"]).rename_axis(index=None, columns=None)


def sentence(mistakes: pd.DataFrame, predictions: Predictions, names: dict[str, str]) -> str:
    """How many mistakes are shared, beside how many would be if the models erred independently within each class."""
    test = evaluate.part(next(iter(predictions.values()))[0], "test")
    first, second = predictions
    often = " in more than half of their seeds" if max(map(len, predictions.values())) > 1 else ""
    if not len(mistakes):
        return f"Neither model gets any of the {len(test)} test images wrong{often}."
    expected = 0.0
    for label, images in test.groupby("y_true"):
        wrong = mistakes[mistakes["y_true"] == label]
        own = [wrong["by"].isin([BOTH, model]).sum() for model in (first, second)]
        expected += own[0] * own[1] / len(images)
    by = mistakes["by"].value_counts()
    shared = mistakes.loc[mistakes["by"] == BOTH, "y_true"]
    return (
        f"Both models call the same {len(shared)} of {len(test)} images wrongly{often} ({int((shared == 1).sum())} missed pneumonia, "
        f"{int((shared == 0).sum())} normal; independent mistakes would share {expected:.1f}); {by.get(first, 0)} are wrong in {names[first]} alone and {by.get(second, 0)} in {names[second]} alone."
    )
