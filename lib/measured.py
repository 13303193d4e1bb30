"""How well does a model do, and how sure is that? Every figure of its test rows, patients and seeds resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from lib import calibration, metrics, proportions, stats
from lib.evaluate import CHOSEN, POINTS, Predictions, deciding, part, thresholds, thresholds_redrawn
from lib.stats import Draws, Interval

DIGITS = 6  # of published figures: enough to compare, few enough to agree between machines

# By proportion: of which images it is one, given what is true and what is called pneumonia (both by image).
COUNTED = {
    "accuracy": lambda y_true, called: y_true >= 0,
    "sensitivity": lambda y_true, called: y_true == 1,
    "specificity": lambda y_true, called: y_true == 0,
    "ppv": lambda y_true, called: called,
    "npv": lambda y_true, called: ~called,
}


class Measured:
    """One model's figures, each computed once.

    Where a threshold is chosen, the `deciding` patients are resampled too and choose it again: the seeds share them, and
    so do both models of a difference. Where an image or two decide the cut the interval stays rather narrow: in 150 studies drawn
    from the mean logits of `calibrated`, 95% cover the specificity at the best cut in 91%, and in 37% with the threshold held.
    A temperature is held as fitted, so the intervals of scaled figures leave its error out.
    A split that a table lacks, or one class alone among its `deciding` rows, raises ValueError where a figure needs them.
    """

    def __init__(
        self, tables: Sequence[pd.DataFrame], *, n_boot: int, seed: int = 42, stream: int = 0
    ) -> None:
        """
        tables  predictions of one model, one table a seed, all splits
        seed    of the resamples of patients: two models with one seed share them
        stream  which independent draw of the tables (`stats.over_seeds`)
        """
        self.tables, self.n_boot, self.seed, self.stream = tables, n_boot, seed, stream
        self._drawn: dict[tuple, Draws] = {}

    @cached_property
    def tests(self) -> list[pd.DataFrame]:
        """The test rows of each table."""
        return [part(table, "test") for table in self.tables]

    @cached_property
    def thresholds(self) -> list[dict[str, float]]:
        """Of each table, by operating point."""
        return [thresholds(table) for table in self.tables]

    @cached_property
    def redrawn(self) -> list[dict[str, np.ndarray]]:
        """The same in every resample of the deciding patients: by operating point, [n_boot] each."""
        return [thresholds_redrawn(table, n_boot=self.n_boot, seed=self.seed) for table in self.tables]

    @cached_property
    def temperatures(self) -> list[float]:
        """Of each table, fitted on its `deciding` rows."""
        return [calibration.fit_temperature(deciding(table)) for table in self.tables]

    def within(self, keep: Callable[[pd.DataFrame], np.ndarray]) -> Measured:
        """The same model on those test images that `keep` (of a table's test rows, bool [n]) names; thresholds stay what they are."""
        tables = [
            pd.concat([table[table["split"] != "test"], test[keep(test)]])
            for table, test in zip(self.tables, self.tests, strict=True)
        ]
        found = Measured(tables, n_boot=self.n_boot, seed=self.seed, stream=self.stream)
        found.thresholds, found.redrawn = self.thresholds, self.redrawn
        return found

    def draws(
        self, name: str, *, point: str = CHOSEN, scaled: bool = False, subtypes: Sequence[str] = ()
    ) -> Draws:
        """The metric `name` in every resample.

        point     operating point of the metrics that need one
        scaled    after temperature scaling, fitted on the `deciding` rows; it changes the metrics of probabilities alone, for a
                  threshold would be scaled along
        subtypes  only test images of these; empty for all
        Raises ValueError for a metric that there is not, naming those that there are.
        """
        if name not in (known := [*metrics.RANKING, *metrics.PROBABILITY, *metrics.OPERATING]):
            raise ValueError(f"unknown metric {name!r}; the metrics are {', '.join(known)}")
        cut = point if name in metrics.OPERATING else None
        which = (cut, scaled and name in metrics.PROBABILITY, tuple(subtypes))
        if (name, *which) not in self._drawn:
            found = self._at(cut, which[-1]) if cut else {name: self._uncut(name, *which[1:])}
            self._drawn |= {(each, *which): draws for each, draws in found.items()}
        return self._drawn[name, *which]

    def interval(
        self, name: str, *, point: str = CHOSEN, scaled: bool = False, subtypes: Sequence[str] = ()
    ) -> Interval:
        """The metric `name`, as it is published; settings and errors are those of `draws`.

        A proportion near 0 or 1 has too little width in a bootstrap; it reaches the exact bound at least. See
        `proportions.no_surer_than_counts`: each patient is one trial, of the seed with the fewest. What is no proportion and what
        is not defined are as the bootstrap has them.
        """
        found = self.draws(name, point=point, scaled=scaled, subtypes=subtypes).interval()
        if name not in COUNTED or np.isnan(found.estimate):
            return found
        trials = found.n_patients
        for test, chosen in zip(self._of(subtypes), self.thresholds, strict=True):
            counted = COUNTED[name](test["y_true"], test["probability"] >= chosen[point])
            trials = min(trials, test.loc[counted, "patient"].nunique())
        return proportions.no_surer_than_counts(found, trials)

    def _uncut(self, name: str, scaled: bool, subtypes: Sequence[str]) -> Draws:
        """A metric without a threshold. Rankings are of logits: a sigmoid near 1 runs out of digits and would tie images that differ."""
        ranking = name in metrics.RANKING
        metric, score = (metrics.RANKING | metrics.PROBABILITY)[name], "logit" if ranking else "probability"
        return stats.resample(
            self._of(subtypes, scaled=scaled), [metric] * len(self.tables), n_boot=self.n_boot, seed=self.seed, stream=self.stream, score=score,
            both_classes=ranking or not subtypes,
        )  # fmt: skip

    def _at(self, point: str, subtypes: Sequence[str]) -> dict[str, Draws]:
        """Every metric at an operating point, all from the same four cells; nobody chose 0.5, so it stays where it is."""
        tests = self._of(subtypes)
        again = [own[point] for own in self.redrawn] if point != "half" else [None] * len(tests)
        settings = {"n_boot": self.n_boot, "seed": self.seed, "score": "probability"}
        per_table, resampled = [], []
        for test, chosen, redrawn in zip(tests, self.thresholds, again, strict=True):
            cells = stats.over_patients(
                test, metrics.cells(chosen[point]), redrawn=redrawn, both_classes=not subtypes, **settings
            )
            per_table.append(metrics.operating(cells[0]))
            resampled.append(metrics.operating(cells[1]))
        return {
            name: stats.over_seeds(
                *(np.array([found[name] for found in each]) for each in (per_table, resampled)),
                tests, seed=self.seed, stream=self.stream,
            )
            for name in metrics.OPERATING
        }  # fmt: skip

    def _of(self, subtypes: Sequence[str], *, scaled: bool = False) -> list[pd.DataFrame]:
        """The test rows of each table, or those of `subtypes`."""
        tests = self.tests
        if scaled:
            tests = [calibration.scaled(test, t) for test, t in zip(tests, self.temperatures, strict=True)]
        return [test[test["subtype"].isin(subtypes)] for test in tests] if subtypes else tests


def of(predictions: Predictions, *, n_boot: int = 2000, seed: int = 42) -> dict[str, Measured]:
    """By model: its figures, over the same resamples of the patients and seeds drawn apart."""
    return {
        model: Measured(tables, n_boot=n_boot, seed=seed, stream=stream)
        for stream, (model, tables) in enumerate(predictions.items())
    }


def headline(models: dict[str, Measured]) -> pd.DataFrame:
    """One row a model: the published figures, from the predictions tables and nothing else.

    Columns model, seeds, n, n_patients, threshold and temperature (means over seeds), auc_sd (over seeds), and for every
    metric `m` its mean over seeds `m` with `m_low` and `m_high`; brier, log_loss and ece also `_scaled`, after
    temperature scaling. Metrics with a threshold are at Youden's index on the `deciding` rows, whose patients are resampled too;
    temperatures are held as fitted. The same tables, n_boot and seed give the same digits.
    """
    rows = []
    for model, found in models.items():
        test = found.tests[0]
        row = {"model": model, "seeds": len(found.tables), "n": len(test)}
        row["n_patients"] = test["patient"].nunique()
        row["threshold"] = np.mean([chosen[CHOSEN] for chosen in found.thresholds])
        row["temperature"] = np.mean(found.temperatures)
        for name in metrics.NAMES:
            if name == "auc":
                row["auc_sd"] = found.draws(name).spread
            row |= flat(name, found.interval(name))
        for name in metrics.PROBABILITY:
            row |= flat(f"{name}_scaled", found.interval(name, scaled=True))
        rows.append(row)
    return pd.DataFrame(rows).round(DIGITS)


def flat(name: str, found: Interval) -> dict[str, float]:
    """An interval as three columns: name, name_low, name_high."""
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}


