"""Where are the prepared images? One memory-mapped uint8 array in index order, built once and checked by a cheap stamp."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import filelock
import numpy as np
import pandas as pd

from lib import files, harmonise, images, index, originals, phantoms, provenance, splits, tree
from lib.config import Config, Data, fingerprint
from lib.errors import SourceError

FORMAT = 3  # of the store, and of what it leaves out; a change rebuilds it


@dataclass(frozen=True)
class PixelStore:
    """Prepared images: row i of `index` is `pixels[i]`, uint8 (N, S, S), memory-mapped.

    The column `patient` is never empty: an image whose name carries no patient counts as one of its own
    (`source["patients"]` is then False).
    """

    index: pd.DataFrame
    pixels: np.ndarray = field(repr=False)
    fingerprint: str  # of pixels, index, splits and, where it draws, lib.overlap
    quarantined: pd.DataFrame = field(repr=False)  # rows left out, with the reason in `status`
    source: dict[str, Any] = field(default_factory=dict, repr=False)  # where the raw images came from
    masks: np.ndarray | None = field(default=None, repr=False)  # bool (N, S, S), of phantoms
    overlap: float = 0.0  # share of a training epoch's images that is drawn by overlap weights (lib.overlap)

    def rows(self, split: str) -> np.ndarray:
        """Rows of one split: train, val, calibration (often empty) or test."""
        return np.flatnonzero(self.index["split"] == split)

    def mask(self, row: int) -> np.ndarray | None:
        """Where the lesions of a phantom are, bool (S, S); None for an image whose lesions nobody drew."""
        return None if self.masks is None else np.array(self.masks[row], bool)


def prepare(config: Config, *, progress: bool = True) -> PixelStore:
    """The store of the config's data set, built at the first call (phantoms are drawn first where the profile wants them).

    Processes that ask at once wait for the one that builds. Raises SourceError when the real images are not there,
    IndexingError when they cannot be used.
    """
    folder = config.store_dir
    if not (config.synthetic or config.raw_dir.is_dir()):
        raise SourceError(
            f"there are no images at {config.raw_dir}; run `make data` to fetch the public set, `make data SOURCE=<zip or folder>` "
            "to take it from a file, or choose the synthetic images with PROFILE=demo"
        )
    # Phantoms of any number and seed share their folders: none are drawn while another process builds or opens its store.
    with _alone(config.raw_dir) if config.synthetic else contextlib.nullcontext():
        if config.synthetic and not _drawn(config):
            _draw(config)
        stamp = _stamp(config)
        if not _intact(folder, stamp):
            with _alone(folder):
                if not _intact(folder, stamp):
                    _build(config, folder, stamp, progress=progress)
        return _open(config, folder)


def _alone(folder: Path) -> filelock.FileLock:
    """The lock with which, of several processes, one works on `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder.with_name(f".{folder.name}.lock"))


def _wanted(config: Config) -> dict[str, Any]:
    code = hashlib.sha256(Path(phantoms.__file__).read_bytes()).hexdigest()[:16]
    return {"n": config.data.phantoms, "seed": config.data.split_seed, "code": code}


def _drawn(config: Config) -> bool:
    """Whether the phantoms that the config asks for are there, each with its mask: a deletion that was interrupted leaves some."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if files.read_json(config.raw_dir / "phantoms.json") == _wanted(config):
            names = tree.find_images(config.raw_dir)
            masks = config.raw_dir / "masks"
            return len(names) == config.data.phantoms and all((masks / name).is_file() for name in names)
    return False


def _draw(config: Config) -> None:
    files.remove_abandoned(config.raw_dir)
    wanted = _wanted(config)
    phantoms.write(config.raw_dir, n=wanted["n"], seed=wanted["seed"])
    files.write_json(config.raw_dir / "phantoms.json", wanted)


def _stamp(config: Config) -> str:
    """Changes when a file to index is added, removed, resized or touched (masks are not looked at); reads no image."""
    listed = tree.file_stamps(config.raw_dir, tree.find_images(config.raw_dir))
    data = config.data
    common = [FORMAT, data.image_size, data.aspect, index.note(config.raw_dir), listed]
    looks = [_code("harmonise.py")] if data.harmonise else []
    return fingerprint([*common, *_restoring(data.aspect), *looks])


def _intact(folder: Path, stamp: str) -> bool:
    """Whether the store belongs to the raw folder as it is now, and all of it is there."""
    try:
        meta = files.read_json(folder / "meta.json")
        return meta["stamp"] == stamp and all(
            (folder / name).stat().st_size == size for name, size in meta["files"].items()
        )
    except (OSError, KeyError, ValueError, TypeError, AttributeError):  # damaged in whatever way: built again
        return False


def _build(config: Config, folder: Path, stamp: str, *, progress: bool) -> None:
    files.remove_abandoned(folder)
    with files.replacing(folder) as beside:
        beside.mkdir(parents=True)
        digest = hashlib.sha256()
        rows = list(_write_pixels(config, beside / "pixels.npy", digest, progress=progress))
        table = index.table(rows)
        kept = index.accepted(table)
        if config.synthetic:
            np.save(beside / "masks.npy", np.stack([_mask(config, name) for name in kept["image"]]))
        table.to_csv(beside / "index.csv", index=False)
        sizes = {path.name: path.stat().st_size for path in beside.iterdir()}
        meta = {"stamp": stamp, "pixels_sha256": digest.hexdigest(), "files": sizes}
        files.write_json(beside / "meta.json", meta)


def _write_pixels(config: Config, path: Path, digest: Any, *, progress: bool) -> Iterator[dict[str, Any]]:
    """Write the accepted images as a .npy file, one after the other, and give the row of every image."""
    size, count = config.data.image_size, 0
    as_it_is = config.synthetic or config.data.aspect == "squash"
    look = partial(_prepared, data=config.data, as_it_is=as_it_is)
    with open(path, "wb") as out:
        _header(out, (0, size, size))
        for row, seen in index.scan(config.raw_dir, look=look, progress=progress):
            if seen is not None:
                out.write(seen)
                digest.update(seen)
                count += 1
            yield row
        out.seek(0)
        _header(out, (count, size, size))


def _prepared(gray: np.ndarray, name: str, *, data: Data, as_it_is: bool) -> np.ndarray:
    fitted = images.fit(gray if as_it_is else originals.unsquashed(gray, name), data.image_size, data.aspect)
    return harmonise.harmonised(fitted) if data.harmonise else fitted


def _header(out: Any, shape: tuple[int, ...]) -> None:
    """Of a uint8 .npy file; as long for any number of images, so that it can be written again."""
    about = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, about)


def _mask(config: Config, name: str) -> np.ndarray:
    drawn = cv2.imread(str(config.raw_dir / "masks" / name), cv2.IMREAD_GRAYSCALE)
    return images.fit(drawn, config.data.image_size, config.data.aspect) > 127


def _open(config: Config, folder: Path) -> PixelStore:
    meta = files.read_json(folder / "meta.json")
    table = pd.read_csv(
        folder / "index.csv", dtype={"patient": object, "mode": object, "sha256": object}, keep_default_na=False,
        na_values={"patient": [""]},
    )  # fmt: skip
    data, pixels = config.data, np.load(folder / "pixels.npy", mmap_mode="r")
    kept = index.accepted(table)
    size = (
        originals.of_images(kept, drawn=config.synthetic) if data.val_kind == "matched_everything" else None
    )
    kept = splits.split_validation(
        kept, share=data.val_share, seed=data.split_seed, kind=data.val_kind, pixels=pixels, size=size
    )
    kept = splits.split_calibration(kept, share=data.calibration_share, seed=data.split_seed)
    described = kept[["image", "split", "label", "subtype", "patient"]].to_csv()
    kept["patient"] = splits.patients_of(kept)
    splits.check_patients(kept)
    return PixelStore(
        index=kept,
        pixels=pixels,
        fingerprint=fingerprint([meta["pixels_sha256"], described, *_drawing(data.overlap)]),
        quarantined=table[table["status"] != "ok"].reset_index(drop=True),
        source=_source(config),
        masks=np.load(folder / "masks.npy", mmap_mode="r") if config.synthetic else None,
        overlap=data.overlap,
    )


def _drawing(share: float) -> list:
    """What tells trainings apart whose epochs are drawn otherwise: the share, and how they are drawn."""
    return [share, _code("overlap.py")] if share else []


def _restoring(aspect: str) -> list[str]:
    """What gives squashed copies their originals' shapes back, where that is done: the sizes, and the code."""
    if aspect == "squash":
        return []
    return [hashlib.sha256(originals.SIZES.read_bytes()).hexdigest(), _code("originals.py")]


def _code(name: str) -> str:
    return provenance.code_fingerprint([Path(__file__).with_name(name)])


def _source(config: Config) -> dict[str, Any]:
    if config.synthetic:
        return {"kind": "phantoms", "name": f"{config.data.phantoms} phantoms", "patients": True}
    return {"kind": "by hand", "name": f"data/raw/{config.data.dataset}", "patients": True} | index.note(
        config.raw_dir
    )
