"""How is the price of a training drawn? Cost against AUC, and the best test epoch."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from lib.plots import style
from lib.stats import Interval

COSTS = {
    "parameters": "million trainable parameters",
    "gflops": "giga-operations an image",
    "epoch_seconds": "seconds an epoch",
    "image_milliseconds": "milliseconds an image",
}


def cost(costs: pd.DataFrame, aucs: dict[str, Interval]) -> plt.Figure:
    """AUC with its interval against each cost, all axes of cost starting at zero.

    costs  from `cost.table`; aucs by model
    """
    figure, panels = plt.subplots(1, len(COSTS), figsize=(13, 3.4), sharey=True, layout="constrained")
    for ax, (column, label) in zip(panels, COSTS.items(), strict=True):
        scale = 1e-6 if column == "parameters" else 1.0
        for model, value in (scale * costs[column]).items():
            found = aucs[model]
            ax.plot([value, value], [found.low, found.high], color=style.COLOURS[model], lw=1.5)
            ax.plot(
                value,
                found.estimate,
                style.MARKERS[model],
                color=style.COLOURS[model],
                ms=9,
                label=style.NAMES[model],
            )
        ax.set(xlim=(0, 1.15 * scale * costs[column].max()), xlabel=label)
    panels[0].set_ylabel("test AUC, 95% interval")
    panels[0].legend(fontsize="small", loc="lower right")
    return figure


def optimism(table: pd.DataFrame, *, ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy of the epoch that validation chose, joined to that of the best test epoch, one line a run.

    table  from `original.optimism`
    """
    ax = style.axes(ax, size=(6.5, 0.35 * max(len(table), 2) + 1.2))
    for row, run in enumerate(table.itertuples()):
        colour, marker = style.COLOURS[run.model], style.MARKERS[run.model]
        ax.plot([run.accuracy, run.best_accuracy], [row, row], color=colour, lw=2)
        ax.plot(run.accuracy, row, marker, color=colour, ms=8)
        ax.plot(run.best_accuracy, row, marker, color=colour, mfc="white", ms=8)
    labels = [f"{style.NAMES[run.model]}, seed {run.seed}" for run in table.itertuples()]
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlabel(
        "test accuracy at 0.5\n(filled: epoch chosen on validation, open: best test epoch, optimistic)"
    )
    return ax
