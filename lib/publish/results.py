"""What is recorded in reports/results, in which order is it shown, and how is a figure of it written?"""

from __future__ import annotations

from pathlib import Path

from lib import files
from lib.trouble import Trouble

# The order in which they are shown; the demo is not published.
PROFILES = ("calibrated", "reframed", "balanced", "stretched", "matched", "tuned", "full", "quick")
ORIGINAL = ("full", "quick")  # the original study's protocol, and its short form for 2 cores


class PublishError(Trouble, RuntimeError):
    """Results that are missing, or figures that do not follow from them."""


def published(results: Path) -> list[Path]:
    return [results / name for name in PROFILES if (results / name / "predictions").is_dir()]


def record(folder: Path) -> dict:
    """What a results folder states: `headline` (one row a model) and `n_boot`, as the comparison or `collect` wrote it."""
    for name in ("04_compare.json", "headline.json"):
        if (folder / name).exists():
            return files.read_json(folder / name)
    raise PublishError(
        f"{folder} holds predictions and no headline; run `python -m lib.publish collect --profile {folder.name}`"
    )


def every(results: Path) -> list[tuple[Path, dict]]:
    """All that is recorded: profile and row of its headline, in the order in which they are shown."""
    return [(folder, row) for folder in published(results) for row in record(folder)["headline"]]


def best(results: Path, among: tuple[str, ...] = PROFILES) -> dict[str, tuple[Path, dict]]:
    """By model: the first of the profiles `among` that has it, and its row of the headline there."""
    found: dict[str, tuple[Path, dict]] = {}
    for folder, row in every(results):
        if folder.name in among:
            found.setdefault(row["model"], (folder, row))
    return found


def interval(row: dict, name: str, form: str, scale: int = 1) -> str:
    """`estimate [low, high]` of a headline row."""
    value, low, high = (row[key] * scale for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
