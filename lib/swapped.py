"""Does a model lean on the width of the chest, or on what surrounds the lungs? Validation images whose classes swap it, read again.

Squashing to a square turns the aspect ratio of an original into the width of what it shows, and the two classes may come
from originals of different shapes; borders (arms, collimation, markers) tell the classes apart by themselves, as the audit
finds. A model that took either for a sign of its class loses here; test images take no part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import torch

from lib import loop, metrics, train
from lib.config import Config
from lib.inference import Frozen
from lib.models import CNNLSTM
from lib.store import PixelStore

FACTORS = (0.87, 1.11)  # by which the width of normal images and of ill ones changes
BORDER = 0.12  # of the side: what is pasted from an image of the other class

Swap = Callable[[PixelStore, np.ndarray, np.ndarray], PixelStore]


def auc(config: Config, name: str, model: CNNLSTM, store: PixelStore, swap: Swap) -> float:
    """Area under the ROC curve on the validation images after `swap`, which is `widths` or `borders`.

    model  a trained `name` of `config`, whose zooms are used
    """
    rows = store.rows("val")
    y_true = loop.labels(store, rows)
    # Without the moving average, which would be evaluated in the model's place; the model is one if there was one.
    given = dataclasses.replace(config.train_for(name), cache_frozen=0, ema=0.0)
    alone = dataclasses.replace(
        config, train=given, **{name: dataclasses.replace(getattr(config, name), train={})}
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        state, task = train.start(alone, name, 0, swap(store, rows, y_true), progress=False)
        state.model.load_state_dict(model.state_dict())
        frozen = Frozen(state.model, task.dtype).to(task.fabric.device)  # the start's came from other weights
        torch.manual_seed(0)  # as in the training, for the token order `shuffle`
        logits = loop.evaluate(state, dataclasses.replace(task, frozen=frozen), rows)
    return metrics.auc(y_true, logits.numpy())


def widths(store: PixelStore, rows: np.ndarray, y_true: np.ndarray) -> PixelStore:
    """The store with the width of the images at `rows` (n,) changed by the factor of their class `y_true` (n,)."""
    pixels = np.array(store.pixels)
    for row, label in zip(rows, y_true, strict=True):
        pixels[row] = widened(pixels[row], FACTORS[label])
    return dataclasses.replace(store, pixels=pixels)


def borders(store: PixelStore, rows: np.ndarray, y_true: np.ndarray) -> PixelStore:
    """The store where each image at `rows` (n,) has the border of one of them that is of the other class, drawn at random.

    The seam is seen too: even a border of the own class, pasted so, costs a model something.
    """
    rng, pixels = np.random.default_rng(0), np.array(store.pixels)
    edge = round(BORDER * pixels.shape[1])
    inside = (slice(edge, -edge), slice(edge, -edge))
    for row, label in zip(rows, y_true, strict=True):
        pixels[row] = store.pixels[rng.choice(rows[y_true != label])]
        pixels[row][inside] = store.pixels[row][inside]
    return dataclasses.replace(store, pixels=pixels)


def widened(image: np.ndarray, factor: float) -> np.ndarray:
    """A uint8 image (S, S), its width changed by `factor` about the middle; the edge fills what becomes free."""
    middle = (image.shape[1] - 1) / 2
    moved = np.array([[factor, 0, middle * (1 - factor)], [0, 1, 0]])
    return cv2.warpAffine(image, moved, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
