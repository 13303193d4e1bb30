"""How is the ablation drawn? Forest against mean-pooling, orders and their effect, what the control looks like."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.ablation.effects import SET_HEAD
from lib.ablation.variants import BASE, REFERENCE
from lib.plots import style
from lib.sequence import ORDERS, token_order

COLOURS = {"clear": "#0072B2", "unclear": style.GRAY}


def forest(differences: pd.DataFrame, *, ax: plt.Axes | None = None) -> plt.Axes:
    """Differences in AUC, best first: thick line the interval itself, thin line the adjusted one; one line where there is
    one comparison, for which nothing is adjusted.

    differences  from `ablation.Effects`; filled where the adjusted interval excludes zero
    """
    table = differences.sort_values("difference", ascending=False).reset_index(drop=True)
    ax = style.axes(ax, size=(8.0, 0.34 * len(table) + 1.3))
    for place, row in table.iterrows():
        colour = COLOURS["clear" if row["differs"] else "unclear"]
        ax.plot([row["adjusted_low"], row["adjusted_high"]], [place, place], color=colour, lw=1)
        if len(table) > 1:
            ax.plot([row["low"], row["high"]], [place, place], color=colour, lw=3, solid_capstyle="butt")
        ax.plot(row["difference"], place, "o", color=colour, mfc=colour if row["differs"] else "white", ms=6)
        written = f"{row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"
        style.write(ax, written, place)
    style.forest(ax, [_label(row) for row in table.to_dict("records")], 0.0)
    family = "thick: 95% interval; thin and numbers: adjusted for the whole family"
    ax.locator_params(axis="x", nbins=6)  # labels of four digits run into each other where there are more
    ax.set_xlabel(f"Difference in test AUC ({family if len(table) > 1 else '95% interval'})")
    return ax


def _label(row: dict) -> str:
    usual = row["reference"] in (REFERENCE, BASE, SET_HEAD)
    return row["variant"] if usual else f"{row['variant']} (against {row['reference']})"


def runs(per_seed: pd.DataFrame, *, ax: plt.Axes | None = None) -> plt.Axes:
    """AUC of every run, one row a variant, a bar at the mean; best first."""
    order = per_seed.groupby("variant")["auc"].mean().sort_values(ascending=False)
    ax = style.axes(ax, size=(7.0, 0.3 * len(order) + 1.2))
    for place, (name, mean) in enumerate(order.items()):
        values = per_seed.loc[per_seed["variant"] == name, "auc"]
        ax.plot(values, np.full(len(values), place), "o", color=COLOURS["clear"], alpha=0.6, ms=5)
        ax.plot([mean, mean], [place - 0.3, place + 0.3], color="black", lw=2)
    ax.set_yticks(range(len(order)), list(order.index))
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlabel("Test AUC (dots: seeds; bar: their mean)")
    return ax


def orders(per_seed: pd.DataFrame, *, ax: plt.Axes | None = None) -> plt.Axes:
    """AUC of the LSTM by token order, a thin line a seed, a diamond at their mean."""
    wide = per_seed.pivot(index="variant", columns="seed", values="auc")
    wide = wide.loc[[f"lstm-{order}" for order in ORDERS if f"lstm-{order}" in wide.index]]
    ax = style.axes(ax, size=(7.0, 3.6))
    places = np.arange(len(wide))
    ax.plot(places, wide, color=style.GRAY, lw=0.8, marker="o", ms=3, alpha=0.7)
    ax.plot(
        places, wide.mean(axis=1), color=COLOURS["clear"], lw=0, marker="D", ms=8, label="mean over seeds"
    )
    ax.plot([], [], color=style.GRAY, lw=0.8, marker="o", ms=3, label="one seed")
    ax.set_xticks(places, [name.removeprefix("lstm-") for name in wide.index], rotation=30, ha="right")
    ax.set_ylabel("Test AUC")
    ax.legend(loc="best", fontsize="small")
    return ax


def order_paths(*, side: int = 7) -> plt.Figure:
    """Each token order as the path it takes over the map; lighter early, darker late, the first token ringed."""
    figure, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
    for ax, name in zip(axes.flat, ORDERS, strict=True):
        order = (
            np.random.default_rng(1).permutation(side**2)
            if name == "shuffle"
            else token_order(name, side, side)
        )
        row, column = order // side, order % side
        ax.plot(column, row, color=style.GRAY, lw=0.8)
        ax.scatter(column, row, c=np.arange(len(order)), cmap="Blues", s=26, ec="black", lw=0.3, zorder=3)
        ax.scatter(column[0], row[0], s=90, fc="none", ec=COLOURS["clear"], lw=1.5, zorder=4)
        ax.set(
            title=f"{name} (new for each image)" if name == "shuffle" else name,
            xticks=[],
            yticks=[],
            aspect="equal",
        )
        ax.title.set_fontsize("small")
        ax.invert_yaxis()
        ax.grid(visible=False)
    return figure


def twins(tasks: list[tuple[np.ndarray, np.ndarray]]) -> plt.Figure:
    """Control phantoms, a line a task, two of a pair beside each other: uint8 (2 n, H, W) and their classes of each."""
    count = len(tasks[0][0])
    figure, axes = plt.subplots(
        len(tasks), count, figsize=(1.7 * count, 2.1 * len(tasks)), layout="constrained", squeeze=False
    )
    for line, (images, labels) in zip(axes, tasks, strict=True):
        for ax, image, label in zip(line, images, labels, strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_title(f"class {label}", fontsize="small")
            ax.axis("off")
    return figure
