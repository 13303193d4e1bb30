"""With which settings was the last complete study made? What reports/<profile>/.settings holds, by which make looks at steps again.

It is the settings of the last complete study, as make writes them at its end, or a mark that is nobody's settings.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from lib import files
from lib.config import Config
from lib.study.steps import State, Step

UNDER_WAY = "of a study under way"
REPEATED = "of a repetition under way"


def begin(config: Config, settings: str, *, fresh: bool) -> bool:
    """Mark a study that begins; until make has written the new settings at the end, no step counts as fresh.

    True when finished runs are to be repeated anew, and not when an interrupted repetition goes on: its mark's date says since when.
    """
    before = _read(config)
    if (fresh and before == repetition(settings)) or (not fresh and before == settings.strip()):
        return False
    files.write_text(_path(config), f"{repetition(settings) if fresh else UNDER_WAY}\n")
    return fresh


def run_alone(config: Config, settings: str) -> None:
    """Mark the study as not complete when one of its steps is run with settings that the others do not have."""
    before = _read(config)
    if before != settings.strip() and not before.startswith((UNDER_WAY, REPEATED)):
        files.write_text(_path(config), f"{UNDER_WAY}\n")


def ran_in_repetition(step: Step, last: State, settings: str) -> bool:
    """Whether a step ran within the repetition that is under way, which was interrupted after it."""
    if _read(step.config) != repetition(settings):
        return False
    return dt.datetime.fromisoformat(last.started).timestamp() >= int(_path(step.config).stat().st_mtime)


def _read(config: Config) -> str:
    """Empty where there is no study yet, as if one had been made without settings."""
    return _path(config).read_text(encoding="utf-8").strip() if _path(config).exists() else ""


def repetition(settings: str) -> str:
    return f"{REPEATED} {settings}".strip()


def _path(config: Config) -> Path:
    return config.report_dir / ".settings"
