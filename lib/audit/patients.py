"""Who is a patient? The right key and the naive one, how each divides the set, and which of them the images support."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from lib.audit.shortcuts import shrunk
from lib.splits import series
from lib.stats import Interval, interval
from lib.store import PixelStore

ILL, NORMAL = ("bacteria", "virus"), ("IM", "NORMAL2-IM")  # series whose numbers may be taken for one
SIDE = 32  # pixels of the thumbnails whose kinship is measured


def naive_key(name: str) -> str:
    """The number alone, whatever it counts: the key that most published splits by patient use. `person78`, `IM-115`."""
    if found := re.search(r"person(\d+)_", name):
        return f"person{int(found[1])}"
    found = re.search(r"-(\d+)-\d+", name)
    return f"IM-{int(found[1])}" if found else name


def number(patients: pd.Series) -> pd.Series:
    """The number at the end of a patient key; missing where there is none."""
    return patients.str.extract(r"-(\d+)$", expand=False).astype("Int64")


@dataclass(frozen=True)
class Sharing:
    """Patients of the test images under one key, and how many of them seem to have images outside it too."""

    test: int
    shared: int


def sharing(table: pd.DataFrame, keys: pd.Series) -> Sharing:
    """Test patients under `keys` that occur in another split as well."""
    test = set(keys[table["split"] == "test"])
    return Sharing(len(test), len(test & set(keys[table["split"] != "test"])))


@dataclass(frozen=True)
class Numbers:
    """What the bare number would make of the patients of two series.

    sharing  of their test patients
    both     numbers that occur in both series
    kinship  of images that share a number (see `kinship`)
    """

    sharing: Sharing
    both: int
    kinship: dict[str, Interval]


def by_number(store: PixelStore, kinds: tuple[str, str], *, n_boot: int, seed: int) -> Numbers:
    """The patients of two series under the bare number."""
    table = store.index
    people = table[series(table).isin(kinds) & number(table["patient"]).notna()]
    keys = people["image"].map(lambda image: naive_key(PurePosixPath(image).name))
    found = kinship(store, kinds, n_boot=n_boot, seed=seed)
    return Numbers(sharing(people, keys), two_kinds(table, kinds), found)


def two_kinds(table: pd.DataFrame, kinds: tuple[str, str] = ILL) -> int:
    """How many numbers occur in both series."""
    numbers, named = number(table["patient"]), series(table)
    first, second = (set(numbers[named == kind].dropna()) for kind in kinds)
    return len(first & second)


def kinship(
    store: PixelStore, kinds: tuple[str, str] = ILL, *, n_boot: int, seed: int
) -> dict[str, Interval]:
    """Mean correlation of image pairs that share a patient number, within a kind (a series of numbers) and across two.

    Thumbnails minus the mean of their series are correlated, so that what all images of a series share counts for
    nothing: 0 is what strangers have. Within a kind each patient (kind and number) is one observation, across kinds each
    number; intervals resample these. What fewer than two of them have pairs for is left out.
    """
    vectors, table = _residuals(store), store.index
    named, numbers = series(table), number(table["patient"])
    rows = table.assign(series=named, number=numbers)[named.isin(kinds) & numbers.notna()]
    within, across = [], []
    for _, group in rows.groupby("number"):
        own = [vectors[part.index] for _, part in group.groupby("series")]
        within += [_mean_pair(kind) for kind in own if len(kind) > 1]
        if len(own) == 2:
            across.append(float((own[0] @ own[1].T).mean()))
    found = {"within a kind": within, "across kinds": across}
    return {
        name: _mean_interval(np.array(values), n_boot=n_boot, seed=seed)
        for name, values in found.items()
        if len(values) > 1
    }


def blocks(table: pd.DataFrame) -> pd.DataFrame:
    """How far the official test set is made of runs of the numbering, one row a series.

    columns: series, test patients, runs (of neighbouring numbers on one side of the division), expected (runs if the
    test patients had been drawn at random), z (Wald & Wolfowitz 1940; far below 0: blocks)
    """
    known = table.assign(number=number(table["patient"]), series=series(table)).dropna(subset=["number"])
    rows = []
    for name, group in known.groupby("series"):
        side = group.sort_values("number").groupby("number")["split"].first().eq("test").to_numpy()
        test, rest = int(side.sum()), int((~side).sum())
        if test and rest:
            runs, n = 1 + int((side[1:] != side[:-1]).sum()), test + rest
            expected = 1 + 2 * test * rest / n
            spread = np.sqrt(max((expected - 1) * (expected - 2) / max(n - 1, 1), 1e-12))
            rows.append((name, test, runs, expected, (runs - expected) / spread))
    return pd.DataFrame(rows, columns=["series", "test patients", "runs", "expected", "z"])


def _residuals(store: PixelStore) -> np.ndarray:
    """Thumbnails minus the mean of their series, standardised; float32 (N, SIDE * SIDE)."""
    vectors = _standardised(shrunk(store.pixels, SIDE).reshape(len(store.pixels), -1))
    for rows in store.index.groupby(series(store.index)).indices.values():
        vectors[rows] -= vectors[rows].mean(0)
    return _standardised(vectors) / SIDE


def _standardised(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(1, keepdims=True)
    return centred / np.maximum(centred.std(1, keepdims=True), 1e-6)


def _mean_pair(vectors: np.ndarray) -> float:
    products = vectors @ vectors.T
    return float(products[np.triu_indices(len(vectors), 1)].mean())


def _mean_interval(values: np.ndarray, *, n_boot: int, seed: int) -> Interval:
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(n_boot)])
    return interval(values.mean(), means, level=0.95, n=len(values), n_patients=len(values))
