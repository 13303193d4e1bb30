"""Draws in which how an image was taken tells nothing of its class."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import config, loop, originals, overlap, pixels, train
from lib.config import ConfigError
from lib.store import PixelStore
from tests import tiny


@pytest.fixture
def sized():
    """A store whose ill images are smaller, and whole JPEG blocks more often; of 600 images a sixth is for validation."""
    rng = np.random.default_rng(3)
    y = (rng.random(600) < 0.7).astype(int)
    height = np.exp(rng.normal(7.0 - 0.25 * y, 0.2, 600)).round().astype(int)
    width = (height * np.exp(rng.normal(0.3, 0.1, 600))).round().astype(int)
    whole = rng.random(600) < np.where(y, 0.8, 0.1)
    width, height = (np.where(whole, side // 8 * 8, side // 8 * 8 + 3) for side in (width, height))
    index = pd.DataFrame(
        {
            "image": [f"{k}.png" for k in range(600)], "label": y, "width": width, "height": height,
            "split": np.where(np.arange(600) % 6 == 0, "val", "train"),
        }
    )  # fmt: skip
    return PixelStore(
        index=index,
        pixels=np.zeros((600, 2, 2), np.uint8),
        fingerprint="",
        quarantined=index[:0],
        overlap=1.0,
    )


def test_whole_blocks_are_those_of_both_sides():
    size = pd.DataFrame({"width": [16, 16, 12, 9], "height": [24, 20, 8, 7]})
    assert overlap.whole_blocks(size).tolist() == [True, False, False, False]


def test_weights_make_blocks_as_common_in_both_classes(sized):
    size, y = originals.of(sized), sized.index["label"].to_numpy()
    whole = overlap.whole_blocks(size)
    plain, weighted = overlap.weights(size, y), overlap.weights(size, y, blocks=True)

    def gap(weights):
        return np.subtract(*(np.average(whole[y == label], weights=weights[y == label]) for label in (1, 0)))

    assert gap(weighted) == pytest.approx(0, abs=1e-5)
    assert gap(plain) > 0.3


def test_sizes_that_are_all_alike_weigh_alike():
    size = pd.DataFrame({"width": [224] * 5, "height": [224] * 5})
    y = np.array([0, 0, 1, 1, 1])
    found = overlap.weights(size, y, blocks=True)
    assert found[y == 1] == pytest.approx([found[2]] * 3) and found[y == 0] == pytest.approx([found[0]] * 2)


def test_a_drawn_epoch_has_as_many_of_each_class_and_none_held_out(sized):
    y = sized.index["label"].to_numpy()
    whole = sized.rows("train")
    rare = np.bincount(y[whole]).min()
    first, again, other = (overlap.drawn(sized, seed).rows("train") for seed in (1, 1, 2))
    assert np.bincount(y[first]).tolist() == [rare, rare]
    assert set(first) <= set(whole)
    assert (first == again).all() and (first != other).any()
    assert (overlap.drawn(sized, 1).rows("val") == sized.rows("val")).all()


def test_what_is_drawn_tells_the_classes_apart_less(sized):
    size, y = originals.of(sized), sized.index["label"].to_numpy()
    rows = np.concatenate([overlap.drawn(sized, seed).rows("train") for seed in range(20)])

    def gap(rows, of):
        return np.subtract(*(of[rows[y[rows] == label]].mean() for label in (1, 0)))

    for of in (overlap.whole_blocks(size).astype(float), np.log(size["height"].to_numpy())):
        before, after = gap(sized.rows("train"), of), gap(rows, of)
        assert abs(before) > 0.1 and abs(after) < 0.1 * abs(before) + 0.02


def test_of_half_a_share_half_of_the_draws_are_as_they_come(sized):
    half = dataclasses.replace(sized, overlap=0.5)
    rows, y = half.rows("train"), half.index["label"].to_numpy()
    weights = overlap.weights(originals.of(half).iloc[rows], y[rows], blocks=True)
    drawn = np.concatenate([overlap.drawn(half, seed).rows("train") for seed in range(300)])
    seen, rare = np.bincount(drawn, minlength=600)[rows] / 300, np.bincount(y[rows]).min()
    for label in (0, 1):
        own = y[rows] == label
        expected = rare * (0.5 / own.sum() + 0.5 * weights[own] / weights[own].sum())
        lightest = np.argsort(weights[own])[: own.sum() // 4]
        assert np.corrcoef(seen[own], expected)[0, 1] > 0.9
        assert seen[own][lightest].mean() == pytest.approx(expected[lightest].mean(), rel=0.1)


def test_a_share_of_nothing_leaves_the_store_as_it_is(sized):
    plain = PixelStore(**vars(sized) | {"overlap": 0.0})
    assert overlap.drawn(plain, 1) is plain


def test_training_takes_the_images_that_were_drawn_anew_for_each_epoch(tmp_path, monkeypatch):
    settings = tiny.custom(
        tmp_path, train={"balanced": True}, **{"data.overlap": 1.0, "train.balanced": True}
    )
    store, seen, whole = pixels.prepare(settings, progress=False), [], loop.train_epoch

    def epoch(state, task, **rest):
        seen.append(np.sort(task.store.rows("train")))
        return whole(state, task, **rest)

    monkeypatch.setattr(loop, "train_epoch", epoch)
    train.fit(settings, "custom_cnn_lstm", 5, progress=False)
    for at, rows in enumerate(seen):
        expected = overlap.drawn(store, loop.derived_seed(5, at, 2)).rows("train")
        assert (rows == np.sort(expected)).all()
    assert len(seen) == 2 and (seen[0] != seen[1]).any()


def test_other_draws_make_another_run_and_none_leave_it_as_it_was(tmp_path):
    found = {
        share: pixels.prepare(
            tiny.custom(tmp_path, **{"data.overlap": share, "train.balanced": True}), progress=False
        ).fingerprint
        for share in (0.0, 0.5, 1.0)
    }
    plain = pixels.prepare(tiny.custom(tmp_path), progress=False).fingerprint
    assert found[0.0] == plain and len(set(found.values())) == 3


def test_draws_without_even_classes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="train.balanced=true"):
        config.load("demo", root=tmp_path, **{"data.overlap": 0.5})
