"""How much of a figure may be owed to how an image was taken? The size of its original, and what is left with that balanced."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from lib import metrics, originals, overlap, stats
from lib.evaluate import CHOSEN
from lib.index import patient_key
from lib.measured import Measured
from lib.stats import Draws, Interval, weighted

BANDS = {
    "below 1,000": (0, 1000),
    "1,000 to 1,499": (1000, 1500),
    "1,500 and more": (1500, np.inf),
}  # pixels of height


def known(table: pd.DataFrame) -> bool:
    """Whether the size of every image's original is known."""
    return set(map(_name, table["image"])) <= set(originals.sizes())


def sized(table: pd.DataFrame) -> pd.DataFrame:
    """Columns width and height of the originals, the rows of a predictions table. Raises ValueError unless all are `known`."""
    if not known(table):
        missing = sorted(set(map(_name, table["image"])) - set(originals.sizes()))
        raise ValueError(
            f"the size of {missing[0]}'s original is not known, nor are {len(missing) - 1} others"
        )
    rows = [originals.sizes()[_name(image)] for image in table["image"]]
    return pd.DataFrame(rows, columns=["width", "height"], index=table.index)


@functools.lru_cache(maxsize=10_000)  # every table has the same images
def _name(image: str) -> str:
    return PurePosixPath(image).stem


def by_height(models: dict[str, Measured]) -> pd.DataFrame:
    """One row a model and band of the original's height that has test images: columns model, height and those of `_rightly`."""
    return _by("height", {band: partial(_within, *ends) for band, ends in BANDS.items()}, models)


def by_cut(models: dict[str, Measured]) -> pd.DataFrame:
    """One row a model and cut of the original that has test images, whole JPEG blocks or others: columns model, cut and those of `_rightly`."""
    return _by("cut", {"whole blocks": whole, "others": lambda table: ~whole(table)}, models)


def cut_apart(found: Measured) -> Interval | None:
    """Specificity on normal test images of whole blocks minus that on the others, in the same resamples of patients, seeds and
    thresholds; None with fewer than two patients of either."""
    tests = [test[test["y_true"] == 0] for test in found.tests]
    cut = whole(tests[0])
    if min(tests[0].loc[own, "patient"].nunique() for own in (cut, ~cut)) < 2:
        return None
    settings = {"n_boot": found.n_boot, "seed": found.seed, "score": "probability", "both_classes": False}
    gaps = []
    for test, chosen, again in zip(tests, found.thresholds, found.redrawn, strict=True):
        divided = test.assign(y_true=whole(test).astype(int))  # the cut in the place of the class
        cells = stats.over_patients(divided, metrics.cells(chosen[CHOSEN]), redrawn=again[CHOSEN], **settings)
        gaps.append([_cut_gap(*each) for each in cells])
    drawn = map(np.array, zip(*gaps, strict=True))
    return stats.over_seeds(*drawn, tests, seed=found.seed, stream=found.stream).interval()


def _cut_gap(called_whole, called_other, left_whole, left_other):
    """That difference from counts of normal images, called pneumonia or left alone, of whole blocks or others; floats or [n_boot]."""
    with np.errstate(invalid="ignore"):
        return left_whole / (called_whole + left_whole) - left_other / (called_other + left_other)


def whole(table: pd.DataFrame) -> np.ndarray:
    """Whether the sides of each row's original are whole JPEG blocks, bool [n]."""
    return overlap.whole_blocks(sized(table))


def _by(name: str, groups: dict[str, Callable], models: dict[str, Measured]) -> pd.DataFrame:
    rows = []
    for model, found in models.items():
        for group, keep in groups.items():
            if keep(found.tests[0]).any():
                rows.append({"model": model, name: group} | _rightly(found.within(keep)))
    return pd.DataFrame(rows)


def _within(low: float, end: float, table: pd.DataFrame) -> np.ndarray:
    high = sized(table)["height"].to_numpy()
    return (high >= low) & (high < end)


def _rightly(found: Measured) -> dict[str, int | Interval | None]:
    """What is called rightly at the chosen threshold, normal and ill apart: normal and ill (images), specificity and sensitivity
    (None for fewer than two patients of the class), and auc of these images alone (None unless both have two)."""
    row = {}
    for label, name, measure in ((0, "normal", "specificity"), (1, "ill", "sensitivity")):
        images = found.tests[0][found.tests[0]["y_true"] == label]
        kinds = tuple(images["subtype"].unique())
        enough = images["patient"].nunique() > 1
        row |= {name: len(images), measure: found.interval(measure, subtypes=kinds) if enough else None}
    both = row["specificity"] and row["sensitivity"]
    return row | {"auc": found.interval("auc") if both else None}


def share_of_blocks(tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """Which share of the ill and of the normal published originals outside these test images has whole JPEG blocks."""
    tested = set(map(_name, tables[0]["image"]))
    names = [name for name in originals.sizes() if name not in tested]
    size = pd.DataFrame([originals.sizes()[name] for name in names], columns=["width", "height"])
    normal = np.array([patient_key(name)[1] == "normal" for name in names])
    found = overlap.whole_blocks(size)
    return float(found[~normal].mean()), float(found[normal].mean())


def counting(table: pd.DataFrame, *, blocks: bool = False) -> str:
    """The effective sample size of each class under the weights of `balanced` (Kish 1965), in words."""
    y_true = table["y_true"].to_numpy()
    share = overlap.weights(sized(table), y_true, blocks=blocks)
    ill, normal = (
        share[y_true == label].sum() ** 2 / (share[y_true == label] ** 2).sum() for label in (1, 0)
    )
    return f"{ill:.0f} pneumonia and {normal:.0f} normal images"


def balanced_auc(found: Measured, *, blocks: bool = False) -> Draws:
    """The AUC on the test images, weighted so that the size of the original (and its cut) is alike in the mean of either class."""
    return balanced(found.tests, n_boot=found.n_boot, seed=found.seed, stream=found.stream, blocks=blocks)


def balanced(
    tables: Sequence[pd.DataFrame], *, n_boot: int, seed: int = 42, stream: int = 0, blocks: bool = False
) -> Draws:
    """The same of tables of the same images, one a seed. The weights are held as fitted, so intervals leave their error out."""
    share = overlap.weights(sized(tables[0]), tables[0]["y_true"].to_numpy(), blocks=blocks)

    @weighted
    def auc(y_true, score, weights=None):
        found = metrics.auc(y_true, score, share[None] if weights is None else weights * share)
        return float(found[0]) if weights is None else found

    return stats.resample(tables, [auc] * len(tables), n_boot=n_boot, seed=seed, stream=stream, score="logit")
