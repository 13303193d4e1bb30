"""Where do images come from? Download, zip, folder or PneumoniaMNIST -> data/raw/chest_xray; ImageNet weights -> data/weights."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import filelock

from lib import config as configs
from lib import files, index, tree
from lib.config import Config
from lib.errors import INTERRUPTED, IndexingError, SourceError, UserError, message
from lib.sources import archive, download, medmnist

__all__ = ["PUBLIC", "SourceError", "fetch", "main"]

# Kermany, Zhang & Goldbaum (2018), doi 10.17632/rscbjbr9sj.2, CC BY 4.0; the checksum is one that users of it report.
PUBLIC = download.Remote(
    url="https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
    name="ChestXRay2017.zip",
    bytes=1_235_512_464,
    sha256="13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36",
)
OTHER_WEIGHTS = (
    "Their values are not those of the published ImageNet weights that the recorded results started from."
)


def fetch(
    config: Config, *, source: Path | None = None, weights: Path | None = None, progress: bool = True
) -> None:
    """Fill data/raw/chest_xray and data/weights; what was interrupted is finished.

    source   zip, folder, or PneumoniaMNIST's .npz; its images take the place of those of another source, or of this one
             where some were lost since, but never of a folder with anything in it that was put there by hand. None keeps
             whatever images are there, and downloads the public archive where there are none
    weights  file of Xception's ImageNet weights; None takes timm's hub unless there are weights
    Raises SourceError, with nothing half-written left behind but the part of a download that the next call goes on with.
    """
    config.raw_dir.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(config.raw_dir.with_name(f".{config.raw_dir.name}.fetch.lock"), timeout=0):
            for path in (config.raw_dir, config.weights_file):
                files.remove_abandoned(path)
            if weights:
                _take_weights(config, Path(weights))
            _fetch_images(config, Path(source) if source else None, progress=progress)
            if not config.weights_file.exists():
                _fetch_weights(config)
    except filelock.Timeout:
        raise SourceError("another `make data` is at work; wait for it to end") from None


def _fetch_images(config: Config, source: Path | None, *, progress: bool) -> None:
    there, known = _images_there(config), index.note(config.raw_dir)
    if source is None and there:
        print(f"Images: {there:,} are in {config.raw_dir} already.{_lost(there, known)}")
        return
    if source and not source.exists():
        raise SourceError(
            f"there is nothing at {source}; SOURCE takes a zip, a folder or PneumoniaMNIST's .npz"
        )
    if source and next(source.rglob("phantoms.json"), None):
        raise SourceError(f"{source} holds the demo's synthetic radiographs, which would pass for real ones")
    if source and source.resolve().is_relative_to(config.raw_dir.resolve()):
        raise SourceError(
            f"{source} lies in {config.raw_dir}, which would be replaced; move it elsewhere first"
        )
    if source:
        _take_images(config, source, there=there, known=known, about={}, progress=progress)
        return
    _check_replaceable(config, known)  # before a gigabyte is fetched
    downloads = config.root / "data" / "downloads"
    try:
        path = download.fetch(PUBLIC, downloads, progress=progress)
    finally:
        with contextlib.suppress(OSError):
            downloads.rmdir()  # where not even a part came
    _take_images(config, path, there=0, known=known, about={"published": True}, progress=progress)
    path.unlink()  # what was in it is unpacked
    with contextlib.suppress(OSError):
        downloads.rmdir()  # unless it holds what someone else put there


def _take_images(
    config: Config, source: Path, *, there: int, known: dict[str, Any], about: dict[str, Any], progress: bool
) -> None:
    about = {"name": tree.printable(source.name), "patients": True, **_identity(source), **about}
    if there >= known.get("images", 1) and known.get("identity") == about["identity"]:
        print(f"Images: {there:,} of {about['name']} are in {config.raw_dir} already.")
        return
    _check_replaceable(config, known)
    with files.replacing(config.raw_dir) as beside:
        beside.mkdir()
        if source.is_dir():
            about |= archive.copy(source, beside, progress=progress)
        elif source.suffix.lower() == ".npz":
            about |= medmnist.unpack(source, beside, progress=progress)
        else:
            about |= archive.unpack(source, beside, progress=progress)
        files.write_json(beside / index.NOTE, about)
    replaced = f", in place of {there:,} of {known.get('name', 'another source')}" if there else ""
    print(f"Images: {about['images']:,} of {about['name']} are now in {config.raw_dir}{replaced}.")
    if about.get("left_out"):
        print(f"Not taken: {about['left_out']}.")
    if not about["patients"]:
        print(
            "It carries no patient ids: every image counts as a patient of its own, and intervals come out too narrow."
        )
    if about.get("published") is False:
        print(f"Its checksum is not that of the published {about['name']}: this is an edited copy.")


def _identity(source: Path) -> dict[str, Any]:
    """What tells one source from another: a file's SHA-256, or a folder's names, sizes and times."""
    if source.is_dir():
        listed = tree.file_stamps(source, archive.images_among(source, tree.files_below(source)))
        return {"kind": "folder", "identity": configs.fingerprint(listed)}
    digest = files.sha256(source)
    kind = "npz" if source.suffix.lower() == ".npz" else "zip"
    published = {"published": True} if digest == PUBLIC.sha256 else {}
    return {"kind": kind, "identity": digest, "bytes": source.stat().st_size, **published}


def _images_there(config: Config) -> int:
    """How many images the raw folder holds. Raises SourceError where they are no one set."""
    try:
        return len(tree.find_images(config.raw_dir)) if config.raw_dir.is_dir() else 0
    except IndexingError as error:
        raise SourceError(str(error)) from None


def _lost(there: int, known: dict[str, Any]) -> str:
    """What to say of the images that `make data` had put there and that are there no longer; nothing where there are none."""
    if there >= (had := known.get("images", 0)):
        return ""
    again = f"run `make data SOURCE=<{known.get('name', 'the same zip or folder')}>`"
    if known.get("identity") == PUBLIC.sha256:
        again += ", or delete the folder and run `make data`"
    return f" {had - there:,} of {had:,} are missing; to have them all again, {again}."


def _check_replaceable(config: Config, known: dict[str, Any]) -> None:
    """Raises SourceError for a raw folder with files that were put there by hand: all but litter and, where there is a note,
    the note itself and as many images as it counts."""
    if not config.raw_dir.is_dir():
        return
    paths = [PurePosixPath(name) for name in tree.files_below(config.raw_dir)]
    found = [path for path in paths if not any(map(tree.is_litter, path.parts))]
    own = 0
    if known:
        images = sum(map(_is_image, found))
        own = min(images, known.get("images", images)) + found.count(PurePosixPath(index.NOTE))
    if by_hand := len(found) - own:
        raise SourceError(
            f"{config.raw_dir} holds {by_hand:,} files that `make data` did not put there, and it would replace them; "
            "move the folder away first"
        )


def _is_image(path: PurePosixPath) -> bool:
    """Whether `make data` takes files of such a path along."""
    return path.suffix.lower() in index.SUFFIXES and tree.place(str(path)) is not None


def _take_weights(config: Config, file: Path) -> None:
    from lib.sources import imagenet

    published = imagenet.take(config, file)
    print(f"Weights: those of {file.name} fit Xception and are now at {config.weights_file}.")
    if not published:
        print(OTHER_WEIGHTS)


def _fetch_weights(config: Config) -> None:
    from lib.sources import imagenet

    try:
        published = imagenet.fetch(config)
    except SourceError as error:
        raise SourceError(f"the images are in place, but {error}") from error
    print(f"Weights: fetched from timm's hub to {config.weights_file}.")
    if not published:  # no reason to refuse: a release of the same weights may be rounded otherwise
        print(OTHER_WEIGHTS)


def _named(text: str) -> Path:
    """A path that was given; an empty text, as of a shell's variable that is not set, would be the current folder, and few shells
    know the ~ of SOURCE=~/x.zip."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text).expanduser()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lib.sources",
        description="Fetch the radiographs and the ImageNet weights of Xception, or take them from files.",
        epilog="Without arguments the public archive (1.2 GB) is downloaded; an interrupted download is gone on with.",
    )
    parser.add_argument(
        "--source", type=_named, metavar="FILE", help="zip or folder of images, or PneumoniaMNIST's .npz"
    )
    parser.add_argument(
        "--weights",
        type=_named,
        metavar="FILE",
        help="ImageNet weights (.safetensors or .pth) of timm's legacy_xception",
    )
    parser.add_argument(
        "--root", type=Path, default=configs.ROOT, help="folder of data/ (default: this project)"
    )
    asked = parser.parse_args(argv)
    try:
        fetch(configs.load("full", root=asked.root), source=asked.source, weights=asked.weights)
    except (UserError, OSError) as error:  # also a misspelt setting of the profile
        print(f"make data: {message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make data: interrupted; run it again to go on", file=sys.stderr)
        return INTERRUPTED
    print("Next: `make all` for the whole study, or `make all PROFILE=quick` for a short one.")
    return 0
