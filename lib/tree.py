"""Which files of a folder are images of the set? Its splits and classes by folder, links, litter, and a set that is there twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from lib.errors import IndexingError

CLASSES = {"NORMAL": 0, "PNEUMONIA": 1}
# Folders of the public archive, of Kaggle's copy (whose val/ are 16 images taken from train) and of ImageFolder trees.
SPLITS = {
    "train": "train", "training": "train", "augmented_train": "train", "val": "train", "valid": "train",
    "validation": "train", "test": "test", "testing": "test", "augmented_test": "test",
}  # fmt: skip
LITTER = {"__MACOSX", "Thumbs.db", "desktop.ini", "masks"}  # masks of phantoms lie beside their images


def is_litter(part: str) -> bool:
    """Whether a file or folder of this name is no part of any set of images."""
    return part.startswith(".") or part in LITTER


def place(name: str) -> tuple[str, str, int] | None:
    """(folder of the data set, key of SPLITS, label) of a path in POSIX form; None for litter and whatever is in no class of a split."""
    *folders, last = PurePosixPath(name).parts
    if any(map(is_litter, (*folders, last))):
        return None
    labelled = [at for at, part in enumerate(folders) if part.upper() in CLASSES]
    divided = [at for at in range(labelled[-1]) if folders[at].lower() in SPLITS] if labelled else []
    if not divided:
        return None
    first = last_split = divided[-1]
    while first - 1 in divided:  # training/augmented_train is one split
        first -= 1
    return "/".join(folders[:first]), folders[last_split].lower(), CLASSES[folders[labelled[-1]].upper()]


def select(names: Iterable[str]) -> list[str]:
    """The paths to index, sorted. Of a set that is there twice, one inside the other (as in Kaggle's zip), the outer one.

    Raises IndexingError for two sets side by side that hold the same paths.
    """
    chosen: dict[str, tuple[str, str]] = {}  # path within its set -> folder of the set, path
    for name in sorted(names, key=lambda name: (name.count("/"), name)):
        if found := place(name):
            folder, within = found[0], name.removeprefix(found[0]).lstrip("/")
            outer, _ = chosen.setdefault(within, (folder, name))
            if not PurePosixPath(folder).is_relative_to(outer):
                raise IndexingError(
                    f"there are two sets side by side, {printable(outer)} and {printable(folder)}, each with "
                    f"{printable(within)}; keep one of them"
                )
    return sorted(name for _, name in chosen.values())


def find_images(raw_dir: Path) -> list[str]:
    """Paths of the files to index, relative to `raw_dir` in POSIX form, sorted. Raises IndexingError as `select` does."""
    try:
        return select(files_below(raw_dir))
    except IndexingError as error:
        raise IndexingError(f"{raw_dir} cannot be used: {error}") from None
    except OSError as error:
        raise IndexingError(
            f"{raw_dir} cannot be used: {error.filename} cannot be read ({error.strerror})"
        ) from None


def files_below(folder: Path | str) -> Iterator[str]:
    """Paths of all files in a folder, in POSIX form. Linked folders are gone into as well, unless they are in `folder` anyway."""
    top = os.path.realpath(folder)

    def seen_anyway(path: str) -> bool:
        target = Path(os.path.realpath(path))
        return target.is_relative_to(top) and not any(map(is_litter, target.relative_to(top).parts))

    def below(folder: str, before: str, above: tuple[str, ...]) -> Iterator[str]:
        here = os.path.realpath(folder)
        if here in above:  # a link back to where we came from
            return
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if not os.path.isdir(path):
                yield before + name
            elif not (os.path.islink(path) and seen_anyway(path)):
                yield from below(path, f"{before}{name}/", (*above, here))

    return below(str(folder), "", ())


def file_stamps(raw_dir: Path, names: Iterable[str]) -> list[tuple[str, int, int]]:
    """(path, bytes, time of change in ns) of each file; -1 for both where there is none, as behind a broken link."""
    found = []
    for name in names:
        size, changed = -1, -1
        with contextlib.suppress(OSError):  # `_row` quarantines it with the reason
            stat = os.stat(os.path.join(raw_dir, name))
            size, changed = stat.st_size, stat.st_mtime_ns
        found.append((name, size, changed))
    return found


def printable(name: str) -> str:
    """The name itself, or, where its bytes are not UTF-8, with these as escapes: such a name can be neither shown nor written."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
