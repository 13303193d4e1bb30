"""Does an image look the same whatever machine processed it, and does the store keep what was asked for?"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lib import config, store
from lib.harmonise import MARGIN, harmonised
from lib.pixels import prepare


def textured(size: int = 224, seed: int = 0) -> np.ndarray:
    """Noise whose spread falls from octave to octave, as that of radiographs does, uint8 (size, size)."""
    rng, total = np.random.default_rng(seed), np.zeros((size, size))
    for octave in range(8):
        coarse = rng.normal(size=(2 + 2**octave, 2 + 2**octave)) * 0.8**octave
        total += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return (20 + 215 * (total - low) / (high - low)).astype(np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference where spreads are measured, in gray values."""
    margin = round(MARGIN * len(a))
    inner = (slice(margin, len(a) - margin),) * 2
    return float(np.abs(a[inner].astype(float) - b[inner]).mean())


def blurred(gray: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(gray, (0, 0), 1.0)


def sharpened(gray: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(gray, 1.7, cv2.GaussianBlur(gray, (0, 0), 4.0), -0.7, 0)


def darker(gray: np.ndarray) -> np.ndarray:
    return (255 * (gray / 255) ** 1.5).astype(np.uint8)


def flatter(gray: np.ndarray) -> np.ndarray:
    return (60 + 0.5 * gray).astype(np.uint8)


@pytest.mark.parametrize("machine", [blurred, sharpened])
def test_sharpness_is_brought_to_one_which_an_equal_histogram_alone_does_not(machine):
    gray = textured()
    left = difference(harmonised(machine(gray)), harmonised(gray))
    assert left < 0.6 * difference(cv2.equalizeHist(machine(gray)), cv2.equalizeHist(gray))


@pytest.mark.parametrize("machine", [darker, flatter])
def test_gray_value_curves_are_undone(machine):
    gray = textured()
    assert difference(harmonised(machine(gray)), harmonised(gray)) < 0.15 * difference(machine(gray), gray)


def test_an_image_keeps_its_kind_and_stays_as_it_came():
    for size in (28, 224, 299):
        gray = textured(size)
        before, found = gray.copy(), harmonised(gray)
        assert found.shape == gray.shape
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(gray, before)


def test_scales_grow_with_the_image():
    large = harmonised(cv2.resize(textured(), (448, 448), interpolation=cv2.INTER_LINEAR))
    small = cv2.resize(large, (224, 224), interpolation=cv2.INTER_AREA)
    assert difference(small, harmonised(textured())) < 6


def test_an_empty_image_stays_empty():
    assert len(np.unique(harmonised(np.full((64, 64), 90, np.uint8)))) == 1


@pytest.fixture
def cfg(tmp_path):
    return config.load("demo", root=tmp_path, **{"data.phantoms": 10, "data.image_size": 32})


def test_the_store_of_harmonised_images_is_another_one(cfg, monkeypatch):
    plain = prepare(cfg)
    asked = config.load(
        "demo", root=cfg.root, **{"data.phantoms": 10, "data.image_size": 32, "data.harmonise": True}
    )
    found = prepare(asked)
    assert asked.store_dir != cfg.store_dir
    assert found.fingerprint != plain.fingerprint
    code = store._code
    monkeypatch.setattr(store, "_code", lambda name: "edited" if name == "harmonise.py" else code(name))
    assert not store._intact(asked.store_dir, store._stamp(asked))  # images of other processing are not these
    assert store._intact(cfg.store_dir, store._stamp(cfg))
    monkeypatch.undo()
    for row in range(len(plain.index)):
        np.testing.assert_array_equal(found.pixels[row], harmonised(np.asarray(plain.pixels[row])))
    np.testing.assert_array_equal(found.masks, plain.masks)
    assert prepare(cfg).fingerprint == plain.fingerprint
