"""Does the code keep the style that pyproject.toml asks for?"""

import subprocess
import sys

import pytest

from lib.config import ROOT


@pytest.mark.parametrize("words", [["check", "."], ["format", "--check", "lib", "tests"]])
def test_ruff_has_nothing_to_say(words):
    done = subprocess.run([sys.executable, "-m", "ruff", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
