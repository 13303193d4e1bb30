"""How does PneumoniaMNIST come in? Its .npz (Yang et al. 2023) -> one PNG an image, its own split kept."""

from __future__ import annotations

import errno
import hashlib
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm.auto import tqdm

from lib import index
from lib.errors import SourceError
from lib.sources import archive

SPLITS = ("train", "val", "test")
# MD5 of the published files (MedMNIST+, Zenodo record 10519652) by image size; edited copies are about.
PUBLISHED = {
    28: "28209eda62fecd6e6a2d98b1501bb15f",
    64: "8f4eceb4ccffa70c672198ea285246c6",
    128: "05b46931834c231683c68f40c47b2971",
    224: "d6a3c71de1b945ea11211b03746c1fe1",
}


def unpack(source: Path, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """Write the images as `folder`/<split>/<CLASS>/pneumoniamnist_<number>.png; what is known about them.

    The set carries no patient ids, and its centre-cropped images no longer show their original shape.
    Raises SourceError for a file of another form.
    """
    try:
        with zipfile.ZipFile(source) as packed:
            archive.check_size(source, packed.infolist())
        with np.load(source, allow_pickle=False) as arrays:
            found = {split: _split(arrays, split) for split in SPLITS}
        sizes = {pixels.shape[1] for pixels, _ in found.values()}
        if len(sizes) > 1:
            raise ValueError(f"the images have {' and '.join(map(str, sorted(sizes)))} pixels a side")
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise SourceError(
            f"{source} is not PneumoniaMNIST: expected uint8 arrays train_images, val_images, test_images (N, S, S) of one "
            f"size S and labels 0 or 1 of the same length ({error})"
        ) from error
    count = 0
    for split, (pixels, labels) in found.items():
        for label, name in enumerate(("NORMAL", "PNEUMONIA")):
            (folder / split / name).mkdir(parents=True)
            if not (labels == label).any():
                raise SourceError(f"{source} has no {name} images in its {split} split")
        for number, (image, label) in enumerate(
            zip(tqdm(pixels, desc=split, unit=" images", disable=not progress), labels, strict=True)
        ):
            name = f"pneumoniamnist_{number:05d}.png"
            path = folder / split / ("NORMAL", "PNEUMONIA")[label] / name
            if not cv2.imwrite(str(path), image):
                raise OSError(errno.EIO, "cannot be written", str(path))
            count += 1
    with open(source, "rb") as stream:
        md5 = hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    return {
        "images": count,
        "patients": False,
        "own_val": True,
        "published": md5 == PUBLISHED.get(sizes.pop()),
    }


def _split(arrays: np.lib.npyio.NpzFile, split: str) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1)
    square = pixels.ndim == 3 and pixels.shape[1] == pixels.shape[2] > 0
    if pixels.dtype != np.uint8 or not square or len(pixels) != len(labels):
        raise ValueError(f"{split}_images is {pixels.dtype} {pixels.shape}, with {len(labels)} labels")
    if not set(np.unique(labels)) <= set(index.CLASSES.values()):
        raise ValueError(f"{split}_labels holds {sorted(set(np.unique(labels)))[:5]}")
    return pixels, labels.astype(int)
