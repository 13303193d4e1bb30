"""What must a map beat? Maps that know nothing of the model: chance, the centre of the image, its edges, its plain places."""

from __future__ import annotations

import cv2
import numpy as np

RIVALS = ("random", "centre", "edges", "plain")


def rivals(pixels: np.ndarray, shape: tuple[int, int], *, seed: int) -> dict[str, np.ndarray]:
    """Rival maps (B, h, w) for gray images (B, H, W), at the resolution `shape` of the maps they are compared with.

    random  noise; centre  a Gaussian of a quarter of the image; edges  the strength of the image's own edges;
    plain  the places without edges, whose blur costs an image least: to a model that takes a smooth image for ill, any order
    that leaves the edges for last looks right
    """
    edges = np.stack([_edges(image, shape) for image in pixels])
    return {
        "random": np.random.default_rng(seed).random((len(pixels), *shape), dtype=np.float32),
        "centre": np.repeat(_centre(shape)[None], len(pixels), axis=0),
        "edges": edges,
        "plain": -edges,
    }


def _centre(shape: tuple[int, int]) -> np.ndarray:
    y, x = (np.arange(side) - (side - 1) / 2 for side in shape)
    squared = (y[:, None] / (shape[0] / 4)) ** 2 + (x[None] / (shape[1] / 4)) ** 2
    return np.exp(-squared / 2).astype(np.float32)


def _edges(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(image.shape) / 112)
    strength = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return cv2.resize(strength, shape[::-1], interpolation=cv2.INTER_AREA)
