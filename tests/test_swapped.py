"""Widths swapped between the classes: geometry, whose images change, and a model that leans on nothing but the width."""

import numpy as np
import pytest
import torch

from lib import pixels, swapped, train
from tests import tiny


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


def test_only_the_asked_images_change(tmp_path):
    store = pixels.prepare(tiny.custom(tmp_path), progress=False)
    rows = store.rows("val")
    y_true = store.index["label"].to_numpy()[rows]
    changed = swapped.swapped(store, rows, y_true)
    others = np.setdiff1d(np.arange(len(store.index)), rows)
    np.testing.assert_array_equal(changed.pixels[others], store.pixels[others])
    for row, label in zip(rows, y_true, strict=True):
        np.testing.assert_array_equal(
            changed.pixels[row], swapped.widened(store.pixels[row], swapped.FACTORS[label])
        )


def test_a_model_that_leans_on_the_width_is_found_out(tmp_path, monkeypatch):
    """Nothing but the width tells the classes apart, and then it is swapped."""
    cfg = tiny.xception(tmp_path, train={"cache_frozen": 1})
    store = pixels.prepare(cfg, progress=False)
    label = store.index["label"].to_numpy()
    shown = np.stack([column(21 if ill else 31, 64) for ill in label])
    store = type(store)(**(vars(store) | {"pixels": shown}))
    state, task = train.start(cfg, "xception_lstm", 0, store, progress=False)

    def mean_gray(self, rows, **_):
        images = torch.as_tensor(self.store.pixels[rows], dtype=torch.float32)
        return images.mean((1, 2)), torch.zeros(len(rows))

    monkeypatch.setattr(swapped.loop.Task, "inputs", mean_gray)
    monkeypatch.setattr(swapped.loop, "FastRest", lambda *_: torch.neg)
    rows = store.rows("val")
    plain = swapped.metrics.auc(label[rows], swapped.loop.evaluate(state, task, rows).numpy())
    monkeypatch.setattr(swapped, "FACTORS", (0.6, 1.6))
    assert plain == 1.0
    assert swapped.auc(cfg, "xception_lstm", state.model, store) == 0.0