def operating_table(models: dict[str, Measured]) -> pd.DataFrame:
    """One row a model and operating point: threshold, cells (means over seeds) and figures with intervals."""
    rows = []
    for model, found in models.items():
        for point in POINTS:
            chosen = [own[point] for own in found.thresholds]
            cells = [
                metrics.cells(cut)(test["y_true"], test["probability"])
                for test, cut in zip(found.tests, chosen, strict=True)
            ]
            row = {"model": model, "point": point, "threshold": np.mean(chosen)}
            row |= dict(zip(("tp", "fp", "fn", "tn"), np.mean(cells, axis=0).tolist(), strict=True))
            rows.append(row | {name: found.interval(name, point=point) for name in metrics.OPERATING})
    return pd.DataFrame(rows)


def subgroups(models: dict[str, Measured]) -> pd.DataFrame:
    """One row a model and kind of image of two patients at least: share called rightly at the chosen threshold, and AUC against normal images.

    Columns model, subtype, n, n_patients, measure (sensitivity or specificity), share (Interval), auc (Interval, None
    for normal images).
    """
    rows = []
    for model, found in models.items():
        for subtype, images in found.tests[0].groupby("subtype", sort=True):
            if images["patient"].nunique() < 2:
                continue
            measure = "specificity" if subtype == "normal" else "sensitivity"
            # Of all normal images it is the model's specificity, with the interval that is published as such.
            share = found.interval(measure, subtypes=() if subtype == "normal" else (subtype,))
            row = {
                "model": model,
                "subtype": subtype,
                "n": len(images),
                "n_patients": images["patient"].nunique(),
                "measure": measure,
                "share": share,
                "auc": None,
            }
            if subtype != "normal":
                row["auc"] = found.interval("auc", subtypes=(subtype, "normal"))
            rows.append(row)
    return pd.DataFrame(rows)
