"""How much faster is a batch of maps than the original notebook's way, one image at a time and a loop over channels?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from lib import gradcam, models
from lib.gradcam import question
from lib.models import CNNLSTM


def original_gradcam(model: CNNLSTM, image: Tensor, layer: nn.Module) -> np.ndarray:
    """The original notebook's Grad-CAM of one image (1, 3, H, W): hooks, a whole backward pass, a loop over channels.

    Returns the map at the image's size, (H, W) in [0, 1]; zero where it has no positive part.
    """
    kept = {}

    def keep(_: nn.Module, __: tuple, output: Tensor) -> None:
        # A tensor's hook, since a module's backward hook refuses Xception's in-place ReLU.
        kept["activation"] = output
        output.register_hook(lambda gradient: kept.update(gradient=gradient))

    with layer.register_forward_hook(keep):
        model.zero_grad()
        model(image).sum().backward()
    weights = kept["gradient"].mean((0, 2, 3))
    activation = kept["activation"].detach().clone()
    for channel in range(activation.shape[1]):
        activation[:, channel] *= weights[channel]
    found = activation.mean(1).squeeze(0).relu().numpy()
    found = cv2.resize(found / max(found.max(), 1e-12), tuple(image.shape[:1:-1]))
    return (found - found.min()) / max(np.ptp(found), 1e-12)


def measure(*, batch: int = 32, size: int = 224, repeats: int = 1, seed: int = 0) -> dict:
    """Seconds for `batch` images of both models, untrained: the original's way, ours, their ratio and largest difference.

    `fast_*` is ours with the backbone in bfloat16, compared with the same.

    The images are noise: what is timed does not depend on them, but maps of noise from an untrained model are ill-conditioned,
    so differences are larger here than on trained models. The best of `repeats` counts.
    """
    makers = {"xception_lstm": models.XceptionLSTM, "custom_cnn_lstm": models.CustomCNNLSTM}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images = torch.randn(batch, 3, size, size)
        made = {name: make().eval() for name, make in makers.items()}
    # The originals first: ours changes how the process keeps its memory.
    originals = {name: _timed(partial(_original, model, images), repeats) for name, model in made.items()}
    return {name: _compare(model, images, *originals[name], repeats) for name, model in made.items()}


def _original(model: CNNLSTM, images: Tensor) -> np.ndarray:
    layer = model.get_submodule(question.default_layer(model))
    return np.stack([original_gradcam(model, image[None], layer) for image in images])


def _compare(model: CNNLSTM, images: Tensor, reference: np.ndarray, original: float, repeats: int) -> dict:
    maps, ours = _timed(lambda: _tiled(gradcam.explain(model, images, target=1)), repeats)
    quick, fast = _timed(lambda: _tiled(gradcam.explain(model, images, target=1, fast=True)), repeats)
    return {
        "batch": len(images),
        "size": images.shape[-1],
        "threads": torch.get_num_threads(),
        "original_s": round(original, 3),
        "batched_s": round(ours, 3),
        "times_faster": round(original / ours, 2),
        "largest_difference": float(np.abs(np.nan_to_num(maps) - reference).max()),
        "fast_s": round(fast, 3),
        "fast_times_faster": round(original / fast, 2),
        "fast_mean_difference": float(np.abs(np.nan_to_num(quick) - reference).mean()),
    }


def _tiled(maps: gradcam.Maps) -> np.ndarray:
    """Drawn as the original draws them, as if cells tiled the image evenly; else the same maps could not be compared."""
    return dataclasses.replace(maps, grid=None).scaled()


def _timed(run: Callable[[], np.ndarray], repeats: int) -> tuple[np.ndarray, float]:
    """The result and the fewest seconds of `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
    return result, min(seconds)
