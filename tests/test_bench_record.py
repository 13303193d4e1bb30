"""The record of the bench tells what was measured, on what and where, and a new measurement takes nothing from it."""

import json
import os
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from lib import bench, config, pixels
from lib.bench import measurement, recipes
from lib.plots import bench as plots
from lib.plots import style
from lib.publish import documents


@pytest.fixture
def pretend(monkeypatch):
    """Measurements that take no time."""
    outside = {"train_outside": 0.1, "infer_outside": 0.1}
    turn = {"precision": "float32", "batch": 8, "peak_memory_gb": 1.0, "train": 2.0, "infer": 4.0} | outside
    maps = {"batch": 32, "times_faster": 2.0, "fast_times_faster": 4.0}
    known = {
        "limits": {"float32": 10.0},
        "original": turn,
        "project": turn | {"train": 9.0, "infer": 24.0, "train_stored": 12.0},
        "gradcam": dict.fromkeys(config.MODELS, maps),
    }
    monkeypatch.setattr(bench, "_turn", lambda what, *_, **__: known[what])
    monkeypatch.setattr(measurement, "operations", lambda *_: {"train": 1.0, "infer": 1.0})
    monkeypatch.setattr(pixels, "prepare", lambda _: SimpleNamespace(index=range(8)))
    monkeypatch.setattr(bench.notebook, "image_folder", lambda *_: None)


@pytest.fixture
def undrawn(monkeypatch):
    """The figure takes longer than the rest."""
    monkeypatch.setattr(style, "save", lambda *_: None)
    monkeypatch.setattr(plots, "speed", lambda *_: None)


def recorded(root, folder="demo"):
    return root / "reports" / "results" / folder / "bench.json"


def told(root, *words):
    assert bench.main(["--root", str(root), "--size", "28", "--images", "8", *words]) == 0
    return json.loads(recorded(root).read_text())


def test_the_command_writes_json_and_figure(pretend, tmp_path, capsys):
    found = told(tmp_path)
    assert found["images"] == "phantoms"
    assert {row["ratio"] for row in found["rows"]} == {1.0, 4.5, 6.0}
    assert recorded(tmp_path).with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    said = capsys.readouterr().out
    assert "training 4.5 times (4.5 to 4.5 by turn) and inference 6.0 times (6.0 to 6.0 by turn)" in said
    assert "stored 6.0 times (6.0 to 6.0 by turn), without the time to compute it once" in said
    assert "Grad-CAM of 32 images on the processor 2.0 times" in said
    assert "`make publish` shows" in said


@pytest.mark.parametrize(
    ("start", "end", "said"), [(0.1, 2.1, False), (64.0, 2.0, True), (0.1, 64.0, True), (0.0, 3.5, True)]
)
def test_other_work_at_the_start_or_the_end_is_told(start, end, said):
    """The bench's own two threads are part of the load at the end."""
    found = bench._other_work({"load_before": start, "load_after": end, "threads": 2, "cores": 2})
    assert bool(found) == said
    assert not said or f"load {start:.1f} at the start, {end:.1f} at the end" in found[0]


def compared(config, *, images, seeds, batch=8):
    return {"images": images, "sentence": f"AUCs on {images} images.", "method": recipes.METHOD}


def test_a_new_measurement_of_speeds_keeps_the_accuracy_of_the_same_images(
    pretend, undrawn, tmp_path, monkeypatch
):
    monkeypatch.setattr(recipes, "compare", compared)
    assert "AUCs on 7 images." in told(tmp_path, "--accuracy", "7")["said"]
    assert "AUCs on 7 images." in told(tmp_path)["said"]
    assert "accuracy" not in told(tmp_path, "--size", "32")


def test_accuracy_tells_where_it_was_measured(pretend, undrawn, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "compare", compared)
    speeds = told(tmp_path)
    monkeypatch.setattr(bench.provenance, "device", lambda: "another machine")
    found = told(tmp_path, "--only-accuracy", "--accuracy", "7")
    assert found["device"] == speeds["device"] != "another machine"
    measured = found["accuracy"]["measured"]
    assert measured["device"] == "another machine" and measured["images"] == "phantoms"
    assert {"commit", "versions"} <= set(measured)
    assert found["said"][-1] == "The AUCs were measured on another machine."


