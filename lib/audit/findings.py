"""What does the audit say in words? One sentence a check, computed from its results, and a verdict on it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pandas as pd

from lib import originals, overlap
from lib.audit import apart, copied, patients
from lib.audit.apart import Finding
from lib.audit.patients import Numbers
from lib.splits import SPLITS, as_published
from lib.stats import Interval

if TYPE_CHECKING:
    from lib.audit import Audit

NAIVE = ("The naive patient key", "The naive patient key, normal")


def of(audit: Audit) -> list[Finding]:
    """Every finding, in the order in which the notebook shows them."""
    found = [_images(audit), _classes(audit), _sizes(audit), _cuts(audit)]
    found += [
        _patients(audit),
        _repeats(audit),
        _naive(audit),
        _naive_normal(audit),
        copied.identical(audit),
        copied.alike(audit),
        copied.found(audit),
        _blocks(audit),
        *apart.shift(audit),
        apart.differences(audit),
        apart.validation(audit),
    ]
    return [finding for finding in found + apart.probes(audit) if finding]


def answer(audit: Audit) -> str:
    """One sentence: do the splits hold, is test like train, can the label be told elsewhere than in the lungs?"""
    verdicts = audit.findings.set_index("check")["verdict"]
    crossing = [check for check, count in copied.unlike_copies(audit, "split").items() if count]
    if verdicts.get("Patients across splits") == "bad":
        crossing.append("Patients across splits")
    said = [
        f"in doubt ({', '.join(sorted(crossing)).lower()})"
        if crossing
        else "apart: no patient, as file names tell, crosses them, and no copy that the search finds "
        f"(it finds {int((audit.made['found'] >= copied.SURE).sum())} of {len(audit.made)} kinds that were made on purpose)"
    ]
    if any(verdicts.get(check) == "caution" for check in NAIVE):
        said.append("some children may have a number in two series, and count as two patients")
    if labels := sum(copied.unlike_copies(audit, "label").values()):
        said.append(f"copies of one image have different labels ({labels} times)")
    test, lungs = (
        audit.shift[("test", None)],
        audit.probes.set_index(["probe", "split"])["auc"].get(("no lungs", "test")),
    )
    if test is not None:
        like = "is not drawn like" if test.low > 0.5 else "is not seen to differ from"
        said.append(f"the test set {like} the training set (told apart with AUC {test})")
    if lungs is not None:
        told = "can be told" if max(lungs.low, 1 - lungs.high) > 0.5 else "is not seen to be told"
        said.append(
            f"pneumonia {told} from test images with the usual place of the lungs blacked out (AUC {lungs})"
        )
    return f"The splits are {'; '.join(said)}."


def _images(audit: Audit) -> Finding:
    store, out = audit.store, len(audit.store.quarantined)
    untaken = store.source.get("left_out", "")
    said = f"{len(store.index):,} images from {store.source.get('name', 'the raw folder')}; {out} left out"
    if out:
        reasons = store.quarantined["status"].str.split(":").str[0].value_counts()
        said += f" ({'; '.join(f'{n} x {reason}' for reason, n in reasons.items())})"
    if untaken:
        said += f"; not taken from there: {untaken}"
    if store.source.get("kind") != "phantoms":
        same = as_published(store.index)
        said += (
            ". The counts by split and class are "
            + ("those" if same else "not those")
            + " of the published set"
        )
        return "Images", f"{said}.", "good" if same and not (out or untaken) else "caution"
    return "Images", f"{said}.", "good" if not (out or untaken) else "caution"


def _classes(audit: Audit) -> Finding:
    share = audit.store.index.groupby("split")["label"].mean()
    said = ", ".join(f"{share[split]:.1%} of {split}" for split in SPLITS if split in share)
    most = max(share["test"], 1 - share["test"])
    return (
        "Class balance",
        f"Pneumonia is {said}; answering the commoner class alone is right for {most:.1%} of the test images.",
        "info",
    )


def _sizes(audit: Audit) -> Finding:
    index = audit.store.index
    modes = ", ".join(f"{n:,} {mode}" for mode, n in index["mode"].value_counts().items())
    own, shape = index[["width", "height"]], originals.of(audit.store)
    sizes = " or ".join(f"{width} x {height}" for width, height in own.drop_duplicates().head(3).to_numpy())
    if len(shape.drop_duplicates()) == 1:
        said = f"Every image is {sizes} ({modes}): this copy no longer shows the shapes of the originals."
        return "Image sizes", said, "caution"
    aspect = (shape["width"] / shape["height"]).groupby([index["split"] == "test", index["label"]]).median()
    low, high = shape.min(), shape.max()
    said = (
        f"{low['width']:,} to {high['width']:,} pixels wide and {low['height']:,} to {high['height']:,} high; their median width / height is "
        f"{aspect[False, 0]:.2f} of normal and {aspect[False, 1]:.2f} of pneumonia images outside the test set, {aspect[True, 0]:.2f} and "
        f"{aspect[True, 1]:.2f} in it."
    )
    if shape.equals(own):
        return "Image sizes", f"The images ({modes}) are {said}", "info"
    return (
        "Image sizes",
        f"The images are {sizes} ({modes}), a squashed copy; the originals are {said}{_partly_known(audit)}",
        "caution",
    )


def _partly_known(audit: Audit) -> str:
    """What to say where some squares bear published names and others do not, as of a copy with images added; else nothing."""
    if audit.store.source.get("kind") == "phantoms":
        return ""  # drawn, under names like those of published images
    index = audit.store.index
    square = index[index["width"] == index["height"]]
    known = square["image"].map(lambda name: PurePosixPath(name).stem in originals.sizes())
    if known.all() or not known.any():
        return ""
    return (
        f" The sizes of the originals are known of {known.sum():,} of the {len(square):,} square images; the others keep their own, so sizes, cuts and what "
        "is told by them may tell these names apart and nothing else."
    )


def _cuts(audit: Audit) -> Finding | None:
    index, shape = audit.store.index, originals.of(audit.store)
    if len(shape.drop_duplicates()) == 1:
        return None
    tested, label = index["split"] == "test", index["label"]
    share = pd.Series(overlap.whole_blocks(shape), index.index).groupby([tested, label]).mean()
    said = (
        f"The sides of the originals are whole JPEG blocks (multiples of 8 pixels, as one image in 64 has by chance) in {share[False, 1]:.1%} of pneumonia "
        f"and {share[False, 0]:.1%} of normal images outside the test set, {share[True, 1]:.1%} and {share[True, 0]:.1%} in it"
    )
    if mixed := _partly_known(audit):
        return "Cut of the originals", f"{said}.{mixed}", "caution"
    if abs(share[False, 1] - share[False, 0]) < 0.1:
        return "Cut of the originals", f"{said}.", "info"
    return (
        "Cut of the originals",
        f"{said}: the classes were not cut alike, so whatever goes with the way of cutting tells them apart too.",
        "bad",
    )


def _patients(audit: Audit) -> Finding:
    index = audit.store.index
    if not audit.store.source.get("patients", True):
        return (
            "Patients across splits",
            "The set carries no patient ids: whether patients cross its splits cannot be known.",
            "bad",
        )
    right = patients.sharing(index, index["patient"])
    crossing = int((index.groupby("patient")["split"].nunique() > 1).sum())
    said = (
        f"{right.shared} of {right.test} test patients have images outside the test set; {crossing} of "
        f"{index['patient'].nunique():,} patients are in more than one split."
    )
    return "Patients across splits", said, "bad" if crossing else "good"


def _repeats(audit: Audit) -> Finding:
    per = audit.store.index["patient"].value_counts()
    if not audit.store.source.get("patients", True):
        return (
            "Images per patient",
            f"Each of the {len(per):,} images counts as a patient of its own, so intervals are too narrow, and one child may be on both sides of a fold or in train and validation.",
            "caution",
        )
    if len(per) == len(audit.store.index):
        return (
            "Images per patient",
            f"Each of the {len(per):,} images counts as a patient of its own.",
            "info",
        )
    said = (
        f"{len(audit.store.index):,} images are of {len(per):,} patients, up to {per.iloc[0]} of one ({per.index[0]}); "
        "intervals resample patients, not images."
    )
    return "Images per patient", said, "info"


def _naive(audit: Audit) -> Finding | None:
    if not audit.naive.sharing.test:
        return None
    return NAIVE[0], *_by_number(audit.naive, "bacterial and viral", "bacteria and as virus")


def _naive_normal(audit: Audit) -> Finding | None:
    """The same of the two series of normal patients; nothing where they share no number."""
    found = audit.naive_normal
    if not (found.sharing.test and found.both):
        return None
    return NAIVE[1], *_by_number(found, "normal", "IM and as NORMAL2-IM")


def _by_number(found: Numbers, kind: str, twice: str) -> tuple[str, str]:
    """What the bare number would make of them, and the verdict: a caution where images say that some may be one patient."""
    naive, kin = found.sharing, found.kinship
    said = f"By the number alone, {naive.shared} of the {naive.test} numbers of {kind} test patients occur outside the test set too"
    if found.both:
        said += f"; {found.both:,} numbers occur as {twice}"
    if len(kin) == 2:
        within, across = kin["within a kind"], kin["across kinds"]
        said += f"; images that share a number correlate {within} within a kind and {across} across kinds (strangers: 0), {_kin(within, across)}"
    kindred = len(kin) == 2 and kin["across kinds"].low > 0
    return f"{said}.", "caution" if kindred else "info"


def _kin(within: Interval, across: Interval) -> str:
    """What the two correlations say of a number that two series share; strangers are at 0, images of one patient at `within`."""
    if across.low > 0:
        return "so some of the numbers that both kinds have may be one patient"
    if across.high < within.low:
        most = max(across.high, 0) / max(within.low, 1e-6)  # by the ends of both intervals that say least
        return f"so the number alone is no patient, though up to {most:.0%} of such numbers may be one"
    return "which does not settle whether the number alone is a patient"


def _blocks(audit: Audit) -> Finding | None:
    if audit.blocks.empty:
        return None
    runs, expected = audit.blocks["runs"].sum(), audit.blocks["expected"].sum()
    z = audit.blocks["z"]
    together = z.sum() / len(z) ** 0.5  # Stouffer 1949
    blocky = min(*z, together) < -3
    said = (
        f"In the numbering of the patients, test and the rest alternate in {runs} runs (unbroken stretches of one side) where a random choice gives about "
        f"{expected:.0f}: the test set is {'' if blocky else 'not seen to be '}made of blocks of the numbering."
    )
    return "How test was chosen", said, "caution" if blocky else "good"
