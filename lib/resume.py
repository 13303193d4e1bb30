"""Where did a training stop, and how does it go on from there? What a checkpoint keeps of one, when, and how it is put back."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import torch

from lib import checkpoint, files
from lib.config import fingerprint
from lib.loop import State, Task, TrainingError

KEPT = ("epoch", "step", "sums", "seconds", "duration", "history", "best")


class Keeper:
    """Writes checkpoints: at once, or when the last one is older than some minutes."""

    def __init__(self, path: Path, identity: dict, task: Task, minutes: float) -> None:
        self.path, self.identity, self.task, self.minutes = path, identity, task, minutes
        self.last = time.monotonic()
        self.precisions = [_precision(task)]  # in which the training ran, in their order

    def now_and_then(self, state: State) -> None:
        fabric = self.task.fabric
        if fabric.world_size > 1 and state.step % 20:
            return  # processes agree on the moment, and not at every step
        if fabric.broadcast(time.monotonic() - self.last > 60 * self.minutes):
            state.sums = fabric.all_reduce(state.sums, reduce_op="sum") * fabric.is_global_zero
            self.keep(state)

    def keep(self, state: State) -> None:
        """Write a checkpoint. Raises TrainingError for weights that are no numbers: nobody could go on from those."""
        if not self.task.fabric.broadcast(_finite(state)):
            raise self.diverged("a weight is", state)
        if self.task.fabric.is_global_zero:
            kept = {name: getattr(state, name) for name in KEPT}
            kept |= {"identity": self.identity, "precisions": self.precisions}
            kept |= {"model": state.model.state_dict()}
            kept |= {"optimizer": state.optimizer.state_dict()}
            kept |= {"average": state.average.state_dict() if state.average else None}
            checkpoint.save(self.path, kept)
        self.task.fabric.barrier()
        self.last = time.monotonic()

    def restore(self, state: State, *, say: Callable[[str], None] = print) -> bool:
        """Put `state` where the checkpoint left it. False when there is none of these settings, data and code.

        say  is told when there is one of others, which is kept beside under a name of its own, and when the training began
             in another precision than this machine's
        """
        if self.task.fabric.is_global_zero:
            files.remove_abandoned(self.path)
            _make_way(self.path, self.identity, say)
        self.task.fabric.barrier()
        if not self.path.exists():
            return False
        kept = checkpoint.load(self.path)
        before, now = kept.get("precisions", self.precisions), self.precisions[-1]
        if before[-1] != now:
            say(
                f"began in {before[-1]} and goes on in {now}, which this machine takes; its results are of both"
            )
        self.precisions = before if before[-1] == now else [*before, now]
        _put_back(kept, state, self.task)
        return True

    def diverged(self, what: str, state: State) -> TrainingError:
        """The error for `what` being no number; unlike loop.check_finite it knows whether there is a checkpoint."""
        kept = "the last good checkpoint is intact" if self.path.exists() else "nothing was saved so far"
        return TrainingError(
            f"{what} no longer a number in epoch {state.epoch + 1}, step {state.step} "
            f"(learning rate {state.optimizer.param_groups[0]['lr']:g}, precision {self.task.dtype}); {kept}. "
            "Try a lower train.learning_rate, or train.precision=32-true"
        )


def _finite(state: State) -> bool:
    """Whether all that a checkpoint would keep of the weights, and the loss so far, are numbers."""
    kept = [state.sums, *state.model.state_dict().values()]
    kept += state.average.state_dict().values() if state.average else []
    return all(torch.isfinite(value).all().item() for value in kept)


def _precision(task: Task) -> str:
    return str(task.dtype).removeprefix("torch.")


def _put_back(kept: dict, state: State, task: Task) -> None:
    state.model.load_state_dict(kept["model"])
    state.optimizer.load_state_dict(kept["optimizer"])
    if state.average:
        state.average.load_state_dict(kept["average"])
    for name in KEPT:
        setattr(state, name, kept[name])
    if not task.fabric.is_global_zero:
        state.sums = torch.zeros_like(state.sums)


class Repetition:
    """Which seeds has a repetition of finished runs (FRESH=1) trained? One that was stopped goes on with the others.

    settings  a fingerprint: what was repeated with others does not count
    """

    def __init__(self, note: Path, settings: str) -> None:
        self.note, self.settings = note, settings
        kept = files.read_json(note) if note.exists() else {}
        # A list is from before the note named its settings.
        known = isinstance(kept, dict) and kept.get("settings") == settings
        self.done: list[int] = kept["seeds"] if known else []

    def finished(self, seed: int) -> None:
        self.done.append(seed)
        files.write_json(self.note, {"settings": self.settings, "seeds": self.done})

    def over(self) -> None:
        files.remove(self.note)


def forget(path: Path, identity: dict) -> None:
    """Delete the checkpoint of a finished training, and its folder unless one of other settings waits there."""
    files.remove(path)
    files.remove(_aside(path, identity))
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def forget_older(path: Path, finished: Path) -> None:
    """Delete a checkpoint that is no newer than `finished`, the record of a finished run, or that is damaged.

    Raises UnreachableError for one that cannot be read now.
    """
    with contextlib.suppress(FileNotFoundError):
        if finished.exists() and path.stat().st_mtime <= finished.stat().st_mtime:
            files.remove(path)
        elif path.exists():
            try:
                checkpoint.load(path)
            except checkpoint.UnreachableError:
                raise
            except checkpoint.CheckpointError:
                files.remove(path)


def remove_half_prefixes(stores: Path) -> None:
    """Delete what killed computations of frozen prefixes left, up to some gigabytes each; one under way holds its file's lock."""
    for part in stores.glob("*-frozen/*/.*.npy.*.part"):
        path = part.with_name(part.name[1:].partition(".npy")[0] + ".npy")
        with (
            contextlib.suppress(filelock.Timeout),
            filelock.FileLock(path.with_suffix(".lock"), timeout=0),
        ):
            files.remove_abandoned(path)


def _make_way(path: Path, identity: dict, say: Callable[[str], None]) -> None:
    """Let `path` hold the checkpoint of `identity`, if there is one; one of other settings, data or code moves aside."""
    if path.exists():
        found = checkpoint.load(path)["identity"]
        if found == identity:
            return
        changed = [
            name.removesuffix("_fingerprint") for name in identity if found.get(name) != identity[name]
        ]
        os.replace(path, _aside(path, found))
        say(
            f"a training with another {', '.join(changed)} stopped here; its checkpoint is kept as "
            f"{path.parent.name}/{_aside(path, found).name} and gone on from when that is asked for again; delete it if it never is"
        )
    if _aside(path, identity).exists():
        os.replace(_aside(path, identity), path)


def _aside(path: Path, identity: dict) -> Path:
    return path.with_name(f"{path.stem}-{fingerprint(identity)}{path.suffix}")
