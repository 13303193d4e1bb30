"""How are the grid's predictions kept in git? One table of the test images, and one of logits a variant."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import files
from lib.ablation.effects import Tables

IMAGE = ["image", "patient", "subtype", "y_true"]


def write(folder: Path, tables: Tables) -> None:
    """Replace `folder` by images.csv and one <variant>.csv with a row an image and a column a seed."""
    images = next(iter(tables.values())).drop_duplicates("image")[IMAGE].sort_values("image")
    with files.replacing(Path(folder)) as beside:
        beside.mkdir()
        images.to_csv(beside / "images.csv", index=False)
        for name, table in tables.items():
            wide = table.pivot(index="image", columns="seed", values="logit").sort_index()
            wide.columns = [f"seed{seed}" for seed in wide.columns]
            wide.to_csv(beside / f"{name}.csv")


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables by variant (image, patient, subtype, y_true, seed, logit), as `effects.analyse` takes them.

    Raises FileNotFoundError, saying what to do, when nothing was published there.
    """
    folder = Path(folder)
    if not (folder / "images.csv").exists():
        raise FileNotFoundError(f"{folder} holds no published ablation; run notebook 06_ablation to write it")
    images = pd.read_csv(folder / "images.csv", keep_default_na=False)
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        if path.name != "images.csv":
            long = pd.read_csv(path).melt("image", var_name="seed", value_name="logit")
            long["seed"] = long["seed"].str.removeprefix("seed").astype(int)
            tables[path.stem] = images.merge(long, on="image")
    return tables
