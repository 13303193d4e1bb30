"""The bench measures what it says: the original's recipe as it was, this project's as it is, and the roof above both."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib import bench, config, models, pixels
from lib.bench import measurement, notebook, recipes
from lib.plots import bench as plots
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return tiny.xception(tmp_path_factory.mktemp("bench"), **{"xception_lstm.train": {"batch_size": 4}})


def test_the_original_models_are_the_projects_models():
    torch.manual_seed(0)
    for name, make in notebook.MODELS.items():
        original = make().eval()
        own = models.XceptionLSTM() if name == "xception_lstm" else models.CustomCNNLSTM()
        assert sum(p.numel() for p in original.parameters() if p.requires_grad) == own.trainable_parameters()
        own.load_state_dict(original.state_dict())
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(own.eval()(images), original(images), rtol=1e-3, atol=1e-4)


def test_the_originals_loop_trains_and_counts_what_it_waits_for(small, tmp_path):
    tree = notebook.image_folder(pixels.prepare(small, progress=False), tmp_path, range(20), "jpeg")
    run = notebook.Loop(notebook.CustomCNNLSTM(), 1e-3, CPU)
    before = run.network.lstm.weight_hh_l0.detach().clone()
    batches = run.batches(notebook.loader(tree, 28, training=True))
    assert [run.train_step(next(batches)) for _ in range(4)] == [8, 8, 4, 8]  # the next epoch follows
    assert run.waited > 0
    assert not torch.equal(before, run.network.lstm.weight_hh_l0)
    test = run.batches(notebook.loader(tree, 28, training=False))
    assert run.test_step(next(test)) == 20


def test_in_the_original_frozen_batchnorm_moves():
    network = notebook.XceptionLSTM()
    before = network.xception.body.bn1.running_mean.clone()
    notebook.Loop(network, 1e-4, CPU).train_step((torch.randn(2, 3, 64, 64), torch.tensor([0, 1])))
    assert not torch.equal(before, network.xception.body.bn1.running_mean)


def test_a_rate_is_images_by_time():
    rate = measurement.measure(lambda: time.sleep(0.01) or 5, 0.05, CPU)
    assert 250 < rate <= 500


def test_a_training_step_costs_at_most_three_forward_passes():
    found = measurement.operations(config.load("full"), "xception_lstm")
    assert found["infer"] == pytest.approx(9.7, abs=0.6)
    assert 1.5 < found["train"] / found["infer"] < 2.5  # no backward pass through the frozen part
    custom = measurement.operations(config.load("full"), "custom_cnn_lstm")
    assert custom["train"] == pytest.approx(3 * custom["infer"])


@pytest.mark.parametrize("model", config.MODELS)
def test_both_recipes_are_measured(small, tmp_path, model):
    tree = notebook.image_folder(pixels.prepare(small, progress=False), tmp_path, range(12), "jpeg")
    turns = [measurement.original(small, model, tree, 0.0), measurement.project(small, model, 0.0)]
    for turn in turns:
        assert turn["train"] > 0
        assert turn["infer"] > 0
        assert 0 < turn["train_outside"] < 1
        assert 0.05 < turn["peak_memory_gb"] < 100
    assert ("train_stored" in turns[1]) is (model == "xception_lstm")
    found = {
        "models": {model: {"gflop_per_image": {"train": 2.0, "infer": 1.0}, "turns": [
            {"recipe": recipe, **turn} for recipe, turn in zip(("original", "project"), turns, strict=True)
        ]}},
        "limits_gflops": {"float32": 100.0, "bfloat16": 200.0},
    }  # fmt: skip
    table = bench.table(found)
    ratios = table[table["recipe"] == "project"].set_index("phase")["ratio"]
    assert ratios["train"] == pytest.approx(turns[1]["train"] / turns[0]["train"])
    assert (table.loc[table["recipe"] == "original", "ratio"] == 1).all()
    shares = table.loc[(table["recipe"] == "original") & (table["phase"] == "train"), "share_of_limit"]
    assert shares.iloc[0] == pytest.approx(turns[0]["train"] * 2 / 100)
    maps = {"batch": 32, "times_faster": 2.0, "fast_times_faster": 4.0}
    found |= {"rows": table.to_dict("records"), "gradcam": {model: maps}}
    found |= {"load_before": 0.0, "load_after": 2.0, "threads": 2}
    assert model in bench.sentences(found)[0]
    plots.speed(table)


def test_ratios_are_to_the_originals_better_turn_and_range_over_all_turns():
    def turn(recipe: str, rate: float) -> dict:
        rates = {"train": rate, "infer": 2 * rate, "train_outside": 0.1, "infer_outside": 0.1}
        return {"recipe": recipe, "precision": "float32", "batch": 8, "peak_memory_gb": 1.0} | rates

    turns = [turn("original", 2.0), turn("project", 9.0), turn("original", 3.0), turn("project", 12.0)]
    own = {"gflop_per_image": {"train": 1.0, "infer": 1.0}, "turns": turns}
    table = bench.table({"models": {"xception_lstm": own}, "limits_gflops": {"float32": 100.0}})
    rows = table.set_index(["recipe", "phase"])
    assert rows.loc["project", "ratio"].tolist() == [4.0, 4.0]
    assert rows.loc["original", "ratio"].tolist() == [1.0, 1.0]
    assert rows["worse_turn"].tolist() == [2.0, 4.0, 9.0, 18.0]
    assert rows.loc["project", "ratio_low"].tolist() == [3.0, 3.0]
    assert rows.loc["project", "ratio_high"].tolist() == [6.0, 6.0]


def test_the_share_outside_the_model_is_that_of_fetching_images(tmp_path, monkeypatch):
    rates = iter([10.0, 40.0, 20.0])  # of training, of fetching a batch alone, of inference
    monkeypatch.setattr(measurement, "measure", lambda *_: next(rates))
    found = measurement.project(tiny.custom(tmp_path), "custom_cnn_lstm", 0.0)
    assert (found["train"], found["infer"]) == (10.0, 20.0)
    assert (found["train_outside"], found["infer_outside"]) == (0.25, 0.5)


def test_the_originals_share_outside_the_model_is_that_of_waiting_for_images(tmp_path, monkeypatch):
    class Quick(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.scale * x.mean((1, 2, 3))

    class Slow:
        def __iter__(self):
            for _ in range(9):
                time.sleep(0.05)
                yield torch.ones(2, 3, 4, 4), torch.tensor([0, 1])

    monkeypatch.setitem(notebook.MODELS, "custom_cnn_lstm", Quick)
    monkeypatch.setattr(notebook, "loader", lambda *_, **__: Slow())
    found = measurement.original(tiny.custom(tmp_path), "custom_cnn_lstm", tmp_path, 0.3)
    assert 0.1 < found["train_outside"] < 1.5  # a machine at work waits longer elsewhere too
    assert 0.1 < found["infer_outside"] < 1.5


def test_accuracy_is_compared_from_the_same_weights(small, monkeypatch):
    started = {}
    for name in ("_project", "_original"):
        kept = getattr(recipes, name)

        def watched(*words, name=name, kept=kept):
            state = next(word for word in words if isinstance(word, dict))
            started.setdefault(name, []).append(state["classifier.0.weight"].clone())
            return kept(*words)

        monkeypatch.setattr(recipes, name, watched)
    monkeypatch.setattr(notebook, "XceptionLSTM", lambda: _narrow(small))
    found = recipes.compare(small, images=16, seeds=range(1), batch=8)
    assert torch.equal(started["_project"][0], started["_original"][0])
    assert 0 <= found["project"][0] <= 1
    assert found["low"] <= found["difference"] <= found["high"]
    assert "Validation AUC after one epoch on 16 images at batch 8" in found["sentence"]
    json.dumps(found)


def test_the_frozen_prefix_is_that_of_the_weights_that_both_start_from(small, monkeypatch):
    store = pixels.prepare(small, progress=False)
    torch.manual_seed(1)
    begun = models.build(small, "xception_lstm").eval()
    seen = []

    def look(state, task, **_):
        images, _, _ = next(pixels.batches(store, np.arange(2), 2))
        frozen = task.frozen(images.to(task.fabric.device)).float().cpu()
        torch.testing.assert_close(frozen, begun.backbone.frozen_part(images), rtol=0.1, atol=0.1)
        seen.append(state)

    monkeypatch.setattr(recipes.loop, "train_epoch", look)
    recipes._project(small, store, begun.state_dict(), store.rows("train")[:8], store.rows("val"), 0)
    assert seen


def _narrow(small):
    """The original's Xception-LSTM as narrow as the small config's."""
    network = notebook.MODELS["xception_lstm"]()
    hidden = small.xception_lstm.lstm_hidden
    network.lstm = torch.nn.LSTM(2048, hidden, batch_first=True)
    network.classifier[0] = torch.nn.Linear(hidden, 128)
    return network


def test_the_verdict_follows_the_numbers():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    scores = [y + rng.normal(size=200) for _ in range(3)]

    def verdict(project):
        tables = {"original": scores, "project": project}
        found = recipes.judged(
            {
                recipe: [
                    pd.DataFrame({"patient": np.arange(200), "y_true": y, "score": score}) for score in own
                ]
                for recipe, own in tables.items()
            }
        )
        return recipes.sentence(found | {"images": 10, "batch": 8, "held_out": 200})

    assert "+0.0000 [" in verdict(scores)
    assert "are not shown to differ (" in verdict([y + rng.normal(size=200) for _ in range(3)])
    assert "the two differ (" in verdict([rng.normal(size=200) for _ in range(3)])


def test_the_two_runs_of_a_seed_are_drawn_together():
    """Seeds that lie far apart, and in each of them the same small loss: as sure as if there were one seed."""
    rng = np.random.default_rng(0)
    y, lift = np.arange(400) % 2, np.array([0.3, 1.2, 3.0])
    original = [rng.normal(size=400) + y * far for far in lift]
    project = [score + 0.6 * rng.normal(size=400) for score in original]

    def tables(scores):
        return [pd.DataFrame({"patient": np.arange(400), "y_true": y, "score": score}) for score in scores]

    found = recipes.judged({"original": tables(original), "project": tables(project)})
    assert found["difference"] == pytest.approx(np.mean(found["project"]) - np.mean(found["original"]))
    assert found["high"] < 0
    assert found["high"] - found["low"] < 0.1
    one = recipes.judged({"original": tables(original[:1]), "project": tables(project[:1])})
    assert one["low"] < one["difference"] < one["high"]


def test_a_measurement_that_fails_is_told(tmp_path):
    with pytest.raises(
        RuntimeError, match="^the measurement nosuch failed: error: there is no measurement 'nosuch'$"
    ):
        bench._turn("nosuch", tiny.custom(tmp_path), seconds=0.1, threads=1)


def test_a_measurement_finds_a_root_that_is_relative(tmp_path, monkeypatch):
    asked = []

    def child(words, **_):
        asked.append(json.loads(words[-1]))
        return subprocess.CompletedProcess(words, 0, stdout="{}", stderr="")

    monkeypatch.setattr(bench.subprocess, "run", child)
    monkeypatch.chdir(tmp_path)
    bench._turn("limits", tiny.custom(Path("here")), seconds=0.1, threads=1)
    assert asked[0]["root"] == str(tmp_path.resolve() / "here")


def test_batches_go_round():
    batches = measurement._cycle(np.arange(5), 2)
    assert [next(batches).tolist() for _ in range(3)] == [[0, 1], [2, 3], [0, 1]]
