"""What do two models' recorded runs say? All of the comparison that needs predictions, histories and run.json, and no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from lib import comparison, evaluate, files, measured, stats
from lib.comparison import mistakes, original
from lib.config import MODELS
from lib.plots.style import NAMES

BETTER = "Which model is better?"
SEQUENCE = "Do the trained models use the sequence?"
COST = "What does the larger model cost?"

# By operating point that aims at something: at what, and how much of it at least.
TARGETS = {
    "sensitivity_95": ("sensitivity", 0.95),
    "specificity_90": ("specificity", 0.90),
    "specificity_95": ("specificity", 0.95),
}
# By reading of `token_changes.READINGS` other than as trained: how the sentence calls it. The last one has no order, so it does not tell of one.
CHANGED = {
    "reversed": "with its tokens in reverse",
    "shuffled": "in a random order",
    "levelled": "with each replaced by the image's mean token",
}


@dataclass(frozen=True)
class Kept:
    """A run as the results folder keeps it: what `runs.Run` has, without the model."""

    seed: int
    predictions: pd.DataFrame
    history: pd.DataFrame
    info: dict


@dataclass(frozen=True)
class Scored:
    """What is computed from both models' runs, each once."""

    runs: dict[str, Sequence]  # by model: `Kept` or `runs.Run`
    n_boot: int

    @property
    def names(self) -> list[str]:
        return [NAMES[model] for model in self.runs]

    @cached_property
    def predictions(self) -> evaluate.Predictions:
        return {
            model: [evaluate.with_probability(run.predictions) for run in own]
            for model, own in self.runs.items()
        }

    @cached_property
    def models(self) -> dict[str, measured.Measured]:
        return measured.of(self.predictions, n_boot=self.n_boot)

    @cached_property
    def headline(self) -> pd.DataFrame:
        return measured.headline(self.models)

    @cached_property
    def differences(self) -> pd.DataFrame:
        return comparison.differences(self.models)

    @cached_property
    def conclusion(self) -> str:
        return comparison.conclusion(self.differences, self.names)

    @cached_property
    def tests(self) -> pd.DataFrame:
        return comparison.paired_tests(self.predictions)

    @cached_property
    def operating(self) -> pd.DataFrame:
        return measured.operating_table(self.models)

    @cached_property
    def subgroups(self) -> pd.DataFrame:
        return measured.subgroups(self.models)

    @cached_property
    def original(self) -> pd.DataFrame:
        return original.comparison_table(self.runs)

    @cached_property
    def optimism(self) -> pd.DataFrame:
        return original.optimism(self.runs)

    @cached_property
    def mistakes(self) -> pd.DataFrame:
        return mistakes.table(self.predictions)


def recorded(folder: Path, *, n_boot: int) -> Scored:
    """The runs that a results folder keeps, both models'. Raises ValueError when it lacks one."""
    runs = {model: _kept(Path(folder) / "predictions", model) for model in MODELS}
    if missing := [model for model, own in runs.items() if not own]:
        raise ValueError(
            f"{folder} keeps no predictions of {' and '.join(missing)}; there is nothing to compare"
        )
    return Scored(runs, n_boot)


def _kept(folder: Path, model: str) -> list[Kept]:
    seeds = sorted(
        int(path.name.split("-seed")[1].split(".")[0]) for path in folder.glob(f"{model}-seed*.run.json")
    )
    stems = {seed: f"{folder / model}-seed{seed}" for seed in seeds}
    return [
        Kept(
            seed,
            pd.read_csv(f"{stem}.csv"),
            pd.read_csv(f"{stem}.history.csv"),
            files.read_json(Path(f"{stem}.run.json")),
        )
        for seed, stem in stems.items()
    ]


def answers(found: Scored, readings: list[dict] | None = None) -> dict[str, str]:
    """What notebook 04 answers, by question.

    readings  rows of `compared.reading_rows`; without them the answer of the sequence is left out
    """
    of_sequence = {SEQUENCE: sequence_sentence(readings)} if readings else {}
    return {BETTER: found.conclusion, **of_sequence, COST: original.ratios_sentence(found.original)}


def stated(found: Scored, readings: list[dict] | None = None) -> dict:
    """What 04_compare.json holds of a comparison, but for what only trained models can say; readings are those of `answers`."""
    costs = found.original[["parameters", "epoch_seconds"]]
    return {
        "n_boot": found.n_boot,
        "conclusion": found.conclusion,
        "answers": answers(found, readings),
        "findings": findings(found),
        "headline": found.headline.to_dict("records"),
        "operating_points": plain(found.operating),
        "subgroups": plain(found.subgroups),
        "differences": plain(found.differences),
        "tests": plain(found.tests),
        "costs": plain(costs.reset_index()),
    }


