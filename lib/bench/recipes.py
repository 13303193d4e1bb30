"""Does accuracy pay for speed? Both recipes from the same weights, on the same few images, at the same batch size."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from lib import devices, loop, metrics, models, pixels, stats, train
from lib.bench import notebook
from lib.config import Config
from lib.inference import Frozen

MODEL = "xception_lstm"
METHOD = "patients and pairs of seeds resampled"  # of the interval; a record with another one says so


def compare(config: Config, *, images: int, seeds: range, batch: int = 8) -> dict:
    """One epoch of Xception-LSTM on `images` training images in each recipe; validation AUC on half as many, a seed each."""
    protocol = dataclasses.replace(config.train, batch_size=batch, augment=0.0, epochs=1)
    config = dataclasses.replace(config, train=protocol)
    store = pixels.prepare(config, progress=False)
    # The same validation images for every seed, so that seeds and patients can be resampled together.
    held = np.random.default_rng(0).permutation(store.rows("val"))[: max(images // 2, 20)]
    y, patients = loop.labels(store, held), store.index["patient"].to_numpy()[held]
    tables: dict[str, list[pd.DataFrame]] = {"original": [], "project": []}
    for seed in seeds:
        chosen = np.random.default_rng(seed).permutation(store.rows("train"))[:images]
        torch.manual_seed(seed)
        start = models.build(config, MODEL).state_dict()
        scores = {
            "original": _original(store, start, chosen, held, seed, batch),
            "project": _project(config, store, start, chosen, held, seed),
        }
        for recipe, score in scores.items():
            tables[recipe].append(pd.DataFrame({"patient": patients, "y_true": y, "score": score}))
        told = ", ".join(f"{recipe} {roc_auc_score(y, score):.4f}" for recipe, score in scores.items())
        print(f"seed {seed}: validation AUC {told}", flush=True)
    found = {
        "model": MODEL,
        "images": images,
        "held_out": len(held),
        "batch": batch,
        "epochs": 1,
        "method": METHOD,
        **judged(tables),
    }
    return found | {"sentence": sentence(found)}


def judged(tables: dict[str, list[pd.DataFrame]]) -> dict:
    """Validation AUC of every run, and the recipes' difference with its 95% interval, patients and pairs of runs resampled.

    A seed is the same weights and images for both recipes, so its two runs are drawn together.
    """
    draws = {recipe: stats.resample(own, [metrics.auc] * len(own), seed=0) for recipe, own in tables.items()}
    difference = (draws["project"] - draws["original"]).interval()
    found = {recipe: own.per_seed.tolist() for recipe, own in draws.items()}
    return found | {"difference": difference.estimate, "low": difference.low, "high": difference.high}


def sentence(found: dict) -> str:
    """The difference, and whether its interval allows for none."""
    means = {recipe: np.mean(found[recipe]) for recipe in ("original", "project")}
    same = found["low"] <= 0 <= found["high"]
    return (
        f"Validation AUC after one epoch on {found['images']} images at batch {found['batch']}, mean of {len(found['project'])} seeds "
        f"on {found['held_out']} images: original {means['original']:.4f}, this project {means['project']:.4f}; "
        f"the two {'are not shown to differ' if same else 'differ'} ({found['difference']:+.4f} [{found['low']:+.4f}, "
        f"{found['high']:+.4f}], {METHOD})."
    )


def _project(
    config: Config, store, start: dict, chosen: np.ndarray, held: np.ndarray, seed: int
) -> np.ndarray:
    split = np.full(len(store.index), "", dtype=object)
    split[chosen], split[held] = "train", "val"
    part = dataclasses.replace(store, index=store.index.assign(split=split))
    state, task = train.start(config, MODEL, seed, part, progress=False)
    state.model.load_state_dict(start)
    # What was folded at the start came from other weights, unless a file held them.
    frozen = Frozen(state.model, task.dtype).to(task.fabric.device)
    task = dataclasses.replace(task, frozen=frozen)
    loop.train_epoch(state, task, after_step=lambda *_: None)
    return loop.evaluate(state, task, held).numpy()


def _original(store, start: dict, chosen, held, seed: int, batch: int) -> np.ndarray:
    network = notebook.XceptionLSTM()
    own = {key: value.clone() for key, value in network.state_dict().items()}
    for key, value in start.items():
        own[key.replace("backbone.", "xception.").replace("sequence.rnn.", "lstm.")] = value
    network.load_state_dict(own)
    torch.manual_seed(seed)
    device = devices.fastest()
    run = notebook.Loop(network, notebook.LEARNING_RATES[MODEL], device)
    size = store.pixels.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        tree = notebook.image_folder(store, Path(folder), chosen, "png")  # which loses nothing
        for images in notebook.loader(tree, size, training=True, batch_size=batch):
            run.train_step(images)
    network.eval()
    logits = []
    with torch.no_grad():
        for start_at in range(0, len(held), notebook.TEST_BATCH):
            images, _, _ = next(pixels.batches(store, held[start_at : start_at + notebook.TEST_BATCH], 999, device=device))  # fmt: skip
            logits.append(network(images).cpu())
    return torch.cat(logits).numpy()
