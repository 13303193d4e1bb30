"""What can simple models tell apart, in words: test from train, and the label where there are no lungs to see?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from lib.audit.shift import CLASSES, NAMES
from lib.audit.shortcuts import NAMES as PROBES
from lib.stats import Interval

if TYPE_CHECKING:
    from lib.audit import Audit

Finding = tuple[str, str, str]  # check, result, verdict
STRONG = 0.8  # AUC that the whole interval of a shortcut exceeds for "well"; one that ends below rules a shortcut out
LARGE = 0.2  # standard deviations that the whole interval of a difference exceeds for a caution (Cohen 1988)
FEW = "; these are too few images to rule it out."
# Probes that the lungs reach: yardsticks of how little is needed, not shortcuts.
WHOLE = {
    "bytes": "a file grows with whatever structure its image has, lungs included",
    "gray": "part of the task needs no fine structure",
    "thumbnail": "part of the task needs no fine structure",
}


def shift(audit: Audit) -> list[Finding]:
    return [
        told_apart(
            f"Shift of test, {name}", audit.shift[("test", label)], f"test from training images ({name})"
        )
        for label, name in ((None, "all"), *CLASSES.items())
    ]


def validation(audit: Audit) -> Finding:
    check, said, verdict = told_apart(
        "Shift of validation", audit.shift[("val", None)], "validation from training images"
    )
    test = audit.shift[("test", None)]
    if test and test.low > 0.5 and verdict == "good":
        said += (
            " So validation has no shift like that of test to show, and what that costs cannot be seen there."
        )
        verdict = "caution"
    return check, said, verdict


def told_apart(check: str, auc: Interval | None, what: str) -> Finding:
    if auc is None:
        return check, f"Too few patients to tell {what}.", "info"
    shifted, few = auc.low > 0.5, auc.high > STRONG
    said = f"Simple measurements tell {what} with AUC {auc}: they {'differ' if shifted else 'are not seen to differ'}"
    return check, f"{said}{FEW if few and not shifted else '.'}", "caution" if shifted or few else "good"


def differences(audit: Audit) -> Finding:
    clear = audit.differences[[found.excludes(0.0) for found in audit.differences["difference"]]]
    said = f"{len(clear)} of {len(audit.differences)} differences between test and train exclude 0"
    for label, name in CLASSES.items():
        part = clear[clear["label"] == label]
        if not part.empty:
            row = part.loc[part["difference"].map(lambda found: abs(found.estimate)).idxmax()]
            said += f"; the largest of {name} images is {NAMES[row['measurement']]}, {row['difference']} standard deviations"
    return (
        "What differs in test",
        f"{said}.",
        "caution"
        if len(clear) > 0.05 * len(audit.differences) + 1
        or any(max(one.low, -one.high) > LARGE for one in clear["difference"])
        else "good",
    )


def probes(audit: Audit) -> list[Finding]:
    return [
        probe(name, part.set_index("split")["auc"])
        for name, part in audit.probes.groupby("probe", sort=False)
    ]


def probe(name: str, auc: pd.Series) -> Finding:
    check = f"{'Yardstick' if name in WHOLE else 'Shortcut'}: {PROBES[name].removesuffix(' alone')}"
    found = {split: value for split, value in auc.items() if isinstance(value, Interval)}
    if not found:
        return (
            check,
            "It cannot be asked: the same for every image of this copy, or a class is missing.",
            "info",
        )
    said = ", ".join(f"{value} on {split}" for split, value in found.items())
    # One that is reversed in another split tells as well.
    strongest = max(max(value.low, 1 - value.high) for value in found.values())
    if strongest <= 0.5:
        few = max(max(value.high, 1 - value.low) for value in found.values()) > STRONG
        return (
            check,
            f"The label is not seen to be told by it: AUC {said}{FEW if few else '.'}",
            "caution" if few else "good",
        )
    if name in WHOLE:
        return check, f"The label can be told from it with AUC {said}: {WHOLE[name]}.", "info"
    how, verdict = ("well", "bad") if strongest > STRONG else ("in part", "caution")
    where = (
        "without looking at the lungs"
        if name in ("size", "cut")
        else "without looking where lungs usually are"
    )
    return check, f"The label can {how} be told {where}: AUC {said}.", verdict
