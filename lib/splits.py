"""How are patients divided? Validation and calibration are split off train by patient, and no patient is ever in two splits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.errors import IndexingError

SPLITS = ("train", "val", "calibration", "test")  # there may be no calibration
PUBLISHED = {
    ("train", 0): 1349,
    ("train", 1): 3883,
    ("test", 0): 234,
    ("test", 1): 390,
}  # Kermany et al. 2018


def split_validation(
    table: pd.DataFrame,
    *,
    share: float,
    seed: int,
    kind: str = "random",
    pixels: np.ndarray | None = None,
    size: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The table with a share of the training patients moved to split "val", by a `kind` that lib.settings has checked:

    random   patients drawn at random within each series of the numbering, which stratifies by label and subtype
    block    one run of consecutive patients of each series, which imitates how the official test set was taken
    matched  pairs of a normal and an ill patient between whom a thumbnail does not decide, at most that share; needs
             the rows' `pixels`, uint8 (N, S, S)
    matched_everything  the same, and neither does how their images were taken; also needs the rows' `size`, columns width and
             height of the originals in pixels
    An image without a patient counts as a patient of its own; a split "val" that the table already has (PneumoniaMNIST) stays.
    Raises IndexingError when a patient is in two splits.
    """
    check_patients(table)
    if (table["split"] == "val").any():
        return table
    table, patients = table.copy(), patients_of(table)
    train = table["split"] == "train"
    if kind.startswith("matched"):
        from lib import matched  # with scikit-learn, which whoever holds out no pairs need not wait for

        training, rows = table[train].assign(patient=patients[train]), np.flatnonzero(train)
        own = size.iloc[rows] if kind == "matched_everything" else None
        chosen = matched.patients(training, pixels[rows], share=share, seed=seed, size=own)
        table.loc[train & patients.isin(chosen), "split"] = "val"
    else:
        _hold_out(table, patients, train, "val", share=share, seed=seed, kind=kind)
    check_patients(table)
    return table


def as_published(table: pd.DataFrame) -> bool:
    """Whether there are as many images by split and label as in the published set, before any were held out of train."""
    official = table["split"].replace(["val", "calibration"], "train")
    return table.groupby([official, "label"]).size().to_dict() == PUBLISHED


def split_calibration(table: pd.DataFrame, *, share: float, seed: int) -> pd.DataFrame:
    """The table with a share of the training patients moved to split "calibration", drawn at random within each series.

    They are whom a threshold is for: cases as they come. Matched pairs are not, and an operating point chosen on them
    suffers from spectrum bias (Ransohoff & Feinstein 1978). A share of 0 changes nothing.
    """
    if not share:
        return table
    table = table.copy()
    _hold_out(
        table, patients_of(table), table["split"] == "train", "calibration", share=share, seed=seed, kind="random"
    )  # fmt: skip
    check_patients(table)
    return table


def _hold_out(
    table: pd.DataFrame,
    patients: pd.Series,
    train: pd.Series,
    split: str,
    *,
    share: float,
    seed: int,
    kind: str,
) -> None:
    """Move a share of every series of `train` to `split`, in place."""
    rng, names = np.random.default_rng(seed), series(table)
    for name in sorted(names[train].unique()):
        members = sorted(patients[train & (names == name)].unique(), key=_by_number)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        start = rng.integers(len(members) - count + 1)
        chosen = members[start : start + count] if kind == "block" else rng.permutation(members)[:count]
        table.loc[train & (names == name) & patients.isin(set(chosen)), "split"] = split


def patients_of(table: pd.DataFrame) -> pd.Series:
    """The patient of each row; an image that names none is a patient of its own."""
    return table["patient"].where(table["patient"].notna(), table["image"])


def series(table: pd.DataFrame) -> pd.Series:
    """What each row's patient is numbered within: bacteria, virus, IM, NORMAL2-IM; the subtype where nothing is known."""
    named = table["patient"].astype("string").str.replace(r"-\d+$", "", regex=True).astype(object)
    return named.where(table["patient"].notna(), table["subtype"])


def check_patients(table: pd.DataFrame) -> None:
    """Raises IndexingError, naming them, when patients occur in more than one split."""
    pairs = table[["patient", "split"]].dropna(subset=["patient"]).drop_duplicates()
    pairs = pairs[pairs["patient"].duplicated(keep=False)]
    if len(pairs):
        crossing = pairs.groupby("patient")["split"].agg(sorted)
        first = "; ".join(
            f"{patient} in {' and '.join(found)}" for patient, found in crossing.head(5).items()
        )
        raise IndexingError(
            f"{len(crossing)} patients are in more than one split ({first}), so no figure of this data set could be trusted; "
            "move each patient's images into one split"
        )


def _by_number(patient: str) -> tuple[int, str]:
    return (len(patient), patient)  # within one series the longer number is the larger one
