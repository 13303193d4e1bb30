"""One demo study through make, shared by the tests of make, of the pages and of JupyterLab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lib.config import ROOT
from tests.publications import ablated, compared, drawn_once, results  # noqa: F401 (fixtures of three modules)

FOREIGN = {
    "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PROFILE", "SET", "FRESH", "CONDA_PREFIX", "PYTHONPATH", "SOURCE", "WEIGHTS",
}  # fmt: skip
LEFT_OUT = (".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".screenshots", "*.egg-info")


@dataclass
class Tree:
    """A copy of the project in which make can be let loose."""

    root: Path
    story: str = ""  # what `make all` said

    @property
    def reports(self) -> Path:
        return self.root / "reports" / "demo"

    @property
    def results(self) -> Path:
        return self.root / "reports" / "results" / "demo"

    def make(self, *words: str, timeout: float = 1700, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["make", *words, f"PYTHON={sys.executable}"],
            cwd=self.root,
            env=clean_environment() | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


def clean_environment() -> dict[str, str]:
    """This process's environment without what another make or an activated conda environment left in it."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def copy_project(target: Path) -> Tree:
    """The files that git tracks or would track; without git, all but what is made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        made = shutil.ignore_patterns(*LEFT_OUT)
        for path in ROOT.iterdir():
            if path.is_dir() and path.name in ("lib", "notebooks", "tests", ".ci"):
                shutil.copytree(path, target / path.name, ignore=made)
            elif path.is_file():
                shutil.copy2(path, target / path.name)
        return Tree(target)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return Tree(target)


@pytest.fixture(scope="session")
def demo_study(tmp_path_factory) -> Tree:
    """The demo, run once from the first notebook to the index page by `make all`.

    Who works on the pages may name a copy of the project in which that has been done: STUDY_TREE=<folder>.
    """
    if os.environ.get("STUDY_TREE"):
        return Tree(Path(os.environ["STUDY_TREE"]).resolve())
    tree = copy_project(tmp_path_factory.mktemp("study"))
    done = tree.make("all", "PROFILE=demo")
    tree.story = done.stdout
    assert done.returncode == 0, f"make all failed\n{done.stdout}\n{done.stderr}"
    return tree


@pytest.fixture(scope="module")
def one_thread():
    """For tests of many small tensors, which threads only slow down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
