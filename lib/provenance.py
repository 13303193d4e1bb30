"""What made this result? Fingerprints of code and data, versions, device, commit."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from lib.config import ROOT

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "numpy",
    "pandas",
    "scikit-learn",
    "opencv-python",
)


def code_fingerprint(files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits of what Python files do: comments, docstrings, layout and Python's version do not count."""
    digest = hashlib.sha256()
    for path in sorted(files):
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                and ast.get_docstring(node) is not None
            ):
                node.body = node.body[1:] or [ast.Pass()]
        digest.update(f"{Path(path).name}\n{_dumped(tree)}\n".encode())
    return digest.hexdigest()[:16]


def _dumped(tree: ast.AST) -> str:
    """The tree as Python 3.11 writes it: 3.12 adds type parameters, 3.13 leaves empty lists out."""
    empty = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return ast.dump(tree, **empty).replace(", type_params=[]", "")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    """Also of opencv-python where its build without windows is installed, which imports the same."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{package}-headless")


def commit(root: Path = ROOT) -> str:
    """The commit checked out, with `+changes` when the tree differs from it; `none` outside git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"


def device() -> str:
    """The processor or GPU in words."""
    import joblib  # here, so that whoever only fingerprints code need not wait for it and for torch
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()}, {joblib.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