def headline_sentence(found: Scored) -> str:
    parts = [
        f"{NAMES[row.model]} reaches a test AUC of {row.auc:.3f} [{row.auc_low:.3f}, {row.auc_high:.3f}] and, at the threshold chosen on "
        f"images held out, {row.accuracy:.1%} accuracy (sensitivity {row.sensitivity:.1%}, specificity {row.specificity:.1%}; "
        f"{row.seeds} seed{'' if row.seeds == 1 else 's'})"
        for row in found.headline.itertuples()
    ]
    row = found.headline.iloc[0]
    return f"{'; '.join(parts)}. {row['n']} images of {row['n_patients']} patients."


def curve_sentence(found: Scored) -> str:
    """What the ROC and the precision-recall curve of each model say in figures."""
    parts = [
        f"{NAMES[row['model']]} finds {_share(row, 'sensitivity_at_90_specificity')} of the pneumonia images where 90% of the normal ones are left alone and "
        f"{_share(row, 'sensitivity_at_95_specificity')} where 95% are; its average precision is {row['average_precision']:.3f} "
        f"[{row['average_precision_low']:.3f}, {row['average_precision_high']:.3f}]"
        for row in found.headline.to_dict("records")
    ]
    return (
        "; ".join(parts)
        + ". These cuts are read off the test curve itself, so nobody could have set them beforehand."
    )


def operating_sentence(found: Scored) -> str:
    """What the thresholds that were chosen for a target reach on the test images, and which of them miss it there."""
    rows = found.operating[found.operating["point"].isin(TARGETS)]
    parts = [
        f"{NAMES[model]}, {'; '.join(map(_reached, own.to_dict('records')))}"
        for model, own in rows.groupby("model", sort=False)
    ]
    return f"On the test images {'. '.join(parts)}."


def _reached(row: dict) -> str:
    """Of one operating point with a target; what is printed as the target has not missed it."""
    metric, target = TARGETS[row["point"]]
    share = row[metric].estimate
    missed = " (missed)" if round(share, 3) < target else ""
    return f"set to a {metric} of at least {target:.0%}, reaches {share:.1%}{missed}"


def _share(row: dict, name: str) -> str:
    return f"{row[name]:.1%} [{row[f'{name}_low']:.1%}, {row[f'{name}_high']:.1%}]"


def calibration_sentence(found: Scored) -> str:
    parts = [
        f"{NAMES[row.model]}'s expected calibration error goes from {row.ece:.3f} to {row.ece_scaled:.3f} (temperature {row.temperature:.2f})"
        for row in found.headline.itertuples()
    ]
    return "With the temperature fitted on images held out, " + " and ".join(parts) + " on the test images."


def subgroup_sentence(found: Scored) -> str:
    rows = found.subgroups
    parts = [
        f"{NAMES[model]} classifies correctly "
        + ", ".join(f"{row.share.estimate:.1%} of {row.n} {row.subtype}" for row in own.itertuples())
        for model, own in rows.groupby("model", sort=False)
    ]
    return "; ".join(parts) + "."


def sequence_sentence(readings: list[dict]) -> str:
    """Whether the trained models rely on the order of their tokens: where they surely lose by a random one. In reverse all the order is
    still there, so a loss by that alone may be of tokens as the model never had them."""
    said = "; ".join(_relies(model, readings) for model in dict.fromkeys(row["model"] for row in readings))
    return (
        f"{said}. A model may also be misled by tokens of a kind that it never saw; whether one needs the sequence is asked in notebook 06, "
        "where every variant is trained anew."
    )


def _relies(model: str, readings: list[dict]) -> str:
    rows = {row["reading"]: row for row in readings if row["model"] == model and row["reading"] in CHANGED}
    falls = [reading for reading, row in rows.items() if row["difference_high"] < 0]
    verdict = "relies on" if "shuffled" in falls else "is not shown to rely on"
    misled = (
        " but is misled when they come in reverse" if "reversed" in falls and "shuffled" not in falls else ""
    )
    changes = ", by ".join(
        f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}] {CHANGED[reading]}"
        for reading, row in rows.items()
    )
    seed, n = (next(iter(rows.values()))[name] for name in ("seed", "n"))
    return (
        f"{NAMES[model]} {verdict} the order of its tokens{misled}: its AUC changes by {changes} "
        f"(seed {seed}, {n} test images; patients resampled)"
    )


def findings(found: Scored) -> list[dict[str, str]]:
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


def plain(table: pd.DataFrame) -> list[dict]:
    """Rows of plain values; an interval becomes its estimate, low and high."""
    rows = []
    for row in table.to_dict("records"):
        values = {}
        for name, value in row.items():
            values |= measured.flat(name, value) if isinstance(value, stats.Interval) else {name: value}
        rows.append(values)
    return rows
