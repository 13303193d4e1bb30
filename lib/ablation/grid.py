"""How is the grid run? Every variant with every seed, each run kept and found again, two processes of one thread."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import files, provenance
from lib.ablation.fit import Maps, fit, reader
from lib.ablation.variants import Size, Variant, matched_hidden, parameters
from lib.config import Config, Train, fingerprint

LIB = Path(__file__).parents[1]
# What shapes a result, besides the settings that `identity` records.
SHAPING = [LIB / name for name in ("sequence.py", "models.py", "objective.py", "ablation/fit.py")]
WORKERS = 2
SMALL = 500_000  # epochs times images of all splits below which starting other processes costs more than they save
DECIMALS = 5  # of a logit; every analysis reads the rounded ones, so that it can be repeated from the published tables


class Problem(Protocol):
    """Images as maps, with their table: what a grid is run on."""

    table: pd.DataFrame  # image, patient, split, subtype, label
    fingerprint: str

    def maps(self, variant: Variant) -> Maps: ...

    def stored_channels(self, variant: Variant) -> int: ...


@dataclass(frozen=True)
class Cell:
    """One run to be made: a variant with a seed, at its size, in its folder."""

    name: str
    variant: Variant
    seed: int
    size: Size
    train: Train
    folder: Path

    def identity(self, problem_fingerprint: str) -> dict:
        """What has to be equal for two runs to be the same run."""
        settings = {
            "variant": dataclasses.asdict(self.variant),
            "size": dataclasses.asdict(self.size),
            "width": matched_hidden(self.variant.head, self.size),
            "train": dataclasses.asdict(self.train),
        }
        return {
            "name": self.name,
            "seed": self.seed,
            "settings": settings,
            "data_fingerprint": problem_fingerprint,
            "code_fingerprint": provenance.code_fingerprint(SHAPING),
        }


def cells(
    config: Config,
    problem: Problem,
    variants: Sequence[Variant],
    *,
    train: Train,
    hidden: int,
    prefix: str = "",
) -> list[Cell]:
    """Every run of `variants` with the seeds of `ablation`, seeds outermost, so that a stopped grid is an even one."""
    head = config.xception_lstm
    folder = config.root / "models" / config.profile / "ablation"
    made = []
    for seed in config.ablation.seeds:
        for variant in variants:
            channels = problem.stored_channels(variant)
            if variant.channels == "learned":
                channels = config.ablation.components or head.reduced_dim
            size = Size(channels, hidden, head.dense, head.dropout)
            name = prefix + variant.name
            made.append(Cell(name, variant, seed, size, train, folder / f"{name}-seed{seed}"))
    return made


def run(
    problem: Problem, grid: Sequence[Cell], *, progress: bool = True, workers: int | None = None
) -> pd.DataFrame:
    """Make the runs that are not there yet; one row a run: name, seed, folder, parameters, best_epoch, val_auc, seconds.

    A run is written when it is complete, so a stopped grid goes on where it was and loses at most the run under way in
    each process.

    workers  processes; None for one where the work is small, else WORKERS
    """
    key = problem.fingerprint
    missing = [cell for cell in grid if not is_done(cell, key)]
    passes = sum(cell.train.epochs for cell in missing) * len(problem.table)
    workers = workers or (WORKERS if passes > SMALL else 1)
    jobs = (joblib.delayed(make)(problem, cell, key) for cell in missing)
    pool = joblib.Parallel(n_jobs=min(workers, max(1, len(missing))), return_as="generator_unordered")
    with tqdm(
        total=len(grid), initial=len(grid) - len(missing), desc="ablation", unit="run", disable=not progress
    ) as bar:
        for name in pool(jobs) if missing else ():
            bar.set_postfix_str(name)
            bar.update()
    return pd.DataFrame([summary(cell) for cell in grid])


def is_done(cell: Cell, problem_fingerprint: str) -> bool:
    try:
        info = files.read_json(cell.folder / "run.json")
    except (OSError, ValueError):
        return False
    # Through JSON, so that what was written and what is asked for have the same types.
    wanted = cell.identity(problem_fingerprint)
    return all(fingerprint(info.get(name)) == fingerprint(value) for name, value in wanted.items())


def make(problem: Problem, cell: Cell, problem_fingerprint: str) -> str:
    """Train one cell and write its folder: predictions.csv, history.csv, run.json. Returns the run's name."""
    table = problem.table
    splits = {split: np.flatnonzero(table["split"] == split) for split in ("train", "val", "test")}
    _check(table, splits)
    y = table["label"].to_numpy().astype(int)
    stored = problem.stored_channels(cell.variant)
    fitted = fit(
        lambda: reader(cell.variant, cell.size, stored_channels=stored),
        problem.maps(cell.variant), y, splits, train=cell.train, seed=cell.seed,
    )  # fmt: skip
    predictions = pd.concat(
        [table.iloc[splits[split]].assign(logit=fitted.logits[split]) for split in ("val", "test")]
    )
    predictions = predictions.rename(columns={"label": "y_true"}).assign(seed=cell.seed)
    with files.replacing(cell.folder) as beside:
        beside.mkdir()
        predictions.round({"logit": DECIMALS}).to_csv(beside / "predictions.csv", index=False)
        fitted.history.to_csv(beside / "history.csv", index=False)
        files.write_json(beside / "run.json", cell.identity(problem_fingerprint) | _record(cell, fitted))
    return cell.folder.name


def summary(cell: Cell) -> dict:
    """The row of one finished run."""
    info = files.read_json(cell.folder / "run.json")
    kept = ("name", "seed", "parameters", "best_epoch", "val_auc", "seconds")
    return {name: info[name] for name in kept} | {"folder": cell.folder}


def _record(cell: Cell, fitted) -> dict:
    width = matched_hidden(cell.variant.head, cell.size)
    return {
        "parameters": parameters(cell.variant.head, cell.size, width),
        "best_epoch": fitted.best_epoch,
        "val_auc": float(fitted.history["val_auc"].max()),
        "seconds": round(fitted.seconds, 2),
        **_machine(),
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


@lru_cache
def _machine() -> dict:
    return {
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "device": provenance.device(),
    }


def _check(table: pd.DataFrame, splits: dict[str, np.ndarray]) -> None:
    for split, rows in splits.items():
        if table["label"].iloc[rows].nunique() < 2:
            raise ValueError(
                f"the {split} split holds {len(rows)} images of fewer than two classes; the ablation needs both in each"
            )
