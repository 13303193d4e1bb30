"""Can the ablation see an effect that is there, and does it invent one that is not? What the tasks of `lib.ablation.tasks` say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.ablation import published
from lib.ablation.effects import Effects, analyse, gains
from lib.ablation.variants import BASE, REFERENCE, Variant

TASKS = ("place", "relation", "amount")
HIDDEN = 32  # of the LSTM whose size their heads have
LSTM, SHUFFLED = "lstm-raster-max", "lstm-shuffle-max"
POOLED = Variant(REFERENCE, "mean")
HEADS = {
    "place": (POOLED, Variant(BASE, "lstm"), Variant("lstm-shuffle", "lstm", order="shuffle")),
    "relation": (
        POOLED,
        Variant("attention-pool", "attention"),
        Variant(BASE, "lstm"),
        Variant(LSTM, "lstm", readout="max"),
        Variant(SHUFFLED, "lstm", order="shuffle", readout="max"),
    ),
    "amount": (POOLED, Variant(BASE, "lstm")),
}
WORDS = {"good": "holds", "caution": "holds, with a caution", "bad": "FAILS"}  # of a check, by verdict
LEARNED = 0.9  # test AUC of a seed that is counted as having learned a task
COST = (  # of reading one by one what pooling adds up
    ": of equal size, it adds up less well when it is read out at its last step. So its difference on radiographs may be a gain of the sequence "
    "less such a cost, and zero there does not by itself say that the sequence tells nothing. A small false gain of the sequence would not be seen here"
)
# Of the test images, the first: one for each validation image, a fifth of all images to three tenths.
SHARED = 2 / 3


@dataclass(frozen=True)
class Control:
    """What the ablation found where the truth is known: one task's test predictions by head, and their effects."""

    task: str
    tables: dict[str, pd.DataFrame]
    effects: Effects
    n_boot: int

    def by_own_orders(self, head: str) -> dict:
        """A shuffled head against mean-pooling on the test images whose orders chose no epoch.

        Orders are drawn anew for validation and for test, from one seed, so the first test images are read in the orders of the
        validation images, whose classes alternate as theirs do; and the epoch is the one that is best on these. That holds for test images of one scoring batch, so up to some 3,400 control images.
        """
        images = sorted(self.tables[REFERENCE]["image"].unique())
        last = images[math.ceil(SHARED * len(images)) :]
        own = {name: self.tables[name][self.tables[name]["image"].isin(last)] for name in (REFERENCE, head)}
        return analyse(own, n_boot=self.n_boot).row(head)


def read(folder: Path, *, n_boot: int) -> dict[str, Control]:
    """The controls again from what `published.write` wrote, by task; empty where it wrote none."""
    controls = {}
    for task in TASKS:
        if (kept := Path(folder) / f"{published.CONTROL}{task}").is_dir():
            found = published.read(kept)
            tables = {head.name: found.pop(head.name) for head in HEADS[task] if head.name in found} | found
            controls[task] = Control(task, tables, analyse(tables, n_boot=n_boot), n_boot)
    return controls


def findings(controls: dict[str, Control]) -> list[dict[str, str]]:
    """What has to hold if the ablation is to be believed: check, result, verdict."""
    place, relation, amount = (controls[task].effects for task in TASKS)
    blind = [
        controls["place"].by_own_orders("lstm-shuffle"),
        controls["relation"].by_own_orders(SHUFFLED),
        relation.row("attention-pool"),
    ]
    asked, null = relation.row(BASE), amount.row(BASE)
    loses = bool(null["differs"] and null["difference"] < 0)
    # What the head of the ablation's first question cannot learn here, its silence on radiographs says nothing about.
    limit = "" if gains(asked) else f"; where {BASE} shows no difference, such a relation may still be there"
    return [
        _finding(
            "The place of an opacity is seen",
            f"Where only the place of one opacity tells, {_gap(place.row(BASE))} against mean-pooling",
            gains(place.row(BASE)),
        ),
        _finding(
            "The relation of two opacities is seen",
            f"Where only their being in one lung or in both tells, {_gap(relation.row(LSTM))} against mean-pooling ("
            f"{reached(relation.per_seed, LSTM)})",
            gains(relation.row(LSTM)),
        ),
        _finding(
            f"{BASE} sees the relation too",
            f"On the same images {_gap(asked)} against mean-pooling, for the head that the first question is about "
            f"({reached(relation.per_seed, BASE)}){limit}",
            gains(asked),
        ),
        _finding(
            "Without the arrangement nothing is left to see",
            f"On the images of place and relation {', '.join(map(_gap, blind[:-1]))} (the last third of the test images, whose orders chose no epoch) and "
            f"{_gap(blind[-1])} against mean-pooling",
            not any(row["differs"] for row in blind),
        ),
        _finding(
            "No sequence helps where none can",
            f"Where the sum over the patches tells all there is to know, {_gap(null)} against mean-pooling{COST if loses else ''}",
            not gains(null),
            caution=loses,
        ),
    ]


def reached(per_seed: pd.DataFrame, head: str) -> str:
    """What a head reaches by seed; where some seeds learn what others do not, a mean and its interval are of none of them.

    per_seed  columns variant and auc, one row a run
    """
    found = per_seed.loc[per_seed["variant"] == head, "auc"]
    low, high, learned = f"{found.min():.3f}", f"{found.max():.3f}", int((found > LEARNED).sum())
    if low == high:
        return f"test AUC {low} with every seed"
    split = f", {learned} of {len(found)} above {LEARNED}" if 0 < learned < len(found) else ""
    return f"test AUC {low} to {high} by seed{split}"


def tables(controls: dict[str, Control]) -> dict[str, dict[str, pd.DataFrame]]:
    """The test predictions by task and head."""
    return {task: control.tables for task, control in controls.items()}


def aucs(controls: dict[str, Control]) -> pd.DataFrame:
    """Test AUC of every head, one row a head, one column a task; missing where a task does not ask it."""
    found = [control.effects.auc.assign(task=control.task) for control in controls.values()]
    table = pd.concat(found).pivot(index="variant", columns="task", values="auc")
    order = dict.fromkeys(variant.name for heads in HEADS.values() for variant in heads)
    return table.loc[list(order), list(controls)].rename_axis(columns=None).reset_index()


def _finding(check: str, result: str, holds: bool, *, caution: bool = False) -> dict[str, str]:
    verdict = "bad" if not holds else "caution" if caution else "good"
    return {"check": check, "result": result + ".", "verdict": verdict}


def _gap(row: dict) -> str:
    return (
        f"{row['variant']} {row['difference']:+.3f} [{row['adjusted_low']:+.3f}, {row['adjusted_high']:+.3f}]"
    )
