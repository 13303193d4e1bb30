"""Small studies for the tests: trainings on phantoms of 28 pixels, a second or two a run, and projects of real images."""

from __future__ import annotations

import io
import multiprocessing
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lib import config, index
from lib.config import Config

SMALL = {"data.image_size": 28, "data.phantoms": 60, "train.eval_batch_size": 32, "n_boot": 50}
CUSTOM = {"epochs": 2, "batch_size": 12, "learning_rate": 2e-3}


def custom(root: Path, *, train: dict | None = None, **overrides) -> Config:
    """The demo profile, shrunk; `train` changes the custom model's protocol, `overrides` anything."""
    return config.load(
        "demo", root=root, **(SMALL | {"custom_cnn_lstm.train": CUSTOM | (train or {})} | overrides)
    )


def xception(root: Path, *, train: dict | None = None, **overrides) -> Config:
    """The same for Xception-LSTM with its first 100 parameter tensors frozen, random weights, one epoch at 64 pixels."""
    settings = {
        "data.image_size": 64, "data.phantoms": 40, "xception_lstm.freeze_layers": 100, "xception_lstm.lstm_hidden": 16,
        "xception_lstm.train": {"epochs": 1, "batch_size": 8} | (train or {}),
    }  # fmt: skip
    return config.load("demo", root=root, **(SMALL | settings | overrides))


def real(root: Path, **overrides) -> Config:
    """The quick profile, of real images, with something in the place of the ImageNet weights, which nobody here reads."""
    cfg = config.load("quick", root=root, **overrides)
    cfg.weights_file.parent.mkdir(parents=True)
    cfg.weights_file.write_bytes(b"weights")
    return cfg


def started(work: Callable, *words) -> multiprocessing.Process:
    """A process that does `work(*words)`; its imports are made once, by the server that all such are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lib.train", "tests.tiny"])
    process = context.Process(target=work, args=words)
    process.start()
    return process


def indexed(raw_dir: Path) -> pd.DataFrame:
    """The index of a folder of images, quarantined ones included; no pixels are kept."""
    return index.table(row for row, _ in index.scan(raw_dir, look=lambda gray, name: None, progress=False))


def png(seed: int, size: int = 32) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)).save(out, "PNG")
    return out.getvalue()


def small_set(top: str = "chest_xray/", train: str = "train", test: str = "test", patients: int = 4) -> dict[str, bytes]:  # fmt: skip
    """Member name -> content: four patients a class and split, in the public set's naming."""
    members = {}
    for split, first in ((train, 100), (test, 1)):
        for number in range(first, first + patients):
            members[f"{top}{split}/NORMAL/IM-{number:04d}-0001.png"] = png(number)
            members[f"{top}{split}/PNEUMONIA/person{number}_bacteria_{number}.png"] = png(1000 + number)
    return members


def zipped(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


def unzipped(root, members: dict[str, bytes]):
    for name, data in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root
