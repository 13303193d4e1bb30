"""What do we have? The index: one row an image, with patient, quarantine reason and patient-grouped splits."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import images

CLASSES = {"NORMAL": 0, "PNEUMONIA": 1}
# Folders of the public archive, Kaggle's copy (whose val/ are 16 images taken from train) and an ImageFolder tree.
SPLITS = {
    "train": "train", "training": "train", "augmented_train": "train", "val": "train", "valid": "train",
    "validation": "train", "test": "test", "testing": "test", "augmented_test": "test",
}  # fmt: skip
SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp"}
COLUMNS = [
    "image",
    "split",
    "label",
    "subtype",
    "patient",
    "width",
    "height",
    "mode",
    "bytes",
    "sha256",
    "status",
]
LARGEST_FILE = 50_000_000  # bytes
MOST_QUARANTINED = 0.01  # share of the images


class IndexingError(ValueError):
    """The folder cannot be used as a data set; the message says why."""


def patient_key(name: str) -> tuple[str | None, str]:
    """(patient, subtype) of a file name: ("bacteria-78", "bacterial"), ("IM-12", "normal"); (None, "unknown") otherwise.

    Bacteria, virus, IM and NORMAL2-IM are numbered separately, so the number alone is no patient.
    """
    if found := re.search(r"person(\d+)_(bacteria|virus)_\d+", name):
        return f"{found[2]}-{int(found[1])}", {"bacteria": "bacterial", "virus": "viral"}[found[2]]
    if found := re.search(r"(NORMAL2-IM|IM)-(\d+)-\d+", name):
        return f"{found[1]}-{int(found[2])}", "normal"
    return None, "unknown"


def find_images(raw_dir: Path) -> list[str]:
    """Paths of the files to index, relative to `raw_dir` in POSIX form, sorted; litter and masks are left out."""
    found = []
    for path in Path(raw_dir).rglob("*"):
        relative = path.relative_to(raw_dir)
        if path.is_file() and not _litter(relative) and _split(relative) and _label(relative) is not None:
            found.append(relative.as_posix())
    return sorted(found)


def scan(
    raw_dir: Path, *, look: Callable = None, progress: bool = True, workers: int | None = None
) -> Iterator[tuple]:
    """(row, look(gray)) of every image, in sorted order; files are read once, by as many processes as there are cores.

    look  gray pixels (H, W) -> anything picklable, applied where the file was decoded; None where quarantined
    """
    names = find_images(raw_dir)
    workers = workers or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ProcessPoolExecutor(workers) as pool:
        rows = pool.map(partial(_row, Path(raw_dir), look), names, chunksize=16)
        yield from tqdm(rows, total=len(names), desc="index", unit="image", disable=not progress)


def build(raw_dir: Path, *, progress: bool = True) -> pd.DataFrame:
    """The index of a folder, quarantined images included (`status` names the reason, "ok" otherwise)."""
    return pd.DataFrame([row for row, _ in scan(raw_dir, progress=progress)], columns=COLUMNS)


def accepted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without a reason against them.

    Raises IndexingError when there are none, when more than 1% are quarantined (with the list), or when a split lacks a class.
    """
    bad = table[table["status"] != "ok"]
    if len(table) and len(bad) > MOST_QUARANTINED * len(table):
        listed = "; ".join(f"{row.image}: {row.status}" for row in bad.head(20).itertuples())
        raise IndexingError(
            f"{len(bad)} of {len(table)} images cannot be used, more than {MOST_QUARANTINED:.0%}; nothing was prepared. {listed}"
        )
    kept = table[table["status"] == "ok"].reset_index(drop=True)
    for split in ("train", "test"):
        missing = [
            name
            for name, label in CLASSES.items()
            if not ((kept["split"] == split) & (kept["label"] == label)).any()
        ]
        if missing:
            raise IndexingError(
                f"no {' and no '.join(missing)} images in the {split} split; "
                "expected folders such as chest_xray/train/NORMAL and chest_xray/train/PNEUMONIA, and the same under test"
            )
    return kept


def split_validation(table: pd.DataFrame, *, share: float, seed: int, kind: str = "random") -> pd.DataFrame:
    """The table with a share of the training patients moved to split "val"; images without a patient are one patient each.

    random  patients drawn at random within each kind (subtype, and for normals the naming series): stratified by label and subtype
    block   one run of consecutive patient numbers of each kind, which imitates how the official test set was taken
    A split "val" that the table already has (PneumoniaMNIST) is kept as it is.
    """
    if (table["split"] == "val").any():
        return table
    table = table.copy()
    rng = np.random.default_rng(seed)
    patients = table["patient"].fillna(table["image"])
    train = table["split"] == "train"
    series = patients.str.replace(r"-\d+$", "", regex=True).where(
        table["patient"].notna(), table["label"].astype(str)
    )
    for name in sorted(series[train].unique()):
        members = patients[train & (series == name)].unique()
        members = sorted(members, key=lambda patient: (len(patient), patient))  # the order of the numbers
        count = max(1, round(share * len(members)))
        start = rng.integers(len(members) - count + 1)
        chosen = members[start : start + count] if kind == "block" else rng.permutation(members)[:count]
        table.loc[train & (series == name) & patients.isin(set(chosen)), "split"] = "val"
    check_patients(table)
    return table


def check_patients(table: pd.DataFrame) -> None:
    """Raises IndexingError, naming them, when patients occur in more than one split."""
    splits = table.dropna(subset=["patient"]).groupby("patient")["split"].nunique()
    crossing = splits.index[splits > 1]
    if len(crossing):
        raise IndexingError(
            f"{len(crossing)} patients are in more than one split, such as {', '.join(crossing[:5])}"
        )


def _row(raw_dir: Path, look: Callable | None, name: str) -> tuple[dict, object]:
    path = raw_dir / name
    patient, subtype = patient_key(PurePosixPath(name).name)
    row = dict.fromkeys(COLUMNS) | {
        "image": name, "split": _split(PurePosixPath(name)), "label": _label(PurePosixPath(name)), "patient": patient,
        "subtype": subtype, "bytes": path.stat().st_size, "width": 0, "height": 0, "mode": "", "sha256": "",
    }  # fmt: skip
    seen = None
    try:
        if path.suffix.lower() not in SUFFIXES:
            raise images.ImageError("not an image")
        if row["bytes"] > LARGEST_FILE:
            raise images.ImageError(f"oversized: {row['bytes']} bytes")
        data = path.read_bytes()
        row["sha256"] = hashlib.sha256(data).hexdigest()
        gray, (row["width"], row["height"]), row["mode"] = images.decode(data)
        row["status"] = _contradiction(row) or "ok"
        seen = look(gray) if look and row["status"] == "ok" else None
    except (images.ImageError, OSError) as error:
        row["status"] = str(error)
    return row, seen


def _contradiction(row: dict) -> str | None:
    if row["patient"] is None:
        return "name carries no patient"
    if (row["subtype"] == "normal") != (row["label"] == 0):
        return f"label contradicts name: {row['subtype']} in {'PNEUMONIA' if row['label'] else 'NORMAL'}"
    return None


def _litter(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part in ("__MACOSX", "masks", "Thumbs.db") for part in path.parts)


def _split(path: PurePosixPath) -> str | None:
    return next((SPLITS[part.lower()] for part in path.parts[:-1] if part.lower() in SPLITS), None)


def _label(path: PurePosixPath) -> int | None:
    return next((CLASSES[part.upper()] for part in path.parts[:-1] if part.upper() in CLASSES), None)
