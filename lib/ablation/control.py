"""Can the ablation see an effect that is there, and does it invent one that is not? Two tasks whose truth is known.

Phantom chests of 7 by 7 patches: a column of body wall, two of left lung, one of spine, two of right lung, body wall.
Every lung patch is drawn anew, and two of them hold an opacity.

relation  class 1 has one opacity in each lung, class 0 both in one lung. The images come in twins, one of each class,
          which hold the very same patches in another arrangement. So no patch and no sum over patches tells the
          classes apart (each lung patch is opaque with probability 1/14 in both): whatever pools before it reads, or
          reads in a random order, can only guess. Only where the patches lie tells.
amount    the null control: class 1 becomes likely as the total opacity grows, wherever it lies. The sum over patches
          says all there is to know, so no sequence can help.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.ablation import grid, regimes
from lib.ablation.effects import Effects, analyse
from lib.ablation.fit import Maps, protocol
from lib.ablation.variants import REFERENCE, Variant
from lib.config import Config

SIDE = 7  # patches
PATCH = 8  # pixels
CHANNELS = 24  # of the embedding
LEFT, SPINE, RIGHT = (1, 2), 3, (4, 5)  # columns
TASKS = ("relation", "amount")
LSTM, SHUFFLED = "lstm-raster-max", "lstm-shuffle-max"
HEADS = {
    "relation": (
        Variant(REFERENCE, "mean"),
        Variant("attention-pool", "attention"),
        Variant(LSTM, "lstm", readout="max"),
        Variant(SHUFFLED, "lstm", order="shuffle", readout="max"),
    ),
    "amount": (Variant(REFERENCE, "mean"), Variant(LSTM, "lstm", readout="max")),
}
HIDDEN = 32
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
        return hashlib.sha256(self.images.tobytes() + self.table.to_csv().encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Control:
    """What the ablation found where the truth is known: one task's test predictions by head, and their effects."""

    task: str
    tables: dict[str, pd.DataFrame]
    effects: Effects


def run(config: Config, *, progress: bool = True) -> dict[str, Control]:
    """Both tasks through the ablation's own training, statistics and correction, with its seeds; by task."""
    train = dataclasses.replace(protocol(config), **TRAIN)
    controls = {}
    for name in TASKS:
        task = draw(name, config.ablation.control_images, seed=SEED)
        prefix = f"control-{name}-"
        cells = grid.cells(config, task, HEADS[name], train=train, hidden=HIDDEN, prefix=prefix)
        tables = regimes.collect(grid.run(task, cells, progress=progress), prefix)
        controls[name] = Control(name, tables, analyse(tables, n_boot=config.n_boot))
    return controls


def findings(controls: dict[str, Control]) -> list[dict[str, str]]:
    """What has to hold if the ablation is to be believed: check, result, verdict."""
    relation, amount = controls["relation"].effects, controls["amount"].effects
    sees, blind, shuffled = relation.row(LSTM), relation.row("attention-pool"), relation.row(SHUFFLED)
    null = amount.row(LSTM)
    return [
        _finding(
            "An effect that is there is seen",
            f"Where only the arrangement tells, {_gap(sees)} against mean-pooling",
            sees["differs"] and sees["difference"] > 0,
        ),
        _finding(
            "Without the arrangement nothing is left to see",
            f"On the same images {_gap(shuffled)} and {_gap(blind)} against mean-pooling",
            not shuffled["differs"] and not blind["differs"],
        ),
        _finding(
            "No effect is invented",
            f"Where the sum over the patches tells all there is to know, {_gap(null)} against mean-pooling",
            not (null["differs"] and null["difference"] > 0),
        ),
    ]


def _finding(check: str, result: str, holds: bool) -> dict[str, str]:
    return {"check": check, "result": result + ".", "verdict": "good" if holds else "bad"}


def _gap(row: dict) -> str:
    return (
        f"{row['variant']} {row['difference']:+.3f} [{row['adjusted_low']:+.3f}, {row['adjusted_high']:+.3f}]"
    )


def draw(task: str, n: int, *, seed: int) -> Task:
    """About n phantoms: half of them for training, a fifth for validation, the rest for test; twins stay together.

    Raises ValueError for an unknown task or fewer than 40 images.
    """
    if task not in TASKS:
        raise ValueError(f"unknown control task {task!r}; the tasks are {', '.join(TASKS)}")
    if n < 40:
        raise ValueError(f"ablation.control_images is {n}; the control needs at least 40 images")
    rng = np.random.default_rng([seed, TASKS.index(task)])
    pairs = [
        _twins(rng, apart=(False, True) if task == "relation" else rng.random(2) < 0.5) for _ in range(n // 2)
    ]
    images = np.concatenate(pairs)
    labels = np.tile([0, 1], len(pairs)) if task == "relation" else _bright(images, rng)
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


def _twins(rng: np.random.Generator, *, apart: tuple[bool, bool]) -> np.ndarray:
    """Two arrangements of one set of patches, uint8 (2, 56, 56), the opacities in one lung or apart in both."""
    opaque = [_patch(85, rng) + rng.uniform(50, 160) * BLOB for _ in range(2)]
    clear = [_patch(85, rng) for _ in range(4 * SIDE - 2)]
    wall, spine = [_patch(165, rng) for _ in range(2 * SIDE)], [_patch(215, rng) for _ in range(SIDE)]
    return np.stack([_assemble(opaque, clear, wall, spine, far, rng) for far in apart])


def _assemble(opaque, clear, wall, spine, apart: bool, rng: np.random.Generator) -> np.ndarray:
    """An image of these patches, each used once, in places drawn anew."""
    lungs = [[(row, column) for row in range(SIDE) for column in columns] for columns in (LEFT, RIGHT)]
    for lung in lungs:
        rng.shuffle(lung)
    first = int(rng.integers(2))
    places = [lungs[first].pop(), lungs[1 - first if apart else first].pop()]
    rest = lungs[0] + lungs[1]
    places += [rest[i] for i in rng.permutation(len(rest))]
    places += [(row, column) for row in range(SIDE) for column in (0, SIDE - 1)]
    places += [(row, SPINE) for row in range(SIDE)]
    image = np.zeros((SIDE * PATCH, SIDE * PATCH))
    for (row, column), patch in zip(places, opaque + clear + wall + spine, strict=True):
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
