"""What is recorded in reports/results, in which order is it shown, and how is a figure of it written?"""

from __future__ import annotations

import json
from pathlib import Path

from lib import config, files
from lib.errors import UserError

# The order in which they are shown; the demo is not published.
PROFILES = (
    "harmonised",
    "overlap",
    "refit",
    "centre",
    "calibrated",
    "grid",
    "custom",
    "custom_cpu",
    "custom_again",
    "reframed",
    "balanced",
    "stretched",
    "matched",
    "tuned",
    "full",
    "quick",
)
# The settings that validation on matched pairs chose, trained with the pairs back: the last of which they refused no part.
BY_PAIRS = ("refit",)
# Read on what most published figures of several seeds are read on; shown once all its seeds are there.
SQUARES = ("centre",)
# Runs that were settled as the confirmation of what another profile had shown by itself. The difference over all runs of that recipe is
# then looked at for the third time, and counts as shown only if its p is below this (Pocock 1977).
CONFIRMS = {"custom_again": "custom_cpu"}
THIRD_LOOK = 0.022
ORIGINAL = ("full", "quick")  # the original notebook's protocol, and its short form for 2 cores


class PublishError(UserError, RuntimeError):
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


def other_settings(run: dict, cfg: config.Config) -> list[str]:
    """The settings, such as `train.epochs`, in which a recorded run.json and a config differ; one that came later was at its default."""
    found = []
    for part in ("data", "train", run["model"]):
        now = vars(getattr(cfg, part))
        then = vars(type(getattr(cfg, part))()) | run["config"][part]
        found += [
            f"{part}.{name}"
            for name in then
            if _plain(then[name]) != _plain(now.get(name)) and name not in config.NOT_SHAPING
        ]
    return found


def check_settings(folder: Path) -> None:
    """Raises PublishError for a recorded run that was trained with other settings than its profile's, as SET= makes them."""
    for path in sorted((folder / "predictions").glob("*.run.json")):
        run = files.read_json(path)
        differ = other_settings(run, config.load(folder.name)) if "config" in run else []
        if differ:
            raise PublishError(
                f"{folder.name}: {path.name} was trained with another {', '.join(differ)} than profile {folder.name} has; "
                "train it with the profile's own settings, and collect it again"
            )


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True)


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
    """`estimate [low, high]` of a headline row; nan for what is not defined, which JSON holds as null."""
    found = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    value, low, high = (float("nan") if one is None else one * scale for one in found)
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
