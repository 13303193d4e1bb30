"""Loss, class weights, learning-rate schedule, seeds, precision, and the progress that is shown."""

import numpy as np
import pytest
import torch

from lib import devices, loop, objective, pixels, progress, train
from lib.config import Train
from tests import tiny


def test_smoothing_moves_the_targets_towards_one_half():
    logits, y = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    smooth = objective.sample_losses(logits, y, 0.2)
    soft = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.tensor([0.9, 0.1]), reduction="none"
    )
    torch.testing.assert_close(smooth, soft)
    assert (objective.sample_losses(logits, y) < smooth).all()


def test_class_weights_balance_the_classes_and_average_to_one():
    labels = np.array([0] * 10 + [1] * 30)
    weights = objective.class_weights(labels, True)
    assert weights[0] * 10 == weights[1] * 30
    assert weights[torch.as_tensor(labels)].mean() == pytest.approx(1)
    assert objective.class_weights(labels, False).tolist() == [1, 1]


@pytest.mark.parametrize("label", [0, 1])
def test_the_class_weight_is_part_of_the_loss_and_of_its_gradient(tmp_path, label):
    config = tiny.custom(tmp_path, train={"weight_decay": 0.0})
    store = pixels.prepare(config, progress=False)
    rows = store.rows("train")
    batch = rows[loop.labels(store, rows) == label][:6]

    def step(*weights: float) -> tuple[float, torch.Tensor]:
        """Loss of one step from the same start, and how far it moved the last layer."""
        state, task = train.start(config, "custom_cnn_lstm", 0, store, progress=False)
        last = state.model.get_parameter("classifier.3.weight")
        before = last.detach().clone()
        weights = torch.tensor(weights, device=last.device)
        return loop.train_step(state, task, batch, weights)[0].item(), last.detach() - before

    loss, moved = step(1.0, 1.0)
    assert loss > 0
    assert moved.any()
    assert step(3.0, 0.5)[0] == pytest.approx((3.0, 0.5)[label] * loss, rel=1e-3)
    loss, moved = step(*(float(other != label) for other in (0, 1)))
    assert loss == 0
    assert not moved.any()


def test_the_learning_rate_warms_up_and_falls_to_zero():
    train = Train(epochs=10, learning_rate=1.0, schedule="cosine", warmup_epochs=2)
    rates = [objective.learning_rate(train, p) for p in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0])
    constant = Train(epochs=10, learning_rate=0.3)
    assert {objective.learning_rate(constant, p) for p in (0, 5, 10)} == {0.3}


def test_no_seed_is_its_neighbours():
    seeds = {loop.derived_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert loop.derived_seed(1, 2) == loop.derived_seed(1, 2)
    order = loop.shuffled(np.arange(50), 3, 1)
    assert sorted(order) == list(range(50))
    assert not (order == loop.shuffled(np.arange(50), 3, 2)).all()


def test_an_even_draw_keeps_the_rarer_class_whole_and_changes_with_the_epoch():
    rows, y = np.arange(100, 140), np.array([0] * 10 + [1] * 30)
    first, second = (loop.even_draw(rows, y, seed) for seed in (1, 2))
    for drawn in (first, second):
        assert len(set(drawn)) == len(drawn) == 20
        assert set(drawn) >= set(rows[:10])
    assert set(first) != set(second)
    assert (first == loop.even_draw(rows, y, 1)).all()
    assert set(loop.even_draw(rows, 1 - y, 1)) >= set(rows[:10])  # whichever label is the rarer


def test_scores_are_those_of_the_definition():
    found = loop.scores(torch.tensor([0.2, -1.0, 0.5, -3.0]), np.array([1, 0, 0, 0]), "val")
    assert found["val_accuracy"] == 0.75
    assert found["val_auc"] == pytest.approx(2 / 3)
    assert found["val_loss"] == pytest.approx(np.log1p(np.exp([-0.2, -1.0, 0.5, -3.0])).mean(), rel=1e-5)


def test_precision_follows_the_hardware(monkeypatch):
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: True)
    assert torch.cuda.is_available() or devices.resolve_precision("auto") == "bf16-mixed"
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: False)
    assert torch.cuda.is_available() or devices.resolve_precision("auto") == "32-true"
    assert devices.resolve_precision("32-true") == "32-true"
    assert devices.dtype_of("bf16-mixed") is torch.bfloat16
    assert devices.dtype_of("32-true") is torch.float32


def test_without_a_compiler_training_goes_on(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", broken)
    module = torch.nn.Linear(2, 2)
    with pytest.warns(UserWarning, match="train.compile has no effect here: no C"):
        assert devices.compiled(module, torch.device("cpu")) is module


def test_a_bar_where_someone_watches_and_a_line_where_not(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    row = dict.fromkeys(
        ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_auc", "seconds"), 0.5
    )
    for watched in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda watched=watched: watched)
        shown = progress.Progress("model", 2)
        shown.step(0, 1, 2, torch.tensor([1.0, 1, 2]))
        shown.step(0, 2, 2, torch.tensor([2.0, 3, 4]))
        shown.epoch({"epoch": 1} | row)
        captured = capsys.readouterr()
        assert ("loss=0.5000" in captured.err) is watched
        assert ("accuracy=0.750" in captured.err) is watched
        assert captured.out.count("epoch 1/2") == 1
    silent = progress.Progress("model", 2, enabled=False)
    silent.step(0, 1, 2, torch.ones(3))
    silent.epoch({"epoch": 1} | row)
    assert capsys.readouterr().out == ""


def test_jupyterlab_is_someone_who_watches(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not progress.interactive()
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/05_gradcam.ipynb")
    assert progress.interactive() and progress.watched()
