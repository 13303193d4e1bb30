"""What do we have? The index: one row an image, with its patient and, where it cannot be used, the reason."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import files, images
from lib.errors import IndexingError, SourceError
from lib.tree import CLASSES, SPLITS, find_images, place, printable

__all__ = ["IndexingError", "accepted", "find_images", "patient_key", "scan"]

SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp"}
COLUMNS = ["image", "split", "label", "subtype", "patient", "width", "height", "mode", "bytes", "sha256", "status"]  # fmt: skip
NOTE = "source.json"  # written into the raw folder by `sources`: where the images came from
NOTED = {
    "kind": str, "name": str, "identity": str, "bytes": int, "images": int, "patients": bool, "own_val": bool,
    "published": bool, "left_out": str,
}  # fmt: skip
LARGEST_FILE = 50_000_000  # bytes
MOST_QUARANTINED = 0.01  # share of the images
MOST_LISTED = 20  # images in an error message
NAMED_PATIENTS = (
    (r"person(\d+)_(bacteria|virus)_\d+", lambda found: (found[2], found[1])),
    (r"(NORMAL2-IM|IM)-(\d+)-\d+", lambda found: (found[1], found[2])),
    (r"(BACTERIA|VIRUS|NORMAL)-(\d+)-\d+", lambda found: (found[1].lower(), found[2])),
)
SUBTYPES = {"bacteria": "bacterial", "virus": "viral"}


def patient_key(name: str) -> tuple[str | None, str]:
    """(patient, subtype) of a file name: ("bacteria-78", "bacterial"), ("IM-12", "normal"); (None, "unknown") otherwise.

    Bacteria, virus, IM and NORMAL2-IM are numbered separately, so the number alone is no patient. Names such as
    BACTERIA-1008087-0001 and NORMAL-1003233-0001, in which copies of the set occur too, are read the same way.
    """
    for pattern, parts in NAMED_PATIENTS:
        if found := re.search(pattern, name):
            kind, number = parts(found)
            return f"{kind}-{int(number)}", SUBTYPES.get(kind, "normal")
    return None, "unknown"


def note(raw_dir: Path) -> dict[str, Any]:
    """What `make data` wrote about the origin of the images; empty for a folder filled by hand.

    Raises SourceError for a note that `make data` cannot have written.
    """
    path = Path(raw_dir) / NOTE
    if not path.exists():
        return {}
    with contextlib.suppress(ValueError):
        found = files.read_json(path)
        if isinstance(found, dict) and all(
            isinstance(found[key], kind) for key, kind in NOTED.items() if key in found
        ):
            return found
    raise SourceError(
        f"{path} is damaged; move its folder away and run `make data` again, with the SOURCE of these images if they had one"
    )


def scan(raw_dir: Path, *, look: Callable, progress: bool = True) -> Iterator[tuple[dict[str, Any], Any]]:
    """(row, look(gray, name)) of every image, in sorted order; each file is read once, on all cores.

    look  gray pixels uint8 (H, W) and a name -> anything, called where the file was decoded; None where quarantined
    Threads do, and survive Jupyter kernels and loaded torch better than forks: reading, hashing, decoding and
    resizing release Python's lock.
    """
    names = find_images(raw_dir)
    work = partial(_row, Path(raw_dir), look, note(raw_dir))
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        rows = _in_order(pool, work, names)
        yield from tqdm(rows, total=len(names), desc="index", unit=" images", disable=not progress)


def table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The index, from the rows of `scan`: quarantined images included (`status` names the reason, "ok" otherwise)."""
    return pd.DataFrame(list(rows), columns=COLUMNS).astype({"patient": object})


