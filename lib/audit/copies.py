"""Would a copy be found? Copies made on purpose, and the share of them that the search for duplicates calls copies."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd

from lib.audit.duplicates import details
from lib.store import PixelStore

IMAGES = 60  # of which copies are made


def found(store: PixelStore, threshold: float, *, seed: int) -> pd.DataFrame:
    """One row a kind of copy: copy, correlation (median with its original), found (share above the threshold)."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(store.pixels), min(IMAGES, len(store.pixels)), replace=False))
    images = np.asarray(store.pixels[rows])
    original = details(images)
    made = []
    for name, change in CHANGES.items():
        copied = details(np.stack([change(image) for image in images]))
        correlation = (original * copied).sum(1)
        made.append((name, float(np.median(correlation)), float((correlation > threshold).mean())))
    return pd.DataFrame(made, columns=["copy", "correlation", "found"])


def _compressed(image: np.ndarray) -> np.ndarray:
    packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)


def _brightened(image: np.ndarray) -> np.ndarray:
    return np.round(255 * (image / 255) ** 0.7).astype(np.uint8)


def _halved(image: np.ndarray) -> np.ndarray:
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _mapped(*, turn: float = 0.0, scale: float = 1.0, shift: float = 0.0) -> Callable:
    """Turned by degrees, magnified about the centre, moved to the right by a share of the width."""

    def change(image: np.ndarray) -> np.ndarray:
        side = len(image)
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), turn, scale)
        matrix[0, 2] += shift * side
        return cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)

    return change


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed again (JPEG, quality 75)": _compressed,
    "brightened (gamma 0.7)": _brightened,
    "resized to half and back": _halved,
    "moved by 0.5% of the width": _mapped(shift=0.005),
    "moved by 1% of the width": _mapped(shift=0.01),
    "cropped by 1% on each side": _mapped(scale=1 / 0.98),
    "cropped by 2% on each side": _mapped(scale=1 / 0.96),
    "turned by 1 degree": _mapped(turn=1.0),
    "turned by 2 degrees": _mapped(turn=2.0),
}
