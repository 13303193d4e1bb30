"""Does accuracy pay for speed? Both recipes from the same weights, on the same few images, at the same batch size."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from lib import bench_original, loop, models, pixels, train
from lib.config import Config

MODEL = "xception_lstm"


def compare(config: Config, *, images: int, seeds: range, batch: int = 8) -> dict:
    """One epoch of Xception-LSTM on `images` training images in each recipe; validation AUC on half as many, a seed each."""
    protocol = dataclasses.replace(config.train, batch_size=batch, augment=0.0, epochs=1)
    config = dataclasses.replace(config, train=protocol)
    store = pixels.prepare(config, progress=False)
    runs = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        chosen, held = (rng.permutation(store.rows(split)) for split in ("train", "val"))
        chosen, held = chosen[:images], held[: max(images // 2, 20)]
        y = loop.labels(store, held)
        torch.manual_seed(seed)
        start = models.build(config, MODEL).state_dict()
        own = _project(config, store, start, chosen, held, seed)
        old = _original(store, start, chosen, held, seed, batch)
        runs.append(
            {"seed": seed, "original": float(roc_auc_score(y, old)), "project": float(roc_auc_score(y, own))}
        )
        print(f"seed {seed}: validation AUC original {runs[-1]['original']:.4f}, project {runs[-1]['project']:.4f}", flush=True)  # fmt: skip
    found = {
        "model": MODEL,
        "images": images,
        "held_out": len(held),
        "batch": batch,
        "epochs": 1,
        "runs": runs,
    }
    return found | {"sentence": sentence(found)}


def sentence(found: dict) -> str:
    """The difference beside what a change of seed alone does."""
    both = {recipe: np.array([run[recipe] for run in found["runs"]]) for recipe in ("original", "project")}
    gap = (both["project"] - both["original"]).mean()
    spread = max(np.ptp(both["original"]), np.ptp(both["project"]))
    verdict = "no more than" if abs(gap) <= spread else "more than"
    return (
        f"Validation AUC after one epoch on {found['images']} images at batch {found['batch']}, mean of {len(found['runs'])} seeds: "
        f"original {both['original'].mean():.4f}, this project {both['project'].mean():.4f}; they differ by {abs(gap):.4f}, "
        f"{verdict} seeds of one recipe do ({spread:.4f})."
    )


def _project(
    config: Config, store, start: dict, chosen: np.ndarray, held: np.ndarray, seed: int
) -> np.ndarray:
    split = np.full(len(store.index), "", dtype=object)
    split[chosen], split[held] = "train", "val"
    part = dataclasses.replace(store, index=store.index.assign(split=split))
    state, task = train.start(config, MODEL, seed, part, progress=False)
    state.model.load_state_dict(start)
    loop.train_epoch(state, task, after_step=lambda *_: None)
    return loop.evaluate(state, task, held).numpy()


def _original(store, start: dict, chosen, held, seed: int, batch: int) -> np.ndarray:
    network = bench_original.XceptionLSTM()
    own = {key: value.clone() for key, value in network.state_dict().items()}
    for key, value in start.items():
        own[key.replace("backbone.body.", _prefix(own)).replace("sequence.rnn.", "lstm.")] = value
    network.load_state_dict(own)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = bench_original.Loop(network, bench_original.LEARNING_RATES[MODEL], device)
    size = store.pixels.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        _write(store, Path(folder) / "train", chosen)
        for images in bench_original.loader(Path(folder) / "train", size, training=True, batch_size=batch):
            run.train_step(images)
    network.eval()
    logits = []
    with torch.no_grad():
        for start_at in range(0, len(held), bench_original.TEST_BATCH):
            images, _, _ = next(pixels.batches(store, held[start_at : start_at + bench_original.TEST_BATCH], 999, device=device))  # fmt: skip
            logits.append(network(images).cpu())
    return torch.cat(logits).numpy()


def _prefix(keys: dict) -> str:
    return "xception.body." if any(key.startswith("xception.body.") for key in keys) else "xception."


def _write(store, folder: Path, rows: np.ndarray) -> None:
    for row in rows:
        path = folder / ("NORMAL", "PNEUMONIA")[store.index["label"].iloc[row]] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), store.pixels[row])
