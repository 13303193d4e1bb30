"""Does a model lean on the width of the chest? Validation images of one class narrowed, of the other widened, and read again.

Squashing to a square turns the aspect ratio of an original into the width of what it shows, and the two classes may come
from originals of different shapes. A model that took the width for a sign of its class loses here; test images take no part.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from lib import loop, metrics, train
from lib.config import Config
from lib.models import CNNLSTM
from lib.store import PixelStore

FACTORS = (0.87, 1.11)  # by which the width of normal images and of ill ones changes


def auc(config: Config, name: str, model: CNNLSTM, store: PixelStore) -> float:
    """Area under the ROC curve on the validation images with the widths of the classes swapped.

    model  a trained `name` of `config`, whose zooms are used
    """
    rows = store.rows("val")
    y_true = loop.labels(store, rows)
    given = dataclasses.replace(config.train_for(name), cache_frozen=0)
    alone = dataclasses.replace(
        config, train=given, **{name: dataclasses.replace(getattr(config, name), train={})}
    )
    state, task = train.start(alone, name, 0, swapped(store, rows, y_true), progress=False)
    state.model.load_state_dict(model.state_dict())
    return metrics.auc(y_true, loop.evaluate(state, task, rows).numpy())


def swapped(store: PixelStore, rows: np.ndarray, y_true: np.ndarray) -> PixelStore:
    """The store with the width of the images at `rows` (n,) changed by the factor of their class `y_true` (n,)."""
    pixels = np.array(store.pixels)
    for row, label in zip(rows, y_true, strict=True):
        pixels[row] = widened(pixels[row], FACTORS[label])
    return dataclasses.replace(store, pixels=pixels)


def widened(image: np.ndarray, factor: float) -> np.ndarray:
    """A uint8 image (S, S), its width changed by `factor` about the middle; the edge fills what becomes free."""
    middle = (image.shape[1] - 1) / 2
    moved = np.array([[factor, 0, middle * (1 - factor)], [0, 1, 0]])
    return cv2.warpAffine(image, moved, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
