"""What does the model card say that the models shown first reach, by metric, by threshold and by kind of image? Three tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import evaluate, measured, metrics
from lib.comparison import scored
from lib.plots import style
from lib.publish.results import interval, record, seeds
from lib.tables import markdown

ORDER = (*metrics.NAMES, *(f"{name}_scaled" for name in metrics.NAMES))  # of the rows that a headline has
FIGURES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")  # of an operating point


def section(folders: list[Path]) -> list[str]:
    """The three tables with what has to be known to read them; nothing where nothing is shown."""
    if not folders:
        return []
    found = {folder.name: _recorded(folder) for folder in folders}
    return [
        _by_metric(folders),
        "The temperature of *temperature scaling* is held as it was fitted when patients are resampled. A proportion near 0 or 1 has an interval at least as wide as the exact (Clopper-Pearson) one that counts each patient as one trial.",
        "### Operating points and kinds of image",
        "Each threshold except 0.5 is a probability that was chosen on patients held out of train and applied to the test images (shown: the mean over seeds); "
        "in every resample it is chosen again.",
        _by_point(found),
        f"At {evaluate.POINTS[evaluate.CHOSEN]}; the AUC is against the normal images.",
        _by_kind(found),
    ]


def _by_metric(folders: list[Path]) -> str:
    """Every metric of the headlines, one row a metric and one column a model of a profile."""
    columns = {
        f"{style.NAMES[row['model']]} ({folder.name}, {seeds(row['seeds'])})": {
            metrics.title(name): interval(row, name, ".3f") for name in ORDER if f"{name}_low" in row
        }
        for folder in folders
        for row in record(folder)["headline"]
    }
    return markdown(pd.DataFrame(columns).rename_axis("Metric").reset_index())


def _recorded(folder: Path) -> dict:
    """Operating points and subgroups, as notebook 04 recorded them or, where it was not run, from the predictions."""
    found = record(folder)
    if "operating_points" in found:
        return found
    models = measured.of(evaluate.recorded(folder), n_boot=found["n_boot"])
    return {
        "operating_points": scored.plain(measured.operating_table(models)),
        "subgroups": scored.plain(measured.subgroups(models)),
    }


def _by_point(found: dict[str, dict]) -> str:
    rows = [
        {
            "Model": style.NAMES[row["model"]],
            "Profile": profile,
            "Point": evaluate.POINTS[row["point"]],
            "Threshold": f"{row['threshold']:.3f}",
        }
        | {metrics.NAMES[name]: interval(row, name, ".3f") for name in FIGURES}
        for profile, own in found.items()
        for row in own["operating_points"]
    ]
    return markdown(pd.DataFrame(rows))


def _by_kind(found: dict[str, dict]) -> str:
    rows = [
        {
            "Model": style.NAMES[row["model"]],
            "Profile": profile,
            "Kind": row["subtype"],
            "Images (patients)": f"{row['n']} ({row['n_patients']})",
            "Classified correctly": f"{row['measure']} {interval(row, 'share', '.3f')}",
            "AUC": interval(row, "auc", ".3f") if row["auc"] else "",
        }
        for profile, own in found.items()
        for row in own["subgroups"]
    ]
    return markdown(pd.DataFrame(rows))