def test_accuracy_that_did_not_tell_where_it_was_measured_keeps_what_its_record_tells(
    pretend, undrawn, tmp_path, monkeypatch
):
    monkeypatch.setattr(recipes, "compare", compared)
    found = told(tmp_path, "--accuracy", "7")
    del found["accuracy"]["measured"], found["accuracy"]["method"]
    recorded(tmp_path).write_text(json.dumps(found | {"device": "an older machine"}))
    again = told(tmp_path)
    assert again["accuracy"]["measured"]["device"] == "an older machine" != again["device"]
    assert "was recorded by an earlier method" in again["said"][-1]
    assert "earlier method" not in " ".join(told(tmp_path, "--only-accuracy", "--accuracy", "7")["said"])


@pytest.fixture
def broken_off(pretend, undrawn, tmp_path, monkeypatch):
    """A bench that stopped at the custom model's second turn; what the next one measures is added to the list that it gives."""
    measured, turn = [], bench._turn

    def until(what, *words, model="", **given):
        if len(measured) == 6:
            raise RuntimeError("out of memory")
        measured.append((what, model))
        return turn(what, *words, model=model, **given)

    monkeypatch.setattr(bench, "_turn", until)
    assert bench.main(["--root", str(tmp_path), "--size", "28", "--images", "8"]) != 0
    assert not recorded(tmp_path).exists()
    measured.clear()
    return measured


def test_a_bench_that_was_broken_off_goes_on(broken_off, tmp_path, capsys):
    found = told(tmp_path)
    custom = [("project", "custom_cnn_lstm"), ("original", "custom_cnn_lstm"), ("project", "custom_cnn_lstm")]
    assert broken_off == [*custom, ("gradcam", "")]
    assert "going on with what an interrupted bench has measured" in capsys.readouterr().out
    assert {row["ratio"] for row in found["rows"]} == {1.0, 4.5, 6.0}
    assert not list(recorded(tmp_path).parent.glob("*.part.json"))
    broken_off.clear()
    with pytest.raises(AssertionError):  # it begins anew, and stops again
        told(tmp_path)
    assert broken_off[0] == ("limits", "")


@pytest.mark.parametrize("other", ["seconds", "machine", "age", "damage"])
def test_what_another_bench_measured_is_not_taken_up(broken_off, tmp_path, monkeypatch, other):
    part = recorded(tmp_path).with_suffix(".part.json")
    words = ["--seconds", "1"] if other == "seconds" else []
    if other == "machine":
        monkeypatch.setattr(bench.provenance, "device", lambda: "another machine")
    if other == "age":
        os.utime(part, (time.time() - 3700,) * 2)
    if other == "damage":
        part.write_text(part.read_text()[:-9])
    with pytest.raises(AssertionError):  # it stops again where the first did
        told(tmp_path, *words)
    assert broken_off[0] == ("limits", "")


def test_phantoms_leave_the_record_of_real_images_alone(pretend, undrawn, tmp_path):
    real = recorded(tmp_path, "")
    real.parent.mkdir(parents=True)
    real.write_text('{"images": "chest_xray"}')
    told(tmp_path)
    assert real.read_text() == '{"images": "chest_xray"}'


def test_the_published_record_is_worded_as_now():
    found = json.loads(recorded(config.ROOT, "").read_text())
    assert found["said"] == bench.sentences(found)
    rows = pd.DataFrame(found["rows"])
    pd.testing.assert_frame_equal(rows, bench.table(found)[list(rows)], check_dtype=False)


def test_nothing_recorded_and_nothing_measured_writes_nothing(tmp_path, capsys):
    assert bench.main(["--root", str(tmp_path), "--only-accuracy", "--accuracy", "0"]) == 1
    assert "nothing was to be measured" in capsys.readouterr().err
    assert not recorded(tmp_path).exists()


def test_published_speeds_of_phantoms_are_said_to_be_of_phantoms(pretend, undrawn, tmp_path):
    told(tmp_path)
    text = documents.speed(recorded(tmp_path).parent)
    assert "phantoms of 28 pixels" in text
    assert "| 4.5 (4.5 to 4.5) |" in text
    assert "phantoms" not in documents.speed(recorded(config.ROOT, "").parent)
