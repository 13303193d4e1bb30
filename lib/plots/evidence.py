"""How is the evidence drawn? Differences, ROC and precision-recall curves, reliability."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib import metrics
from lib.plots import style


def forest(differences: pd.DataFrame, names: list[str], *, ax: plt.Axes | None = None) -> plt.Axes:
    """Differences with their intervals, one row a metric; filled where the interval excludes zero.

    differences  from `comparison.differences`; names of the first and second model
    """
    ax = style.axes(ax, size=(9.5, 0.32 * len(differences) + 1.2))
    for row, (metric, found) in enumerate(zip(differences["metric"], differences["difference"], strict=True)):
        clear = found.excludes(0.0)
        ax.plot([found.low, found.high], [row, row], color="black", lw=1.6 if clear else 1.0)
        ax.plot(
            found.estimate,
            row,
            "D" if metric == "auc" else "o",
            color="black",
            mfc="black" if clear else "white",
        )
        style.write(ax, f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]", row)
    labels = [
        metrics.NAMES[name] + (" (lower is better)" if name in metrics.LOWER_IS_BETTER else "")
        for name in differences["metric"]
    ]
    style.forest(ax, labels, 0.0)
    ax.set_xlabel(f"{names[0]} minus {names[1]}, 95% interval")
    return ax


def roc(curves: dict[str, pd.DataFrame], labels: dict[str, str], *, ax: plt.Axes | None = None) -> plt.Axes:
    """ROC curves with bands by model; labels are the legend's entries."""
    ax = _curves(curves, labels, style.axes(ax, size=(5, 5)))
    ax.plot([0, 1], [0, 1], color=style.GRAY, lw=1, ls=":", zorder=1)
    ax.set(xlabel="1 - specificity (false alarms among normal images)", ylabel="Sensitivity")
    ax.legend(loc="lower right")
    return ax


def precision_recall(
    curves: dict[str, pd.DataFrame], labels: dict[str, str], prevalence: float, *, ax: plt.Axes | None = None
) -> plt.Axes:
    """Precision-recall curves with bands by model; the dotted line is a model that guesses."""
    ax = _curves(curves, labels, style.axes(ax, size=(5, 5)))
    ax.axhline(prevalence, color=style.GRAY, lw=1, ls=":", zorder=1)
    ax.set(xlabel="Sensitivity (recall)", ylabel="Precision (PPV)")
    ax.legend(loc="lower left")
    return ax


def _curves(curves: dict[str, pd.DataFrame], labels: dict[str, str], ax: plt.Axes) -> plt.Axes:
    for (model, curve), line in zip(curves.items(), ("-", "--"), strict=False):
        colour = style.COLOURS[model]
        ax.fill_between(curve["x"], curve["low"], curve["high"], color=colour, alpha=0.2, lw=0)
        ax.plot(curve["x"], curve["y"], color=colour, ls=line, lw=2, label=labels[model])
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return ax


def reliability(
    before: pd.DataFrame, after: pd.DataFrame, model: str, *, seed: int, ax: plt.Axes | None = None
) -> plt.Axes:
    """Observed against predicted frequency, before (open) and after (filled) temperature scaling.

    before, after  from `calibration.reliability`; a marker's area grows with the images in its bin
    seed           of the one run that is shown
    """
    ax = style.axes(ax, size=(5, 5))
    colour, marker = style.COLOURS[model], style.MARKERS[model]
    ax.plot([0, 1], [0, 1], color=style.GRAY, lw=1, ls=":", label="perfect")
    looks = (("as trained", before, "white", ":"), ("after temperature scaling", after, colour, "-"))
    for label, bins, face, line in looks:
        spread = [bins["observed"] - bins["low"], bins["high"] - bins["observed"]]
        ax.errorbar(
            bins["predicted"], bins["observed"], np.clip(np.nan_to_num(spread), 0, None), color=colour, lw=0.8, fmt="none",
            alpha=0.6,
        )  # fmt: skip
        ax.plot(bins["predicted"], bins["observed"], ls=line, color=colour, lw=1.2)
        size = 15 + 160 * bins["n"] / bins["n"].sum()
        ax.scatter(
            bins["predicted"],
            bins["observed"],
            s=size,
            marker=marker,
            fc=face,
            ec=colour,
            zorder=3,
            label=label,
        )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=f"{style.NAMES[model]}, seed {seed}")
    ax.set(xlabel="Predicted probability of pneumonia", ylabel="Observed share with pneumonia")
    ax.legend(loc="upper left", fontsize="small")
    return ax
