"""The index on crafted trees: patients, folders, every reason to leave an image out, and when to stop."""

import io
import json
import os
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import index, tree
from lib.errors import IndexingError, SourceError
from tests import tiny

NORMAL = "chest_xray/train/NORMAL/IM-0001-0001.png"


def png_of(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def png(size=(12, 10), seed=0) -> bytes:
    return png_of(np.random.default_rng(seed).integers(0, 256, size[::-1], np.uint8))


def put(root, name: str, data: bytes | None = None) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data)


def good_tree(root, patients: int = 3, top: str = "chest_xray/") -> None:
    tiny.unzipped(root, tiny.small_set(top, patients=patients))


def row(root, name: str) -> pd.Series:
    return tiny.indexed(root).set_index("image").loc[name]


# --- patients


@pytest.mark.parametrize(
    ("name", "patient", "subtype"),
    [
        ("person78_bacteria_380.jpeg", "bacteria-78", "bacterial"),
        ("person78_virus_380.jpeg", "virus-78", "viral"),
        ("IM-0115-0001.jpeg", "IM-115", "normal"),
        ("NORMAL2-IM-0095-0001.jpeg", "NORMAL2-IM-95", "normal"),
        ("NORMAL2-IM-0095-0001-0002.jpeg", "NORMAL2-IM-95", "normal"),
        ("BACTERIA-1008087-0001.jpeg", "bacteria-1008087", "bacterial"),
        ("VIRUS-12-0003.jpeg", "virus-12", "viral"),
        ("NORMAL-1003233-0001.jpeg", "normal-1003233", "normal"),
        ("aug_3_person7_virus_9.png", "virus-7", "viral"),
        ("scan.jpeg", None, "unknown"),
        ("person78.jpeg", None, "unknown"),
        ("", None, "unknown"),
    ],
)
def test_patient_is_kind_and_number(name, patient, subtype):
    assert index.patient_key(name) == (patient, subtype)


# --- folders


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chest_xray/train/NORMAL/a.jpeg", ("chest_xray", "train", 0)),
        ("train/PNEUMONIA/a.jpeg", ("", "train", 1)),
        ("x/y/test/pneumonia/a.jpeg", ("x/y", "test", 1)),
        ("training/augmented_train/NORMAL/a.png", ("", "augmented_train", 0)),
        ("testing/augmented_test/PNEUMONIA/a.png", ("", "augmented_test", 1)),
        ("chest_xray/val/NORMAL/a.jpeg", ("chest_xray", "val", 0)),
        ("__MACOSX/chest_xray/train/NORMAL/a.jpeg", None),
        ("chest_xray/train/NORMAL/.DS_Store", None),
        ("chest_xray/train/NORMAL/._a.jpeg", None),
        (".hidden/train/NORMAL/a.jpeg", None),
        ("chest_xray/train/a.jpeg", None),
        ("NORMAL/a.jpeg", None),
        ("NORMAL/train/a.jpeg", None),
        ("chest_xray/train/OTHER/a.jpeg", None),
    ],
)
def test_place_of_a_path(name, expected):
    assert tree.place(name) == expected


def test_kaggle_val_is_folded_into_train_and_its_second_copy_ignored(tmp_path):
    good_tree(tmp_path)
    good_tree(tmp_path, top="chest_xray/chest_xray/")
    good_tree(tmp_path, top="__MACOSX/chest_xray/")
    put(tmp_path, "chest_xray/val/NORMAL/IM-0500-0001.png")
    table = tiny.indexed(tmp_path)
    assert len(table) == 13
    assert table.set_index("image").loc["chest_xray/val/NORMAL/IM-0500-0001.png", "split"] == "train"
    assert set(table["split"]) == {"train", "test"}
    assert set(table["status"]) == {"ok"}


def test_of_nested_sets_the_outermost_wins_and_adds_what_it_lacks():
    names = [
        "x/a/train/NORMAL/1.png",
        "x/train/NORMAL/1.png",
        "x/a/b/train/NORMAL/1.png",
        "x/a/train/NORMAL/2.png",
    ]
    assert tree.select(names) == ["x/a/train/NORMAL/2.png", "x/train/NORMAL/1.png"]
    assert tree.select(["train/NORMAL/1.png", "a/train/NORMAL/1.png"]) == ["train/NORMAL/1.png"]


