"""How does training look? Loss, accuracy and validation AUC over the epochs, one line a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt

from lib.plots import style

TESTED = "test_accuracy_optimistic"  # of history.csv: the test images scored after every epoch
PANELS = (  # title, unit, and which columns of history.csv: drawn solid, drawn dashed
    ("Loss (solid: training, dashed: validation)", "binary cross-entropy", "train_loss", "val_loss"),
    ("Accuracy (solid: training, dashed: validation)", "accuracy at 0.5", "train_accuracy", "val_accuracy"),
    ("Validation AUC", "AUC", None, "val_auc"),
    ("Test accuracy every epoch (optimistic)", "accuracy at 0.5", TESTED, None),
)


def curves(runs: Mapping[str, Sequence]) -> plt.Figure:
    """A panel for loss, accuracy and validation AUC, and one for the test accuracy where it was scored after every epoch.

    runs  by model, `runs.Run`s (or anything with their `history` and `info`); the epoch that validation chose is a star
    """
    tested = any(run.history[TESTED].notna().any() for own in runs.values() for run in own)
    rows, columns = (2, 2) if tested else (1, 3)
    figure, grid = plt.subplots(
        rows, columns, figsize=(4.3 * columns, 3.7 * rows), squeeze=False, layout="constrained"
    )
    for ax, (title, unit, solid, dashed) in zip(grid.flat, PANELS, strict=False):
        for model, own in runs.items():
            look = {"color": style.COLOURS[model], "marker": style.MARKERS[model], "ms": 4, "lw": 1.5}
            for run in own:
                history, best = run.history, run.info["best_epoch"]
                if solid:
                    ax.plot(history["epoch"], history[solid], **look)
                if dashed:
                    ax.plot(history["epoch"], history[dashed], ls="--", mfc="white", **look)
                chosen = history.loc[history["epoch"] == best, ["epoch", dashed or solid]]
                ax.plot(*chosen.to_numpy().T, "*", color=look["color"], mec="black", ms=13, zorder=3)
        ax.set(title=title, xlabel="epoch", ylabel=unit)
        ax.xaxis.get_major_locator().set_params(integer=True)
    key = [
        plt.Line2D([], [], color=style.COLOURS[m], marker=style.MARKERS[m], ms=4, label=style.NAMES[m])
        for m in runs
    ]
    star = plt.Line2D(
        [], [], ls="", marker="*", color="white", mec="black", ms=11, label="chosen on validation"
    )
    grid[0, 0].legend(handles=[*key, star], fontsize="small")
    return figure
