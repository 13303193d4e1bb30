"""How are predictions of the grid and its controls kept in git? A table of the test images, and one of logits a variant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from lib import files
from lib.ablation.effects import Tables

IMAGE = ["image", "patient", "subtype", "y_true"]


CONTROL = "control-"  # begins the name of a control task's folder


def write(folder: Path, tables: Tables, controls: Mapping[str, Tables] | None = None) -> None:
    """Replace `folder` by images.csv and one <variant>.csv with a row an image and a column a seed.

    controls  tables by control task, written the same way to control-<task>/ in it
    """
    with files.replacing(Path(folder)) as beside:
        _write(beside, tables)
        for task, found in (controls or {}).items():
            _write(beside / f"{CONTROL}{task}", found)


def _write(folder: Path, tables: Tables) -> None:
    images = next(iter(tables.values())).drop_duplicates("image")[IMAGE].sort_values("image")
    folder.mkdir()
    images.to_csv(folder / "images.csv", index=False)
    for name, table in tables.items():
        wide = table.pivot(index="image", columns="seed", values="logit").sort_index()
        wide.columns = [f"seed{seed}" for seed in wide.columns]
        wide.to_csv(folder / f"{name}.csv")


def read(folder: Path, variants: Collection[str] | None = None) -> dict[str, pd.DataFrame]:
    """Tables by variant (image, patient, subtype, y_true, seed, logit), as `effects.analyse` takes them.

    variants  those that are read, of the ones that there are; None for all
    Raises FileNotFoundError, saying what to do, when nothing was published there.
    """
    folder = Path(folder)
    if not (folder / "images.csv").exists():
        raise FileNotFoundError(f"{folder} holds no published ablation; run notebook 06_ablation to write it")
    images = pd.read_csv(folder / "images.csv", keep_default_na=False)
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        if path.name != "images.csv" and (variants is None or path.stem in variants):
            long = pd.read_csv(path).melt("image", var_name="seed", value_name="logit")
            long["seed"] = long["seed"].str.removeprefix("seed").astype(int)
            tables[path.stem] = images.merge(long, on="image")
    return tables
