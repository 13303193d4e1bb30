"""Widths and borders swapped between the classes: geometry, whose images change, and models that lean on nothing else."""

import numpy as np
import pytest
import torch

from lib import models, pixels, swapped, train
from lib.publish import trial_tables
from tests import tiny


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where the phantoms of the custom model are: the same for every test."""
    return tmp_path_factory.mktemp("swapped")


def column(width: int, side: int = 101) -> np.ndarray:
    image = np.zeros((side, side), np.uint8)
    middle = side // 2
    image[:, middle - width // 2 : middle + width // 2 + 1] = 200
    return image


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_the_width_changes_about_the_middle(factor):
    seen = swapped.widened(column(41), factor)
    assert seen[50].astype(float).sum() / 200 == pytest.approx(41 * factor, abs=0.5)
    np.testing.assert_array_equal(seen, seen[:, ::-1])
    assert (seen == seen[0]).all()


def test_the_edge_fills_what_becomes_free():
    assert (swapped.widened(np.full((20, 20), 90, np.uint8), 0.5) == 90).all()


def test_only_the_asked_images_change(root):
    store = pixels.prepare(tiny.custom(root), progress=False)
    rows = store.rows("val")
    y_true = store.index["label"].to_numpy()[rows]
    changed = swapped.widths(store, rows, y_true)
    others = np.setdiff1d(np.arange(len(store.index)), rows)
    np.testing.assert_array_equal(changed.pixels[others], store.pixels[others])
    for row, label in zip(rows, y_true, strict=True):
        np.testing.assert_array_equal(
            changed.pixels[row], swapped.widened(store.pixels[row], swapped.FACTORS[label])
        )


def test_the_border_comes_from_the_other_class_and_the_inside_stays(root):
    store = pixels.prepare(tiny.custom(root), progress=False)
    rows = store.rows("val")
    y_true = store.index["label"].to_numpy()[rows]
    changed = swapped.borders(store, rows, y_true)
    others = np.setdiff1d(np.arange(len(store.index)), rows)
    np.testing.assert_array_equal(changed.pixels[others], store.pixels[others])
    edge = round(swapped.BORDER * store.pixels.shape[1])
    around = np.ones(store.pixels.shape[1:], bool)
    around[edge:-edge, edge:-edge] = False
    for row, label in zip(rows, y_true, strict=True):
        np.testing.assert_array_equal(changed.pixels[row][~around], store.pixels[row][~around])
        givers = store.pixels[rows[y_true != label]][:, around]
        assert (changed.pixels[row][around] == givers).all(1).any()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("custom_cnn_lstm", {"train": {"ema": 0.5}}),
        ("custom_cnn_lstm", {"custom_cnn_lstm.order": "shuffle"}),
        ("xception_lstm", {}),  # whose frozen weights no file holds
    ],
    ids=["moving average", "shuffle", "frozen"],
)
def test_a_swap_that_changes_nothing_leaves_the_logits_of_the_training(
    root, tmp_path, monkeypatch, name, changes
):
    cfg = tiny.xception(tmp_path, **changes) if name == "xception_lstm" else tiny.custom(root, **changes)
    store = pixels.prepare(cfg, progress=False)
    state, task = train.start(cfg, name, 3, store, progress=False)
    expected = train._logits(state, task, store.rows("val"))
    monkeypatch.setattr(swapped.metrics, "auc", lambda _, logits: logits)
    before = torch.get_rng_state()
    found = swapped.auc(cfg, name, state.evaluated_model, store, lambda store, *_: store)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_swap_is_looked_at_and_not_what_training_stored_of_the_images_before_it(tmp_path, monkeypatch):
    """Outputs of frozen layers are stored by the images' fingerprint, which a swap leaves as it is."""
    cfg, tasks = tiny.xception(tmp_path, train={"cache_frozen": 1}), []
    store = pixels.prepare(cfg, progress=False)

    def evaluate(_, task, rows):
        tasks.append(task)
        return torch.arange(len(rows))

    monkeypatch.setattr(swapped.loop, "evaluate", evaluate)
    swapped.auc(cfg, "xception_lstm", models.build(cfg, "xception_lstm"), store, swapped.widths)
    assert [task.stored for task in tasks] == [None]


def leans(root, monkeypatch, image, read, swap) -> tuple[float, float]:
    """AUC before and after the swap of a model that reads off (n, S, S) one number an image; `image(label)` are the images."""
    cfg = tiny.custom(root)
    store = pixels.prepare(cfg, progress=False)
    label = store.index["label"].to_numpy()
    store = type(store)(**(vars(store) | {"pixels": np.stack([image(ill) for ill in label])}))
    state, task = train.start(cfg, "custom_cnn_lstm", 0, store, progress=False)

    def measured(self, rows, **_):
        return read(torch.as_tensor(self.store.pixels[rows], dtype=torch.float32)), torch.zeros(len(rows))

    monkeypatch.setattr(swapped.loop.Task, "inputs", measured)
    monkeypatch.setattr(swapped.loop, "FastRest", lambda *_: torch.neg)
    rows = store.rows("val")
    plain = swapped.metrics.auc(label[rows], swapped.loop.evaluate(state, task, rows).numpy())
    return plain, swapped.auc(cfg, "custom_cnn_lstm", state.model, store, swap)


def test_a_model_that_leans_on_the_width_is_found_out(root, monkeypatch):
    """Nothing but the width tells the classes apart, and then it is swapped."""
    monkeypatch.setattr(swapped, "FACTORS", (0.6, 1.6))
    found = leans(
        root, monkeypatch, lambda ill: column(21 if ill else 31, 64), lambda x: x.mean((1, 2)), swapped.widths
    )
    assert found == (1.0, 0.0)


@pytest.mark.parametrize(("place", "after"), [(0, 0.0), (32, 1.0)], ids=["border", "middle"])
def test_a_model_that_leans_on_the_border_is_found_out(root, monkeypatch, place, after):
    """One that reads the middle does not mind."""
    shades = np.uint8([200, 50])
    found = leans(
        root, monkeypatch, lambda ill: np.full((64, 64), shades[ill]), lambda x: x[:, place, place], swapped.borders
    )  # fmt: skip
    assert found == (1.0, after)


def test_the_model_card_tells_what_is_done_here():
    narrow, wide = swapped.FACTORS
    assert (
        f"narrowed by {1 - narrow:.0%} and pneumonia images widened by {wide - 1:.0%}" in trial_tables.SWAPPED
    )
    assert f"outer {swapped.BORDER:.0%}" in trial_tables.SWAPPED
