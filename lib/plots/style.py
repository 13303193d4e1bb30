"""What do all figures share? One style, one colour and marker a model, names as the text writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lib import files

if TYPE_CHECKING:  # whoever only wants the names need not wait for the drawing libraries
    import matplotlib.pyplot as plt

# Okabe & Ito (2008): told apart by colour-blind readers; dark and light enough to differ in grayscale.
COLOURS = {"xception_lstm": "#0072B2", "custom_cnn_lstm": "#E69F00"}
MARKERS = {"xception_lstm": "o", "custom_cnn_lstm": "s"}
NAMES = {"xception_lstm": "Xception-LSTM", "custom_cnn_lstm": "Custom CNN-LSTM"}
AMID = NAMES | {"custom_cnn_lstm": "the custom CNN-LSTM"}  # amid a sentence
GRAY = "#666666"
INK = "#20272c"  # text and ticks, as on the pages


def use() -> None:
    """Set the style of the notebook's figures; called once, in its opening cell."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.92)
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 220,
            "svg.hashsalt": "figures",  # the same drawing is the same file
            "image.cmap": "gray",
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#9aa2a8",
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "grid.color": "#e6e9e7",
            "lines.linewidth": 1.8,
            "legend.frameon": False,
        }
    )


def axes(ax: plt.Axes | None, *, size: tuple[float, float] = (6.0, 4.0)) -> plt.Axes:
    """`ax` itself, or a new one of `size` inches."""
    import matplotlib.pyplot as plt

    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def forest(ax: plt.Axes, names: list[str], null: float) -> None:
    """The rows of a forest plot, from the top, and the line of no effect."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.axvline(null, color=GRAY, lw=1)
    ax.grid(axis="y", visible=False)


def write(ax: plt.Axes, text: str, height: float) -> None:
    """A row's figures, to the right of the axes."""
    ax.annotate(
        text, (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize="small", annotation_clip=False
    )  # fmt: skip


def save(ax: plt.Axes | plt.Figure, path: Path) -> None:
    """Write a figure, or that of `ax`, as SVG without a date, so that the same drawing is the same file."""
    with files.replacing(path) as beside:
        ax.figure.savefig(beside, format="svg", metadata={"Date": None})
