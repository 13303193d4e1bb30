"""What is minimised, and by which steps? Loss, class weights, optimiser, learning-rate schedule, weight averaging."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lib.config import Train


def sample_losses(logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of each image, (B,), (B,) -> (B,).

    smoothing  moves the targets 0 and 1 towards one half by that share (Szegedy et al. 2016)
    """
    target = y * (1 - smoothing) + 0.5 * smoothing
    return nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def class_weights(labels: np.ndarray, weighted: bool) -> Tensor:
    """Weight of a normal and of a pneumonia image in the loss, (2,): ones, or inverse to the class's frequency.

    Inverse weights average to 1 over the training images, so the learning rate keeps its meaning.
    """
    if not weighted:
        return torch.ones(2)
    counts = np.bincount(labels, minlength=2)
    return torch.tensor(len(labels) / (2 * counts), dtype=torch.float32)


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015) on what is trained, in one fused kernel."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(trained, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True)


def learning_rate(train: Train, progress: float) -> float:
    """The rate after `progress` epochs: a linear warm-up, then constant or a half cosine down to 0."""
    if progress < train.warmup_epochs:
        return train.learning_rate * progress / train.warmup_epochs
    if train.schedule == "constant":
        return train.learning_rate
    done = (progress - train.warmup_epochs) / max(train.epochs - train.warmup_epochs, 1e-9)
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def make_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential moving average of weights and buffers (after Polyak & Juditsky 1992, who take the plain mean); None for decay 0."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
