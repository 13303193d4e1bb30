"""What would the original notebook have reported? Its comparison table and ratios, and how its habit flatters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib import evaluate
from lib.plots.style import NAMES

OPTIMISTIC = "test_accuracy_optimistic"  # of history.csv: the test images scored after every epoch, at 0.5


def comparison_table(runs: dict[str, Sequence], architectures: dict[str, str] | None = None) -> pd.DataFrame:
    """One row a model, means over its seeds: parameters, accuracies on the test images at 0.5; and the time of an epoch.

    runs           by model, `runs.Run`s (or anything with their `history`, `predictions` and `info`)
    architectures  by model, from `cost.architecture`; without them the table lacks the column
    returns        index model; parameters (trainable), total_parameters, accuracy (epoch chosen on validation),
                   final_accuracy (last epoch), best_accuracy (best epoch on the test images: optimistic), epoch_seconds,
                   architecture; final and best are nan where the test images were not scored every epoch
    """
    rows = {}
    for model, own in runs.items():
        info = own[0].info
        rows[model] = {
            "parameters": info["trainable_parameters"],
            "total_parameters": info["total_parameters"],
            "accuracy": np.mean([chosen_accuracy(run) for run in own]),
            "final_accuracy": np.mean([_recorded(run).iloc[-1] for run in own]),
            "best_accuracy": np.mean([_recorded(run).max() for run in own]),
            "epoch_seconds": epoch_seconds(own),
        }
        if architectures:
            rows[model]["architecture"] = architectures[model]
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def epoch_seconds(runs: Sequence) -> float:
    """Mean time of an epoch of the run that took least: others may have shared the machine with other work."""
    return min(float(run.history["seconds"].mean()) for run in runs)


def chosen_accuracy(run) -> float:
    """Accuracy on the test images at 0.5, after the epoch that validation chose."""
    test = evaluate.part(run.predictions, "test")
    return float(((test["logit"] > 0) == (test["y_true"] == 1)).mean())


def _recorded(run) -> pd.Series:
    return run.history[OPTIMISTIC].astype(float)


def ratios(table: pd.DataFrame) -> dict[str, float]:
    """The original's four figures from `comparison_table`: first model against second.

    parameter_ratio, time_ratio (first / second), accuracy_difference (first - second, percentage points) and
    accuracy_per_million_<model> (percentage points for a million trainable parameters).
    """
    first, second = (table.iloc[i] for i in range(2))
    points = 100 * table["accuracy"]
    per_million = points / (table["parameters"] / 1e6)
    return {
        "parameter_ratio": float(first["parameters"] / second["parameters"]),
        "accuracy_difference": float(points.iloc[0] - points.iloc[1]),
        "time_ratio": float(first["epoch_seconds"] / second["epoch_seconds"]),
        **{f"accuracy_per_million_{model}": float(value) for model, value in per_million.items()},
    }


def ratios_sentence(table: pd.DataFrame) -> str:
    found = ratios(table)
    first, second = (NAMES[model] for model in table.index)
    low, high = (found[f"accuracy_per_million_{model}"] for model in table.index)
    return (
        f"{first} has {found['parameter_ratio']:.1f} times the trainable parameters of {second} and takes "
        f"{found['time_ratio']:.2f} times as long an epoch (each model's fastest seed, without what was stored beforehand); its accuracy at 0.5 differs by "
        f"{found['accuracy_difference']:+.1f} percentage points. A million parameters buys {low:.1f} points in {first} and "
        f"{high:.1f} in {second}, a ratio that favours any small model above chance."
    )


def optimism(runs: dict[str, Sequence]) -> pd.DataFrame:
    """How much the best test epoch flatters: one row a run.

    Columns model, seed, chosen_epoch, accuracy (of that epoch, at 0.5), best_epoch, best_accuracy, flattery (their
    difference). Runs whose test images were not scored every epoch are left out.
    """
    rows = []
    for model, own in runs.items():
        for run in own:
            seen = _recorded(run)
            if seen.isna().all():
                continue
            row = {"model": model, "seed": run.seed, "chosen_epoch": int(run.info["best_epoch"])}
            row |= {"accuracy": chosen_accuracy(run), "best_epoch": int(run.history["epoch"][seen.idxmax()])}
            rows.append(row | {"best_accuracy": seen.max(), "flattery": seen.max() - row["accuracy"]})
    columns = ["model", "seed", "chosen_epoch", "accuracy", "best_epoch", "best_accuracy", "flattery"]
    return pd.DataFrame(rows, columns=columns)


def optimism_sentence(table: pd.DataFrame) -> str:
    if not len(table):
        return "The test images were not scored every epoch here, so the best test epoch cannot be quoted."
    means = table.groupby("model", sort=False)["flattery"].mean() * 100
    parts = [f"{NAMES[model]} by {value:.1f} percentage points" for model, value in means.items()]
    return (
        "Quoting the best test epoch, as the original notebook does, would have flattered "
        f"{' and '.join(parts)} of accuracy over the epoch that validation chose."
    )
