"""How does a training survive being stopped? One file that is replaced whole, and refused when it is not sound."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import torch

from lib.files import replacing


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message names the file and what to do."""


class UnreachableError(CheckpointError):
    """A checkpoint that the system does not hand over now; it may be as good as it was."""


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors and plain values) beside `path` and rename it: a reader sees the old or the new, whole.

    Raises CheckpointError when the disk refuses; the file that was there stays as it is.
    """
    try:
        with replacing(path) as beside, open(beside, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())  # the rename must not reach the disk before the bytes
    except (OSError, RuntimeError) as error:  # torch wraps some of the stream's errors
        kept = "the last good checkpoint is intact" if path.exists() else "nothing was saved so far"
        raise CheckpointError(
            f"the checkpoint {path} could not be written ({_reason(error)}); {kept}. "
            "Free some disk space and run again: training goes on from the last good checkpoint, if there is one"
        ) from error


def load(path: Path) -> dict:
    """The state saved at `path`, read as data only. Raises CheckpointError, naming the file, when it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A file that was cut short makes torch seek where nothing is, which is EINVAL.
        refused = isinstance(error, OSError) and error.errno != errno.EINVAL
        if refused or isinstance(error, MemoryError):
            raise UnreachableError(
                f"the checkpoint {path} cannot be read now ({_reason(error)}); run again"
            ) from error
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({_reason(error)}); delete it to start this run anew"
        ) from error


def _reason(error: BaseException) -> str:
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
