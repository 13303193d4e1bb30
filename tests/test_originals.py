import hashlib

import numpy as np
import pandas as pd
import pytest

from lib import images, originals
from lib.store import PixelStore


def gradient(side=40):
    return np.tile(np.arange(0, 5 * side, 5, dtype=np.uint8), (side, 1))


@pytest.fixture
def three_sizes(monkeypatch):
    known = {"wide": (300, 150), "tall": (150, 300), "square": (200, 200)}
    monkeypatch.setattr(originals, "sizes", lambda: known)


def test_every_published_image_has_its_size():
    sizes = originals.sizes()
    assert len(sizes) == 5856
    assert sizes["IM-0001-0001"] == (1857, 1317)
    # The published PneumoniaMNIST states the same ranges of its source images: 384 to 2,916 and 127 to 2,713.
    widths, heights = zip(*sizes.values(), strict=True)
    assert (min(widths), max(widths), min(heights), max(heights)) == (384, 2916, 127, 2713)


def test_squashed_copy_gets_its_shape_back(three_sizes):
    assert originals.unsquashed(gradient(), "train/NORMAL/wide.jpeg").shape == (40, 80)
    assert originals.unsquashed(gradient(), "train/NORMAL/tall.jpeg").shape == (80, 40)


def test_along_the_shorter_side_nothing_changes(three_sizes):
    tall = originals.unsquashed(gradient(), "tall.jpeg")
    np.testing.assert_array_equal(tall, np.repeat(gradient()[:1], 80, 0))


def test_stretched_pixels_are_the_same_on_every_processor(three_sizes):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    found = hashlib.sha256(originals.unsquashed(noise, "wide.jpeg")).hexdigest()
    assert found[:16] == "5c0a13a64cf323a6"


@pytest.mark.parametrize("name", ["square.png", "unknown.png"])
def test_square_original_and_foreign_image_stay(three_sizes, name):
    np.testing.assert_array_equal(originals.unsquashed(gradient(), name), gradient())


def test_image_that_has_its_shape_stays(three_sizes):
    original = gradient(300)[:150]
    np.testing.assert_array_equal(originals.unsquashed(original, "wide.jpeg"), original)


def test_crop_of_a_squashed_copy_is_that_of_its_original(three_sizes):
    columns = 127 + 100 * np.sin(np.arange(300) / 25)
    original = np.tile(columns.round().astype(np.uint8), (150, 1))
    copy = images.fit(original, 50, "squash")
    cropped = images.fit(originals.unsquashed(copy, "wide.jpeg"), 50, "crop")
    np.testing.assert_allclose(cropped.astype(int), images.fit(original, 50, "crop"), atol=3)
    assert np.abs(copy.astype(int) - cropped).max() > 50


def store_of(sizes, kind="by hand"):
    table = pd.DataFrame(sizes, columns=["width", "height"]).assign(
        image=["a/wide.png", "a/tall.png", "a/unknown.png"]
    )
    return PixelStore(table, np.zeros((3, 9, 9), np.uint8), "", table.iloc[:0], {"kind": kind})


def test_sizes_of_squashed_copies_are_their_originals(three_sizes):
    found = originals.of(store_of([(9, 9)] * 3))
    assert found.to_numpy().tolist() == [[300, 150], [150, 300], [9, 9]]


def test_files_that_are_no_squares_and_phantoms_keep_their_sizes(three_sizes):
    own = [(8, 4), (9, 9), (7, 7)]
    assert originals.of(store_of(own)).to_numpy().tolist() == [[8, 4], [150, 300], [7, 7]]
    assert originals.of(store_of(own, "phantoms")).to_numpy().tolist() == [list(size) for size in own]
