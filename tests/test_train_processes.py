"""Two processes that share a batch train the model that one process trains."""

import os
import socket

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lib import config, loop, pixels, train
from tests import tiny

MODEL = "custom_cnn_lstm"
PROTOCOL = {
    "epochs": 2,
    "batch_size": 7,
    "precision": "32-true",
    "checkpoint_minutes": 0.0,
}  # 7: shares differ in size


def small(root, **train) -> config.Config:
    return tiny.custom(root, train=PROTOCOL | train, **{"custom_cnn_lstm.dropout_rate": 0.0})


def work(root, rank, world, port, changed=None, seeds=(0, 1), dies_at=None):
    """Train in one of `world` processes. changed: of the protocol; dies_at: the step at which it is gone, as in a power cut"""
    torch.set_num_threads(1)
    if world > 1:  # what torchrun sets
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
            "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
            "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
    log = root / f"log-{rank}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as stream:
        os.dup2(stream.fileno(), 1)
        if dies_at:
            loop.train_step = _dying(loop.train_step, dies_at)
        for seed in seeds:  # a second run in the same process group
            train.fit(small(root, **(changed or {})), MODEL, seed)


def _dying(step, at):
    taken = []

    def dying(*about):
        taken.append(1)
        if len(taken) == at:
            os._exit(3)
        return step(*about)

    return dying


def together(root, world, *about) -> list[int]:
    """How each of `world` processes ends that train in `root`, where the images are before they look for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pixels.prepare(tiny.custom(root), progress=False)
    processes = [tiny.started(work, root, rank, world, port, *about) for rank in range(world)]
    for process in processes:
        process.join(240)
    return [process.exitcode for process in processes]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    found = {world: tmp_path_factory.mktemp(f"world{world}") for world in (1, 2)}
    for world, root in found.items():
        assert together(root, world) == [0] * world
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_history_is_that_of_one_process(roots, seed):
    alone, together = (
        pd.read_csv(root / "models" / "demo" / f"{MODEL}-seed{seed}" / "history.csv").drop(columns="seconds")
        for root in roots.values()
    )
    pd.testing.assert_frame_equal(alone, together, rtol=1e-4, atol=1e-5)
    weights = [
        load_file(root / "models" / "demo" / f"{MODEL}-seed{seed}" / "weights.safetensors")
        for root in roots.values()
    ]
    for name in weights[0]:
        np.testing.assert_allclose(weights[0][name], weights[1][name], atol=2e-3)


def test_there_is_one_log_and_one_run(roots):
    logs = [(roots[2] / f"log-{rank}.txt").read_text() for rank in (0, 1)]
    assert logs[0].count("epoch 2/2") == 2
    assert "epoch" not in logs[1]
    left = {path.name for path in (roots[2] / "models" / "demo").iterdir() if not path.name.endswith(".lock")}
    assert left == {f"{MODEL}-seed0", f"{MODEL}-seed1"}
    info = (roots[2] / "models" / "demo" / f"{MODEL}-seed0" / "run.json").read_text()
    assert '"processes": 2' in info


def test_two_processes_that_were_cut_off_go_on_to_the_same_history(tmp_path):
    """Past the first moment at which they agree to write a checkpoint, after 20 steps of an epoch, whose sums one of them keeps for both."""
    about = {"epochs": 1, "batch_size": 1}, (0,)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert together(whole, 2, *about) == [0, 0]
    assert together(cut, 2, *about, 24) == [3, 3]
    assert together(cut, 2, *about) == [0, 0]
    assert "goes on from epoch 1, step 21" in (cut / "log-0.txt").read_text()
    histories = [
        pd.read_csv(root / "models" / "demo" / f"{MODEL}-seed0" / "history.csv").drop(columns="seconds")
        for root in (whole, cut)
    ]
    pd.testing.assert_frame_equal(*histories, rtol=1e-5)
