"""Every option of a training does what it says: to the gradient of a step, the images of an epoch, the choice of the epoch."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lib import loop, pixels, train
from tests import tiny

MODEL = "custom_cnn_lstm"
# Nothing draws random numbers but the option asked for, and every difference is its own.
BARE = {"precision": "32-true", "weight_decay": 0.0, "clip_norm": math.inf}


def configured(root, **options):
    return tiny.custom(root, train=BARE | options, **{"custom_cnn_lstm.dropout_rate": 0.0})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("options")


@pytest.fixture(scope="module")
def store(root):
    return pixels.prepare(configured(root), progress=False)


@pytest.fixture(scope="module")
def stepped(root, store):
    """A function: options -> the gradient (N,) that Adam was given in one step from the same start, and the weights (N,) before it.

    The step is on two normal images and four ill ones.
    """
    rows = store.rows("train")
    y = loop.labels(store, rows)
    batch = np.concatenate([rows[y == 0][:2], rows[y == 1][:4]])

    def step(**options):
        state, task = train.start(configured(root, **options), MODEL, 0, store, progress=False)
        parameters = list(state.model.parameters())
        before = torch.cat([p.detach().flatten().clone() for p in parameters])
        loop.train_step(state, task, batch, torch.ones(2, device=before.device))
        # Adam's first moment after one step is a tenth of the gradient, weight decay included.
        moments = [state.optimizer.optimizer.state[p]["exp_avg"].flatten() for p in parameters]
        return 10 * torch.cat(moments).cpu(), before.cpu()

    return step


@pytest.fixture(scope="module")
def plain(stepped):
    return stepped()


@pytest.mark.parametrize("option", ["augment", "stretch", "mix_style", "mix_border"])
def test_training_images_are_varied_as_strongly_as_asked(stepped, plain, option):
    def effect(strength: float) -> float:
        return float((stepped(**{option: strength})[0] - plain[0]).norm() / plain[0].norm())

    assert effect(1e-6) < 1e-3 < effect(1.0)


def test_smoothed_labels_pull_the_logits_towards_zero(stepped, plain):
    """The gradient at the last bias is the mean of probability minus target, and four of six targets are 1."""
    moved = (stepped(label_smoothing=0.3)[0] - plain[0])[-1]
    assert moved.item() == pytest.approx(0.3 * (4 / 6 - 0.5), rel=1e-3)


def test_a_gradient_longer_than_the_clip_norm_is_shortened_to_it(stepped, plain):
    length = plain[0].norm()
    torch.testing.assert_close(stepped(clip_norm=length.item() / 4)[0], plain[0] / 4, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(stepped(clip_norm=length.item() * 4)[0], plain[0])


def test_weight_decay_adds_that_share_of_the_weights_to_the_gradient(stepped, plain):
    gradient, before = stepped(weight_decay=0.5)
    torch.testing.assert_close(gradient - plain[0], 0.5 * before, rtol=1e-3, atol=1e-6)


@pytest.fixture
def epochs(root, store, monkeypatch):
    """A function: options -> of each of two epochs, all the rows that its steps were given, and their class weights."""

    def run(seed=0, **options):
        seen = []

        def look(state, task, batch, weights):
            seen.append((state.epoch, batch, weights.tolist()))
            return torch.ones(3, device=weights.device)

        monkeypatch.setattr(loop, "train_step", look)
        state, task = train.start(configured(root, **options), MODEL, seed, store, progress=False)
        for state.epoch in (0, 1):
            state.step = 0
            loop.train_epoch(state, task, after_step=lambda *_: None)
        rows = [np.concatenate([batch for at, batch, _ in seen if at == epoch]) for epoch in (0, 1)]
        return rows, [weights for *_, weights in seen]

    return run


@pytest.mark.parametrize("balanced", [False, True])
def test_every_epoch_of_every_seed_has_an_order_and_a_draw_of_its_own(epochs, balanced):
    found = [rows for seed in (0, 1) for rows in epochs(seed, balanced=balanced)[0]]
    assert len({tuple(rows) for rows in found}) == 4
    assert not balanced or len({frozenset(rows) for rows in found}) > 2


def test_every_step_epoch_and_seed_varies_its_images_anew(root, store, monkeypatch):
    drawn = []

    def look(self, rows, *, epoch, seed):
        drawn.append((seed, torch.initial_seed()))
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Task, "inputs", look)
    for own in (0, 1):
        state, task = train.start(configured(root), MODEL, own, store, progress=False)
        for state.epoch in (0, 1):
            for state.step in (0, 1):
                with pytest.raises(KeyboardInterrupt):
                    loop.train_step(state, task, store.rows("train")[:2], torch.ones(2))
    assert len({seed for seed, _ in drawn}) == 8
    assert all(given == torchs for given, torchs in drawn)


def test_a_balanced_epoch_has_as_many_images_of_each_class_drawn_anew(store, epochs):
    whole = store.rows("train")
    counts = np.bincount(loop.labels(store, whole))
    assert counts[0] != counts[1]
    for rows in epochs()[0]:
        assert sorted(rows) == sorted(whole)
    first, second = epochs(balanced=True)[0]
    for rows in (first, second):
        assert np.bincount(loop.labels(store, rows)).tolist() == [counts.min()] * 2
    assert set(first) != set(second)


def test_classes_are_weighed_where_asked_and_only_there(store, epochs):
    y = loop.labels(store, store.rows("train"))
    expected = len(y) / (2 * np.bincount(y))
    for weights in epochs(class_weighting=True)[1]:
        assert weights == pytest.approx(expected)
    for weights in epochs()[1]:
        assert weights == [1, 1]


@pytest.mark.parametrize(
    ("patience", "scores", "best", "trained"),
    [
        (0, [(0.8, 0.1), (0.9, 0.5), (0.9, 0.4), (0.9, 0.4), (0.9, 0.6)], 3, 5),
        (1, [(0.9, 0.5), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3), (1.0, 0.1)], 3, 4),
        (2, [(0.9, 0.5), (0.8, 0.4), (0.9, 0.6), (1.0, 0.1)], 1, 3),
    ],
    ids=["least loss of the highest AUC", "less loss is better", "patience of two"],
)
def test_the_kept_epoch_and_the_last_follow_validation_auc_and_then_loss(
    root, monkeypatch, patience, scores, best, trained
):
    """Faked (AUC, loss) of each epoch, in which a weight becomes the epoch's number."""

    def train_epoch(state, task, **_):
        with torch.no_grad():
            state.model.classifier[3].bias.fill_(state.epoch + 1)
        return {"train_loss": 0.0, "train_accuracy": 0.0}

    told = iter(scores)
    monkeypatch.setattr(loop, "train_epoch", train_epoch)
    monkeypatch.setattr(loop, "evaluate", lambda state, task, rows: torch.zeros(len(rows)))
    monkeypatch.setattr(
        loop,
        "scores",
        lambda *_: dict(zip(("val_auc", "val_loss"), next(told), strict=True)) | {"val_accuracy": 0.0},
    )
    config = configured(root, epochs=len(scores), early_stopping=patience)
    run = train.fit(config, MODEL, 0, progress=False)
    assert (run.info["best_epoch"], run.info["epochs"]) == (best, trained)
    assert load_file(run.folder / "weights.safetensors")["classifier.3.bias"].item() == best
