"""How is a file written so that no reader ever sees half of it?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block succeeds, remove it when not.

    The process id is in the temporary name, so two processes of one machine never share one; writers on several need a lock. Works for a file or a folder. An existing
    folder is moved aside first and removed last: an error or Ctrl-C in between moves it back, and what a kill there leaves
    aside, `remove_abandoned` moves back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    remove(beside)
    try:
        yield beside
        if beside.is_dir() and path.is_dir():
            _swap(beside, path)
        else:
            os.replace(beside, path)
    finally:
        remove(beside)


def _swap(beside: Path, path: Path) -> None:
    """Put the folder `beside` at `path`; the one that was there comes back when that fails."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.old.part")
    remove(aside)  # of a killed process with the same id
    try:
        os.replace(path, aside)
        os.replace(beside, path)
    finally:
        if aside.is_dir() and not os.path.lexists(path):
            os.replace(aside, path)
        remove(aside)


def remove_abandoned(path: Path) -> None:
    """Delete what killed writers of `path` left beside it; only for a caller who knows that no other one is writing.

    An old folder that was moved aside and never replaced is moved back, unless the process that did so still lives.
    """
    path = Path(path)
    left = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.old)?\.part")
    for part in sorted(path.parent.glob(".*.part")):
        if not (found := left.fullmatch(part.name)):
            continue
        if not found[2] or os.path.lexists(path):
            remove(part)
        elif not _lives(int(found[1])):
            with contextlib.suppress(FileNotFoundError):  # another process of the same training was faster
                os.replace(part, path)


def _lives(pid: int) -> bool:
    """Whether another process has this id; a writer of this one would not be asking."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def flush(path: Path) -> None:
    """Wait until a file, or every file of a folder, is on the disk: a rename must not be there before the bytes."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())


def remove(path: Path) -> None:
    """Delete a file or a folder tree; nothing happens when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    write_text(path, as_json(value) + "\n")


def as_json(value: object) -> str:
    """JSON as others read it, too: a number that is missing or infinite, for which JSON has no word, is null."""
    return json.dumps(_finite(value), indent=1, sort_keys=True, default=str, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