@pytest.mark.parametrize("other", ["b", "ab", "x/a"])
def test_sets_side_by_side_are_refused_by_name(tmp_path, other):
    good_tree(tmp_path, top="a/")
    good_tree(tmp_path, top=f"{other}/")
    with pytest.raises(IndexingError, match=f"side by side, a and {other}, each with t"):
        tiny.indexed(tmp_path)


def test_splits_may_lie_in_folders_of_their_own():
    names = ["learn/train/NORMAL/1.png", "score/test/NORMAL/1.png"]
    assert tree.select(names) == names


def test_folders_of_one_set_each_may_lie_side_by_side():
    names = ["ill/train/PNEUMONIA/1.png", "normal/train/NORMAL/1.png"]
    assert tree.select(names) == names


def test_a_link_to_what_is_there_anyway_adds_nothing(tmp_path):
    good_tree(tmp_path)
    expected = tree.find_images(tmp_path)
    (tmp_path / "latest").symlink_to(tmp_path / expected[0].split("/")[0])
    (tmp_path / NORMAL).parent.with_name("normal").symlink_to("NORMAL")
    assert tree.find_images(tmp_path) == expected


def test_a_link_to_a_hidden_folder_is_gone_into(tmp_path):
    good_tree(tmp_path)
    expected, folder = tree.find_images(tmp_path), (tmp_path / NORMAL).parent
    folder.rename(tmp_path / ".kept")
    folder.symlink_to(tmp_path / ".kept")
    assert tree.find_images(tmp_path) == expected


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    good_tree(tmp_path)
    real = os.listdir

    def listdir(folder):
        if str(folder).endswith("NORMAL"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(IndexingError, match=r"cannot be used: .*NORMAL cannot be read \(Permission denied\)"):
        tree.find_images(tmp_path)


def test_linked_folders_are_gone_into_and_not_back(tmp_path):
    real, raw = tmp_path / "real", tmp_path / "raw"
    good_tree(real)
    expected = tree.find_images(real)
    for one, other in (("a", "b"), ("b", "a")):  # round and round
        (raw / one).mkdir(parents=True)
        (raw / one / "on").symlink_to(raw / other)
    (raw / "chest_xray").symlink_to(real / "chest_xray")
    (real / "chest_xray" / "train" / "NORMAL" / "back").symlink_to(raw)
    (real / "chest_xray" / "itself").symlink_to("itself")
    assert tree.find_images(raw) == expected
    assert len(index.accepted(tiny.indexed(raw))) == 12


def test_row_of_an_image(tmp_path):
    put(tmp_path, NORMAL, png((12, 10)))
    seen = row(tmp_path, NORMAL)
    assert (seen.width, seen.height, seen["mode"], seen.bytes) == (12, 10, "L", len(png((12, 10))))
    assert re.fullmatch("[0-9a-f]{64}", seen.sha256)
    assert (seen.split, seen.label, seen.subtype, seen.patient) == ("train", 0, "normal", "IM-1")


def test_index_does_not_depend_on_the_number_of_threads(tmp_path, monkeypatch):
    good_tree(tmp_path, patients=9)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(index.joblib, "cpu_count", lambda threads=threads: threads)
        found.append(tiny.indexed(tmp_path).to_dict("records"))
    one, four = found
    assert one == four == sorted(one, key=lambda row: row["image"])


# --- quarantine


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(out, "JPEG")
    return out.getvalue()


BAD = {
    "empty": ("train/NORMAL/IM-0001-0001.png", b"", "empty file"),
    "text": ("train/NORMAL/IM-0001-0001.jpeg", b"<html>not found</html>", "not an image"),
    "suffix": ("train/NORMAL/IM-0001-0001.txt", b"notes", "not an image"),
    "truncated jpeg": ("train/NORMAL/IM-0001-0001.jpeg", jpeg()[:-200], "damaged: image file is truncated"),
    "truncated png": ("train/NORMAL/IM-0001-0001.png", png((64, 64))[:-200], "damaged"),
    "header alone": ("train/NORMAL/IM-0001-0001.png", png()[:20], "damaged|not an image"),
    "zeros": ("train/NORMAL/IM-0001-0001.png", bytes(500), "not an image"),
    "corrupt png": (
        "train/NORMAL/IM-0001-0001.png",
        png((64, 64))[:300] + b"\0" * 40 + png((64, 64))[340:],
        "damaged",
    ),
    "blank": ("train/NORMAL/IM-0001-0001.png", png_of(np.full((9, 9), 80, np.uint8)), "blank"),
    "12 bits": (
        "train/NORMAL/IM-0001-0001.png",
        png_of(np.arange(4096, dtype=np.uint16).reshape(64, 64)),
        "pixels of unknown depth: values 0 to 4095",
    ),
    "no patient": ("train/NORMAL/scan.png", None, "the name carries no patient"),
    "normal in pneumonia": (
        "train/PNEUMONIA/IM-0001-0001.png",
        None,
        "the label contradicts the name: normal in PNEUMONIA",
    ),
    "pneumonia in normal": (
        "train/NORMAL/person1_bacteria_2.png",
        None,
        "the label contradicts the name: bacterial in NORMAL",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_image_is_quarantined_with_its_reason(tmp_path, case):
    name, data, reason = BAD[case]
    put(tmp_path, name, data)
    assert re.match(reason, row(tmp_path, name).status)


def test_oversized_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "LARGEST_FILE", 20)
    put(tmp_path, NORMAL)
    seen = row(tmp_path, NORMAL)
    assert seen.status.startswith("oversized")
    assert seen.sha256 == ""


def test_image_of_too_many_pixels_is_not_decoded(tmp_path):
    out = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(out, "PNG")
    put(tmp_path, NORMAL, out.getvalue())
    assert row(tmp_path, NORMAL).status == "oversized: 10000 x 6000 pixels"


@pytest.mark.parametrize("patients", [True, False])
def test_name_that_is_not_utf8_is_quarantined_under_one_that_can_be_written(tmp_path, patients):
    name = (tmp_path / NORMAL).parent / os.fsdecode("IM-0001-0001-胸.png".encode("gbk"))
    put(tmp_path, str(name))
    (tmp_path / index.NOTE).write_text(json.dumps({"patients": patients}))
    seen = tiny.indexed(tmp_path).iloc[0]
    assert seen.status == "the name is not UTF-8"
    assert seen.image == r"chest_xray/train/NORMAL/IM-0001-0001-\xd0\xd8.png"


def test_few_quarantined_images_are_left_out(tmp_path):
    good_tree(tmp_path, patients=30)
    put(tmp_path, "chest_xray/train/NORMAL/IM-9999-0001.png", b"")
    table = tiny.indexed(tmp_path)
    kept = index.accepted(table)
    assert len(table) == 121
    assert len(kept) == 120
    assert "chest_xray/train/NORMAL/IM-9999-0001.png" not in set(kept["image"])


def test_more_than_one_percent_stops_with_the_list(tmp_path):
    good_tree(tmp_path, patients=30)
    put(tmp_path, "chest_xray/train/NORMAL/IM-9999-0001.png", b"")
    put(tmp_path, "chest_xray/test/NORMAL/scan.png")
    with pytest.raises(IndexingError) as error:
        index.accepted(tiny.indexed(tmp_path))
    message = str(error.value)
    assert message.startswith("2 of 122 images cannot be used, more than 1%")
    assert "chest_xray/train/NORMAL/IM-9999-0001.png: empty file" in message
    assert "chest_xray/test/NORMAL/scan.png: the name carries no patient" in message


def test_a_long_list_of_unusable_images_is_cut_and_counted():
    bad = pd.DataFrame({"image": [f"{k:04}.png" for k in range(1234)], "status": "blank"})
    lines = index.listed(bad).splitlines()
    assert lines[0] == "  0000.png: blank"
    assert lines[-1] == "  and 1,214 others"
    assert len(lines) == 21
    assert len(index.listed(bad.head(20)).splitlines()) == 20


def test_folder_without_a_class_is_named(tmp_path):
    good_tree(tmp_path)
    for path in (tmp_path / "chest_xray/test/PNEUMONIA").iterdir():
        path.unlink()
    with pytest.raises(IndexingError, match="no images in test/PNEUMONIA;"):
        index.accepted(tiny.indexed(tmp_path))


def test_empty_folder_is_an_error_and_no_table_of_nothing(tmp_path):
    with pytest.raises(IndexingError, match="no images in train/NORMAL, train/PNEUMONIA"):
        index.accepted(tiny.indexed(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"images": "many"}', '{"name": 3}', '{"patients": "no"}'])
def test_damaged_note_of_the_origin_is_named(tmp_path, text):
    assert index.note(tmp_path) == {}
    (tmp_path / index.NOTE).write_text(text)
    with pytest.raises(
        SourceError, match="source.json is damaged; move its folder away and run `make data` again"
    ):
        index.note(tmp_path)
