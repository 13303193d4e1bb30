"""What happens in an epoch? Batches in a seeded order, one step each, then one pass over validation and test."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning_fabric import Fabric
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lib import pixels
from lib.augment import mix_border, mix_style
from lib.config import Train
from lib.inference import FastRest, Frozen
from lib.models import CNNLSTM
from lib.objective import class_weights, learning_rate, sample_losses
from lib.prefix import StoredPrefix
from lib.views import zoomed


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


@dataclass
class State:
    """Everything that changes while training. Random numbers are a function of (seed, epoch, step), so the position
    is all that a checkpoint has to hold of them."""

    model: CNNLSTM
    rest: nn.Module  # what is trained, as Fabric wraps it
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    epoch: int = 0  # epochs finished
    step: int = 0  # batches done in the epoch under way
    sums: Tensor = field(
        default_factory=lambda: torch.zeros(3)
    )  # loss, correct, images of the epoch under way
    seconds: float = 0.0  # spent in the epoch under way
    duration: float = 0.0  # spent in all
    history: list[dict] = field(default_factory=list)
    best: dict | None = None  # epoch, val_auc, val_loss, weights, logits (of the evaluated rows)

    @property
    def evaluated_model(self) -> CNNLSTM:
        return self.average.module if self.average else self.model


@dataclass(frozen=True)
class Task:
    """What stays the same while training."""

    train: Train
    seed: int
    store: pixels.PixelStore
    frozen: Frozen
    fabric: Fabric
    dtype: torch.dtype
    stored: StoredPrefix | None = None

    def inputs(
        self, rows: np.ndarray, *, epoch: int | None = None, seed: int = 0, zoom: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """What the trained rest takes (B, ...), and labels (B,); as training sees them when an epoch is given.

        Images that are varied here come in an order of their own, and their labels with them.
        """
        if self.stored and zoom == 1:
            y = torch.as_tensor(labels(self.store, rows), dtype=torch.float32, device=self.fabric.device)
            return self.stored.read(rows, epoch=epoch), y
        varied = {}
        if epoch is not None and (self.train.augment or self.train.stretch):
            generator = torch.Generator().manual_seed(seed)
            varied = {
                "generator": generator,
                "augment": self.train.augment,
                "stretch": self.train.stretch,
            }
        batches = pixels.batches(self.store, rows, len(rows), device=self.fabric.device, **varied)
        images, y, _ = next(batches)
        return self.frozen(zoomed(images, zoom)), y


def train_epoch(state: State, task: Task, *, after_step: Callable[[State, int], None]) -> dict:
    """Train from the state's position to the end of its epoch; mean loss and accuracy of the epoch.

    after_step  called with the state and the number of steps of an epoch, for progress bars and checkpoints
    Raises TrainingError when the loss is no longer a finite number.
    """
    train, fabric = task.train, task.fabric
    rows = task.store.rows("train")
    y = labels(task.store, rows)
    weights = class_weights(y, train.class_weighting).to(fabric.device)
    if train.balanced:
        rows = even_draw(rows, y, derived_seed(task.seed, state.epoch, 1))
    order = shuffled(rows, task.seed, state.epoch)
    steps = -(-len(order) // train.batch_size)
    state.sums = state.sums.to(fabric.device)
    state.rest.train()
    started = time.perf_counter() - state.seconds
    while state.step < steps:
        batch = order[state.step * train.batch_size :][: train.batch_size]
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(train, state.epoch + state.step / steps)
        state.sums += train_step(state, task, batch, weights)
        state.step += 1
        state.seconds = time.perf_counter() - started
        if fabric.device.type == "cpu" or state.step % 50 in (0, steps):  # a look at the loss stops a GPU
            check_finite(state, task)
        after_step(state, steps)
    check_finite(state, task)
    loss, correct, images = fabric.all_reduce(state.sums, reduce_op="sum").tolist()
    return {"train_loss": loss / images, "train_accuracy": correct / images}


def train_step(state: State, task: Task, batch: np.ndarray, weights: Tensor) -> Tensor:
    """One step on the rows `batch` (shared among the processes). Returns this process's loss, correct, images (3,)."""
    fabric = task.fabric
    mine, share = batch[fabric.global_rank :: fabric.world_size], 1.0
    if len(mine) == 0:  # fewer images than processes: a spare one that does not count
        mine, share = batch[:1], 0.0
    seed = derived_seed(task.seed, state.epoch, state.step, fabric.global_rank)
    torch.manual_seed(seed)  # dropout, mixed styles and borders
    x, y = task.inputs(mine, epoch=state.epoch, seed=seed)
    if task.train.mix_style:
        x = mix_style(x, task.train.mix_style)
    if task.train.mix_border:
        x = mix_border(x, task.train.mix_border)
    logits = state.rest(x).float()
    losses = share * weights[y.long()] * sample_losses(logits, y, task.train.label_smoothing)
    # Gradients are averaged over the processes; this makes that the mean over the whole batch.
    fabric.backward(losses.sum() * (fabric.world_size / len(batch)))
    fabric.clip_gradients(
        state.rest, state.optimizer, max_norm=task.train.clip_norm, error_if_nonfinite=False
    )
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    if state.average:
        state.average.update_parameters(state.model)
    correct = share * ((logits.detach() > 0) == (y > 0.5)).sum()
    return torch.stack([losses.detach().sum(), correct, torch.as_tensor(share * len(mine), device=y.device)])


