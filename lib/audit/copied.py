"""Which images are there twice, in words? Identical files, pairs that are alike, and how sure the search for them is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib.audit.apart import Finding

if TYPE_CHECKING:
    from lib.audit import Audit

SUSPECT = 0.8  # correlation from which on a pair across splits is told although it does not count as a copy
SURE = 0.95  # share of copies made on purpose from which on their kind counts as found


def unlike_copies(audit: Audit, column: str) -> dict[str, int]:
    """How many groups of identical files, and pairs of other copies, differ in a column of the index; by check."""
    index, copies = audit.store.index, audit.duplicates.copies
    groups = index[index.duplicated("sha256", keep=False)].groupby("sha256")[column].nunique()
    values, more = index[column].to_numpy(), copies[~copies["identical"]]
    return {
        "Identical files": int((groups > 1).sum()),
        "Near duplicates": int((values[more["first"]] != values[more["second"]]).sum()),
    }


def identical(audit: Audit) -> Finding:
    index = audit.store.index
    same = index[index.duplicated("sha256", keep=False)]
    groups = same.groupby("sha256")
    if same.empty:
        return "Identical files", f"No two of the {len(index):,} files are the same.", "good"
    crossing, labels, people = (
        unlike_copies(audit, column)["Identical files"] for column in ("split", "label", "patient")
    )
    said = (
        f"{groups.ngroups} groups of identical files ({len(same)} files): {crossing} across splits, {labels} with conflicting "
        f"labels, {people} across patients"
    )
    if people:
        names = groups["patient"].agg(lambda found: " = ".join(sorted(set(found))))
        said += f" ({'; '.join(sorted(names[names.str.contains(' = ', regex=False)])[:3])})"
    return "Identical files", f"{said}.", "bad" if crossing or labels else "caution"


def alike(audit: Audit) -> Finding:
    found = audit.duplicates
    more = found.copies[~found.copies["identical"]]
    crossing, conflicting, people = (
        unlike_copies(audit, column)["Near duplicates"] for column in ("split", "label", "patient")
    )
    if found.clear:
        gap = f"no pair's fine structure correlates between {found.low:.3f} and {found.high:.3f}, so {found.threshold:.2f} parts copies from likeness"
    else:
        gap = f"no empty gap parts copies from likeness (the widest lies between {found.low:.3f} and {found.high:.3f}), so only correlations above {found.threshold} count"
    nearest = _nearest_across(audit)
    said = (
        f"{len(more)} pairs of copies besides identical files ({crossing} across splits, {conflicting} with conflicting labels, "
        f"{people} across patients): {gap}."
    )
    if nearest >= SUSPECT:
        said += f" The most alike pair across splits that does not count as copies correlates {nearest:.3f}."
    if crossing or conflicting:
        return "Near duplicates", said, "bad"
    return "Near duplicates", said, "good" if found.clear and more.empty and nearest < SUSPECT else "caution"


def _nearest_across(audit: Audit) -> float:
    """The correlation of the most alike pair across splits that does not count as copies; 0 where no pair is alike. (A copy much
    less alike than others can raise the threshold above itself: it lies in the middle of the widest gap.)"""
    split, others = (
        audit.store.index["split"].to_numpy(),
        audit.duplicates.pairs.drop(audit.duplicates.copies.index),
    )
    across = others[split[others["first"]] != split[others["second"]]]
    return float(across["correlation"].max()) if len(across) else 0.0


def found(audit: Audit) -> Finding:
    """What the search for copies sees, by copies that were made on purpose."""
    sure = audit.made["found"] >= SURE
    listed = [", ".join(audit.made.loc[rows, "copy"]) for rows in (sure, ~sure)]
    said = f"Of copies made on purpose, at least {SURE:.0%} are found"
    said += f" if {listed[0]}" if listed[0] else " of no kind"
    if listed[1]:
        said += f"; fewer if {listed[1]}, so copies changed like that may be in the set unseen"
    return "Copies that would be found", f"{said}.", "good" if sure.all() else "caution"
