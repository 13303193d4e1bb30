"""Killed with SIGKILL in the middle of a download, of unpacking, of building the store: the next call finishes the job."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lib import index, sources, store
from lib.config import ROOT
from tests import tiny
from tests.test_sources_download import remote, server  # noqa: F401
from tests.tiny import small_set, zipped

# Each slows one step down, so that it can be met half way; everything else is the real thing.
DOWNLOAD = """
import sys, time
from lib import sources
from lib.sources import download
sources.PUBLIC = download.Remote({url!r}, "set.zip", {bytes}, {sha256!r})
download.PIECE = 2000
class Slow(download.tqdm):
    def update(self, count):
        time.sleep(0.1)
download.tqdm = Slow
sys.exit(sources.main(["--root", {root!r}]))
"""
UNPACK = """
import sys, time
from lib import sources
from lib.sources import archive
real = archive.shutil.copyfileobj
archive.shutil.copyfileobj = lambda *a: (time.sleep(0.1), real(*a))
sys.exit(sources.main(["--root", {root!r}, "--source", {source!r}]))
"""
STORE = """
import time
from lib import config, images, index, store
real = images.fit
images.fit = lambda *a, **k: (time.sleep(0.2), real(*a, **k))[1]
index.joblib.cpu_count = lambda: 1
store.prepare(config.load("quick", root={root!r}, **{{"data.image_size": 32}}), progress=False)
"""


@pytest.fixture
def cfg(tmp_path):
    return tiny.real(tmp_path / "project", **{"data.image_size": 32})


def kill_when(code: str, half_way) -> None:
    """Run `code` in a process of its own and kill it as soon as `half_way()` holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    with process:
        try:
            deadline = time.monotonic() + 120
            while not half_way():
                assert process.poll() is None, (
                    f"ended before it was half way: {process.stderr.read().decode()}"
                )
                assert time.monotonic() < deadline, "never came half way"
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def parts(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part"))


def test_killed_download_is_gone_on_with(tmp_path, cfg, server, monkeypatch):  # noqa: F811
    server.content = zipped(tmp_path / "set.zip", small_set()).read_bytes()
    wanted = remote(server)
    part = cfg.root / "data" / "downloads" / "set.zip.part"
    code = DOWNLOAD.format(url=wanted.url, bytes=wanted.bytes, sha256=wanted.sha256, root=str(cfg.root))
    kill_when(code, lambda: part.exists() and part.stat().st_size > 4000)
    had = part.stat().st_size
    assert 0 < had < wanted.bytes
    assert not cfg.raw_dir.exists()
    monkeypatch.setattr(sources, "PUBLIC", wanted)
    sources.fetch(cfg, progress=False)
    assert server.asked == [None, f"bytes={had}-"]
    assert len(index.find_images(cfg.raw_dir)) == 16
    assert not (cfg.root / "data" / "downloads").exists()


def test_killed_unpacking_starts_again_and_leaves_no_half(tmp_path, cfg):
    members = small_set()
    source = zipped(tmp_path / "set.zip", members)
    code = UNPACK.format(root=str(cfg.root), source=str(source))
    kill_when(code, lambda: sum(len(list(part.rglob("*.png"))) for part in parts(cfg.raw_dir.parent)) > 3)
    assert not cfg.raw_dir.exists()
    assert len(parts(cfg.raw_dir.parent)) == 1
    sources.fetch(cfg, source=source, progress=False)
    assert {name: (cfg.raw_dir / name).read_bytes() for name in members} == members
    assert parts(cfg.raw_dir.parent) == []


def test_killed_replacement_leaves_the_images_that_were_there(tmp_path, cfg):
    sources.fetch(cfg, source=zipped(tmp_path / "old.zip", small_set()), progress=False)
    source = zipped(tmp_path / "new.zip", small_set(patients=6))
    code = UNPACK.format(root=str(cfg.root), source=str(source))
    kill_when(code, lambda: sum(len(list(part.rglob("*.png"))) for part in parts(cfg.raw_dir.parent)) > 3)
    assert len(index.find_images(cfg.raw_dir)) == 16
    sources.fetch(cfg, source=source, progress=False)
    assert len(index.find_images(cfg.raw_dir)) == 24
    assert parts(cfg.raw_dir.parent) == []


def test_killed_store_is_built_again_and_is_the_same(tmp_path, cfg):
    sources.fetch(cfg, source=zipped(tmp_path / "set.zip", small_set()), progress=False)
    folder = cfg.store_dir
    pixels = f".{folder.name}.*.part/pixels.npy"
    kill_when(STORE.format(root=str(cfg.root)), lambda: any(folder.parent.glob(pixels)))
    assert not folder.exists()
    built = store.prepare(cfg, progress=False)
    assert parts(folder.parent) == []
    assert len(built.index) == 16
    again = tiny.real(tmp_path / "other", **{"data.image_size": 32})
    sources.fetch(again, source=tmp_path / "set.zip", progress=False)
    undisturbed = store.prepare(again, progress=False)
    assert undisturbed.fingerprint == built.fingerprint
    np.testing.assert_array_equal(undisturbed.pixels, built.pixels)
