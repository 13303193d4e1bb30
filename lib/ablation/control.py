"""Can the ablation see an effect that is there, and does it invent one that is not? Three tasks whose truth is known.

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
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.ablation import grid, published, regimes
from lib.ablation.effects import Effects, analyse
from lib.ablation.fit import Maps, protocol
from lib.ablation.variants import BASE, REFERENCE, Variant
from lib.config import Config

SIDE = 7  # patches
PATCH = 8  # pixels
CHANNELS = 24  # of the embedding
LEFT, SPINE, RIGHT = (1, 2), 3, (4, 5)  # columns
LUNGS = [(row, column) for row in range(SIDE) for column in (*LEFT, *RIGHT)]
UPPER, LOWER = range(3), range(4, SIDE)  # rows of the opacities of `place`
TASKS = ("place", "relation", "amount")
LSTM, SHUFFLED = "lstm-raster-max", "lstm-shuffle-max"
POOLED = Variant(REFERENCE, "mean")
HEADS = {
    "place": (POOLED, Variant(BASE, "lstm"), Variant("lstm-shuffle", "lstm", order="shuffle")),
    "relation": (
        POOLED,
        Variant("attention-pool", "attention"),
        Variant(BASE, "lstm"),
        Variant(LSTM, "lstm", readout="max"),
        Variant(SHUFFLED, "lstm", order="shuffle", readout="max"),
    ),
    "amount": (POOLED, Variant(BASE, "lstm")),
}
WORDS = {"good": "holds", "caution": "holds, with a caution", "bad": "FAILS"}  # of a check, by verdict
LEARNED = 0.9  # test AUC of a seed that is counted as having learned a task
COST = (  # of reading one by one what pooling adds up
    ": of equal size, it adds up less well. So its difference on radiographs is any gain of the sequence less such a cost, and "
    "zero there does not by itself say that the sequence tells nothing"
)
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
        """Of images, table and embedding; of its source, for its numbers differ in the last bit between processors."""
        parts = (self.images.tobytes(), self.table.to_csv().encode(), inspect.getsource(embed).encode())
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


@dataclass(frozen=True)
class Control:
    """What the ablation found where the truth is known: one task's test predictions by head, and their effects."""

    task: str
    tables: dict[str, pd.DataFrame]
    effects: Effects


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
        controls[name] = Control(name, tables, analyse(tables, n_boot=config.n_boot))
    return controls


def read(folder: Path, *, n_boot: int) -> dict[str, Control]:
    """The controls again from what `published.write` wrote, by task; empty where it wrote none."""
    controls = {}
    for task in TASKS:
        if (kept := Path(folder) / f"{published.CONTROL}{task}").is_dir():
            found = published.read(kept)
            tables = {head.name: found.pop(head.name) for head in HEADS[task] if head.name in found} | found
            controls[task] = Control(task, tables, analyse(tables, n_boot=n_boot))
    return controls


def findings(controls: dict[str, Control]) -> list[dict[str, str]]:
    """What has to hold if the ablation is to be believed: check, result, verdict."""
    place, relation, amount = (controls[task].effects for task in TASKS)
    blind = [place.row("lstm-shuffle"), relation.row(SHUFFLED), relation.row("attention-pool")]
    asked, null = relation.row(BASE), amount.row(BASE)
    loses = bool(null["differs"] and null["difference"] < 0)
    # What the head of the ablation's first question cannot learn here, its silence on radiographs says nothing about.
    limit = "" if _gains(asked) else f"; where {BASE} shows no difference, such a relation may still be there"
    return [
        _finding(
            "The place of an opacity is seen",
            f"Where only the place of one opacity tells, {_gap(place.row(BASE))} against mean-pooling",
            _gains(place.row(BASE)),
        ),
        _finding(
            "The relation of two opacities is seen",
            f"Where only their being in one lung or in both tells, {_gap(relation.row(LSTM))} against mean-pooling ("
            f"{_seeds(relation, LSTM)})",
            _gains(relation.row(LSTM)),
        ),
        _finding(
            f"{BASE} sees the relation too",
            f"On the same images {_gap(asked)} against mean-pooling, for the head that the first question is about "
            f"({_seeds(relation, BASE)}){limit}",
            _gains(asked),
        ),
        _finding(
            "Without the arrangement nothing is left to see",
            f"On the images of place and relation {', '.join(map(_gap, blind[:-1]))} and {_gap(blind[-1])} against mean-pooling",
            not any(row["differs"] for row in blind),
        ),
        _finding(
            "No sequence helps where none can",
            f"Where the sum over the patches tells all there is to know, {_gap(null)} against mean-pooling{COST if loses else ''}",
            not _gains(null),
            caution=loses,
        ),
    ]


def _seeds(effects: Effects, head: str) -> str:
    """What a head reaches by seed; where some seeds learn what others do not, a mean and its interval are of none of them."""
    found = effects.per_seed.loc[effects.per_seed["variant"] == head, "auc"]
    learned = int((found > LEARNED).sum())
    split = f", {learned} of {len(found)} above {LEARNED}" if 0 < learned < len(found) else ""
    return f"test AUC {found.min():.3f} to {found.max():.3f} by seed{split}"


def tables(controls: dict[str, Control]) -> dict[str, dict[str, pd.DataFrame]]:
    """The test predictions by task and head."""
    return {task: control.tables for task, control in controls.items()}


def aucs(controls: dict[str, Control]) -> pd.DataFrame:
    """Test AUC of every head, one row a head, one column a task; missing where a task does not ask it."""
    found = [control.effects.auc.assign(task=control.task) for control in controls.values()]
    table = pd.concat(found).pivot(index="variant", columns="task", values="auc")
    order = dict.fromkeys(variant.name for heads in HEADS.values() for variant in heads)
    return table.loc[list(order), list(controls)].rename_axis(columns=None).reset_index()


def _gains(row: dict) -> bool:
    return bool(row["differs"] and row["difference"] > 0)


def _finding(check: str, result: str, holds: bool, *, caution: bool = False) -> dict[str, str]:
    verdict = "bad" if not holds else "caution" if caution else "good"
    return {"check": check, "result": result + ".", "verdict": verdict}


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
