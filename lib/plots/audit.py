"""How is the audit drawn? Samples, means, pairs; the numbering, the gap, and forests of intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib import originals
from lib.audit import shortcuts
from lib.audit.duplicates import FLOOR, Duplicates
from lib.audit.patients import number
from lib.audit.shift import CLASSES, NAMES
from lib.plots import style
from lib.splits import series
from lib.stats import Interval
from lib.store import PixelStore

# Okabe & Ito (2008)
SPLITS = {"train": "#999999", "val": "#0072B2", "calibration": "#009E73", "test": "#D55E00"}
MARKS = {0: ("o", "#0072B2"), 1: ("s", "#D55E00")}  # of normal and pneumonia


def samples(store: PixelStore, *, seed: int, columns: int = 6) -> plt.Figure:
    """Images of each subtype (rows) drawn at random, at most one a patient; the frame's colour is the split's."""
    kinds = [
        kind for kind in ("normal", "bacterial", "viral", "unknown") if (store.index["subtype"] == kind).any()
    ]
    figure, axes = _grid(len(kinds), columns, 1.55)
    for line, kind in zip(axes, kinds, strict=True):
        one_each = store.index[store.index["subtype"] == kind].groupby("patient").sample(1, random_state=seed)
        drawn = one_each.sample(min(columns, len(one_each)), random_state=seed).sort_values("split")
        for ax, (row, about) in zip(line, drawn.iterrows(), strict=False):
            _image(
                ax, store.pixels[row], f"{about['patient']}\n{about['split']}"[-32:], SPLITS[about["split"]]
            )
        line[0].set_ylabel(kind)
    return figure


def means(store: PixelStore) -> plt.Figure:
    """Mean image of each class (rows) in each split, and test minus train (red: brighter in test)."""
    splits = _splits(store)
    figure, axes = _grid(2, len(splits) + 1, 2.1)
    average = {
        (label, split): _mean(store, (store.index["split"] == split) & (store.index["label"] == label))
        for label in CLASSES
        for split in splits
    }
    span = max(np.abs(average[label, "test"] - average[label, "train"]).max() for label in CLASSES)
    for label, line in zip(CLASSES, axes, strict=True):
        for ax, split in zip(line, splits, strict=False):
            _image(ax, average[label, split], split)
        drawn = line[-1].imshow(
            average[label, "test"] - average[label, "train"], cmap="RdBu_r", vmin=-span, vmax=span
        )
        line[-1].set_title("test - train", fontsize="small")
        line[0].set_ylabel(CLASSES[label])
    figure.colorbar(drawn, ax=axes[:, -1], label="gray levels", shrink=0.8)
    return figure


def pairs(store: PixelStore, found: pd.DataFrame) -> plt.Figure:
    """Pairs of images one above the other, in columns; found: rows of `Duplicates.pairs`."""
    figure, axes = _grid(2, len(found), 1.9)
    for column, pair in enumerate(found.itertuples()):
        for ax, row in zip(axes[:, column], (pair.first, pair.second), strict=True):
            about = store.index.loc[row]
            image = np.asarray(store.pixels[row])
            mirror = pair.mirrored and row == pair.second
            _image(
                ax,
                image[:, ::-1] if mirror else image,
                f"{about['patient']}, {about['split']}{' (mirrored)' if mirror else ''}",
            )
        axes[1, column].set_xlabel(
            "identical files" if pair.identical else f"correlation {pair.correlation:.3f}", fontsize="small"
        )
    return figure


def sizes(store: PixelStore, *, ax: plt.Axes | None = None) -> plt.Axes:
    """Width and height of the original images, by class."""
    ax, shape = style.axes(ax, size=(5.5, 4.0)), originals.of(store)
    for label, (marker, colour) in MARKS.items():
        part = shape[store.index["label"] == label]
        ax.scatter(
            part["width"], part["height"], s=12, marker=marker, color=colour, alpha=0.4, label=CLASSES[label]
        )
    ax.set(xlabel="width (pixels)", ylabel="height (pixels)")
    ax.legend(frameon=False)
    return ax


def numbering(store: PixelStore, *, ax: plt.Axes | None = None) -> plt.Axes:
    """Every patient at its number, one line a series, coloured and shifted by split."""
    ax = style.axes(ax, size=(7.5, 3.2))
    known = store.index.assign(number=number(store.index["patient"]), series=series(store.index))
    known = known.dropna(subset=["number"]).drop_duplicates("patient")
    names = sorted(known["series"].unique())
    splits = _splits(store)
    for height, split in enumerate(splits):
        part = known[known["split"] == split]
        lines = part["series"].map(names.index) + 0.75 * (height - (len(splits) - 1) / 2) / len(splits)
        ax.scatter(
            part["number"].astype(int), lines, marker="|", s=55, lw=0.8, color=SPLITS[split], label=split
        )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="patient number")
    ax.grid(axis="y", visible=False)
    ax.legend(frameon=False, ncols=len(splits), loc="lower right", bbox_to_anchor=(1, 1), handlelength=0.8)
    return ax


def _splits(store: PixelStore) -> list[str]:
    """Those that the store has, in the order of SPLITS."""
    return [split for split in SPLITS if (store.index["split"] == split).any()]


def gap(found: Duplicates, *, ax: plt.Axes | None = None) -> plt.Axes:
    """How many pairs correlate how much, and the widest empty gap between copies and likeness."""
    ax = style.axes(ax, size=(7.0, 3.2))
    bins = np.linspace(FLOOR, 1.0, 101)
    for identical, colour, name in ((False, style.GRAY, "other pairs"), (True, "#D55E00", "identical files")):
        values = found.pairs.loc[found.pairs["identical"] == identical, "correlation"].clip(upper=1.0)
        ax.hist(values, bins=bins, color=colour, label=f"{name} ({len(values):,})")
    if found.clear:
        ax.axvspan(
            found.low,
            found.high,
            color="#009E73",
            alpha=0.15,
            label=f"empty: {found.low:.3f} to {found.high:.3f}",
        )
    ax.axvline(found.threshold, color="black", lw=1, ls="--", label=f"threshold {found.threshold:.2f}")
    ax.set(
        yscale="log", xlabel="correlation of fine structure", ylabel="pairs of images", xlim=(FLOOR, 1.005)
    )
    ax.legend(frameon=False, fontsize="x-small", ncols=4, loc="lower right", bbox_to_anchor=(1.02, 1))
    return ax


def differences(found: pd.DataFrame, *, ax: plt.Axes | None = None) -> plt.Axes:
    """Test minus train of every measurement, in standard deviations; filled where the interval excludes zero."""
    names = list(dict.fromkeys(found["measurement"]))
    ax = style.axes(ax, size=(7.0, 0.34 * len(names) + 1.2))
    for row in found.itertuples():
        marker, colour = MARKS[row.label]
        _interval(
            ax, row.difference, names.index(row.measurement) + 0.3 * (row.label - 0.5), marker, colour, 0.0
        )
    style.forest(ax, [NAMES[name] for name in names], 0.0)
    _class_legend(ax)
    ax.set(xlabel="test - train, in standard deviations of train")
    return ax


def shift(found: dict[tuple[str, int | None], Interval | None], *, ax: plt.Axes | None = None) -> plt.Axes:
    """AUC of telling test, and val, from train, for all images and by class."""
    shown = {key: auc for key, auc in found.items() if auc is not None}
    ax = style.axes(ax, size=(6.0, 0.4 * len(shown) + 1.2))
    for height, ((_, label), auc) in enumerate(shown.items()):
        _interval(ax, auc, height, *(MARKS[label] if label is not None else ("D", "black")), 0.5)
        style.write(ax, f"{auc}", height)
    style.forest(ax, [f"{split}, {CLASSES.get(label, 'all')}" for split, label in shown], 0.5)
    ax.set(xlabel="AUC of telling from train")
    return ax


def probes(found: pd.DataFrame, *, ax: plt.Axes | None = None) -> plt.Axes:
    """AUC for pneumonia of each probe on val and test."""
    names = list(dict.fromkeys(found.dropna(subset=["auc"])["probe"]))
    ax = style.axes(ax, size=(6.5, 0.6 * len(names) + 1.2))
    for row in found.dropna(subset=["auc"]).itertuples():
        height = names.index(row.probe) + (0.18 if row.split == "test" else -0.18)
        _interval(ax, row.auc, height, "s" if row.split == "test" else "o", SPLITS[row.split], 0.5)
        style.write(ax, f"{row.auc}", height)
    style.forest(ax, [shortcuts.NAMES[name] for name in names], 0.5)
    handles = [
        plt.Line2D([], [], marker=m, color=SPLITS[s], lw=0, label=s) for s, m in (("val", "o"), ("test", "s"))
    ]
    ax.legend(handles=handles, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    ax.set(xlabel="AUC for pneumonia")
    return ax


def regions(store: PixelStore) -> plt.Figure:
    """What the probes see of the mean training image: all of it, the border and corners, and it without the lungs."""
    mean = shortcuts.shrunk(store.pixels[store.rows("train")], shortcuts.SIDE).mean(0)
    seen = {
        "mean of train": mean,
        "border and corners": np.where(shortcuts.edge(), mean, 0),
        "lungs blacked out": np.where(shortcuts.lungs(store), 0, mean),
    }
    figure, axes = _grid(1, len(seen), 1.9)
    for ax, (title, image) in zip(axes[0], seen.items(), strict=True):
        _image(ax, image, title)
    return figure


def _grid(rows: int, columns: int, inches: float) -> tuple[plt.Figure, np.ndarray]:
    figure, axes = plt.subplots(
        rows, columns, figsize=(inches * columns, inches * rows * 1.15), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        sns.despine(ax=ax, left=True, bottom=True)
    return figure, axes


def _image(ax: plt.Axes, image: np.ndarray, title: str, frame: str | None = None) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255)
    ax.set_title(title, fontsize="x-small", color="black")
    if frame:
        for spine in ax.spines.values():
            spine.set(visible=True, color=frame, linewidth=2.5)


def _mean(store: PixelStore, part: pd.Series) -> np.ndarray:
    rows = np.flatnonzero(part)
    return store.pixels[rows].mean(0) if len(rows) else np.full(store.pixels.shape[1:], np.nan)


def _interval(ax: plt.Axes, found: Interval, height: float, marker: str, colour: str, null: float) -> None:
    ax.plot([found.low, found.high], [height, height], color=colour, lw=1.6)
    ax.plot(
        found.estimate, height, marker, color=colour, ms=6, mfc=colour if found.excludes(null) else "white"
    )


def _class_legend(ax: plt.Axes) -> None:
    handles = [
        plt.Line2D([], [], marker=marker, color=colour, lw=0, label=CLASSES[label])
        for label, (marker, colour) in MARKS.items()
    ]
    ax.legend(handles=handles, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
