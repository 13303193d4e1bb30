"""Which of two models is better, and how sure is that? Differences, tests, and a conclusion in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from lib import evaluate, metrics, stats
from lib.comparison import paired
from lib.evaluate import Predictions
from lib.measured import Measured
from lib.stats import Interval

ALPHA = 0.05  # below it an adjusted p-value rejects
PRIMARY = "auc"  # fixed before looking: the conclusion rests on it, the other differences describe
ONE_SEED = "At least one model was trained once, which says nothing of its other seeds. "


def differences(models: dict[str, Measured], names: Iterable[str] = metrics.NAMES) -> pd.DataFrame:
    """First model minus second on the same images, one row a metric of `names`; patients resampled together, seeds apart.

    models   from `measured.of`, which draws their patients together and their seeds apart; others raise ValueError
    returns  columns metric, difference (Interval), error (standard error), detectable (true difference found with 80% power),
             seeds (of the model that has fewer)
    Metrics with a threshold are at each model's own, Youden's index on the images held out for it.
    """
    first, second = _two(models)
    if first.seed != second.seed or first.stream == second.stream:
        raise ValueError(
            "both models must share the draw of their patients and not that of their seeds; take them from measured.of"
        )
    rows, seeds = [], min(len(first.tables), len(second.tables))
    for name in names:
        found = first.draws(name) - second.draws(name)
        row = {"metric": name, "difference": found.interval(), "error": found.error}
        rows.append(row | {"detectable": paired.detectable(found.error, found.freedom), "seeds": seeds})
    return pd.DataFrame(rows)


def paired_tests(predictions: Predictions) -> pd.DataFrame:
    """DeLong's test of the AUCs (images of a patient taken together) and McNemar's of the accuracies, seed by seed.

    Columns pair (its place among the seeds, from 1), test, difference, error, p_value, n, n_patients and p_holm, adjusted for the whole
    family. Seeds are paired in order; a surplus of one model is left out.
    """
    rows = []
    for number, (test, first, second, calls) in enumerate(_pairs(predictions)):
        shared = {"patient": test["patient"]}
        found = [
            paired.delong(test["y_true"], first, second, **shared),
            paired.mcnemar(test["y_true"], *calls, **shared),
        ]
        rows += [{"pair": number + 1} | vars(one) for one in found]
    table = pd.DataFrame(rows).rename(columns={"name": "test"})
    return table.assign(p_holm=stats.holm(table["p_value"]))


def _pairs(predictions: Predictions) -> Iterator[tuple]:
    """Test rows, both models' logits and both models' calls, for each pair of seeds, image by image."""
    for tables in zip(*_two(predictions), strict=False):
        tests = [evaluate.part(table, "test").sort_values("image", ignore_index=True) for table in tables]
        if not tests[0]["image"].equals(tests[1]["image"]):
            raise ValueError(
                "the two models were scored on different test images; a paired test needs the same ones"
            )
        chosen = [evaluate.thresholds(table)[evaluate.CHOSEN] for table in tables]
        calls = [test["probability"] >= cut for test, cut in zip(tests, chosen, strict=True)]
        yield tests[0], tests[0]["logit"], tests[1]["logit"], calls


def _two(models: dict) -> list:
    if len(models) != 2:
        raise ValueError(f"a comparison takes two models, got {len(models)}: {', '.join(models)}")
    return list(models.values())


def conclusion(table: pd.DataFrame, names: list[str]) -> str:
    """The sentence that `differences` supports of the PRIMARY metric: a difference only where its interval excludes zero.

    names  of the first and the second model, as they are to be written
    """
    row = table.set_index("metric").loc[PRIMARY]
    found: Interval = row["difference"]
    label = metrics.NAMES[PRIMARY]
    size = f"{found.level:.0%} interval {_signed(found.low)} to {_signed(found.high)}"
    power = _power(found, row["detectable"])
    alone = ONE_SEED if row["seeds"] == 1 else ""
    if not found.excludes(0.0):
        return (
            f"{alone}No difference in {label} is shown between {names[0]} and {names[1]}: {_signed(found.estimate)} "
            f"({size}, which includes zero). {power}"
        )
    higher, lower = names if found.estimate > 0 else names[::-1]
    return (
        f"{alone}{label} of {higher} is {abs(found.estimate):.3f} higher than that of {lower} "
        f"({names[0]} minus {names[1]}: {size}, which excludes zero). {power}"
    )


def _power(found: Interval, detectable: float) -> str:
    these = f"These {found.n} images of {found.n_patients} patients"
    if detectable == 0:  # both models at the edge, as at an AUC of 1: resamples cannot tell
        return f"{these} leave the models no room to differ, so what they could have shown is unknown."
    return f"{these} could have shown (80% power) a true difference of {detectable:.3f} or more."


def paired_tests_sentence(table: pd.DataFrame) -> str:
    """What the family of tests says after Holm's correction; McNemar's may reject where the interval of `differences`, for which
    thresholds are chosen again in every resample, includes zero."""
    parts = []
    for name, rows in table.groupby("test", sort=False):
        rejected = int((rows["p_holm"] < ALPHA).sum())
        held = (
            ", which takes images as independent and each threshold as it was chosen,"
            if name == "McNemar"
            else ""
        )
        parts.append(f"{name}'s test{held} rejects equality in {rejected} of {len(rows)} pairs of seeds (smallest adjusted p "
                     f"{_p(rows['p_holm'].min())})")  # fmt: skip
    return f"After Holm's correction over {len(table)} tests, " + " and ".join(parts) + "."


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{np.round(value, 3) + 0.0:+.3f}"
