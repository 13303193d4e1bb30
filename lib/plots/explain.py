"""How are explanations drawn? Maps beside their images, token attributions, and the measures of trust."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import expit

from lib.gradcam import Maps
from lib.gradcam.attribution import TokenScores
from lib.gradcam.means import known
from lib.gradcam.question import CLASSES
from lib.plots import style

MAP_COLOURS = {
    "gradcam": "#0072B2",
    "random": "#999999",
    "centre": "#D55E00",
    "edges": "#009E73",
    "plain": "#CC79A7",
}
MAP_STYLES = {"random": ":", "centre": "--", "edges": "-.", "plain": (0, (3, 1, 1, 1, 1, 1))}


def side_by_side(
    pixels: np.ndarray,
    maps: dict[str, Maps],
    titles: Sequence[str],
    *,
    logits: dict[str, np.ndarray],
) -> plt.Figure:
    """One row an image: the image, then each model's map and overlay, every map scaled by its own range.

    pixels  gray images (n, H, W), uint8; maps  by model, of these n images; titles  n, of the images
    logits  by model, (n,), those recorded: the probability shown is the one that the outcome rests on, which may differ
            from that of the one reading that the map explains
    """
    names = list(maps)
    figure, grid = _grid(len(pixels), 1 + 2 * len(names), head=0.36)
    for row, title in enumerate(titles):
        _picture(grid[row, 0], pixels[row], title)
    for k, name in enumerate(names):
        own = maps[name]
        heat, over = own.heat(), own.overlay(pixels)
        for row in range(len(pixels)):
            said = f"{style.NAMES[name]}: {expit(logits[name][row]):.2f}\nfor {CLASSES[own.targets[row]]}"
            _picture(grid[row, 1 + 2 * k], heat[row], said + (", no map" if own.blank[row] else ""))
            _picture(grid[row, 2 + 2 * k], over[row], "overlay")
    return figure


def gallery(pixels: np.ndarray, columns: dict[str, Maps], titles: Sequence[str]) -> plt.Figure:
    """One row an image: the image, then one overlay for each entry of `columns` (a method or a layer), with the class explained."""
    figure, grid = _grid(len(pixels), 1 + len(columns), head=0.45)
    for row, title in enumerate(titles):
        _picture(grid[row, 0], pixels[row], title)
    for k, (name, own) in enumerate(columns.items(), 1):
        over = own.overlay(pixels)
        for row in range(len(pixels)):
            said = f"{name}\nfor {CLASSES[own.targets[row]]}"
            _picture(grid[row, k], over[row], said + (", no map" if own.blank[row] else ""))
    return figure


def tokens(pixels: np.ndarray, scores: Sequence[TokenScores], titles: Sequence[str]) -> plt.Figure:
    """One row an image: the image, then each attribution, red for the class explained and blue against it."""
    figure, grid = _grid(len(pixels), 1 + len(scores), head=0.3)
    for row, title in enumerate(titles):
        _picture(grid[row, 0], pixels[row], title)
        for k, found in enumerate(scores, 1):
            values = found.values[row]
            limit = np.abs(values).max() or 1.0
            _picture(grid[row, k], None, f"{found.method}\nfor {CLASSES[found.targets[row]]}")
            grid[row, k].imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def profiles(shares: dict[str, np.ndarray], *, title: str = "", ax: plt.Axes | None = None) -> plt.Axes:
    """Share of the gradient at each step of the sequence, on a log scale.

    shares  by label, (B, T) from `attribution.profile`; the mean over images is drawn
    """
    ax = style.axes(ax, size=(5.2, 3.4))
    lines = ["-", "--", ":", "-."]
    for k, (label, values) in enumerate(shares.items()):
        steps = np.arange(1, values.shape[1] + 1)
        ax.plot(
            steps,
            np.nanmean(values, axis=0),
            lines[k % 4],
            color=f"C{k}",
            marker="osD^"[k % 4],
            ms=3,
            label=label,
        )
    ax.axhline(1 / values.shape[1], color=style.GRAY, lw=1)
    ax.set_yscale("log")
    ax.set(xlabel="token, in reading order", ylabel="share of the gradient", title=title)
    return ax


def profile_grid(found: dict[str, dict[str, dict[str, np.ndarray]]]) -> plt.Figure:
    """`profiles` of every model (rows) and state of its head (columns)."""
    columns = max(len(states) for states in found.values())
    figure, grid = plt.subplots(
        len(found),
        columns,
        figsize=(4.8 * columns, 3.2 * len(found)),
        squeeze=False,
        layout="constrained",
        sharey="row",
    )
    for row, (model, states) in zip(grid, found.items(), strict=True):
        for ax, (state, shares) in zip(row, states.items(), strict=False):
            profiles(shares, title=f"{style.NAMES[model]}, {state}", ax=ax)
            ax.label_outer()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize="small")
    return figure


def strip(pixels: np.ndarray, pictures: dict[str, np.ndarray], title: str) -> plt.Figure:
    """One gray image (H, W) and pictures (H, W, 3) beside it, by their titles."""
    figure, grid = _grid(1, 1 + len(pictures), head=0.36)
    _picture(grid[0, 0], pixels, title)
    for ax, (name, picture) in zip(grid[0, 1:], pictures.items(), strict=True):
        _picture(ax, picture, name)
    return figure


def lesions(found: dict[str, pd.DataFrame]) -> plt.Figure:
    """Pointing game and soft IoU of maps and rivals, one panel a measure.

    found  by model, from `trust.localise`
    """
    measures = list(next(iter(found.values()))["measure"].unique())
    figure, grid = plt.subplots(
        1, len(measures), figsize=(4.8 * len(measures), 3.2), squeeze=False, layout="constrained", sharey=True
    )
    for ax, measure in zip(grid[0], measures, strict=True):
        lines = [
            (
                f"{style.NAMES[model]}: {row['map']}",
                model if row["beyond"] is None else None,
                row["value"],
            )
            for model, table in found.items()
            for _, row in table[table["measure"] == measure].iterrows()
        ]
        intervals(lines, label=f"{measure}, 95% interval over patients", ax=ax)
    return figure


def cascade(found: dict[str, pd.DataFrame]) -> plt.Figure:
    """Similarity with the trained map while weights are shuffled from the top, one panel a model."""
    figure, grid = plt.subplots(
        1, len(found), figsize=(4.8 * len(found), 3.6), squeeze=False, layout="constrained", sharey=True
    )
    for ax, (model, table) in zip(grid[0], found.items(), strict=True):
        means = table.groupby("step")[["rank_correlation", "ssim"]].mean()
        names = table.groupby("step")["randomised"].first()
        for column, line, label in (("rank_correlation", "-o", "rank correlation"), ("ssim", "--s", "SSIM")):
            ax.plot(means.index, means[column], line, color=style.COLOURS.get(model), label=label, ms=4)
        ax.axhline(0, color=style.GRAY, lw=1)
        short = [
            f"layer {name.split('.')[-1]}"
            if name[-1:].isdigit() and name.count(".") == 1
            else name.split(".")[-1]
            for name in names
        ]
        ax.set_xticks(list(names.index), short, rotation=30, ha="right", fontsize="small")
        ax.set(
            title=style.NAMES[model],
            xlabel="weights shuffled from the top down to",
            ylim=(-1.05, 1.05),
        )
        ax.legend(fontsize="small")
    grid[0, 0].set_ylabel("similarity with the trained map")
    return figure


def curves(found: dict[str, pd.DataFrame]) -> plt.Figure:
    """Deletion and insertion, a row a model: mean score over images against the share of pixels.

    found  by model, from `deletion.curves`
    """
    figure, grid = plt.subplots(
        len(found), 2, figsize=(8.4, 3.1 * len(found)), squeeze=False, layout="constrained", sharey="row"
    )
    for row, (model, table) in zip(grid, found.items(), strict=True):
        for ax, kind in zip(row, ("deletion", "insertion"), strict=True):
            own = table[table["kind"] == kind].groupby(["map", "share"], sort=False)["score"].mean()
            for name in own.index.get_level_values("map").unique():
                look = {
                    "linestyle": MAP_STYLES.get(name, "-"),
                    "color": MAP_COLOURS.get(name, MAP_COLOURS["gradcam"]),
                }
                ax.plot(own[name].index, own[name], **look, marker=".", label=name)
            better = "low is good" if kind == "deletion" else "high is good"
            ax.set(title=f"{style.NAMES[model]}: {kind} ({better})", xlim=(0, 1), ylim=(-0.02, 1.02))
            ax.set_xlabel(f"share of pixels {'blurred' if kind == 'deletion' else 'shown'}, highest first")
        row[0].set_ylabel("probability of the class explained")
    grid[0, 0].legend(fontsize="small")
    return figure


def intervals(
    rows: Sequence[tuple[str, str, object]],
    *,
    reference: float = 0.0,
    label: str = "",
    ax: plt.Axes | None = None,
) -> plt.Axes:
    """Estimates with their intervals, one line each.

    rows  (name, model, Interval); a model has its own colour and marker, anything else is gray
    """
    ax = style.axes(ax, size=(6.4, 0.6 + 0.32 * max(len(rows), 2)))
    for place, (_, model, found) in enumerate(rows):
        if not np.isfinite(found.estimate):
            continue
        colour = style.COLOURS.get(model, style.GRAY)
        if known(found):  # few patients give a line that is too short, and it would be read all the same
            ax.plot([found.low, found.high], [place, place], color=colour, lw=2)
        ax.plot(found.estimate, place, style.MARKERS.get(model, "D"), color=colour)
    style.forest(ax, [name for name, _, _ in rows], reference)
    ax.tick_params(labelsize="small")
    ax.set_xlabel(label, fontsize="small")
    return ax


def _grid(rows: int, columns: int, *, head: float) -> tuple[plt.Figure, np.ndarray]:
    """Axes for square pictures of 1.75 inches with a title of `head` inches."""
    if not rows:
        raise ValueError("there is no image to draw")
    size = (1.75 * columns, (1.75 + head) * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def _picture(ax: plt.Axes, picture: np.ndarray | None, title: str) -> None:
    ax.set_axis_off()
    ax.set_title(title, fontsize=8)
    if picture is not None:
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
