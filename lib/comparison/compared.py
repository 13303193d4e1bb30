"""What does the comparison leave for the reports? The study's figures in one place, its sentences, its record on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from lib import calibration, comparison, config, evaluate, files, metrics, pixels, stats, train
from lib.comparison import cost, mistakes, original, probe
from lib.config import Config
from lib.plots import style
from lib.plots.style import NAMES
from lib.runs import Run

PROBED = 128  # test images whose tokens are read in other orders
TIMED = 16  # images of the timed batch
QUESTIONS = (
    "Which model is better?",
    "Do the trained models use the sequence?",
    "What does the larger model cost?",
)


@dataclass(frozen=True)
class Comparison:
    """Both models' finished runs and all that is computed from them, each once."""

    config: Config
    runs: dict[str, list[Run]]
    store: pixels.PixelStore

    @property
    def names(self) -> list[str]:
        return [NAMES[model] for model in self.runs]

    @property
    def predictions(self) -> evaluate.Predictions:
        return {
            model: [evaluate.with_probability(run.predictions) for run in own]
            for model, own in self.runs.items()
        }

    @cached_property
    def headline(self) -> pd.DataFrame:
        return evaluate.headline(self.predictions, n_boot=self.config.n_boot)

    @cached_property
    def differences(self) -> pd.DataFrame:
        return comparison.differences(self.predictions, n_boot=self.config.n_boot)

    @cached_property
    def conclusion(self) -> str:
        return comparison.conclusion(self.differences, self.names)

    @cached_property
    def tests(self) -> pd.DataFrame:
        return comparison.paired_tests(self.predictions)

    @cached_property
    def operating(self) -> pd.DataFrame:
        return evaluate.operating_table(self.predictions, n_boot=self.config.n_boot)

    @cached_property
    def subgroups(self) -> pd.DataFrame:
        return evaluate.subgroups(self.predictions, n_boot=self.config.n_boot)

    @cached_property
    def original(self) -> pd.DataFrame:
        architectures = {model: original.architecture(own[0].load()) for model, own in self.runs.items()}
        return original.comparison_table(self.runs, architectures)

    @cached_property
    def optimism(self) -> pd.DataFrame:
        return original.optimism(self.runs)

    @cached_property
    def costs(self) -> pd.DataFrame:
        batch = pixels.to_input(torch.as_tensor(self.store.pixels[self.store.rows("test")[:TIMED]]))
        return cost.table(self.runs, batch)

    @cached_property
    def mistakes(self) -> pd.DataFrame:
        return mistakes.table(self.predictions)

    @cached_property
    def readings(self) -> dict[str, pd.DataFrame]:
        """By model, the first run's AUC with its tokens as trained, reversed, shuffled and levelled."""
        rows = probe.sample(self.store, most=PROBED, seed=self.config.seeds[0])
        found = {}
        for model, own in self.runs.items():
            table = probe.readings(own[0].load(), self.store, rows, seed=self.config.seeds[0])
            found[model] = probe.effects(table, n_boot=self.config.n_boot)
        return found

    def aucs(self) -> dict[str, stats.Interval]:
        """By model, as the headline has it."""
        return {model: evaluate.draws(tables, "auc", n_boot=self.config.n_boot, seed=42, stream=k).interval()
                for k, (model, tables) in enumerate(self.predictions.items())}  # fmt: skip

    def reliability(self, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Bins of the first seed's test images, as trained and after temperature scaling."""
        table = self.predictions[model][0]
        test, temperature = (
            evaluate.part(table, "test"),
            calibration.fit_temperature(evaluate.deciding(table)),
        )
        settings = {"n_boot": self.config.n_boot, "seed": 42}
        after = calibration.reliability(calibration.scaled(test, temperature), **settings)
        return calibration.reliability(test, **settings), after


def gather(cfg: Config) -> Comparison:
    """Both models' runs, trained now if notebooks 02 and 03 have not."""
    runs = {model: train.fit_all(cfg, model) for model in config.MODELS}
    return Comparison(cfg, runs, pixels.prepare(cfg))


def shown(headline: pd.DataFrame) -> pd.DataFrame:
    """The headline as a page shows it: one row a metric, one column a model, each with its interval."""
    names = [name for name in headline if f"{name}_low" in headline]
    columns = {
        NAMES[row["model"]]: [
            f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]" for name in names
        ]
        for row in headline.to_dict("records")
    }
    words = [
        metrics.NAMES[name.removesuffix("_scaled")] + (", after scaling" if name.endswith("_scaled") else "")
        for name in names
    ]
    return pd.DataFrame(columns, index=pd.Index(words, name="metric"))


def labels(found: Comparison) -> dict[str, str]:
    """Legend entries: name and AUC with its interval."""
    return {model: f"{NAMES[model]}, AUC {auc}" for model, auc in found.aucs().items()}