def evaluate(state: State, task: Task, rows: np.ndarray) -> Tensor:
    """Logits of `rows` (n,), on the CPU, from the model as it is now (or its moving average): the mean over the zooms."""
    fabric = task.fabric
    model = FastRest(state.evaluated_model, task.dtype)
    logits = torch.zeros(len(rows), device=fabric.device)
    mine = np.arange(len(rows))[fabric.global_rank :: fabric.world_size]
    size = task.train.eval_batch_size
    for places in (mine[start : start + size] for start in range(0, len(mine), size)):
        views = [model(task.inputs(rows[places], zoom=zoom)[0]) for zoom in task.train.zooms]
        logits[places] = torch.stack(views).mean(0)
    return fabric.all_reduce(logits, reduce_op="sum").cpu()


def scores(logits: Tensor, y: np.ndarray, prefix: str) -> dict:
    """Loss, accuracy at probability one half, and area under the ROC curve."""
    target = torch.as_tensor(y, dtype=torch.float32)
    return {
        f"{prefix}_loss": sample_losses(logits, target).mean().item(),
        f"{prefix}_accuracy": float(((logits > 0).numpy() == (y == 1)).mean()),
        f"{prefix}_auc": float(roc_auc_score(y, logits.numpy())),
    }


def labels(store: pixels.PixelStore, rows: np.ndarray) -> np.ndarray:
    return store.index["label"].to_numpy()[rows].astype(int)


def shuffled(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch's images: the same for any batch size and any number of processes."""
    return np.random.default_rng(derived_seed(seed, epoch)).permutation(rows)


def even_draw(rows: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """All rows of the rarer class and as many of the other one, drawn without replacement; `y` (n,) holds 0 and 1."""
    rng, count = np.random.default_rng(seed), np.bincount(y, minlength=2).min()
    return np.concatenate([rng.permutation(rows[y == label])[:count] for label in (0, 1)])


def derived_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, another for any others; but zeros at the end do not count: (42, 0) has that of (42,)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_finite(state: State, task: Task) -> None:
    if not torch.isfinite(state.sums).all():
        raise TrainingError(
            f"the training loss is no longer a number in epoch {state.epoch + 1}, step {state.step} "
            f"(learning rate {state.optimizer.param_groups[0]['lr']:g}, precision {task.dtype}); the last good checkpoint is "
            "intact. Try a lower train.learning_rate, or train.precision=32-true"
        )
