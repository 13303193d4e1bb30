"""How is a file written so that no reader ever sees half of it?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block succeeds, remove it when not.

    The process id is in the temporary name, so two writers never share one. Works for a file or a folder
    (an existing folder is moved aside first and removed last, so that a kill leaves the old or the new one, or both).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    remove(beside)
    try:
        yield beside
        if beside.is_dir() and path.is_dir():
            aside = path.with_name(f".{path.name}.{os.getpid()}.old.part")
            os.replace(path, aside)
            os.replace(beside, path)
            remove(aside)
        else:
            os.replace(beside, path)
    finally:
        remove(beside)


def remove_abandoned(path: Path) -> None:
    """Delete what killed writers of `path` left beside it; only for a caller who knows that no other one is writing."""
    for part in Path(path).parent.glob(f".{Path(path).name}.*.part"):
        remove(part)


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
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def read_json(path: Path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
