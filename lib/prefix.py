"""What does the frozen prefix make of the images? Computed once, kept on disk, shared by all runs that need it."""

from __future__ import annotations

import hashlib
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lib import pixels, provenance
from lib.config import fingerprint
from lib.files import replacing
from lib.inference import Frozen

AS_STORED = {torch.bfloat16: (np.int16, torch.int16), torch.float32: (np.float32, torch.float32)}
BATCH = 32  # fixed, so that the same image always gives the same bits
SHAPING = tuple(Path(__file__).with_name(name) for name in ("augment.py", "pixels.py", "inference.py"))


class PrefixError(RuntimeError):
    """The outputs of the frozen prefix cannot be kept on disk."""


class StoredPrefix:
    """Outputs of `frozen`, memory-mapped: as they are for val and test, `copies` versions for train; none for calibration images.

    Without augmentation and stretch one version of a training image says everything; with them, every version is augmented anew,
    and training walks through them, image by image. Runs with other seeds read the same files.
    Raises PrefixError when the disk is too small.
    """

    def __init__(
        self, folder: Path, store: pixels.PixelStore, frozen: Frozen, *, augment: float, copies: int, device: torch.device,
        stretch: float = 0.0, progress: bool = True,
    ) -> None:  # fmt: skip
        self.store, self.frozen, self.device, self.progress = store, frozen, device, progress
        key = [_digest(frozen), store.fingerprint, frozen.dtype, provenance.code_fingerprint(SHAPING)]
        self.folder = folder / fingerprint(key)
        evaluated = np.concatenate([store.rows("val"), store.rows("test")])
        self.plain = self._opened("evaluated", evaluated)
        varied = {"augment": augment, "stretch": stretch}
        self.versions = [
            self._opened(f"train-{augment:g}-{stretch:g}-{copy}", store.rows("train"), seed=copy, **varied)
            for copy in range(copies if augment or stretch else 1)
        ]

    def read(self, rows: np.ndarray, *, epoch: int | None = None) -> Tensor:
        """Outputs (B, C, h, w) of val or test images, or of training images as epoch `epoch` sees them.

        Rows of other splits give another image's output and no error.
        """
        if epoch is None:
            values = self.plain.of(rows)
        else:
            version = (epoch + rows) % len(self.versions)
            values = self.versions[0].of(rows)
            for k, stored in enumerate(self.versions[1:], start=1):
                values[version == k] = stored.of(rows[version == k])
        tensor = torch.from_numpy(values).to(self.device, non_blocking=True)
        return tensor.view(self.frozen.dtype).permute(
            0, 3, 1, 2
        )  # (B, h, w, C) -> (B, C, h, w), channels_last

    def _opened(self, name: str, rows: np.ndarray, *, seed: int = 0, **varied: float) -> _Stored:
        path = self.folder / f"{name}.npy"
        place = np.full(len(self.store.index), -1)
        place[rows] = np.arange(len(rows))
        self.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):  # of several processes, one computes
            if not path.exists():
                self._write(path, rows, place, seed=seed, **varied)
        return _Stored(np.load(path, mmap_mode="r"), place)

    def _write(self, path: Path, rows: np.ndarray, place: np.ndarray, *, seed: int, **varied: float) -> None:
        array, (stored, viewed) = None, AS_STORED[self.frozen.dtype]
        starts = tqdm(
            range(0, len(rows), BATCH), f"frozen prefix, {path.stem}", disable=not self.progress, leave=False
        )
        with replacing(path) as beside:
            for start in starts:
                batch = rows[start : start + BATCH]
                generator = (
                    torch.Generator().manual_seed(1_000_003 * seed + start) if any(varied.values()) else None
                )
                images, _, order = next(
                    pixels.batches(
                        self.store, batch, len(batch), device=self.device, generator=generator, **varied
                    )
                )
                out = self.frozen(images).permute(0, 2, 3, 1).contiguous().view(viewed).cpu().numpy()
                if array is None:
                    shape = (len(rows), *out.shape[1:])
                    _check_space(path.parent, math.prod(shape) * out.itemsize)
                    array = np.lib.format.open_memmap(beside, mode="w+", dtype=stored, shape=shape)
                array[place[order]] = out
            array.flush()


@dataclass(frozen=True)
class _Stored:
    array: np.ndarray  # (images, h, w, C)
    place: np.ndarray  # row of the index -> row of `array`

    def of(self, rows: np.ndarray) -> np.ndarray:
        return self.array[self.place[rows]]


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise PrefixError(
            f"train.cache_frozen needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; "
            "free some disk space, or set train.cache_frozen to 0"
        )


def _digest(frozen: Frozen) -> str:
    digest = hashlib.sha256(repr(frozen).encode())
    for name, tensor in frozen.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
