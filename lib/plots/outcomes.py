"""How are outcomes drawn? Confusion matrices at each operating point, and the images that models get wrong."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lib.evaluate import POINTS
from lib.plots import style

CLASSES = ("normal", "pneumonia")


def confusion(cells: np.ndarray, *, title: str = "", ax: plt.Axes | None = None) -> plt.Axes:
    """Heat map of one confusion matrix, coloured by the share of the true class.

    cells  [[true negatives, false positives], [false negatives, true positives]]; means over seeds may be fractions
    """
    ax = style.axes(ax, size=(3.2, 3.0))
    cells = np.asarray(cells, dtype=float)
    share = cells / np.maximum(cells.sum(1, keepdims=True), 1)
    text = [
        [f"{n:g}\n{s:.0%}" for n, s in zip(*row, strict=True)]
        for row in zip(cells.round(1), share, strict=True)
    ]
    sns.heatmap(
        share, annot=np.array(text), fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True, ax=ax,
        xticklabels=CLASSES, yticklabels=CLASSES,
    )  # fmt: skip
    ax.set(title=title, xlabel="called", ylabel="truth")
    return ax


def confusion_grid(operating: pd.DataFrame) -> plt.Figure:
    """One matrix a model (rows) and operating point (columns).

    operating  from `measured.operating_table`
    """
    models = list(operating["model"].unique())
    size = (2.7 * len(POINTS), 3.5 * len(models))
    figure, grid = plt.subplots(len(models), len(POINTS), figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)
    for row in operating.itertuples():
        ax = grid[models.index(row.model), list(POINTS).index(row.point)]
        title = f"{POINTS[row.point]}\n(threshold {row.threshold:.2f})"
        confusion([[row.tn, row.fp], [row.fn, row.tp]], title=title, ax=ax)
        ax.title.set_fontsize("small")
        first = row.point == next(iter(POINTS))
        ax.set_ylabel(f"{style.NAMES[row.model]}\ntruth" if first else "")
    return figure


def pictures(mistakes: pd.DataFrame, pixels: np.ndarray, *, columns: int = 6) -> plt.Figure:
    """The images of a mistakes table with what they are and what each model said.

    mistakes  from `mistakes.table`; pixels [n, S, S] uint8, in the order of its rows
    """
    rows = max(1, -(-len(mistakes) // columns))
    figure, grid = plt.subplots(
        rows, columns, figsize=(2.1 * columns, 2.75 * rows), squeeze=False, layout="constrained"
    )
    for ax in grid.flat:
        ax.axis("off")
    models = [name.removesuffix("_probability") for name in mistakes if name.endswith("_probability")]
    for ax, (_, row), image in zip(grid.flat, mistakes.iterrows(), pixels, strict=False):
        ax.imshow(image, vmin=0, vmax=255)
        said = [f"{style.NAMES[m]}: {row[f'{m}_probability']:.2f}" for m in models]
        ax.set_title("\n".join([f"{row['subtype']} ({row['kind']})", *said]), fontsize="x-small")
    return figure
