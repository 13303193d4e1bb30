"""Which images, heads and seeds make the ablation of a profile, and where do its predictions come from?"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lib import pixels
from lib.ablation import grid
from lib.ablation.fit import protocol
from lib.ablation.frozen import frozen_features
from lib.ablation.variants import select
from lib.config import Config


@dataclass(frozen=True)
class Result:
    """The grid as it was run.

    runs    one row a run: name, seed, parameters, best_epoch, val_auc, seconds, folder
    tables  test predictions by variant: image, patient, subtype, y_true, seed, logit
    """

    runs: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    data_fingerprint: str

    def costs(self) -> pd.DataFrame:
        """One row a variant: parameters, median best epoch, mean validation AUC, mean seconds a run."""
        found = self.runs.groupby("name", sort=False).agg(
            parameters=("parameters", "first"),
            best_epoch=("best_epoch", "median"),
            val_auc=("val_auc", "mean"),
            seconds=("seconds", "mean"),
        )
        return found.rename_axis("variant").reset_index()


def run(config: Config, *, progress: bool = True) -> Result:
    """Every variant that the profile asks for with every seed, of its model and in its regime: found, resumed or trained."""
    variants = select(config)
    if config.ablation.regime == "finetuned":
        from lib.ablation import finetuned  # it brings the whole of training along

        runs, tables = finetuned.run(config, variants, model=config.ablation.model, progress=progress)
        return Result(
            runs,
            {name: test_rows(table) for name, table in tables.items()},
            pixels.prepare(config, progress=False).fingerprint,
        )
    problem = frozen_features(config, progress=progress)
    cells = grid.cells(config, problem, variants, train=protocol(config), hidden=config.ablation.hidden)
    runs = grid.run(problem, cells, progress=progress)
    return Result(runs, collect(runs), problem.fingerprint)


def collect(runs: pd.DataFrame, prefix: str = "") -> dict[str, pd.DataFrame]:
    """The test predictions of finished runs by variant, all seeds of one below each other."""
    return {
        name.removeprefix(prefix): test_rows(
            pd.concat(
                [pd.read_csv(folder / "predictions.csv") for folder in group["folder"]], ignore_index=True
            )
        )
        for name, group in runs.groupby("name", sort=False)
    }


def test_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What the analysis reads of predictions: the test split, logits at the precision in which they are published."""
    kept = table.loc[table["split"] == "test", ["image", "patient", "subtype", "y_true", "seed", "logit"]]
    return kept.round({"logit": grid.DECIMALS}).reset_index(drop=True)
