"""Which steps does a study have, what does each depend on, and is its last result still true?"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib import files, provenance, tree
from lib.config import ROOT, Config, fingerprint
from lib.errors import IndexingError


@dataclass
class State:
    """What happened to a step last; kept beside its page, as `.NN_name.json`."""

    status: str  # done or failed
    inputs: str  # fingerprint of all that the step depended on
    started: str  # ISO 8601, UTC
    duration_s: float
    command: str
    reads: tuple[str, ...] = ()  # steps whose models it read
    error: dict[str, Any] = field(default_factory=dict)  # cell, name, message


@dataclass(frozen=True, eq=False)
class Step:
    """One notebook of one study."""

    name: str  # such as 04_compare
    config: Config

    @property
    def source(self) -> Path:
        return self.config.root / "notebooks" / f"{self.name}.ipynb"

    @property
    def notebook(self) -> Path:
        return self.config.report_dir / f"{self.name}.ipynb"

    @property
    def partial(self) -> Path:
        """Where the notebook is while it runs, and stays when it fails."""
        return self.config.report_dir / f"{self.name}.partial.ipynb"

    @property
    def lock(self) -> Path:
        """Held while the step runs: two runs at once would write one partial notebook."""
        return self._kept("lock")

    @property
    def page(self) -> Path:
        return self.config.report_dir / f"{self.name}.html"

    @property
    def results(self) -> Path:
        return self.config.results_dir / f"{self.name}.json"

    @property
    def trains(self) -> str:
        """The model that this step trains, or an empty string."""
        return self.name.partition("_train_")[2]

    def is_trained(self) -> bool:
        """Whether the models are there that this step trains, if it trains any: `make clean-models` takes them away."""
        runs = [
            self.config.run_dir(self.trains, seed) / "run.json" for seed in self.config.seeds if self.trains
        ]
        return all(run.exists() for run in runs)

    @functools.cached_property
    def title(self) -> str:
        """The notebook's first heading, without its number."""
        for cell in json.loads(self.source.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown" and text.startswith("# "):
                return text.splitlines()[0].removeprefix("# ").removeprefix(self.name[:2]).strip(" .:-")
        return self.name

    def state(self) -> State | None:
        """What happened last, or None when the step never ran here, or what is kept of it is damaged: it then runs again."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            return State(**files.read_json(self._kept("json")))
        return None

    def keep(self, state: State) -> None:
        files.write_json(self._kept("json"), asdict(state))

    def write_dependencies(self) -> None:
        """Tell make which modules this step uses (a module that disappears makes the step out of date, not an error)."""
        root, used = self.config.root, modules_of(self.source, root=self.config.root)
        modules = [path.relative_to(root).as_posix() for path in [*used, *data_of(used)]]
        target = self.notebook.relative_to(self.config.root).as_posix()
        lines = [f"{target}: {' '.join(modules)}", *(f"{module}:" for module in modules)]
        files.write_text(self._kept("d"), "\n".join(lines) + "\n")

    def inputs(self, reads: tuple[str, ...] = ()) -> str:
        """Fingerprint of the notebook, the code it runs and its data (not its layout), its settings, what it was given and the models it reads.

        Of real images sizes and dates count, of the ImageNet weights the date.
        """
        root, config = self.config.root, self.config
        cells = json.loads(self.source.read_text(encoding="utf-8"))["cells"]
        given = [] if config.synthetic else [config.raw_dir, config.weights_file]
        models = [Step(name, config).trains for name in reads]
        # Those of the study's seeds: 06 may train the same model with others.
        folders = sorted(config.run_dir(model, seed) for model in models for seed in config.seeds)
        runs = [path for folder in folders if (path := folder / "run.json").exists()]
        modules = modules_of(self.source, root=root)
        return fingerprint(
            {
                "cells": [[cell["cell_type"], "".join(cell["source"])] for cell in cells],
                "code": provenance.code_fingerprint(modules),
                "data": [files.sha256(path) for path in data_of(modules)],
                "settings": config.as_dict(),
                "given": [path.stat().st_mtime_ns if path.exists() else None for path in given],
                "images": _stamps(config),
                "runs": [[path.parent.name, files.sha256(path)] for path in runs],
            }
        )

    def _kept(self, ending: str) -> Path:
        return self.config.report_dir / f".{self.name}.{ending}"


def _stamps(config: Config) -> list[tuple[str, int, int]]:
    """Name, size and date of every real image; nothing where there are none, or where the step itself will say what is wrong."""
    if config.synthetic or not config.raw_dir.is_dir():
        return []
    try:
        return tree.file_stamps(config.raw_dir, tree.find_images(config.raw_dir))
    except IndexingError:
        return []


def all_steps(config: Config) -> list[Step]:
    """The notebooks of the study, in order."""
    found = sorted((config.root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return [Step(path.stem, config) for path in found]


def modules_of(notebook: Path, *, root: Path = ROOT) -> list[Path]:
    """The files of `lib` that a notebook imports, directly or through others."""
    code = [
        "".join(cell["source"])
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    found: set[Path] = set()
    waiting = [path for cell in code for path in _imported(_without_magics(cell), "", root)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            package = ".".join(path.relative_to(root).parent.parts)
            waiting += _imported(path.read_text(encoding="utf-8"), package, root)
    return sorted(found)


def data_of(modules: list[Path]) -> list[Path]:
    """The JSON and CSV files beside these modules that one of them names, such as the pairs of `lib/matched.py`."""
    folders = {module.parent for module in modules}
    beside = sorted(
        path for folder in folders for ending in ("json", "csv") for path in folder.glob(f"*.{ending}")
    )
    texts = [module.read_text(encoding="utf-8") for module in modules if beside]
    return [path for path in beside if any(f'"{path.name}"' in text for text in texts)]


def _without_magics(cell: str) -> str:
    return "\n".join(line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!", "?")))


def _imported(source: str, package: str, root: Path) -> Iterator[Path]:
    """Files of `lib` that one piece of source names in its imports; `package` resolves relative ones."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == "lib":
                yield from _files(name, root)


def _files(name: str, root: Path) -> Iterator[Path]:
    """The module's file, and the `__init__.py` of each package on the way to it."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:depth])
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if path.is_file():
                yield path
