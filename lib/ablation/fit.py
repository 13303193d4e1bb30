"""How is one head trained on maps that do not change? A short loop, the epoch chosen on validation, test scored once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib import devices
from lib.ablation.variants import Size, Variant, matched_hidden
from lib.config import Config, Train
from lib.metrics import auc
from lib.models import CNNLSTM
from lib.objective import learning_rate, make_optimizer, sample_losses

Maps = Callable[[np.ndarray], Tensor]  # rows (B,) -> maps (B, C, h, w)
# Of images scored at once. A shuffled head draws its orders for each batch from one seed, so images of different batches
# share them; in one batch every image has its own.
SCORING_BATCH = 1024


@dataclass(frozen=True)
class Fit:
    """A trained head: logits by split in the order of its rows, what each epoch reached, seconds in all."""

    logits: dict[str, np.ndarray]  # val and test
    history: pd.DataFrame  # epoch, train_loss, val_loss, val_auc
    best_epoch: int
    seconds: float


def protocol(config: Config) -> Train:
    """One protocol for every head: Adam with a cosine schedule, the epochs and the rate of `ablation`."""
    return Train(
        epochs=config.ablation.epochs,
        batch_size=config.ablation.batch_size,
        learning_rate=config.ablation.learning_rate,
        weight_decay=config.train.weight_decay,
        clip_norm=config.train.clip_norm,
        precision=devices.resolve_precision(config.train.precision),
        schedule="cosine",
    )


def reader(variant: Variant, size: Size, *, stored_channels: int | None = None) -> CNNLSTM:
    """The variant on maps that are given: (B, C, h, w) -> logits (B,).

    stored_channels  of the map; a `learned` variant brings them to `size.channels` by a trained 1x1 convolution, BatchNorm and ReLU,
                     others read them as they are
    """
    reducer = None
    if variant.channels == "learned":
        reducer = nn.Sequential(
            nn.Conv2d(stored_channels, size.channels, 1), nn.BatchNorm2d(size.channels), nn.ReLU()
        )
    return CNNLSTM(
        nn.Identity(), size.channels, hidden=matched_hidden(variant.head, size), dense=size.dense,
        dropout=size.dropout, head=variant.head, order=variant.order, readout=variant.readout, channel_reducer=reducer,
    )  # fmt: skip


def fit(
    make: Callable[[], nn.Module],
    maps: Maps,
    y: np.ndarray,
    splits: dict[str, np.ndarray],
    *,
    train: Train,
    seed: int,
) -> Fit:
    """Train the module that `make` returns on the rows of `splits["train"]`; the same seed gives the same bits on one machine.

    make    () -> module of maps (B, C, h, w) -> logits (B,); called with the generator seeded
    y       label of every row, 0 or 1
    splits  rows by split: train, val, test. The test rows are scored once, by the epoch of the highest validation AUC
            (the lower validation loss where AUCs are equal)
    """
    started = time.perf_counter()
    with single_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        optimizer = make_optimizer(model, train)
        history, best, kept = [], None, None
        for epoch in range(train.epochs):
            loss = _train_epoch(model, optimizer, maps, y, splits["train"], train, seed, epoch)
            val = score(model, maps, splits["val"])
            reached = {"val_auc": auc(y[splits["val"]], val), "val_loss": _loss(val, y[splits["val"]])}
            history.append({"epoch": epoch + 1, "train_loss": loss} | reached)
            rank = (reached["val_auc"], -reached["val_loss"])
            if best is None or rank > best:
                best, best_epoch, val_logits = rank, epoch + 1, val
                kept = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(kept)
        logits = {"val": val_logits, "test": score(model, maps, splits["test"])}
    return Fit(logits, pd.DataFrame(history), best_epoch, time.perf_counter() - started)


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    maps: Maps,
    y: np.ndarray,
    rows: np.ndarray,
    train: Train,
    seed: int,
    epoch: int,
) -> float:
    model.train()
    dtype = devices.dtype_of(train.precision)
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    steps = -(-len(order) // train.batch_size)
    total = 0.0
    for step in range(steps):
        batch = order[step * train.batch_size :][: train.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train, epoch + step / steps)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = model(maps(batch)).float()
        loss = sample_losses(logits, torch.as_tensor(y[batch], dtype=torch.float32)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total += loss.item() * len(batch)
    return total / len(order)


@torch.inference_mode()
def score(model: nn.Module, maps: Maps, rows: np.ndarray) -> np.ndarray:
    """Logits of `rows` (n,), computed in float32, since logits in bfloat16 would tie."""
    model.eval()
    parts = [rows[start : start + SCORING_BATCH] for start in range(0, len(rows), SCORING_BATCH)]
    return np.concatenate([model(maps(part)).numpy() for part in parts])


def _loss(logits: np.ndarray, y: np.ndarray) -> float:
    return sample_losses(torch.as_tensor(logits), torch.as_tensor(y, dtype=torch.float32)).mean().item()


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Sums come out the same to the bit however many cores the machine has; two processes use two cores better than two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
