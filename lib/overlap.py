"""Which images were taken as those of the other class are? Weights under which that tells nothing of the class, and draws by them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from lib import originals
from lib.store import PixelStore

BLOCK = 8  # pixels: JPEG codes squares of this side, and what crops a file without coding it anew leaves whole ones


def whole_blocks(size: pd.DataFrame) -> np.ndarray:
    """Whether both sides of an image, columns width and height in pixels, are whole JPEG blocks, bool [n]; one in 64 is by chance."""
    return ((size[["width", "height"]].to_numpy() % BLOCK) == 0).all(1)


def weights(size: pd.DataFrame, y_true: np.ndarray, *, blocks: bool = False) -> np.ndarray:
    """Overlap weights (Li, Morgan & Zaslavsky 2018) of images, [n]: an image counts as much as its size is that of the other class.

    size    columns width and height, pixels
    blocks  whether the sides are whole JPEG blocks counts as a part of the size
    By a logistic regression on the logs of height and aspect ratio, their squares and product (and on the blocks and their product
    with the height), whose weighted means are then those of the other class. Where sizes are all alike, so are the weights
    of each class, and their sums.
    """
    high, aspect = np.log(size["height"].to_numpy()), np.log((size["width"] / size["height"]).to_numpy())
    terms = [high, aspect, high**2, aspect**2, high * aspect]
    if blocks:
        whole = whole_blocks(size).astype(float)
        terms += [whole, whole * high]
    terms = np.stack(terms, axis=1)
    spread = terms.std(0)
    varied = spread > 1e-9
    terms = np.column_stack(
        [np.ones(len(terms)), ((terms - terms.mean(0)) / np.where(varied, spread, 1))[:, varied]]
    )
    side = 2 * np.asarray(y_true) - 1

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = side * (terms @ w)
        return np.logaddexp(0, -margin).mean(), -(terms * (side * expit(-margin))[:, None]).mean(0)

    ill = expit(terms @ minimize(loss, np.zeros(terms.shape[1]), jac=True, method="BFGS", tol=1e-10).x)
    return np.where(side > 0, 1 - ill, ill)


@dataclass(frozen=True)
class Drawn(PixelStore):
    """A store of whose training images some rows were drawn, a row perhaps more than once; the other splits are as they were."""

    drawn: np.ndarray = field(default_factory=lambda: np.empty(0, int), repr=False)

    def rows(self, split: str) -> np.ndarray:
        return self.drawn if split == "train" else super().rows(split)


def drawn(store: PixelStore, seed: int) -> PixelStore:
    """As many training images of each class as the rarer one has, drawn with replacement, the share `store.overlap` of them by overlap
    weights and the rest evenly; the store as it is where that share is 0."""
    if not store.overlap:
        return store
    rows = store.rows("train")
    y = store.index["label"].to_numpy(int)[rows]
    by = weights(originals.of(store).iloc[rows], y, blocks=True)
    rng, count, chosen = np.random.default_rng(seed), np.bincount(y, minlength=2).min(), []
    for label in (0, 1):
        own = y == label
        chance = (1 - store.overlap) / own.sum() + store.overlap * by[own] / by[own].sum()
        chosen.append(rng.choice(rows[own], count, p=chance))
    return Drawn(**vars(store), drawn=np.concatenate(chosen))
