"""How do images reach a model? One memory-mapped uint8 array in index order, and batches of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import files, images, index, phantoms, sources
from lib.augment import augment as vary
from lib.config import Config, fingerprint

FORMAT = 1  # of the store; a change rebuilds it


@dataclass(frozen=True)
class PixelStore:
    """Prepared images: row i of `index` is `pixels[i]`, uint8 (N, S, S), memory-mapped."""

    index: pd.DataFrame
    pixels: np.ndarray = field(repr=False)
    fingerprint: str  # of pixels, index and splits
    quarantined: pd.DataFrame = field(repr=False)
    masks: np.ndarray | None = field(default=None, repr=False)

    def rows(self, split: str) -> np.ndarray:
        """Rows of one split: train, val or test."""
        return np.flatnonzero(self.index["split"] == split)

    def mask(self, row: int) -> np.ndarray | None:
        """Where the lesions of a phantom are, bool (S, S); None for an image whose lesions nobody drew."""
        return None if self.masks is None else np.asarray(self.masks[row], bool)


def prepare(config: Config, *, progress: bool = True) -> PixelStore:
    """The store of the config's data set, built at the first call (phantoms are drawn first where the profile wants them).

    Raises sources.SourceError when the real images are not there, IndexingError when they cannot be used.
    """
    if config.synthetic:
        _draw_phantoms(config)
    elif not config.raw_dir.is_dir():
        raise sources.SourceError(
            f"there are no images at {config.raw_dir}; run `make data` to fetch the public set, `make data SOURCE=<zip or folder>` "
            "to take it from a file, or choose the synthetic images with PROFILE=demo"
        )
    folder, stamp = config.store_dir, _stamp(config)
    meta = folder / "meta.json"
    if not meta.exists() or files.read_json(meta)["stamp"] != stamp:
        _build(config, folder, stamp, progress=progress)
    return _open(config, folder)


def to_input(pixels: Tensor) -> Tensor:
    """uint8 (B, S, S) -> float (B, 3, S, S) with mean 0.5 and std 0.5 taken off, channels_last."""
    scaled = pixels[:, None].float().div_(127.5).sub_(1)  # (v / 255 - 0.5) / 0.5
    return scaled.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def batches(
    store: PixelStore,
    rows: np.ndarray,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
    augment: float = 0.0,
) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
    """Batches (images (B, 3, S, S), labels float (B,), rows (B,)) of the given rows.

    generator  shuffles the rows and draws the augmentation; without one the rows keep their order
    augment    strength, 0 to 1; needs a generator
    """
    rows = np.asarray(rows)
    if generator is not None:
        rows = rows[torch.randperm(len(rows), generator=generator).numpy()]
    labels = store.index["label"].to_numpy(np.float32)
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        pixels = torch.from_numpy(store.pixels[chosen]).to(device, non_blocking=True)
        if augment:
            gray = vary(pixels[:, None].float().div_(127.5).sub_(1), augment, generator)
            batch = gray.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        else:
            batch = to_input(pixels)
        yield batch, torch.from_numpy(labels[chosen]).to(device), chosen


def _draw_phantoms(config: Config) -> None:
    wanted = {
        "n": config.data.phantoms,
        "seed": config.data.split_seed,
        "code": _source_digest(phantoms.__file__),
    }
    note = config.raw_dir / "phantoms.json"
    if not note.exists() or files.read_json(note) != wanted:
        phantoms.write(config.raw_dir, n=wanted["n"], seed=wanted["seed"])
        files.write_json(note, wanted)


def _source_digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _stamp(config: Config) -> str:
    """Changes when a file of the raw folder is added, removed, resized or touched; reads no content."""
    listed = []
    for name in index.find_images(config.raw_dir):
        stat = (config.raw_dir / name).stat()
        listed.append((name, stat.st_size, stat.st_mtime_ns))
    return fingerprint([FORMAT, config.data.image_size, config.data.aspect, listed])


def _build(config: Config, folder: Path, stamp: str, *, progress: bool) -> None:
    look = partial(images.fit, size=config.data.image_size, aspect=config.data.aspect)
    found = list(index.scan(config.raw_dir, look=look, progress=progress))
    table = pd.DataFrame([row for row, _ in found], columns=index.COLUMNS)
    kept = index.accepted(table)
    pixels = np.stack([seen for _, seen in found if seen is not None])
    with files.replacing(folder) as beside:
        beside.mkdir(parents=True)
        np.save(beside / "pixels.npy", pixels)
        if config.synthetic:
            np.save(beside / "masks.npy", np.stack([_mask(config, name) for name in kept["image"]]))
        table.to_csv(beside / "index.csv", index=False)
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        files.write_json(beside / "meta.json", {"stamp": stamp, "pixels_sha256": digest})


def _mask(config: Config, name: str) -> np.ndarray:
    drawn = cv2.imread(str(config.raw_dir / "masks" / name), cv2.IMREAD_GRAYSCALE)
    return images.fit(drawn, config.data.image_size, config.data.aspect) > 127


def _open(config: Config, folder: Path) -> PixelStore:
    table = pd.read_csv(
        folder / "index.csv", dtype={"patient": str}, keep_default_na=False, na_values={"patient": [""]}
    )
    kept = index.accepted(table)
    data = config.data
    kept = index.split_validation(kept, share=data.val_share, seed=data.split_seed, kind=data.val_kind)
    index.check_patients(kept)
    splits = hashlib.sha256(kept[["image", "split", "label"]].to_csv().encode()).hexdigest()
    return PixelStore(
        index=kept,
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        fingerprint=fingerprint([files.read_json(folder / "meta.json")["pixels_sha256"], splits]),
        quarantined=table[table["status"] != "ok"].reset_index(drop=True),
        masks=np.load(folder / "masks.npy", mmap_mode="r") if config.synthetic else None,
    )
