"""What are the control tasks? Three sets of phantoms whose truth is known, and their training.

Phantom chests of 7 by 7 patches: a column of body wall, two of left lung, one of spine, two of right lung, body wall.
Every lung patch is drawn anew, and one or two of them hold an opacity.

place     class 1 has its opacity in the upper three rows, class 0 in the lower three.
relation  class 1 has one opacity in each lung, class 0 both in one lung. Each lung patch is opaque with probability 1/14
          in both classes, so the place of no single patch tells them apart either.
amount    the null control: class 1 becomes likely as the whole image grows brighter, wherever it does. The sum over
          patches says all there is to know, so no sequence can help.

In the first two the images come in twins, one of each class, which hold the very same patches in another arrangement:
whatever pools before it reads, or reads in a random order, can only guess.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.ablation import grid, regimes
from lib.ablation.control import HEADS, HIDDEN, TASKS, Control
from lib.ablation.effects import analyse
from lib.ablation.fit import Maps, protocol
from lib.ablation.variants import Variant
from lib.config import Config

SIDE = 7  # patches
PATCH = 8  # pixels
CHANNELS = 24  # of the embedding
LEFT, SPINE, RIGHT = (1, 2), 3, (4, 5)  # columns
LUNGS = [(row, column) for row in range(SIDE) for column in (*LEFT, *RIGHT)]
UPPER, LOWER = range(3), range(4, SIDE)  # rows of the opacities of `place`
SEED = 0  # of the phantoms
# A small task needs many short epochs at a high rate; the heads share this protocol as the grid shares its own.
TRAIN = {"epochs": 30, "batch_size": 32, "learning_rate": 1e-2, "weight_decay": 0.0, "precision": "32-true"}


@dataclass(frozen=True)
class Task:
    """Phantoms, uint8 (N, 56, 56); their table (image, patient, split, subtype, label); twins share a patient."""

    name: str
    images: np.ndarray
    table: pd.DataFrame

    def maps(self, variant: Variant) -> Maps:
        """A fixed embedding of every patch, rows -> (B, CHANNELS, 7, 7): the stand-in for a frozen backbone."""
        maps = embed(self.images)
        return lambda rows: maps[torch.as_tensor(rows)]

    def stored_channels(self, variant: Variant) -> int:
        return CHANNELS

    @property
    def fingerprint(self) -> str:
        """Of images, table and embedding; of its source, for its numbers differ in the last bit between processors."""
        parts = (self.images.tobytes(), self.table.to_csv().encode(), inspect.getsource(embed).encode())
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def run(config: Config, *, progress: bool = True) -> dict[str, Control]:
    """Every task through the ablation's own statistics and correction, with its seeds; by task.

    The heads are trained on maps that do not change (`ablation.fit`), also where the profile trains the backbone along.
    """
    train = dataclasses.replace(protocol(config), **TRAIN)
    controls = {}
    for name in TASKS:
        task = draw(name, config.ablation.control_images, seed=SEED)
        prefix = f"control-{name}-"
        cells = grid.cells(config, task, HEADS[name], train=train, hidden=HIDDEN, prefix=prefix)
        tables = regimes.collect(grid.run(task, cells, progress=progress), prefix)
        controls[name] = Control(name, tables, analyse(tables, n_boot=config.n_boot), config.n_boot)
    return controls


def draw(task: str, n: int, *, seed: int) -> Task:
    """About n phantoms: half of them for training, a fifth for validation, the rest for test; twins stay together.

    Raises ValueError for an unknown task or fewer than 40 images.
    """
    if task not in TASKS:
        raise ValueError(f"unknown control task {task!r}; the tasks are {', '.join(TASKS)}")
    if n < 40:
        raise ValueError(f"ablation.control_images is {n}; the control needs at least 40 images")
    rng = np.random.default_rng([seed, TASKS.index(task)])
    pairs = [_pair(task, rng) for _ in range(n // 2)]
    images = np.concatenate(pairs)
    labels = _bright(images, rng) if task == "amount" else np.tile([0, 1], len(pairs))
    patient = np.repeat(np.arange(len(pairs)), 2)
    split = np.select([patient < 0.5 * len(pairs), patient < 0.7 * len(pairs)], ["train", "val"], "test")
    table = pd.DataFrame(
        {
            "image": [f"{task}-{i:05d}" for i in range(len(images))],
            "patient": [f"twins-{p:05d}" for p in patient],
            "split": split,
            "subtype": "unknown",
            "label": labels,
        }
    )
    return Task(task, images, table)


def embed(images: np.ndarray) -> Tensor:
    """Every patch by itself through one fixed layer, its brightness and random features: uint8 (B, 56, 56) ->
    (B, CHANNELS, 7, 7)."""
    pixels = torch.tensor(images, dtype=torch.float32).div(127.5).sub(1)
    patches = pixels.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(3)  # (B, 7, 7, 64)
    weights = torch.randn(PATCH**2, CHANNELS, generator=torch.Generator().manual_seed(0)) / PATCH
    weights[:, 0] = 1 / PATCH  # so that the mean over the tokens holds the brightness of the image
    return (patches @ weights).permute(0, 3, 1, 2)


def _bright(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Classes that depend on the brightness of the whole image and on chance alone."""
    brightness = images.mean((1, 2))
    standard = (brightness - brightness.mean()) / brightness.std()
    return (rng.random(len(images)) < 1 / (1 + np.exp(-3 * standard))).astype(int)


