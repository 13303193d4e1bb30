"""What shape did a published image have before its copy was squashed to a square? The sizes of all originals, by file name."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

if TYPE_CHECKING:
    from lib.store import PixelStore

# Of Kermany et al. 2018; data/README.md says where they were taken from.
SIZES = Path(__file__).with_name("original_sizes.csv")


@cache
def sizes() -> dict[str, tuple[int, int]]:
    """(width, height) in pixels of every published original, by its file's name without the suffix."""
    with SIZES.open(encoding="utf-8", newline="") as table:
        return {row["name"]: (int(row["width"]), int(row["height"])) for row in csv.DictReader(table)}


def of(store: PixelStore) -> pd.DataFrame:
    """Columns width and height, one row an image: of the originals of squashed copies, else the files' own."""
    return of_images(store.index, drawn=store.source.get("kind") == "phantoms")


def of_images(index: pd.DataFrame, *, drawn: bool) -> pd.DataFrame:
    """The same by columns image, width and height; of `drawn` images, which may have the names of published ones, the files' own."""
    found = index[["width", "height"]].copy()
    if drawn:
        return found
    named = index["image"].map(lambda name: sizes().get(PurePosixPath(name).stem))
    squashed = (named.notna() & (found["width"] == found["height"])).to_numpy()
    if squashed.any():
        found.loc[squashed] = named[squashed].tolist()
    return found


def unsquashed(gray: np.ndarray, name: str) -> np.ndarray:
    """Gray pixels (H, W) of the image `name` -> the same in its original's shape: the longer side stretched, the other as it is.

    A square counts as a squashed copy (one that was padded or cropped to a square cannot be told from it): an original has its
    shape already, unless it is a square itself. An image whose name is not a published one stays as it is.
    Bicubic (Keys 1981), by Pillow, whose integers come out the same on every processor; OpenCV's do not.
    """
    height, width = gray.shape
    original = sizes().get(PurePosixPath(name).stem)
    if original is None or height != width:
        return gray
    wide, high = original
    shape = (round(width * wide / high), height) if wide > high else (width, round(height * high / wide))
    if shape == (width, height):
        return gray
    return np.asarray(Image.fromarray(gray).resize(shape, Image.Resampling.BICUBIC))
