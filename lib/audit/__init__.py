"""Can the data be trusted? Every check, its result as a sentence with its number, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from lib.audit import copies, duplicates, findings, patients, shift, shortcuts
from lib.audit.duplicates import Duplicates
from lib.audit.patients import Numbers
from lib.config import Config
from lib.splits import SPLITS
from lib.stats import Interval
from lib.store import PixelStore


@dataclass(frozen=True)
class Audit:
    """What the checks found; `findings` puts them into words.

    shift   how well test (and, for comparison, val) can be told from train: (split, label or None) -> AUC, None where
            there are too few patients
    """

    store: PixelStore
    duplicates: Duplicates
    made: pd.DataFrame  # copies made on purpose, and the share that is found
    naive: Numbers  # what the bare number would make of bacterial and viral patients
    naive_normal: Numbers  # and of normal ones
    blocks: pd.DataFrame
    differences: pd.DataFrame
    shift: dict[tuple[str, int | None], Interval | None]
    probes: pd.DataFrame

    @cached_property
    def findings(self) -> pd.DataFrame:
        """One row a check: check, result, verdict (good, caution, bad or info)."""
        return pd.DataFrame(findings.of(self), columns=["check", "result", "verdict"])

    def finding(self, check: str) -> str:
        """The sentence of one check. Raises KeyError, naming the checks, for one that is not there."""
        found = self.findings.set_index("check")["result"]
        if check not in found:
            raise KeyError(f"no check {check!r}; the checks are {', '.join(found.index)}")
        return str(found[check])

    def checks(self, beginning: str) -> list[str]:
        """The names of the checks that begin like this."""
        return [name for name in self.findings["check"] if name.startswith(beginning)]

    def sentences(self, *checks: str) -> list[str]:
        """The sentences of these checks; a check that this data set does not allow (no patient numbers) has none."""
        return [self.finding(name) for name in checks if name in set(self.findings["check"])]

    def record(self) -> dict[str, Any]:
        """For the step's JSON: findings, and the answer to the audit's question."""
        return {
            "findings": self.findings.to_dict("records"),
            "answers": {"Can the data be trusted?": findings.answer(self)},
            "copies_made_on_purpose": self.made.to_dict("records"),
            "counts": counts(self.store).reset_index().to_dict("records"),
            "probes": [
                {"probe": row.probe, "split": row.split, "auc": str(row.auc)}
                for row in self.probes.itertuples()
            ],
            "data_fingerprint": self.store.fingerprint,
        }


def run(config: Config, store: PixelStore) -> Audit:
    """Every check on the prepared images; resampling and folds are drawn with the config's first seed."""
    index, n_boot, seed = store.index, config.n_boot, config.seeds[0]
    measured = shift.measure(store)
    alike = duplicates.find(store)
    return Audit(
        store=store,
        duplicates=alike,
        made=copies.found(store, alike.threshold, seed=seed),
        naive=patients.by_number(store, patients.ILL, n_boot=n_boot, seed=seed),
        naive_normal=patients.by_number(store, patients.NORMAL, n_boot=n_boot, seed=seed),
        blocks=patients.blocks(index),
        differences=shift.differences(store, measured, n_boot=n_boot, seed=seed),
        shift={
            (split, label): shift.tell_apart(
                store, measured, split=split, label=label, n_boot=n_boot, seed=seed
            )
            for split in ("test", "val")
            for label in (None, *shift.CLASSES)
        },
        probes=shortcuts.probes(store, n_boot=n_boot, seed=seed),
    )


def counts(store: PixelStore) -> pd.DataFrame:
    """Images and patients, one row a split and subtype, with the most images of one patient."""
    grouped = store.index.groupby(["split", "label", "subtype"])
    table = grouped.agg(images=("image", "size"), patients=("patient", "nunique"))
    table["most of one patient"] = grouped["patient"].agg(lambda found: found.value_counts().iloc[0])
    return table.sort_index(key=lambda level: level.map(SPLITS.index) if level.name == "split" else level)


def sizes(store: PixelStore) -> pd.DataFrame:
    """How many images of each size and mode, the commonest first: width, height, mode, images."""
    return (
        store.index.groupby(["width", "height", "mode"])
        .size()
        .rename("images")
        .sort_values(ascending=False)
        .reset_index()
    )
