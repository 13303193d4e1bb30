"""What had an interrupted bench measured? Its finished measurements, taken up by the next one if that is the same and soon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from lib import files

HOUR = 3600.0  # turns further apart than this met another machine, by its load or its heat, and make no ratio


class Unfinished:
    """Measurements by name, each written down as soon as it is there."""

    def __init__(self, path: Path, asked: dict) -> None:
        """
        path   the file that holds them; a damaged one, one of another machine, code or settings, and one older than an hour are passed over
        asked  what tells one bench from another, as JSON would hold it
        """
        self.path, self.asked = path, json.loads(json.dumps(asked))
        self._found: dict[str, dict] = {}
        if path.exists() and time.time() - path.stat().st_mtime < HOUR:
            self._found = self._of_the_same(path)

    def _of_the_same(self, path: Path) -> dict[str, dict]:
        try:
            held = files.read_json(path)
            return held["found"] if held["asked"] == self.asked else {}
        except (ValueError, KeyError, TypeError):
            return {}

    @property
    def begun(self) -> bool:
        """Whether there is something to go on with."""
        return bool(self._found)

    def once(self, name: str, measure: Callable[[], dict]) -> dict:
        """The measurement of that name, made unless it is there."""
        if name not in self._found:
            self._found[name] = measure()
            files.write_json(self.path, {"asked": self.asked, "found": self._found})
        return self._found[name]

    def done(self) -> None:
        """All of it is recorded elsewhere."""
        self.path.unlink(missing_ok=True)
