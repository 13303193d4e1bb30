"""Durations in words."""

from __future__ import annotations

import pytest

from lib.durations import spoken


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.6, "1 min"),
        (80, "1 min 20 s"),
        (3600, "1 h"),
        (11100, "3 h 5 min"),
        (90000, "1 day 1 h"),
        (183600, "2 days 3 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, words):
    assert spoken(seconds) == words
