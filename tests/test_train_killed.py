"""A training process that is killed again and again ends with the bits of one that nobody disturbed."""

import os
import random
import signal
import time

import pandas as pd
import torch
from safetensors.torch import load_file

from lib import train
from tests import tiny

MODEL = "custom_cnn_lstm"
KILLS = 12
# Everything that has a state of its own: augmentation, dropout, schedule, moving average, early stopping.
PROTOCOL = {
    "epochs": 3, "batch_size": 4, "augment": 0.3, "schedule": "cosine", "warmup_epochs": 0.5, "ema": 0.9,
    "early_stopping": 9, "checkpoint_minutes": 0.0,
}  # fmt: skip


def work(root):
    torch.set_num_threads(1)
    train.fit(tiny.custom(root, train=PROTOCOL), MODEL, 0, progress=False)


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = tiny.started(work, whole)
    process.join()
    assert process.exitcode == 0
    config = tiny.custom(cut, train=PROTOCOL)
    saved = train.training_folder(config, MODEL, 0) / "checkpoint.pt"
    rng, kills, positions = random.Random(0), 0, set()
    while kills < KILLS:
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        process = tiny.started(work, cut)
        while process.is_alive() and not (saved.exists() and saved.stat().st_mtime_ns > before):
            time.sleep(0.002)  # until it has taken at least one step, so that it gets anywhere
        time.sleep(rng.uniform(0, 0.06))
        if not process.is_alive():
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode != -signal.SIGKILL:
            break  # it was faster
        kills += 1
        if saved.exists():
            kept = torch.load(saved, weights_only=True)  # whole, whenever the blow came
            positions.add((kept["epoch"], kept["step"]))
    process = tiny.started(work, cut)
    process.join()
    assert process.exitcode == 0
    assert kills >= 10
    assert len(positions) >= 8
    runs = [root / "models" / "demo" / f"{MODEL}-seed0" for root in (whole, cut)]
    histories = [pd.read_csv(run / "history.csv").drop(columns="seconds") for run in runs]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    first, second = (load_file(run / "weights.safetensors") for run in runs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (runs[0] / "predictions.csv").read_bytes() == (runs[1] / "predictions.csv").read_bytes()
    left = {path.name for path in runs[1].parent.iterdir()}
    assert left <= {runs[1].name, f".{runs[1].name}.lock"}
