"""Can this archive be unpacked without trusting it? Images of a zip or a folder -> a folder, names checked first."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm.auto import tqdm

from lib import index, tree
from lib.errors import IndexingError, SourceError

# The public archive holds 1.2 GB in 5,856 images, which hardly shrink in a zip.
LARGEST = 20_000_000_000  # bytes unpacked
MOST_MEMBERS = 200_000
MOST_SHRUNK = 100  # times; a zip that unpacks to more is a bomb


def unpack(source: Path, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """Unpack the images of a zip into `folder`, under the paths they have in it; how many `images` they are, and what is `left_out`.

    Litter and files that are no images stay behind. Raises SourceError for a damaged zip, and before anything is
    written for one whose members leave the folder, are links, are encrypted, unpack to too much or are not the data set.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members, untaken = _checked(source, archive)
            for member, path in tqdm(members, desc="unpack", unit=" images", disable=not progress):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, open(target, "wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
    except SourceError:
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise SourceError(
            f"{source} is no zip file that can be read ({error}); download or copy it again"
        ) from error
    return {"images": len(members), "left_out": untaken}


def copy(source: Path, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """The same of a folder tree, whose images are copied. Raises SourceError."""
    there = list(tree.files_below(source))
    names = images_among(source, there)
    if lost := next((name for name in names if not (source / name).is_file()), None):
        raise SourceError(
            f"{source} was not taken: {lost} is a link to nowhere or a device; mend or remove it there"
        )
    for name in tqdm(names, desc="copy", unit=" images", disable=not progress):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
    return {"images": len(names), "left_out": left_out(there)}


def images_among(source: Path, names: Iterable[str]) -> list[str]:
    """The paths to keep. Raises SourceError unless they are the data set: both classes in train and test, patients in the names."""
    found: list[str] = []
    try:
        found = tree.select(names)
        kept = [name for name in found if _is_read(name)]
        places = {name: tree.place(name) for name in kept}
        index.check_classes((index.SPLITS[split], label) for _, split, label in places.values())
    except IndexingError as error:
        others = "; ".join(_unread(found))
        told = f". Its folders also hold files that are not read ({others}); images are read from {', '.join(sorted(index.SUFFIXES))}"
        raise SourceError(f"{source} is not the data set: {error}{told if others else ''}") from None
    wrong = [
        f"{tree.printable(name)}: {reason}"
        for name, (_, _, label) in places.items()
        if (reason := index.contradiction(name, label))
    ]
    if len(wrong) > index.MOST_QUARANTINED * len(kept):
        raise SourceError(
            f"{source} is not the data set: {len(wrong)} of {len(kept)} file names do not fit, such as {'; '.join(wrong[:3])} "
            "(names are read as person78_bacteria_380.jpeg, person12_virus_46.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-0095-0001.jpeg)"
        )
    return kept


def left_out(names: Iterable[str]) -> str:
    """Which files are not taken, litter apart: by ending what is of no format that is read, and how many images are in no class; or nothing."""
    clean = [name for name in names if not any(map(tree.is_litter, PurePosixPath(name).parts))]
    nowhere = sum(_is_read(name) for name in clean if tree.place(name) is None)
    told = _unread(filter(tree.place, clean))
    if nowhere:
        told.append(f"{nowhere:,} image{'' if nowhere == 1 else 's'} in no class of a split")
    return "; ".join(told)


def _unread(names: Iterable[str]) -> list[str]:
    """Which of the files in the classes' folders are of no format that is read, by ending."""
    endings = Counter(
        tree.printable(PurePosixPath(name).suffix.lower()) or "no ending"
        for name in names
        if not _is_read(name)
    )
    return [f"{count:,} with {ending}" for ending, count in endings.most_common()]


def _is_read(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in index.SUFFIXES


def check_members(source: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raises SourceError, naming the member, for names and kinds that no honest archive of images has."""
    if len(members) > MOST_MEMBERS:
        raise SourceError(
            f"{source} holds {len(members):,} files, more than {MOST_MEMBERS:,}; nothing was unpacked"
        )
    for member in members:
        name = member.filename.replace("\\", "/")
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise SourceError(
                f"{source} was refused: its member {member.filename!r} would be written outside the folder"
            )
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SourceError(
                f"{source} was refused: its member {member.filename!r} is a link or a device, not a file"
            )


def check_size(source: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raises SourceError for members that unpack to more than any set of radiographs would, or that are encrypted."""
    unpacked = sum(member.file_size for member in members)
    if unpacked > LARGEST or unpacked > MOST_SHRUNK * max(source.stat().st_size, 1_000_000):
        raise SourceError(
            f"{source} was refused: {source.stat().st_size:,} bytes would unpack to {unpacked:,}"
        )
    if secret := next((member for member in members if member.flag_bits & 1), None):
        raise SourceError(f"{source} is encrypted ({secret.filename!r}); unpack it and give the folder")


def _checked(source: Path, archive: zipfile.ZipFile) -> tuple[list[tuple[zipfile.ZipInfo, str]], str]:
    """The members to unpack with their paths, and what is left out."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    check_members(source, archive.infolist())
    by_name = {member.filename.replace("\\", "/"): member for member in members}
    kept = images_among(source, by_name)
    check_size(source, [by_name[name] for name in kept])
    if len({name.lower() for name in kept}) < len(kept):
        raise SourceError(
            f"{source} holds two files whose names differ in upper and lower case alone; give the unpacked folder"
        )
    return [(by_name[name], name) for name in kept], left_out(by_name)
