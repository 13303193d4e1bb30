"""How fast is one recipe, and how fast could this machine be? One measurement a process, so that no recipe warms the other."""

from __future__ import annotations

import dataclasses
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib import devices, loop, models, pixels, train
from lib.bench import notebook
from lib.config import Config
from lib.inference import FastRest, Rest
from lib.prefix import StoredPrefix

FEWEST = 5  # steps in a measurement, besides the one that warms up


def original(config: Config, model: str, tree: Path, seconds: float) -> dict:
    """Training and inference of the original recipe on the images under `tree`."""
    device = devices.fastest()
    size = config.data.image_size
    network = notebook.MODELS[model]()
    run = notebook.Loop(network, notebook.LEARNING_RATES[model], device)
    found = {"precision": "float32", "batch": notebook.TRAIN_BATCH}
    for name, training, step in (("train", True, run.train_step), ("infer", False, run.test_step)):
        batches = run.batches(notebook.loader(tree, size, training=training))
        run.waited, waits = 0.0, []

        def once(batches=batches, step=step, waits=waits) -> int:
            before = run.waited
            images = step(next(batches))
            waits.append((run.waited - before) / images)
            return images

        found[name] = measure(once, seconds, device)
        outside = statistics.median(waits[1:])
        found[f"{name}_outside"] = outside * found[name]
    return found | {"peak_memory_gb": peak_memory(device)}


def project(config: Config, model: str, seconds: float) -> dict:
    """Training and inference of this project's loop, on its own store; for a frozen prefix also with stored outputs."""
    store = pixels.prepare(config, progress=False)
    state, task = train.start(config, model, 0, store, progress=False)
    fabric, batch = task.fabric, task.train.batch_size
    rows = np.random.default_rng(0).permutation(np.arange(len(store.index)))
    batches, places = _cycle(rows, batch), _cycle(rows, task.train.eval_batch_size)
    ones = torch.ones(2, device=fabric.device)

    def step(task=task) -> int:
        chosen = next(batches)
        loop.train_step(state, task, chosen, ones)
        return len(chosen)

    state.rest.train()
    found = {"precision": str(task.dtype).removeprefix("torch."), "batch": batch}
    found["train"] = measure(step, seconds, fabric.device)
    fetch = measure(lambda: len(_fetch(task, next(batches))), seconds / 10, fabric.device)
    found["train_outside"] = found["train"] / fetch
    fast = FastRest(state.model, task.dtype)

    def infer() -> int:
        chosen = next(places)
        fast(task.inputs(chosen)[0]).cpu()
        return len(chosen)

    found["infer"] = measure(infer, seconds, fabric.device)
    found["infer_outside"] = found["infer"] / fetch
    found["peak_memory_gb"] = peak_memory(fabric.device)
    if task.frozen.stages is not None:
        found["train_stored"] = _stored(state, task, seconds)
    return found


def _stored(state: loop.State, task: loop.Task, seconds: float) -> float:
    """Training that reads the outputs of the frozen prefix from disk, on a few batches of them."""
    size, device = task.train.batch_size, task.fabric.device
    split = np.full(len(task.store.index), "", dtype=object)
    split[: 4 * size], split[-2:] = "train", ("val", "test")
    few = dataclasses.replace(task.store, index=task.store.index.assign(split=split))
    with TemporaryDirectory() as folder:
        stored = StoredPrefix(
            Path(folder), few, task.frozen, augment=0.0, copies=1, device=device, progress=False
        )
        reading, batches = (
            dataclasses.replace(task, store=few, stored=stored),
            _cycle(few.rows("train"), size),
        )

        def step() -> int:
            chosen = next(batches)
            loop.train_step(state, reading, chosen, torch.ones(2, device=device))
            return len(chosen)

        return measure(step, seconds, device)


def measure(step: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Images per second: the median over steps of `step` (which returns how many images it did), one warming up."""
    step()
    rates, started = [], time.perf_counter()
    while len(rates) < FEWEST or time.perf_counter() - started < seconds:
        _wait(device)
        begun = time.perf_counter()
        images = step()
        _wait(device)
        rates.append(images / (time.perf_counter() - begun))
    return statistics.median(rates)


def limits(seconds: float = 1.0) -> dict[str, float]:
    """What this machine's matrix products reach, GFLOP/s by precision: the roof under which every model works."""
    device = devices.fastest()
    n = 8192 if device.type == "cuda" else 2048
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(n, n, device=device).to(dtype)
        found[str(dtype).removeprefix("torch.")] = (
            2 * n**3 / 1e9 * measure(lambda a=a: len((a @ a)[:1]), seconds, device)
        )
    return found


def operations(config: Config, model: str) -> dict[str, float]:
    """GFLOP an image: a forward pass, and a training step.

    A backward pass counts as two forward passes of what is trained (gradients of its inputs and of its weights): torch's
    own counter takes a depthwise convolution's backward pass for a full one.
    """
    settings = dataclasses.asdict(getattr(config, model))
    settings.pop("train")
    settings.pop("pretrained", None)
    make = models.XceptionLSTM if model == "xception_lstm" else models.CustomCNNLSTM
    network = make(**settings).to("meta").eval()  # on meta the LSTM shows as its matrix products
    image = torch.empty(1, 3, config.data.image_size, config.data.image_size, device="meta")
    frozen, rest = getattr(network.backbone, "frozen_part", torch.nn.Identity()), Rest(network)
    with torch.no_grad(), FlopCounterMode(display=False) as before:
        x = frozen(image)
    with torch.no_grad(), FlopCounterMode(display=False) as after:
        rest(x)
    forward = before.get_total_flops() + after.get_total_flops()
    return {"infer": forward / 1e9, "train": (forward + 2 * after.get_total_flops()) / 1e9}


def peak_memory(device: torch.device) -> float:
    """GB: of the GPU's allocator, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9


def _fetch(task: loop.Task, rows: np.ndarray) -> torch.Tensor:
    return next(pixels.batches(task.store, rows, len(rows), device=task.fabric.device))[0]


def _cycle(rows: np.ndarray, size: int):
    """Whole batches of `rows`, without end."""
    rows = np.resize(rows, max(size, len(rows) // size * size))
    while True:
        yield from rows.reshape(-1, size)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
