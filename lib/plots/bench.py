"""How is speed drawn? Images per second of both recipes, side by side, with the factor between them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from lib.plots import style

PHASES = {"train": "Training", "infer": "Inference"}
ORIGINAL = "#BBBBBB"  # of the original's bars; the project's have their model's colour


def speed(rows: pd.DataFrame) -> plt.Figure:
    """Bars of images per second by model, recipe and phase; the factor over the original stands at each bar.

    rows  from `bench.table`
    """
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for ax, (phase, title) in zip(panels, PHASES.items(), strict=True):
        own = rows[rows["phase"] == phase].reset_index(drop=True)
        for place, row in own.iterrows():
            first = row["recipe"] == "original"
            colour = ORIGINAL if first else style.COLOURS[row["model"]]
            hatch = "//" if "stored" in row["recipe"] else None
            ax.barh(place, row["images_per_second"], color=colour, hatch=hatch, edgecolor="white", height=0.8)
            text = f"{row['images_per_second']:.1f}" + ("" if first else f"  ({row['ratio']:.1f} x)")
            ax.text(row["images_per_second"], place, f" {text}", va="center", fontsize="small")
        names = [f"{style.NAMES[row.model]}, {row.recipe}" for row in own.itertuples()]
        ax.set_yticks(range(len(own)), names, fontsize="small")
        ax.invert_yaxis()
        ax.set_xlim(0, 1.6 * own["images_per_second"].max())  # room for what stands at the longest bar
        ax.set(title=title, xlabel="images per second")
        ax.grid(visible=False, axis="y")
    return figure
