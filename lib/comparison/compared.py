"""What does the comparison leave for the reports? The study's figures in one place, its sentences, its record on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from lib import account, calibration, config, devices, evaluate, files, metrics, pixels, stats, train
from lib.comparison import cost, original, scored, token_changes
from lib.config import Config
from lib.plots import style
from lib.plots.style import NAMES
from lib.runs import Run

PROBED = 128  # test images whose tokens are read in other orders
TIMED = 16  # images of the timed batch


@dataclass(frozen=True)
class Comparison(scored.Scored):
    """The same of finished runs, and what their trained models say besides."""

    config: Config
    store: pixels.PixelStore

    @cached_property
    def original(self) -> pd.DataFrame:
        architectures = {model: cost.architecture(own[0].load()) for model, own in self.runs.items()}
        return original.comparison_table(self.runs, architectures)

    @cached_property
    def costs(self) -> pd.DataFrame:
        batch = pixels.to_input(torch.as_tensor(self.store.pixels[self.store.rows("test")[:TIMED]]))
        return cost.table(self.runs, batch.to(devices.fastest()))

    @cached_property
    def readings(self) -> dict[str, pd.DataFrame]:
        """By model, the first run's AUC with its tokens as trained, reversed, shuffled and levelled."""
        rows = token_changes.sample(self.store, most=PROBED, seed=self.config.seeds[0])
        found = {}
        for model, own in self.runs.items():
            network = own[0].load().to(devices.fastest())
            table = token_changes.readings(network, self.store, rows, seed=self.config.seeds[0])
            found[model] = token_changes.effects(table, n_boot=self.n_boot)
        return found

    def aucs(self) -> dict[str, stats.Interval]:
        """By model, as the headline has it."""
        return {model: found.interval("auc") for model, found in self.models.items()}

    def reliability(self, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Bins of the first seed's test images, as trained and after temperature scaling."""
        table = self.predictions[model][0]
        test, temperature = (
            evaluate.part(table, "test"),
            calibration.fit_temperature(evaluate.deciding(table)),
        )
        settings = {"n_boot": self.n_boot, "seed": 42}
        after = calibration.reliability(calibration.scaled(test, temperature), **settings)
        return calibration.reliability(test, **settings), after


def gather(cfg: Config) -> Comparison:
    """Both models' runs, trained now if notebooks 02 and 03 have not."""
    runs = {model: train.fit_all(cfg, model) for model in config.MODELS}
    return Comparison(runs, cfg.n_boot, cfg, pixels.prepare(cfg))


def shown(headline: pd.DataFrame) -> pd.DataFrame:
    """The headline as a page shows it: one row a metric, one column a model, each with its interval."""
    names = [name for name in headline if f"{name}_low" in headline]
    columns = {
        NAMES[row["model"]]: [
            f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]" for name in names
        ]
        for row in headline.to_dict("records")
    }
    return pd.DataFrame(columns, index=pd.Index(map(metrics.title, names), name="metric"))


def operating_shown(operating: pd.DataFrame) -> pd.DataFrame:
    """The operating points as a page shows them: models and points by their names, and those figures that are read most."""
    kept = ["model", "point", "threshold", "accuracy", "sensitivity", "specificity", "ppv", "npv"]
    return operating[kept].assign(
        model=operating["model"].map(NAMES), point=operating["point"].map(evaluate.POINTS)
    )


def labels(found: Comparison) -> dict[str, str]:
    """Legend entries: name and AUC with its interval."""
    return {model: f"{NAMES[model]}, AUC {auc}" for model, auc in found.aucs().items()}


def patients_sentence(found: Comparison) -> str:
    """What to add to the headline where the data set names no patients."""
    said = account.patients_sentence(found.store)
    return f" {said}" if said else ""


def pictures(found: Comparison, chosen: pd.DataFrame) -> np.ndarray:
    """The pixels (n, S, S) of a mistakes table's images."""
    rows = found.store.index.reset_index().set_index("image")["index"][chosen["image"]]
    return found.store.pixels[rows.to_numpy()]


def reading_table(found: Comparison) -> pd.DataFrame:
    """AUC of both models under every reading of their tokens, and its difference from the trained one."""
    tables = [table.assign(model=NAMES[model]) for model, table in found.readings.items()]
    table = pd.concat(tables)[["model", "reading", "auc", "difference"]]
    return table.assign(
        reading=table["reading"].map(token_changes.READINGS),
        difference=table["difference"].fillna("").astype(str),
    )


def reading_rows(found: Comparison) -> list[dict]:
    """The readings as plain rows, with the run and the images that they are of."""
    rows = []
    for model, table in found.readings.items():
        told = table.assign(
            model=model,
            seed=found.runs[model][0].seed,
            n=[one.n for one in table["auc"]],
            n_patients=[one.n_patients for one in table["auc"]],
        )
        rows += scored.plain(told)
    return rows


def sequence_sentence(found: Comparison) -> str:
    """Whether the trained models rely on the order of their tokens."""
    return scored.sequence_sentence(reading_rows(found))


def keep(found: Comparison, figures: Mapping[str, plt.Axes]) -> None:
    """Write predictions with their provenance, and figures without radiographs, to the results folder."""
    folder = found.config.results_dir
    with files.replacing(folder / "predictions") as beside:
        beside.mkdir()
        for model, own in found.runs.items():
            for run in own:
                copy_run(run, beside, f"{model}-seed{run.seed}")
    for name, ax in figures.items():
        style.save(ax, folder / "figures" / f"{name}.svg")


def record(found: Comparison) -> dict:
    """What 04_compare.json holds: plain numbers and the sentences."""
    readings = reading_rows(found)
    return scored.stated(found, readings) | {
        "readings": readings,
        "costs": scored.plain(found.costs.reset_index()),
    }


def copy_run(run: Run, folder, stem: str) -> None:
    """Predictions, history and provenance of a run as <stem>.csv, .history.csv and .run.json; never its weights."""
    for part, ending in (
        ("predictions.csv", "csv"),
        ("history.csv", "history.csv"),
        ("run.json", "run.json"),
    ):
        (folder / f"{stem}.{ending}").write_bytes((run.folder / part).read_bytes())
