"""Where do images come from? Zip or folder -> data/raw/chest_xray; ImageNet weights -> data/weights."""

from __future__ import annotations

import argparse
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from lib import config as configs
from lib import files
from lib.config import Config
from lib.trouble import SourceError

__all__ = ["SourceError", "fetch"]


def fetch(
    config: Config, *, source: Path | None = None, weights: Path | None = None, progress: bool = True
) -> None:
    """Fill data/raw/chest_xray and data/weights from the given files. Raises SourceError."""
    if source:
        take_images(config, Path(source), progress=progress)
    if weights:
        take_weights(config, Path(weights))


def take_images(config: Config, source: Path, *, progress: bool = True) -> None:
    with files.replacing(config.raw_dir) as beside, zipfile.ZipFile(source) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        for member in tqdm(members, desc="extract", unit="file", disable=not progress):
            path = beside / PurePosixPath(member.filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, open(path, "wb") as out:
                shutil.copyfileobj(packed, out)


def take_weights(config: Config, weights: Path) -> None:
    from lib import models

    models.load_weights(models.XceptionBackbone(0).body, weights)
    with files.replacing(config.weights_file) as beside:
        shutil.copyfile(weights, beside)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.sources")
    parser.add_argument("--source")
    parser.add_argument("--weights")
    asked = parser.parse_args(argv)
    fetch(configs.load("full"), source=asked.source, weights=asked.weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
