"""The pixel store and its batches: right pixels in the right rows, built once, rebuilt when the images change."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import filelock
import numpy as np
import pandas as pd
import pytest
import torch

from lib import config, files, images, index, originals, pixels, sources, splits, store
from lib.errors import IndexingError
from tests import tiny
from tests.tiny import png, small_set, unzipped, zipped


@pytest.fixture
def cfg(tmp_path):
    cfg = config.load("quick", root=tmp_path / "project", **{"data.image_size": 32})
    unzipped(cfg.raw_dir, small_set())
    return cfg


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cfg = config.load("demo", root=tmp_path_factory.mktemp("phantoms"), **{"data.phantoms": 40, "data.image_size": 32})  # fmt: skip
    return pixels.prepare(cfg, progress=False), cfg


def prepare(cfg):
    return pixels.prepare(cfg, progress=False)


# --- store


def test_row_i_of_the_index_is_pixel_i(cfg):
    built = prepare(cfg)
    assert built.pixels.shape == (16, 32, 32)
    assert isinstance(built.pixels, np.memmap)
    for row, name in enumerate(built.index["image"]):
        gray, _, _ = images.decode((cfg.raw_dir / name).read_bytes())
        np.testing.assert_array_equal(built.pixels[row], images.fit(gray, 32, "squash"))


@pytest.mark.parametrize("aspect", ["crop", "pad"])
def test_squashed_copy_is_cropped_or_padded_in_its_originals_shape(cfg, monkeypatch, aspect):
    name = "chest_xray/train/NORMAL/IM-0100-0001.png"
    monkeypatch.setattr(originals, "sizes", lambda: {"IM-0100-0001": (64, 32)})
    shaped = config.load("quick", root=cfg.root, **{"data.image_size": 32, "data.aspect": aspect})
    built = prepare(shaped)
    gray, _, _ = images.decode((cfg.raw_dir / name).read_bytes())
    (row,) = built.index.index[built.index["image"] == name]
    expected = images.fit(originals.unsquashed(gray, name), 32, aspect)
    np.testing.assert_array_equal(built.pixels[row], expected)
    assert (expected != gray).any()
    assert (np.delete(built.pixels, row, 0) == np.delete(prepare(cfg).pixels, row, 0)).all()


@pytest.mark.parametrize(("aspect", "anew"), [("squash", False), ("crop", True), ("pad", True)])
def test_only_images_of_restored_shape_are_prepared_anew_when_the_restoring_changes(
    cfg, monkeypatch, aspect, anew
):
    shaped = config.load("quick", root=cfg.root, **{"data.image_size": 32, "data.aspect": aspect})
    pixels_file = shaped.store_dir / "pixels.npy"
    prepare(shaped)
    before = pixels_file.stat().st_ino
    monkeypatch.setattr(store, "_code", lambda name: f"another {name}")
    prepare(shaped)
    assert (pixels_file.stat().st_ino != before) == anew


def test_store_cannot_be_written_to(cfg):
    with pytest.raises(ValueError, match="read-only"):
        prepare(cfg).pixels[0, 0, 0] = 1


def test_splits_cover_every_row_once(cfg):
    built = prepare(cfg)
    rows = np.concatenate([built.rows(split) for split in ("train", "val", "test")])
    assert sorted(rows) == list(range(16))


def test_quarantined_image_has_no_pixels(cfg):
    unzipped(cfg.raw_dir, small_set(patients=40) | {"chest_xray/train/NORMAL/IM-0050-0001.png": b"broken"})
    built = prepare(cfg)
    assert len(built.index) == len(built.pixels) == 160
    assert list(built.quarantined["status"]) == ["not an image"]
    row = built.index.index[built.index["image"] == "chest_xray/train/NORMAL/IM-0100-0001.png"][0]
    gray, _, _ = images.decode(png(100))
    np.testing.assert_array_equal(built.pixels[row], gray)


def test_too_many_bad_images_stop_and_leave_no_store(cfg):
    (cfg.raw_dir / "chest_xray/train/NORMAL/IM-0100-0001.png").write_bytes(b"")
    with pytest.raises(IndexingError, match="IM-0100-0001.png: empty file"):
        prepare(cfg)
    assert not cfg.store_dir.exists()
    assert not list(cfg.store_dir.parent.glob(".*.part"))


def test_patient_in_train_and_test_is_refused_at_load(cfg):
    unzipped(cfg.raw_dir, {"chest_xray/test/NORMAL/IM-0100-0002.png": png(3)})
    with pytest.raises(IndexingError, match="IM-100 in test and train"):
        prepare(cfg)


def test_patient_on_both_sides_of_a_stored_index_is_refused_at_load(cfg, monkeypatch):
    prepare(cfg)
    monkeypatch.setattr(splits, "split_validation", lambda table, **_: table.assign(patient="IM-1"))
    with pytest.raises(IndexingError, match="in more than one split"):
        prepare(cfg)


def test_built_once_and_opened_after(cfg, monkeypatch):
    first = prepare(cfg)
    monkeypatch.setattr(store, "_build", None)  # calling it would fail
    second = prepare(cfg)
    assert second.fingerprint == first.fingerprint
    pd.testing.assert_frame_equal(second.index, first.index)


@pytest.mark.parametrize("change", ["add", "remove", "replace", "truncate the store", "delete its index"])
def test_whatever_changes_is_noticed(cfg, change):
    before = prepare(cfg)
    name = cfg.raw_dir / "chest_xray/train/NORMAL/IM-0100-0001.png"
    if change == "add":
        unzipped(cfg.raw_dir, {"chest_xray/train/NORMAL/IM-0200-0001.png": png(9)})
    elif change == "remove":
        name.unlink()
    elif change == "replace":
        name.write_bytes(png(9))
    elif change == "truncate the store":
        with open(cfg.store_dir / "pixels.npy", "r+b") as out:
            out.truncate(500)
    else:
        (cfg.store_dir / "index.csv").unlink()
    after = prepare(cfg)
    assert len(after.index) == {"add": 17, "remove": 15}.get(change, 16)
    assert (after.fingerprint == before.fingerprint) == ("store" in change or "index" in change)


def test_note_of_the_origin_is_noticed(cfg):
    """It decides what the folder val is."""
    unzipped(cfg.raw_dir, {"chest_xray/val/NORMAL/IM-0500-0001.png": png(5)})
    assert len(prepare(cfg).rows("val")) == 2
    files.write_json(cfg.raw_dir / index.NOTE, {"own_val": True})
    assert len(prepare(cfg).rows("val")) == 1


@pytest.mark.parametrize("damage", [b"\xff\xfe\0", b"[]", b"{", b"7", b'{"stamp": 1}', "files"])
def test_damaged_description_of_the_store_has_it_built_again(cfg, damage):
    before = prepare(cfg)
    path = cfg.store_dir / "meta.json"
    whole = path.read_bytes()
    if damage == "files":  # of the right stamp, but its list of files is none
        files.write_json(path, files.read_json(path) | {"files": 7})
    else:
        path.write_bytes(damage)
    assert prepare(cfg).fingerprint == before.fingerprint
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"\xff\xfe\0", b"{"])
def test_damaged_description_of_the_phantoms_has_them_drawn_again(tmp_path, damage):
    cfg = config.load("demo", root=tmp_path, **{"data.phantoms": 40, "data.image_size": 32})
    before = prepare(cfg).fingerprint
    (cfg.raw_dir / "phantoms.json").write_bytes(damage)
    assert prepare(cfg).fingerprint == before


@pytest.mark.parametrize("lost", ["chest_xray/**/*.png", "masks/**/*.png"])
def test_phantoms_of_which_a_deletion_left_some_are_drawn_again(tmp_path, lost):
    cfg = config.load("demo", root=tmp_path, **{"data.phantoms": 40, "data.image_size": 32})
    before = prepare(cfg)
    assert len(before.index) == 40
    files.remove(cfg.store_dir)
    next(cfg.raw_dir.glob(lost)).unlink()
    after = prepare(cfg)
    assert after.fingerprint == before.fingerprint
    assert len(list(cfg.raw_dir.glob(lost))) == 40


def test_no_process_draws_other_phantoms_before_the_store_of_these_is_open(tmp_path, monkeypatch):
    cfg = config.load("demo", root=tmp_path, **{"data.phantoms": 40, "data.image_size": 32})
    waiting = {}

    def must_wait():
        try:
            with store._alone(cfg.raw_dir).acquire(timeout=0):
                return False
        except filelock.Timeout:
            return True

    def watch(name, kept):
        def watched(*words, **named):
            with ThreadPoolExecutor(1) as another:
                waiting[name] = another.submit(must_wait).result()
            return kept(*words, **named)

        return watched

    for name in ("_draw", "_stamp", "_build", "_open"):
        monkeypatch.setattr(store, name, watch(name, getattr(store, name)))
    prepare(cfg)
    assert waiting == dict.fromkeys(("_draw", "_stamp", "_build", "_open"), True)
    assert not must_wait()


def test_of_two_that_ask_at_once_for_a_store_one_builds_it(cfg, monkeypatch):
    began, build = [], store._build

    def slowly(*about, **settings):
        began.append(1)
        time.sleep(0.3)
        return build(*about, **settings)

    monkeypatch.setattr(store, "_build", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: pixels.prepare(cfg, progress=False), range(2))
    assert len(began) == 1
    assert first.fingerprint == second.fingerprint


def test_broken_link_is_quarantined_until_it_leads_somewhere(cfg, tmp_path):
    unzipped(cfg.raw_dir, small_set(patients=40))
    (cfg.raw_dir / "chest_xray/train/NORMAL/IM-0900-0001.png").symlink_to(tmp_path / "later.png")
    assert list(prepare(cfg).quarantined["status"]) == ["cannot be read: No such file or directory"]
    (tmp_path / "later.png").write_bytes(png(5))
    built = prepare(cfg)
    assert len(built.quarantined) == 0
    assert len(built.index) == 161


def test_name_that_is_not_utf8_is_quarantined(cfg):
    unzipped(cfg.raw_dir, small_set(patients=40))
    name = os.fsdecode("IM-0900-0001-胸.png".encode("gbk"))
    (cfg.raw_dir / "chest_xray/train/NORMAL" / name).write_bytes(png(5))
    assert list(prepare(cfg).quarantined["status"]) == ["the name is not UTF-8"]
    assert prepare(cfg).quarantined["image"][0] == r"chest_xray/train/NORMAL/IM-0900-0001-\xd0\xd8.png"


def test_other_settings_have_other_stores(cfg):
    squashed = prepare(cfg)
    divided = prepare(config.load("quick", root=cfg.root, **{"data.image_size": 32, "data.split_seed": 7}))
    larger = prepare(config.load("quick", root=cfg.root, **{"data.image_size": 40}))
    assert larger.pixels.shape == (16, 40, 40)
    assert len({squashed.fingerprint, divided.fingerprint, larger.fingerprint}) == 3
    assert prepare(cfg).fingerprint == squashed.fingerprint


def test_masks_of_phantoms_lie_inside_their_lungs(phantoms):
    built, cfg = phantoms
    sick, healthy = (np.flatnonzero(built.index["label"] == label) for label in (1, 0))
    assert built.mask(int(sick[0])).shape == (32, 32)
    assert all(built.mask(int(row)).any() for row in sick)
    assert not any(built.mask(int(row)).any() for row in healthy)


def test_real_images_have_no_masks(cfg):
    assert prepare(cfg).mask(0) is None


# --- batches


def test_to_input_normalises():
    given = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1)
    out = pixels.to_input(given.expand(3, 4, 4))
    assert out.shape == (3, 3, 4, 4)
    torch.testing.assert_close(out[:, 0, 0, 0], torch.tensor([-1, (51 / 255 - 0.5) / 0.5, 1]))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_batches_without_a_generator_keep_the_order(phantoms):
    built, _ = phantoms
    rows = built.rows("train")
    seen = list(pixels.batches(built, rows, 7))
    assert [len(batch[2]) for batch in seen[:-1]] == [7] * (len(seen) - 1)
    np.testing.assert_array_equal(np.concatenate([batch[2] for batch in seen]), rows)
    inputs, labels, chosen = seen[1]
    torch.testing.assert_close(inputs, pixels.to_input(torch.from_numpy(built.pixels[chosen].copy())))
    np.testing.assert_array_equal(labels.numpy(), built.index["label"].to_numpy()[chosen])
    assert labels.dtype == torch.float32


def test_shuffled_batches_hold_every_row_once_in_a_seeded_order(phantoms):
    built, _ = phantoms
    rows = built.rows("train")

    def order(seed):
        batches = pixels.batches(built, rows, 4, generator=torch.Generator().manual_seed(seed))
        return np.concatenate([batch[2] for batch in batches])

    np.testing.assert_array_equal(order(1), order(1))
    assert not np.array_equal(order(1), order(2))
    assert sorted(order(1)) == list(rows)
    generator = torch.Generator().manual_seed(1)
    epochs = [np.concatenate([b[2] for b in pixels.batches(built, rows, 4, generator=generator)]) for _ in "ab"]  # fmt: skip
    assert not np.array_equal(*epochs)


def test_augmented_batches_are_seeded_and_their_labels_untouched(phantoms):
    built, _ = phantoms
    rows = built.rows("train")[:6]

    def batch(seed, strength):
        return next(
            pixels.batches(built, rows, 6, generator=torch.Generator().manual_seed(seed), augment=strength)
        )

    varied, labels, chosen = batch(1, 0.5)
    torch.testing.assert_close(varied, batch(1, 0.5)[0], rtol=0, atol=0)
    plain = pixels.to_input(torch.from_numpy(built.pixels[chosen].copy()))
    assert (varied - plain).abs().mean() > 0.01
    np.testing.assert_array_equal(labels.numpy(), built.index["label"].to_numpy()[chosen])
    assert varied.min() >= -1
    assert varied.max() <= 1


@pytest.mark.parametrize("varied", [{"augment": 0.5}, {"stretch": 0.5}])
def test_augmentation_needs_a_generator(phantoms, varied):
    with pytest.raises(ValueError, match=r"0\.5.*; augmentation needs a generator"):
        next(pixels.batches(phantoms[0], [0], 1, **varied))


def test_no_rows_no_batches(phantoms):
    assert list(pixels.batches(phantoms[0], np.array([], int), 4)) == []


def test_open_store_is_quick(tmp_path):
    cfg = tiny.real(tmp_path, **{"data.image_size": 32})
    sources_zip = zipped(tmp_path / "set.zip", small_set(patients=90))
    sources.fetch(cfg, source=sources_zip, progress=False)
    prepare(cfg)
    began = time.process_time()
    prepare(cfg)
    assert time.process_time() - began < 0.5
