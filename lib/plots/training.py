"""How does one model's training look? Loss, accuracy and validation AUC over the epochs, one line a seed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd

from lib.plots import style


def curves(
    histories: Sequence[pd.DataFrame],
    best_epochs: Sequence[int],
    model: str,
    *,
    figure: plt.Figure | None = None,
) -> plt.Figure:
    """Three panels over epochs: loss and accuracy of training (solid) and validation (dashed), validation AUC.

    histories    history.csv of each seed; best_epochs the epoch chosen of each, marked by a star
    """
    figure = figure or plt.figure(figsize=(12, 3.6), layout="constrained")
    loss, accuracy, auc = figure.subplots(1, 3)
    look = {"color": style.COLOURS[model], "marker": style.MARKERS[model], "ms": 4, "lw": 1.6}
    for history, best in zip(histories, best_epochs, strict=True):
        chosen = history[history["epoch"] == best]
        for ax, column in ((loss, "loss"), (accuracy, "accuracy")):
            ax.plot(history["epoch"], history[f"train_{column}"], **look)
            ax.plot(history["epoch"], history[f"val_{column}"], ls="--", mfc="white", **look)
        if history["test_accuracy_optimistic"].notna().any():
            tested = history["test_accuracy_optimistic"]
            accuracy.plot(history["epoch"], tested, ls=":", lw=1.6, color=style.GRAY)
        auc.plot(history["epoch"], history["val_auc"], ls="--", mfc="white", **look)
        for ax, column in ((loss, "val_loss"), (accuracy, "val_accuracy"), (auc, "val_auc")):
            ax.plot(chosen["epoch"], chosen[column], "*", color=look["color"], mec="black", ms=13, zorder=3)
    _label(loss, accuracy, auc, look)
    return figure


def _label(loss: plt.Axes, accuracy: plt.Axes, auc: plt.Axes, look: dict) -> None:
    loss.set(title="Loss", ylabel="binary cross-entropy")
    accuracy.set(title="Accuracy at probability 0.5", ylabel="share of images")
    auc.set(title="Validation AUC", ylabel="area under the ROC curve")
    for ax in (loss, accuracy, auc):
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    key = [
        plt.Line2D([], [], **look, label="training"),
        plt.Line2D([], [], ls="--", mfc="white", **look, label="validation"),
        plt.Line2D([], [], ls=":", color=style.GRAY, label="test (optimistic)"),
        plt.Line2D([], [], ls="", marker="*", color=look["color"], mec="black", ms=11, label="chosen epoch"),
    ]
    loss.legend(handles=[key[0], key[1], key[3]], fontsize="small")
    if any(line.get_linestyle() == ":" for line in accuracy.lines):
        accuracy.legend(handles=key[:3], fontsize="small")
