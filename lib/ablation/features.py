"""What does the frozen backbone see? Its map of every image, computed once into a memory-mapped store."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn
from tqdm.auto import tqdm

from lib import devices, files, models, pixels
from lib.config import Config, fingerprint
from lib.inference import folded

FORMAT = 1  # raise it when the stored maps change for another reason than weights, pixels or precision
BATCH = 32
CALIBRATION = 64  # images that give a backbone of random weights its BatchNorm statistics


@dataclass(frozen=True)
class Tokens:
    """The tokens of every image, in the rows of the pixel store.

    folder  holds values.npy (N, T, C), float16, in raster order, and tokens.json
    mean    (C,), taken off, and
    scale   divided by, when tokens are read
    """

    folder: Path
    mean: np.ndarray | None = field(default=None, repr=False)
    scale: float = 1.0

    @property
    def values(self) -> np.ndarray:
        """(N, T, C) float16, memory-mapped, as stored."""
        return _stored(self.folder)[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the map that the tokens come from."""
        return _stored(self.folder)[1]

    @property
    def channels(self) -> int:
        return self.values.shape[2]

    @property
    def fingerprint(self) -> str:
        """Of the stored values and of what is done to them when they are read."""
        return fingerprint([self.folder.name, None if self.mean is None else self.mean.tolist(), self.scale])

    def maps(self, rows: np.ndarray) -> Tensor:
        """Maps (B, C, h, w), float; a view of (B, T, C) in memory, so that taking tokens from it copies nothing."""
        tokens = torch.from_numpy(self.values[rows].astype(np.float32))
        if self.mean is not None:
            tokens = (tokens - torch.from_numpy(self.mean)) / self.scale
        return tokens.transpose(1, 2).unflatten(2, self.shape)


@lru_cache(maxsize=4)  # not kept on Tokens, which travel to other processes by pickling
def _stored(folder: Path) -> tuple[np.ndarray, tuple[int, int]]:
    shape = files.read_json(folder / "tokens.json")["shape"]
    return np.load(folder / "values.npy", mmap_mode="r"), tuple(shape)


def extract(config: Config, store: pixels.PixelStore, *, progress: bool = True) -> Tokens:
    """The backbone's maps of all images of `store`: found, resumed or computed.

    ImageNet weights where the profile has them, else random ones (seed 0) with BatchNorm statistics of training images.
    Raises FileNotFoundError, saying what to do, when the ImageNet weights are not there, OSError when the disk is too small.
    """
    family = f"features-{config.store_dir.name}"
    folder = config.store_dir.parent / f"{family}-{_key(config, store)}"
    with writing(folder, family) as missing:
        if missing:
            _compute(config, store, folder, progress=progress)
    return Tokens(folder)


@contextlib.contextmanager
def writing(folder: Path, family: str) -> Iterator[bool]:
    """Whether the tokens of `folder` are still missing, with no other process writing any of its family.

    Older stores of the family are deleted afterwards, for all channels take over a gigabyte at 224 pixels; a profile with other training
    images, components or precision computes its own again.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{family}.lock"):
        missing = not (folder / "tokens.json").exists()
        yield missing
        if missing:
            old = re.compile(
                rf"{re.escape(family)}(-[0-9a-f]{{16}}){{1,2}}(\.part)?"
            )  # of no family whose name goes on
            for other in folder.parent.glob(f"{family}-*"):
                if other != folder and old.fullmatch(other.name):
                    files.remove(other)


def _key(config: Config, store: pixels.PixelStore) -> str:
    rows = store.rows("train")[:CALIBRATION].tolist()  # which give random weights their statistics
    weights = files.sha256(_weights_file(config)) if config.xception_lstm.pretrained else ["random", rows]
    content = hashlib.sha256(np.ascontiguousarray(store.pixels)).hexdigest()
    return fingerprint([FORMAT, weights, content, str(_dtype(config))])


def _weights_file(config: Config) -> Path:
    if not config.weights_file.exists():
        raise FileNotFoundError(
            f"the ImageNet weights of Xception are not at {config.weights_file}; run `make data` to fetch them"
        )
    return config.weights_file


def _compute(config: Config, store: pixels.PixelStore, folder: Path, *, progress: bool) -> None:
    """Fill `folder`. What is done so far stays beside it in a .part folder, so a stopped computation goes on."""
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    backbone = _backbone(config, store)
    height, width = backbone(_images(store, np.arange(1))).shape[2:]
    values, done = _open(part, (len(store.pixels), height * width, models.XceptionBackbone.channels))
    with tqdm(total=len(values), initial=done, desc="features", unit="image", disable=not progress) as bar:
        for start in range(done, len(values), BATCH):
            rows = np.arange(start, min(start + BATCH, len(values)))
            features = backbone(_images(store, rows)).flatten(2).transpose(1, 2)  # (B, T, C)
            values[rows] = features.clamp(max=65504).to("cpu", torch.float16).numpy()
            bar.update(len(rows))
            if start // BATCH % 8 == 7:
                values.flush()
                files.write_json(part / "done.json", {"rows": int(rows[-1]) + 1})
    values.flush()
    files.remove(part / "done.json")
    files.write_json(part / "tokens.json", {"shape": [height, width]})
    os.replace(part, folder)


def _open(part: Path, shape: tuple[int, ...]) -> tuple[np.memmap, int]:
    """The array to fill and the rows that an earlier, stopped computation filled. Raises OSError as `check_space` does."""
    done = files.read_json(part / "done.json")["rows"] if (part / "done.json").exists() else 0
    check_space(part, (shape[0] - done) * math.prod(shape[1:]) * np.dtype(np.float16).itemsize)
    if done:
        return np.lib.format.open_memmap(part / "values.npy", mode="r+"), done
    return np.lib.format.open_memmap(part / "values.npy", mode="w+", dtype=np.float16, shape=shape), 0


def check_space(folder: Path, needed: int) -> None:
    """Raises OSError, saying what to do, unless the disk of `folder` has `needed` bytes left.

    A memory-mapped file takes its space only while it is filled, and where there is none left the process dies without a word.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"the tokens of the frozen features need {needed / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free; "
            "free some disk space and run again"
        )


def _backbone(config: Config, store: pixels.PixelStore) -> Callable[[Tensor], Tensor]:
    """The frozen Xception: normalised images (B, 3, H, W) -> maps (B, 2048, h, w), float."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = models.XceptionBackbone(freeze_layers=0)
    if config.xception_lstm.pretrained:
        models.load_weights(backbone.body, _weights_file(config))
    else:  # without BatchNorm statistics of training images the maps of random weights fade to nothing
        update_bn([_images(store, store.rows("train")[:CALIBRATION])], backbone)
    dtype = _dtype(config)
    device = devices.fastest()
    fast = folded(backbone, dtype).to(device)

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return fast(images.to(device, dtype)).float()

    return run


def _dtype(config: Config) -> torch.dtype:
    return devices.dtype_of(devices.resolve_precision(config.train.precision))


def _images(store: pixels.PixelStore, rows: np.ndarray) -> Tensor:
    return pixels.to_input(torch.from_numpy(store.pixels[rows]))