def pictures(found: Comparison, chosen: pd.DataFrame) -> np.ndarray:
    """The pixels (n, S, S) of a mistakes table's images."""
    rows = found.store.index.reset_index().set_index("image")["index"][chosen["image"]]
    return found.store.pixels[rows.to_numpy()]


def reading_table(found: Comparison) -> pd.DataFrame:
    """AUC of both models under every reading of their tokens, and its difference from the trained one."""
    tables = [table.assign(model=NAMES[model]) for model, table in found.readings.items()]
    table = pd.concat(tables)[["model", "reading", "auc", "difference"]]
    return table.assign(
        reading=table["reading"].map(probe.READINGS), difference=table["difference"].fillna("").astype(str)
    )


def headline_sentence(found: Comparison) -> str:
    parts = [
        f"{NAMES[row.model]} reaches a test AUC of {row.auc:.3f} [{row.auc_low:.3f}, {row.auc_high:.3f}] and, at the threshold chosen on "
        f"images held out, {row.accuracy:.1%} accuracy (sensitivity {row.sensitivity:.1%}, specificity {row.specificity:.1%})"
        for row in found.headline.itertuples()
    ]
    row = found.headline.iloc[0]
    return f"{'; '.join(parts)}. {row['n']} images of {row['n_patients']} patients, {row['seeds']} seed(s) a model."


def calibration_sentence(found: Comparison) -> str:
    parts = [
        f"{NAMES[row.model]}'s calibration error goes from {row.ece:.3f} to {row.ece_scaled:.3f} (temperature {row.temperature:.2f})"
        for row in found.headline.itertuples()
    ]
    return "With the temperature fitted on images held out, " + " and ".join(parts) + " on the test images."


def subgroup_sentence(found: Comparison) -> str:
    rows = found.subgroups
    parts = [
        f"{NAMES[model]} calls rightly "
        + ", ".join(f"{row.share.estimate:.1%} of {row.n} {row.subtype}" for row in own.itertuples())
        for model, own in rows.groupby("model", sort=False)
    ]
    return "; ".join(parts) + "."


def sequence_sentence(found: Comparison) -> str:
    """Whether the trained models rely on the order of their tokens; only where the interval excludes zero."""
    parts = []
    for model, table in found.readings.items():
        row = table.set_index("reading").loc["shuffled"]
        change = row["difference"]
        verdict = (
            "relies on the order of its tokens"
            if change.excludes(0.0) and change.estimate < 0
            else "is not shown to rely on the order"
        )
        parts.append(
            f"{NAMES[model]} {verdict}: with the tokens shuffled its AUC changes by {change.estimate:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
        )
    return (
        "; ".join(parts)
        + ". Whether a model needs the sequence is asked in notebook 06, where every variant is trained anew."
    )


def answers(found: Comparison) -> dict[str, str]:
    return dict(
        zip(
            QUESTIONS,
            (found.conclusion, sequence_sentence(found), original.ratios_sentence(found.original)),
            strict=True,
        )
    )


def findings(found: Comparison) -> list[dict[str, str]]:
    rows = [
        ("Headline", headline_sentence(found), "info"),
        ("Difference between the models", found.conclusion, "info"),
        ("Paired tests", comparison.paired_tests_sentence(found.tests), "info"),
        ("Subgroups", subgroup_sentence(found), "info"),
        (
            "Calibration",
            calibration_sentence(found),
            "good" if found.headline["ece_scaled"].max() < 0.05 else "caution",
        ),
        ("Shared mistakes", mistakes.sentence(found.mistakes, found.predictions, NAMES), "info"),
        (
            "Best test epoch",
            original.optimism_sentence(found.optimism),
            "caution" if len(found.optimism) else "info",
        ),
    ]
    return [dict(zip(("check", "result", "verdict"), row, strict=True)) for row in rows]


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
    """What 04_compare.json holds: plain numbers and the sentences above."""
    return {
        "n_boot": found.config.n_boot,
        "conclusion": found.conclusion,
        "answers": answers(found),
        "findings": findings(found),
        "headline": found.headline.to_dict("records"),
        "operating_points": _plain(found.operating),
        "subgroups": _plain(found.subgroups),
        "differences": _plain(found.differences),
        "tests": _plain(found.tests),
        "costs": _plain(found.costs.reset_index()),
    }


def copy_run(run: Run, folder, stem: str) -> None:
    """Predictions, history and provenance of a run as <stem>.csv, .history.csv and .run.json; never its weights."""
    for part, ending in (
        ("predictions.csv", "csv"),
        ("history.csv", "history.csv"),
        ("run.json", "run.json"),
    ):
        (folder / f"{stem}.{ending}").write_bytes((run.folder / part).read_bytes())


def _plain(table: pd.DataFrame) -> list[dict]:
    """Rows of plain values; an interval becomes its estimate, low and high."""
    rows = []
    for row in table.to_dict("records"):
        plain = {}
        for name, value in row.items():
            plain |= evaluate.flat(name, value) if isinstance(value, stats.Interval) else {name: value}
        rows.append(plain)
    return rows
