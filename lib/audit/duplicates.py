"""Which images are there twice? Identical files, and pairs whose fine structure correlates, with the gap that tells them apart."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import torch

from lib.store import PixelStore

SIDE = 64  # pixels of the thumbnails that are compared
SIGMA = 2.0  # pixels; what is smoother than this, two chests share anyway
FLOOR = 0.5  # pairs below are not kept
EMPTY = 0.05  # a gap between correlations at least this wide tells copies from chests that look alike
STRICT = 0.99  # the threshold where there is no such gap
BLOCK = 1024  # images compared with all others at once


@dataclass(frozen=True)
class Duplicates:
    """Alike images.

    pairs   columns first, second (rows of the store), correlation, identical (same bytes), mirrored; correlation > FLOOR,
            so identical files too, unless they are without structure
    low, high  ends of the widest empty gap between the correlations of files that are not identical; high is 1 where nothing is above it
    """

    pairs: pd.DataFrame
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether an empty gap tells copies from images that look alike."""
        return self.high - self.low >= EMPTY

    @property
    def threshold(self) -> float:
        """Pairs above it are copies: the middle of the gap, or STRICT where it is narrower than EMPTY."""
        return (self.low + self.high) / 2 if self.clear else STRICT

    @property
    def copies(self) -> pd.DataFrame:
        """The pairs that are copies of each other."""
        return self.pairs[self.pairs["identical"] | (self.pairs["correlation"] > self.threshold)]


def find(store: PixelStore) -> Duplicates:
    """Compare every image with every other one, and with its mirror image."""
    vectors = details(store.pixels)
    straight = _alike(vectors, vectors).assign(mirrored=False)
    flipped = _alike(vectors, _flip(vectors)).assign(mirrored=True)
    pairs = pd.concat([straight, flipped], ignore_index=True)
    hashes = store.index["sha256"].to_numpy()
    pairs["identical"] = (hashes[pairs["first"]] == hashes[pairs["second"]]) & ~pairs["mirrored"]
    pairs = pairs.sort_values(["correlation", "first", "second"], ascending=[False, True, True])
    pairs = pairs.drop_duplicates(["first", "second"]).reset_index(drop=True)
    return Duplicates(pairs, *_gap(pairs.loc[~pairs["identical"], "correlation"].to_numpy()))


def _gap(correlations: np.ndarray) -> tuple[float, float]:
    """Ends of the widest gap between FLOOR, the correlations and 1."""
    ends = np.sort(np.concatenate([[FLOOR], correlations.clip(FLOOR, 1.0), [1.0]]))
    widest = np.diff(ends).argmax()
    return float(ends[widest]), float(ends[widest + 1])


def details(pixels: np.ndarray) -> np.ndarray:
    """Images uint8 (N, S, S) -> thumbnails without their smooth part, centred and of unit length, float32 (N, SIDE * SIDE).

    An image without any structure becomes zeros and is like nothing, itself included.
    """
    vectors = np.empty((len(pixels), SIDE * SIDE), np.float32)
    for row, image in enumerate(pixels):
        small = cv2.resize(np.asarray(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        fine = small - cv2.GaussianBlur(small, (0, 0), SIGMA)
        fine -= fine.mean()
        length = np.linalg.norm(fine)
        vectors[row] = fine.ravel() / length if length > 1e-3 else 0.0
    return vectors


def examples(found: Duplicates, table: pd.DataFrame, *, each: int = 3) -> pd.DataFrame:
    """Pairs to look at: copies, those of different patients first, and the most alike images that are no copies."""
    patients = table["patient"].to_numpy()
    copies = found.copies.assign(odd=lambda p: patients[p["first"]] != patients[p["second"]])
    others = found.pairs.drop(found.copies.index)
    chosen = [copies.sort_values("odd", ascending=False, kind="stable").head(each), others.head(each)]
    return pd.concat(chosen)[list(found.pairs.columns)]


def _alike(first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    """Pairs first < second above FLOOR."""
    other, found = torch.from_numpy(second).T, []
    for start in range(0, len(first), BLOCK):
        block = (torch.from_numpy(first[start : start + BLOCK]) @ other).numpy()  # (BLOCK, N) correlations
        a, b = np.nonzero(block > FLOOR)
        keep = a + start < b
        found.append(
            pd.DataFrame(
                {
                    "first": a[keep] + start,
                    "second": b[keep],
                    "correlation": block[a[keep], b[keep]].astype(float),
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def _flip(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors.reshape(-1, SIDE, SIDE)[:, :, ::-1]).reshape(len(vectors), -1)
