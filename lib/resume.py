"""Where did a training stop, and how does it go on from there? What a checkpoint keeps of one, when, and how it is put back."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from lib import checkpoint, files
from lib.loop import State, Task

KEPT = ("epoch", "step", "sums", "seconds", "duration", "history", "best")


class Keeper:
    """Writes checkpoints: at once, or when the last one is older than some minutes."""

    def __init__(self, path: Path, identity: dict, task: Task, minutes: float) -> None:
        self.path, self.identity, self.task, self.minutes = path, identity, task, minutes
        self.last = time.monotonic()

    def now_and_then(self, state: State) -> None:
        fabric = self.task.fabric
        if fabric.world_size > 1 and state.step % 20:
            return  # processes agree on the moment, and not at every step
        if fabric.broadcast(time.monotonic() - self.last > 60 * self.minutes):
            state.sums = fabric.all_reduce(state.sums, reduce_op="sum") * fabric.is_global_zero
            self.keep(state)

    def keep(self, state: State) -> None:
        if self.task.fabric.is_global_zero:
            kept = {name: getattr(state, name) for name in KEPT}
            kept |= {"identity": self.identity, "model": state.model.state_dict()}
            kept |= {"optimizer": state.optimizer.state_dict()}
            kept |= {"average": state.average.state_dict() if state.average else None}
            checkpoint.save(self.path, kept)
        self.task.fabric.barrier()
        self.last = time.monotonic()


def restore(state: State, task: Task, path: Path, identity: dict) -> bool:
    """Put `state` where the checkpoint left it. False when there is none, or one of other settings, data or code."""
    files.remove_abandoned(path)
    if not path.exists():
        return False
    kept = checkpoint.load(path)
    if kept["identity"] != identity:
        return False
    state.model.load_state_dict(kept["model"])
    state.optimizer.load_state_dict(kept["optimizer"])
    if state.average:
        state.average.load_state_dict(kept["average"])
    for name in KEPT:
        setattr(state, name, kept[name])
    if not task.fabric.is_global_zero:
        state.sums = torch.zeros_like(state.sums)
    return True
