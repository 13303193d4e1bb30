"""Whatever happens to a writer, there is the old or the new."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from lib import files
from lib.config import ROOT

# Replaces a folder and is killed between the two renames.
KILLED = """
import os, signal, sys
from pathlib import Path
from lib import files
rename = os.replace
def killed(*words):
    rename(*words)
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = killed
with files.replacing(Path(sys.argv[1])) as beside:
    beside.mkdir()
    (beside / "new").touch()
"""


@pytest.fixture
def folder(tmp_path):
    """A folder that holds `old`."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").touch()
    return tmp_path / "run"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def replace(folder):
    with files.replacing(folder) as beside:
        beside.mkdir()
        (beside / "new").touch()


def test_a_failed_writer_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "table.csv"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), files.replacing(path) as beside:
        beside.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("first", "second"):
        with files.replacing(tmp_path / "run") as beside:
            beside.mkdir()
            (beside / name).write_text(name)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["second"]
    assert len(list(tmp_path.iterdir())) == 1


def test_json_is_read_as_written(tmp_path):
    files.write_json(tmp_path / "a" / "b.json", {"auc": 0.958, "n": 624})
    assert files.read_json(tmp_path / "a" / "b.json") == {"auc": 0.958, "n": 624}


def test_what_json_has_no_word_for_is_null(tmp_path):
    value = {
        "rows": [{"ppv": np.float64("nan"), "f": float("inf"), "npv": np.float32("nan")}],
        "pair": (1.5, None),
    }
    files.write_json(tmp_path / "a.json", value)
    found = json.loads(
        (tmp_path / "a.json").read_text(), parse_constant=pytest.fail
    )  # NaN and the like are no JSON
    assert found == {"rows": [{"ppv": None, "f": None, "npv": None}], "pair": [1.5, None]}


def test_numbers_of_numpy_are_numbers():
    found = json.loads(files.as_json({"n": np.int64(3), "auc": np.float32(0.5), "differs": np.bool_(True)}))
    assert found == {"n": 3, "auc": 0.5, "differs": True}


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_replacement_that_stops_between_its_renames_brings_the_old_folder_back(
    folder, monkeypatch, error, late
):
    rename, calls = os.replace, []

    def stopped(*words):
        calls.append(words)
        if len(calls) == (1 if late else 2):
            if late:
                rename(*words)
            raise error
        rename(*words)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(type(error)):
        replace(folder)
    assert len(calls) > 1
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["run"]
    replace(folder)
    assert names(folder) == ["new"]


def kill_between_renames(folder):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()


def test_a_kill_between_the_renames_loses_nothing(folder):
    kill_between_renames(folder)
    files.remove_abandoned(folder)
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["run"]


def test_after_such_a_kill_a_new_folder_is_not_replaced_by_the_old_one(folder):
    kill_between_renames(folder)
    replace(folder)
    files.remove_abandoned(folder)
    assert names(folder) == ["new"]
    assert names(folder.parent) == ["run"]


def test_what_a_living_process_has_moved_aside_is_left_to_it(folder):
    aside = folder.with_name(f".run.{os.getppid()}.old.part")
    folder.rename(aside)
    files.remove_abandoned(folder)
    assert names(folder.parent) == [aside.name]
    assert names(aside) == ["old"]


def test_what_belongs_to_a_longer_name_is_left_alone(tmp_path):
    other = tmp_path / ".run.json.7.part"
    other.touch()
    files.remove_abandoned(tmp_path / "run")
    assert other.exists()
    files.remove_abandoned(tmp_path / "run.json")
    assert not other.exists()


def test_flush_reaches_every_file_of_a_folder(folder, monkeypatch):
    (folder / "deeper").mkdir()
    (folder / "deeper" / "table").write_text("x")
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_ino))
    files.flush(folder)
    assert set(flushed) == {(folder / name).stat().st_ino for name in ("old", "deeper/table")}
