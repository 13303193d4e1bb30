"""A finished run is found while it answers to its settings, images and code, and not a moment longer."""

import json
import shutil
import threading
import time

import pytest

from lib import config, runs, train
from tests import tiny

MODEL = "custom_cnn_lstm"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train.fit(
        tiny.custom(tmp_path_factory.mktemp("runs"), train={"epochs": 1}), MODEL, 0, progress=False
    )


def test_nothing_is_found_where_nothing_is(run):
    assert runs.find(run.config, MODEL, 1) is None
    assert runs.find(run.config, "xception_lstm", 0) is None


def test_it_is_found_with_everything_in_it(run):
    found = runs.find(run.config, MODEL, 0)
    assert found.folder == run.folder
    assert found.info["seed"] == 0
    assert len(found.history) == 1
    assert not found.load().training


def test_code_that_shapes_the_model_counts_and_a_comment_does_not(run, tmp_path, monkeypatch):
    copied = {}
    for name in runs.SHAPING:
        copied[name] = tmp_path / name
        copied[name].write_text((runs.LIB / name).read_text())
    monkeypatch.setattr(runs, "LIB", tmp_path)
    assert runs.find(run.config, MODEL, 0) is not None
    with copied["loop.py"].open("a") as stream:
        stream.write("\n# a remark\n")
    assert runs.find(run.config, MODEL, 0) is not None
    shaping = {
        "models.py",
        "sequence.py",
        "loop.py",
        "objective.py",
        "inference.py",
        "prefix.py",
        "pixels.py",
        "augment.py",
        "views.py",
    }
    assert set(runs.SHAPING) == shaping
    for name in runs.SHAPING:
        kept = copied[name].read_text()
        copied[name].write_text(kept + "\nX = 1\n")
        assert runs.find(run.config, MODEL, 0) is None, name
        copied[name].write_text(kept)


def test_other_pretrained_weights_make_another_run(tmp_path):
    cfg = config.load("quick", root=tmp_path)
    cfg.weights_file.parent.mkdir(parents=True)
    settings = {}
    for content in (b"one", b"other"):
        cfg.weights_file.write_bytes(content)
        settings[content] = {model: runs.shaping_settings(cfg, model) for model in config.MODELS}
    first, second = settings.values()
    assert first["xception_lstm"] != second["xception_lstm"]
    assert first[MODEL] == second[MODEL]  # which has none


@pytest.mark.parametrize("part", runs.PARTS)
def test_a_run_with_a_part_missing_is_not_finished(run, part):
    aside = run.folder.parent / part
    (run.folder / part).rename(aside)
    assert runs.find(run.config, MODEL, 0) is None
    aside.rename(run.folder / part)
    assert runs.find(run.config, MODEL, 0) is not None


def test_a_damaged_record_is_not_a_run(run):
    kept = (run.folder / "run.json").read_text()
    (run.folder / "run.json").write_text(kept[:50])
    assert runs.find(run.config, MODEL, 0) is None
    (run.folder / "run.json").write_text(json.dumps(json.loads(kept) | {"seed": 5}))
    assert runs.find(run.config, MODEL, 0) is None
    (run.folder / "run.json").write_text(kept)


def test_it_says_why_an_old_run_does_not_count(run, capsys):
    other = tiny.custom(run.config.root, train={"epochs": 1, "batch_size": 5})
    assert runs.find(other, MODEL, 0, quiet=False) is None
    assert "was trained with another config; it is trained again" in capsys.readouterr().out
    often = tiny.custom(run.config.root, train={"epochs": 1, "checkpoint_minutes": 1.0})
    assert runs.find(often, MODEL, 0) is not None


def test_processes_that_ask_at_once_for_a_run_that_was_set_aside_all_find_it(run, tmp_path, monkeypatch):
    """As those of `torchrun` do: each is kept a while between its look and its move."""
    folder, wanted = tmp_path / run.folder.name, runs.identity(run.config, MODEL, 0)
    shutil.copytree(run.folder, runs._aside(folder, wanted))
    errors = []

    def slowly(*_):
        time.sleep(0.1)

    def ask():
        try:
            runs.bring_back(folder, wanted)
            assert runs._identity_of(folder, wanted) == wanted
        except Exception as error:
            errors.append(error)

    monkeypatch.setattr(runs, "set_aside", slowly)
    asking = [threading.Thread(target=ask) for _ in range(3)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert not errors
    assert runs._identity_of(folder, wanted) == wanted