def accepted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without a reason against them.

    Raises IndexingError when there are none, when more than 1% are quarantined (with the list), or when a split lacks a class.
    """
    bad = table[table["status"] != "ok"]
    if len(bad) > MOST_QUARANTINED * len(table):
        raise IndexingError(
            f"{len(bad)} of {len(table)} images cannot be used, more than {MOST_QUARANTINED:.0%}, so nothing was prepared; "
            f"mend or remove them:\n{listed(bad)}"
        )
    kept = table[table["status"] == "ok"].reset_index(drop=True)
    check_classes(zip(kept["split"], kept["label"], strict=True))
    return kept


def listed(bad: pd.DataFrame) -> str:
    """Quarantined images, one a line, by reason: the first MOST_LISTED, and how many there are besides."""
    first = bad.sort_values(["status", "image"]).head(MOST_LISTED)
    lines = [f"  {row.image}: {row.status}" for row in first.itertuples()]
    return "\n".join(
        [*lines, *([f"  and {len(bad) - len(first):,} others"] if len(bad) > len(first) else [])]
    )


def check_classes(found: Iterable[tuple[str, int]]) -> None:
    """Raises IndexingError, naming what is missing, unless train and test hold both classes. found: (split, label)"""
    found = set(found)
    missing = [
        f"{split}/{name}"
        for split in ("train", "test")
        for name, label in CLASSES.items()
        if (split, label) not in found
    ]
    if missing:
        raise IndexingError(
            f"there are no images in {', '.join(missing)}; the data set has the folders train/NORMAL, train/PNEUMONIA, "
            "test/NORMAL and test/PNEUMONIA"
        )


def contradiction(name: str, label: int, *, patients: bool = True) -> str | None:
    """Why a path cannot be that of an image of this class; None where it can. patients: whether the names carry patients"""
    if printable(name) != name:
        return "the name is not UTF-8"
    if not patients:
        return None
    patient, subtype = patient_key(PurePosixPath(name).name)
    if patient is None:
        return "the name carries no patient"
    if (subtype == "normal") != (label == CLASSES["NORMAL"]):
        folder = next(folder for folder, value in CLASSES.items() if value == label)
        return f"the label contradicts the name: {subtype} in {folder}"
    return None


def _in_order(pool: ThreadPoolExecutor, work: Callable, items: list, *, ahead: int = 128) -> Iterator[Any]:
    """Results in the order of the items, never more than `ahead` of them in memory."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _row(raw_dir: Path, look: Callable, about: dict[str, Any], name: str) -> tuple[dict, Any]:
    _, folder, label = place(name)
    split = (
        "val" if SPLITS[folder] == "train" and folder == "val" and about.get("own_val") else SPLITS[folder]
    )
    patient, subtype = patient_key(PurePosixPath(name).name)
    row = dict.fromkeys(COLUMNS) | {
        "image": printable(name), "split": split, "label": label, "patient": patient, "subtype": subtype,
        "width": 0, "height": 0, "mode": "", "bytes": 0, "sha256": "", "status": "ok",
    }  # fmt: skip
    if label == CLASSES["NORMAL"] and patient is None:
        row["subtype"] = "normal"
    seen = None
    try:
        gray = _read(raw_dir / name, row)
        if reason := contradiction(name, label, patients=about.get("patients", True)):
            raise images.ImageError(reason)
        seen = look(gray, name)
    except images.ImageError as error:
        row["status"] = str(error)
    except OSError as error:
        row["status"] = f"cannot be read: {error.strerror or error}"
    return row, seen


def _read(path: Path, row: dict[str, Any]) -> np.ndarray:
    """Gray pixels of a file; fills its size, hash, mode, width and height into `row`. Raises ImageError, OSError."""
    row["bytes"] = path.stat().st_size
    if row["bytes"] > LARGEST_FILE:
        raise images.ImageError(f"oversized: {row['bytes']:,} bytes")
    data = path.read_bytes()
    row["sha256"] = hashlib.sha256(data).hexdigest()
    if path.suffix.lower() not in SUFFIXES:
        raise images.ImageError("not an image")
    gray, (row["width"], row["height"]), row["mode"] = images.decode(data)
    return gray