def _pair(task: str, rng: np.random.Generator) -> np.ndarray:
    """Two images of one set of patches, uint8 (2, 56, 56): class 0 and class 1, but in `amount`, where chance arranges them."""
    if task == "place":
        return _twins(rng, [_some(1, [p for p in LUNGS if p[0] in rows], rng) for rows in (LOWER, UPPER)])
    apart = (False, True) if task == "relation" else rng.random(2) < 0.5
    return _twins(rng, [_two(far, rng) for far in apart])


def _twins(rng: np.random.Generator, places: list[list[tuple[int, int]]]) -> np.ndarray:
    """Arrangements of one set of patches, uint8 (2, 56, 56). places: (row, column) of the opacities of each"""
    opaque = [_patch(85, rng) + rng.uniform(50, 160) * BLOB for _ in places[0]]
    clear = [_patch(85, rng) for _ in range(len(LUNGS) - len(opaque))]
    wall, spine = [_patch(165, rng) for _ in range(2 * SIDE)], [_patch(215, rng) for _ in range(SIDE)]
    return np.stack([_assemble(opaque, clear, wall, spine, taken, rng) for taken in places])


def _two(apart: bool, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Two places, in one lung or apart in both."""
    lungs = [[place for place in LUNGS if place[1] in columns] for columns in (LEFT, RIGHT)]
    if apart:
        return _some(1, lungs[0], rng) + _some(1, lungs[1], rng)
    return _some(2, lungs[rng.integers(2)], rng)


def _some(n: int, places: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    return [places[i] for i in rng.choice(len(places), n, replace=False)]


def _assemble(opaque, clear, wall, spine, places, rng: np.random.Generator) -> np.ndarray:
    """An image of these patches, each used once: the opaque ones at `places`, the others where chance puts them."""
    rest = [place for place in LUNGS if place not in places]
    order = [*places, *(rest[i] for i in rng.permutation(len(rest)))]
    order += [(row, column) for row in range(SIDE) for column in (0, SIDE - 1)]
    order += [(row, SPINE) for row in range(SIDE)]
    image = np.zeros((SIDE * PATCH, SIDE * PATCH))
    for (row, column), patch in zip(order, opaque + clear + wall + spine, strict=True):
        image[row * PATCH :, column * PATCH :][:PATCH, :PATCH] = patch
    return np.clip(image, 0, 255).astype(np.uint8)


def _patch(level: float, rng: np.random.Generator) -> np.ndarray:
    """Tissue of one kind: its level, a shade of its own, and grain."""
    return level + rng.normal(0, 2) + rng.normal(0, 10, (PATCH, PATCH))


def _blob() -> np.ndarray:
    """An opacity's profile over one patch, its peak 1 in the middle."""
    x = (np.arange(PATCH) - (PATCH - 1) / 2) / (0.45 * PATCH)
    return np.exp(-(x[:, None] ** 2) - x**2)


BLOB = _blob()
