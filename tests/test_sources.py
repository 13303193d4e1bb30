"""`make data` from files: archives, folders, PneumoniaMNIST, weights; what is refused leaves nothing behind."""

import dataclasses
import os
import stat
import zipfile

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from lib import config, files, index, models, sources, store
from lib.errors import IndexingError
from lib.sources import SourceError, archive, imagenet, medmnist
from tests import tiny
from tests.tiny import png, small_set, unzipped, zipped

WEIGHTS = config.ROOT.parent / "shared" / "weights" / "legacy_xception.tf_in1k.notop.fp16.safetensors"


@pytest.fixture
def cfg(tmp_path):
    """A project folder whose weights are there already (a stand-in: nothing here reads them)."""
    return tiny.real(tmp_path / "project", **{"data.image_size": 32})


def nothing_left(cfg) -> bool:
    """No images, and no half-written folder beside."""
    return not cfg.raw_dir.exists() and not list(cfg.raw_dir.parent.glob(".*.part"))


def make_data(cfg, *words: str) -> int:
    return sources.main(["--root", str(cfg.root), *words])


# --- shapes of archives and folders


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"top": ""},
        {"top": "archive/chest_xray/"},
        {"train": "training/augmented_train", "test": "testing/augmented_test", "top": ""},
        {"train": "Train", "test": "Test"},
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_accepted_shapes(tmp_path, cfg, shape, packed):
    members = small_set(**shape)
    source = zipped(tmp_path / "set.zip", members) if packed else unzipped(tmp_path / "set", members)
    sources.fetch(cfg, source=source, progress=False)
    assert {name: (cfg.raw_dir / name).read_bytes() for name in members} == members
    prepared = store.prepare(cfg, progress=False)
    assert len(prepared.index) == 16
    assert {split: len(prepared.rows(split)) for split in ("train", "val", "test")} == {
        "train": 6,
        "val": 2,
        "test": 8,
    }


@pytest.mark.parametrize("packed", [True, False])
def test_litter_and_foreign_files_stay_behind_and_bad_images_come_along(tmp_path, cfg, packed):
    members = small_set(patients=60)
    litter = {
        "__MACOSX/chest_xray/train/NORMAL/._IM-0100-0001.png": b"x",
        "chest_xray/.DS_Store": b"x",
        "chest_xray/train/NORMAL/.DS_Store": b"x",
        "chest_xray/train/NORMAL/Thumbs.db": b"x",
        "chest_xray/train/NORMAL/notes.txt": b"x",
        "chest_xray/readme.md": b"x",
    }
    bad = {"chest_xray/train/NORMAL/IM-0900-0001.png": b""}
    given = members | litter | bad
    source = zipped(tmp_path / "set.zip", given) if packed else unzipped(tmp_path / "set", given)
    sources.fetch(cfg, source=source, progress=False)
    assert set(index.find_images(cfg.raw_dir)) == set(members | bad)
    kept = {path.name for path in cfg.raw_dir.rglob("*") if path.is_file()}
    assert kept == {name.rsplit("/", 1)[1] for name in members | bad} | {index.NOTE}
    assert list(store.prepare(cfg, progress=False).quarantined["status"]) == ["empty file"]


def test_kaggle_copy_keeps_one_of_its_two_trees_and_folds_val_into_train(tmp_path, cfg):
    members = small_set() | small_set("chest_xray/chest_xray/")
    members["chest_xray/val/NORMAL/IM-0500-0001.png"] = png(5)
    sources.fetch(cfg, source=zipped(tmp_path / "kaggle.zip", members), progress=False)
    table = tiny.indexed(cfg.raw_dir)
    assert len(table) == 17
    assert (table["split"] == "train").sum() == 9


def test_same_source_is_not_unpacked_again_and_another_one_replaces_it(tmp_path, cfg, capsys):
    first = zipped(tmp_path / "first.zip", small_set())
    sources.fetch(cfg, source=first, progress=False)
    stamp = cfg.raw_dir.stat().st_ino
    sources.fetch(cfg, source=first, progress=False)
    assert cfg.raw_dir.stat().st_ino == stamp
    assert "are in" in capsys.readouterr().out
    sources.fetch(cfg, source=zipped(tmp_path / "second.zip", small_set(patients=5)), progress=False)
    assert (
        f"20 of second.zip are now in {cfg.raw_dir}, in place of 16 of first.zip." in capsys.readouterr().out
    )
    assert len(index.find_images(cfg.raw_dir)) == 20
    assert [path.name for path in cfg.raw_dir.parent.iterdir() if path.is_dir()] == [cfg.raw_dir.name]


def test_image_that_was_deleted_comes_back(tmp_path, cfg):
    source = zipped(tmp_path / "set.zip", small_set())
    sources.fetch(cfg, source=source, progress=False)
    (cfg.raw_dir / "chest_xray/train/NORMAL/IM-0100-0001.png").unlink()
    sources.fetch(cfg, source=source, progress=False)
    assert len(index.find_images(cfg.raw_dir)) == 16


def test_without_a_source_images_that_are_there_are_kept(tmp_path, cfg, monkeypatch):
    sources.fetch(cfg, source=zipped(tmp_path / "set.zip", small_set()), progress=False)
    monkeypatch.setattr(sources.download, "fetch", None)  # a download would fail
    sources.fetch(cfg, progress=False)
    assert len(index.find_images(cfg.raw_dir)) == 16


def test_without_a_source_what_is_left_of_a_set_is_kept_and_told(tmp_path, cfg, monkeypatch, capsys):
    source = zipped(tmp_path / "mine.zip", small_set())
    sources.fetch(cfg, source=source, progress=False)
    (cfg.raw_dir / "chest_xray/train/NORMAL/IM-0100-0001.png").unlink()
    monkeypatch.setattr(sources.download, "fetch", None)  # a download would fail
    sources.fetch(cfg, progress=False)
    said = capsys.readouterr().out
    assert "15 are in" in said
    assert "1 of 16 are missing; to have them all again, run `make data SOURCE=<mine.zip>`." in said
    assert index.note(cfg.raw_dir)["name"] == "mine.zip"
    monkeypatch.setattr(sources, "PUBLIC", dataclasses.replace(sources.PUBLIC, sha256=files.sha256(source)))
    sources.fetch(cfg, progress=False)
    assert "SOURCE=<mine.zip>`, or delete the folder and run `make data`." in capsys.readouterr().out
    assert len(index.find_images(cfg.raw_dir)) == 15


def test_folder_filled_by_hand_is_never_replaced(tmp_path, cfg, monkeypatch, capsys):
    unzipped(cfg.raw_dir, small_set())
    source = zipped(tmp_path / "set.zip", small_set(patients=5))
    assert make_data(cfg, "--source", str(source)) == 1
    said = capsys.readouterr().err
    assert f"{cfg.raw_dir} holds 16 files that `make data` did not put there" in said
    assert "move the folder away first" in said
    assert said.count("\n") == 1
    assert len(index.find_images(cfg.raw_dir)) == 16
    monkeypatch.setattr(sources.download, "fetch", None)  # a download would fail
    sources.fetch(cfg, progress=False)
    os.rename(cfg.raw_dir / "chest_xray" / "train", cfg.raw_dir / "chest_xray" / "learn")
    files.remove(cfg.raw_dir / "chest_xray" / "test")  # files, but none that make data could use
    assert make_data(cfg) == 1
    assert "holds 8 files that `make data` did not put there" in capsys.readouterr().err


def test_litter_is_nothing_that_was_put_there_by_hand(tmp_path, cfg):
    for name in ("Thumbs.db", ".cache/kept.json", "__MACOSX/x.png"):
        path = cfg.raw_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert make_data(cfg, "--source", str(zipped(tmp_path / "set.zip", small_set()))) == 0
    assert len(index.find_images(cfg.raw_dir)) == 16


def test_image_that_was_added_by_hand_is_kept(tmp_path, cfg, monkeypatch):
    sources.fetch(cfg, source=zipped(tmp_path / "set.zip", small_set()), progress=False)
    added = cfg.raw_dir / "chest_xray/train/NORMAL/IM-0900-0001.png"
    added.write_bytes(png(7))
    monkeypatch.setattr(sources.download, "fetch", None)  # a download would fail
    sources.fetch(cfg, progress=False)
    sources.fetch(cfg, source=tmp_path / "set.zip", progress=False)
    assert added.exists()
    assert len(index.find_images(cfg.raw_dir)) == 17


@pytest.mark.parametrize(
    "added", ["notes.txt", "chest_xray/train/NORMAL/IM-0900-0001.png", "chest_xray/train/NORMAL/list.csv"]
)
def test_what_was_put_by_hand_beside_the_images_of_make_data_is_not_replaced(tmp_path, cfg, capsys, added):
    sources.fetch(cfg, source=zipped(tmp_path / "first.zip", small_set()), progress=False)
    (cfg.raw_dir / added).write_bytes(png(7))
    (cfg.raw_dir / ".DS_Store").touch()
    second = zipped(tmp_path / "second.zip", small_set(patients=5))
    assert make_data(cfg, "--source", str(second)) == 1
    assert f"{cfg.raw_dir} holds 1 files that `make data` did not put there" in capsys.readouterr().err
    assert (cfg.raw_dir / added).read_bytes() == png(7)
    assert index.note(cfg.raw_dir)["name"] == "first.zip"
    (cfg.raw_dir / added).unlink()
    assert make_data(cfg, "--source", str(second)) == 0
    assert len(index.find_images(cfg.raw_dir)) == 20


@pytest.mark.parametrize("inside", [".", ".kept.zip", "chest_xray"])
def test_source_in_the_folder_that_it_would_replace_is_refused(tmp_path, cfg, capsys, inside):
    sources.fetch(cfg, source=zipped(tmp_path / "first.zip", small_set()), progress=False)
    zipped(cfg.raw_dir / ".kept.zip", small_set(patients=5))
    assert make_data(cfg, "--source", str(cfg.raw_dir / inside)) == 1
    said = capsys.readouterr().err
    assert "which would be replaced; move it elsewhere first" in said
    assert said.count("\n") == 1
    assert (cfg.raw_dir / ".kept.zip").exists()
    assert len(index.find_images(cfg.raw_dir)) == 16


def test_misspelt_setting_of_the_profile_is_one_sentence(tmp_path, cfg, capsys, monkeypatch):
    monkeypatch.setattr(config, "PROFILES", tmp_path)
    (tmp_path / "full.yaml").write_text("train: {epoch: 2}")
    assert make_data(cfg) == 1
    assert capsys.readouterr().err.startswith("make data: unknown key 'train.epoch'")


def test_refused_source_leaves_the_images_that_are_there(tmp_path, cfg):
    sources.fetch(cfg, source=zipped(tmp_path / "set.zip", small_set()), progress=False)
    with pytest.raises(SourceError, match="not the data set"):
        sources.fetch(cfg, source=zipped(tmp_path / "other.zip", {"a.txt": b"x"}), progress=False)
    assert len(index.find_images(cfg.raw_dir)) == 16


def test_synthetic_radiographs_do_not_pass_for_real_ones(tmp_path, cfg, capsys):
    source = unzipped(tmp_path / "project", small_set())
    (source / "data" / "raw" / "phantoms").mkdir(parents=True)
    (source / "data" / "raw" / "phantoms" / "phantoms.json").write_text("{}")
    assert make_data(cfg, "--source", str(source)) == 1
    assert "holds the demo's synthetic radiographs" in capsys.readouterr().err
    assert nothing_left(cfg)


def test_a_source_that_a_shell_left_empty_is_not_the_current_folder(cfg, capsys):
    with pytest.raises(SystemExit):
        make_data(cfg, "--source", "")
    assert "argument --source: it is empty" in capsys.readouterr().err
    assert nothing_left(cfg)


def test_a_home_that_the_shell_left_as_it_was_is_found(tmp_path, cfg, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    zipped(tmp_path / "mine.zip", small_set())
    assert make_data(cfg, "--weights", "~/none.safetensors") == 1
    assert f"{tmp_path}/none.safetensors" in capsys.readouterr().err
    assert make_data(cfg, "--source", "~/mine.zip") == 0, capsys.readouterr().err


@pytest.mark.parametrize("changed", ["size", "time"])
def test_folder_whose_files_changed_is_another_source(tmp_path, cfg, changed):
    """Names alone do not tell: one file gets another size in the same moment, or another time at the same size."""
    source = unzipped(tmp_path / "set", small_set())
    sources.fetch(cfg, source=source, progress=False)
    name = "chest_xray/train/NORMAL/IM-0100-0001.png"
    before = (source / name).stat().st_mtime_ns
    data = png(5, size=40) if changed == "size" else small_set()[name][:-1] + b"x"
    (source / name).write_bytes(data)
    moment = before + (10**9 if changed == "time" else 0)
    os.utime(source / name, ns=(moment, moment))
    sources.fetch(cfg, source=source, progress=False)
    assert (cfg.raw_dir / name).read_bytes() == data


@pytest.mark.parametrize("packed", [True, False])
def test_few_wrong_names_are_taken_and_more_than_one_percent_refused(tmp_path, cfg, packed):
    def source(name, wrong):
        members = small_set(patients=30) | {
            f"chest_xray/train/NORMAL/scan{i}.png": png(i) for i in range(wrong)
        }
        return zipped(tmp_path / f"{name}.zip", members) if packed else unzipped(tmp_path / name, members)

    with pytest.raises(SourceError, match=r"2 of 122 file names do not fit.*scan0.png: the name carries no"):
        sources.fetch(cfg, source=source("two", 2), progress=False)
    sources.fetch(cfg, source=source("one", 1), progress=False)
    assert len(index.find_images(cfg.raw_dir)) == 121


def test_linked_folders_are_copied(tmp_path, cfg):
    members = small_set(top="")
    real, source = unzipped(tmp_path / "real", members), tmp_path / "set"
    (source / "test").mkdir(parents=True)
    (source / "train").symlink_to(real / "train")
    for label in index.CLASSES:
        (source / "test" / label).symlink_to(real / "test" / label)
    (real / "train" / "NORMAL" / "back").symlink_to(real)  # a link into itself ends somewhere
    sources.fetch(cfg, source=source, progress=False)
    copied = {name: cfg.raw_dir / name for name in members}
    assert {name: path.read_bytes() for name, path in copied.items()} == members
    assert not any(path.is_symlink() for path in cfg.raw_dir.rglob("*"))


# --- refused, each in one sentence


def refused(cfg, source, capsys) -> str:
    """What `make data` says of a source that it does not take."""
    assert make_data(cfg, "--source", str(source)) == 1
    said = capsys.readouterr().err.split("\n")
    sentence = [line for line in said if line.startswith("make data: ")]
    assert len(sentence) == 1
    assert "Traceback" not in "".join(said)
    assert nothing_left(cfg)
    return sentence[0]


def test_missing_source(tmp_path, cfg, capsys):
    assert "there is nothing at" in refused(cfg, tmp_path / "no.zip", capsys)


def test_file_that_is_no_zip(tmp_path, cfg, capsys):
    (tmp_path / "page.zip").write_text("<html>sign in</html>")
    assert "is no zip file that can be read" in refused(cfg, tmp_path / "page.zip", capsys)


def test_zip_that_ends_early(tmp_path, cfg, capsys):
    whole = zipped(tmp_path / "set.zip", small_set()).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    assert "is no zip file that can be read" in refused(cfg, tmp_path / "half.zip", capsys)


def test_zip_with_a_damaged_member(tmp_path, cfg, capsys):
    whole = bytearray(zipped(tmp_path / "set.zip", small_set()).read_bytes())
    at = whole.rindex(png(1004)) + 100  # in the last image
    whole[at : at + 4] = b"\0\1\2\3"
    (tmp_path / "bad.zip").write_bytes(whole)
    assert "Bad CRC-32" in refused(cfg, tmp_path / "bad.zip", capsys)


def test_zip_of_something_else(tmp_path, cfg, capsys):
    other = zipped(tmp_path / "other.zip", {"cats/1.png": png(1), "dogs/1.png": png(2)})
    message = refused(cfg, other, capsys)
    assert "is not the data set" in message
    assert "train/NORMAL, train/PNEUMONIA, test/NORMAL, test/PNEUMONIA" in message


def test_empty_zip_and_empty_folder(tmp_path, cfg, capsys):
    assert "is not the data set" in refused(cfg, zipped(tmp_path / "empty.zip", {}), capsys)
    (tmp_path / "empty").mkdir()
    assert "is not the data set" in refused(cfg, tmp_path / "empty", capsys)


@pytest.mark.parametrize("packed", [True, False])
def test_set_without_both_classes(tmp_path, cfg, capsys, packed):
    members = {name: data for name, data in small_set().items() if "test/NORMAL" not in name}
    source = zipped(tmp_path / "set.zip", members) if packed else unzipped(tmp_path / "set", members)
    assert "there are no images in test/NORMAL;" in refused(cfg, source, capsys)


@pytest.mark.parametrize("packed", [True, False])
def test_a_set_in_a_format_that_is_not_read_names_the_format(tmp_path, cfg, capsys, packed):
    members = {f"{name.rsplit('.', 1)[0]}.dcm": data for name, data in small_set().items()}
    source = zipped(tmp_path / "set.zip", members) if packed else unzipped(tmp_path / "set", members)
    said = refused(cfg, source, capsys)
    assert (
        f"Its folders also hold files that are not read ({len(members)} with .dcm); images are read from .bmp, .gif"
        in said
    )


@pytest.mark.parametrize("packed", [True, False])
def test_what_is_not_taken_is_counted_and_kept_with_the_images(tmp_path, cfg, capsys, packed):
    others = {f"chest_xray/train/NORMAL/IM-{k:04d}-0001.dcm": b"x" for k in (1, 2)}
    others |= {
        "chest_xray/train/BACTERIA/person1_bacteria_1.png": png(1),
        "chest_xray/train/NORMAL/.DS_Store": b"x",
    }
    members = small_set() | others
    source = zipped(tmp_path / "set.zip", members) if packed else unzipped(tmp_path / "set", members)
    assert make_data(cfg, "--source", str(source)) == 0
    told = "2 with .dcm; 1 image in no class of a split"
    assert f"Not taken: {told}." in capsys.readouterr().out
    assert index.note(cfg.raw_dir)["left_out"] == told


@pytest.mark.parametrize("packed", [True, False])
def test_two_sets_side_by_side(tmp_path, cfg, capsys, packed):
    members = small_set("a/") | small_set("b/")
    source = zipped(tmp_path / "set.zip", members) if packed else unzipped(tmp_path / "set", members)
    assert "there are two sets side by side, a and b, each with t" in refused(cfg, source, capsys)


def test_two_sets_in_the_folder_of_images(tmp_path, cfg, capsys):
    unzipped(cfg.raw_dir, small_set("a/") | small_set("b/"))
    for words in ([], ["--source", str(zipped(tmp_path / "set.zip", small_set()))]):
        assert make_data(cfg, *words) == 1
        said = capsys.readouterr().err
        assert f"{cfg.raw_dir} cannot be used: there are two sets side by side, a and b" in said
        assert said.count("\n") == 1
    with pytest.raises(IndexingError, match="two sets side by side, a and b"):
        store.prepare(cfg, progress=False)


def test_folder_with_a_link_to_nowhere(tmp_path, cfg, capsys):
    source = unzipped(tmp_path / "set", small_set())
    (source / "chest_xray/train/NORMAL/IM-0900-0001.png").symlink_to("nowhere.png")
    message = refused(cfg, source, capsys)
    assert "chest_xray/train/NORMAL/IM-0900-0001.png is a link to nowhere or a device" in message


def test_folder_whose_names_are_not_utf8(tmp_path, cfg, capsys):
    source = unzipped(tmp_path / "set", small_set())
    os.rename(source / "chest_xray", os.fsencode(source) + "/胸".encode("gbk"))
    message = refused(cfg, source, capsys)
    assert "16 of 16 file names do not fit" in message
    assert r"\xd0\xd8/test/NORMAL/IM-0001-0001.png: the name is not UTF-8" in message


def test_source_whose_own_name_is_not_utf8_is_taken(tmp_path, cfg, capsys):
    source = os.fsdecode(os.fsencode(tmp_path) + "/胸.zip".encode("gbk"))
    zipped(source, small_set())
    assert make_data(cfg, "--source", source) == 0
    assert r"16 of \xd0\xd8.zip are now in" in capsys.readouterr().out


def test_names_without_patients(tmp_path, cfg, capsys):
    members = {
        f"{name.rsplit('/', 1)[0]}/{number}.png": data
        for number, (name, data) in enumerate(small_set().items())
    }
    message = refused(cfg, zipped(tmp_path / "set.zip", members), capsys)
    assert "16 of 16 file names do not fit" in message
    assert "person78_bacteria_380.jpeg" in message


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.png",
        "chest_xray/train/NORMAL/../../../../escaped.png",
        "/tmp/escaped.png",
        "..\\escaped.png",
        "C:\\escaped.png",
        "C:/escaped.png",
    ],
)
def test_zip_that_tries_to_escape(tmp_path, cfg, capsys, name):
    before = {path for path in tmp_path.rglob("*") if path.name.endswith("escaped.png")}
    source = zipped(tmp_path / "evil.zip", small_set() | {name: png(1)})
    message = refused(cfg, source, capsys)
    assert "would be written outside the folder" in message
    assert {path for path in tmp_path.rglob("*") if path.name.endswith("escaped.png")} == before
    assert not os.path.exists("/tmp/escaped.png")


def test_zip_with_a_link(tmp_path, cfg, capsys):
    link = zipfile.ZipInfo("chest_xray/train/NORMAL/IM-0999-0001.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    source = zipped(tmp_path / "evil.zip", small_set())
    with zipfile.ZipFile(source, "a") as out:
        out.writestr(link, "/etc/passwd")
    assert "is a link or a device" in refused(cfg, source, capsys)


def test_bomb_is_refused_before_it_is_unpacked(tmp_path, cfg, capsys):
    source = tmp_path / "bomb.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name in small_set():
            out.writestr(name, bytes(8_000_000))
    assert source.stat().st_size < 1_000_000
    assert "would unpack to 128,000,000" in refused(cfg, source, capsys)


def test_zip_that_unpacks_to_more_than_any_set(tmp_path, cfg, capsys, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 10_000)
    assert "would unpack to 1" in refused(cfg, zipped(tmp_path / "set.zip", small_set()), capsys)


def test_encrypted_zip(tmp_path, cfg, capsys):
    source = zipped(tmp_path / "set.zip", small_set())
    packed = bytearray(source.read_bytes())
    packed[packed.index(b"PK\1\2") + 8] |= 1  # the first member's flag in the directory
    source.write_bytes(packed)
    message = refused(cfg, source, capsys)
    assert (
        "is encrypted ('chest_xray/train/NORMAL/IM-0100-0001.png'); unpack it and give the folder" in message
    )


def test_zip_of_too_many_members(tmp_path, cfg, capsys, monkeypatch):
    monkeypatch.setattr(archive, "MOST_MEMBERS", 10)
    assert "holds 16 files, more than 10" in refused(cfg, zipped(tmp_path / "set.zip", small_set()), capsys)


def test_names_that_differ_in_case_alone(tmp_path, cfg, capsys):
    members = small_set() | {"chest_xray/train/NORMAL/im-0100-0001.PNG": png(1)}
    members |= {f"chest_xray/train/NORMAL/IM-{n}-0001.png": png(2) for n in range(2000, 2120)}
    assert "upper and lower case" in refused(cfg, zipped(tmp_path / "set.zip", members), capsys)


def test_full_disk_is_one_sentence(tmp_path, cfg, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "data/raw")

    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    assert "No space left on device" in refused(cfg, zipped(tmp_path / "set.zip", small_set()), capsys)


def test_interrupt_ends_with_130_and_leaves_nothing(tmp_path, cfg, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(archive.shutil, "copyfileobj", interrupted)
    assert make_data(cfg, "--source", str(zipped(tmp_path / "set.zip", small_set()))) == 130
    assert nothing_left(cfg)
    assert "run it again" in capsys.readouterr().err


def test_second_make_data_at_once_is_told_to_wait(tmp_path, cfg, capsys):
    source = zipped(tmp_path / "set.zip", small_set())
    cfg.raw_dir.parent.mkdir(parents=True)
    with sources.filelock.FileLock(cfg.raw_dir.with_name(f".{cfg.raw_dir.name}.fetch.lock")):
        assert make_data(cfg, "--source", str(source)) == 1
    assert "another `make data` is at work" in capsys.readouterr().err


def test_source_is_not_changed(tmp_path, cfg):
    source = unzipped(tmp_path / "set", small_set())
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in source.rglob("*")}
    sources.fetch(cfg, source=source, progress=False)
    store.prepare(cfg, progress=False)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in source.rglob("*")} == before


# --- PneumoniaMNIST


def mnist(path, *, size=28, counts=(12, 6, 8), **changed):
    arrays = {}
    for split, count in zip(medmnist.SPLITS, counts, strict=True):
        rng = np.random.default_rng(count)
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, size, size), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    np.savez(path, **(arrays | changed))
    return arrays


def test_pneumoniamnist_keeps_its_split_and_names_no_patient(tmp_path, cfg, capsys):
    arrays = mnist(tmp_path / "pneumoniamnist.npz")
    sources.fetch(cfg, source=tmp_path / "pneumoniamnist.npz", progress=False)
    said = capsys.readouterr().out
    assert "no patient ids" in said
    assert "not that of the published" in said
    table = tiny.indexed(cfg.raw_dir)
    assert table["status"].eq("ok").all()
    assert table["patient"].isna().all()
    assert table["split"].value_counts().to_dict() == {"train": 12, "test": 8, "val": 6}
    assert table.groupby("label")["subtype"].unique().map(list).to_dict() == {0: ["normal"], 1: ["unknown"]}
    for name in table["image"]:
        split, label, number = name.split("/")[0], name.split("/")[1], int(name[-9:-4])
        np.testing.assert_array_equal(
            cv2.imread(str(cfg.raw_dir / name), cv2.IMREAD_UNCHANGED), arrays[f"{split}_images"][number]
        )
        assert arrays[f"{split}_labels"][number, 0] == index.CLASSES[label]
    prepared = store.prepare(cfg, progress=False)
    assert prepared.source["patients"] is False
    assert prepared.index["patient"].is_unique
    assert len(prepared.rows("val")) == 6


def test_published_pneumoniamnist_is_recognised(tmp_path, cfg, capsys, monkeypatch):
    import hashlib

    source = tmp_path / "pneumoniamnist.npz"
    mnist(source)
    digest = hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(medmnist.PUBLISHED, 28, digest)
    sources.fetch(cfg, source=source, progress=False)
    assert "not that of the published" not in capsys.readouterr().out
    assert index.note(cfg.raw_dir)["published"] is True


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_images": np.zeros((12, 28, 28), np.float32)}, "train_images is float32"),
        ({"train_images": np.zeros((12, 28, 28, 3), np.uint8)}, "train_images is uint8 .12, 28, 28, 3."),
        ({"train_images": np.zeros((12, 28, 30), np.uint8)}, "train_images is uint8 .12, 28, 30."),
        ({"train_images": np.zeros((12, 0, 0), np.uint8)}, "train_images is uint8 .12, 0, 0."),
        ({"test_images": np.zeros((8, 64, 64), np.uint8)}, "the images have 28 and 64 pixels a side"),
        ({"val_labels": np.zeros(5, np.uint8)}, "with 5 labels"),
        ({"test_labels": np.arange(8, dtype=np.uint8)}, "test_labels holds"),
        ({"test_labels": np.zeros(8, np.uint8)}, "has no PNEUMONIA images in its test split"),
        ({"train_images": np.array([None] * 12, object)}, "is not PneumoniaMNIST"),
    ],
)
def test_other_npz_is_refused(tmp_path, cfg, changed, said):
    mnist(tmp_path / "other.npz", **changed)
    with pytest.raises(SourceError, match=said):
        sources.fetch(cfg, source=tmp_path / "other.npz", progress=False)
    assert nothing_left(cfg)


def test_npz_that_unpacks_to_too_much(tmp_path, cfg, capsys, monkeypatch):
    mnist(tmp_path / "big.npz")
    monkeypatch.setattr(archive, "LARGEST", 10_000)
    assert "was refused: " in (message := refused(cfg, tmp_path / "big.npz", capsys))
    assert "would unpack to" in message


def test_npz_without_the_arrays_or_damaged(tmp_path, cfg, capsys):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "is not PneumoniaMNIST" in refused(cfg, tmp_path / "other.npz", capsys)
    np.savez_compressed(tmp_path / "good.npz", train_images=np.random.default_rng(0).bytes(5000))
    data = bytearray((tmp_path / "good.npz").read_bytes())
    data[300:340] = bytes(40)
    (tmp_path / "bad.npz").write_bytes(data)
    assert "is not PneumoniaMNIST" in refused(cfg, tmp_path / "bad.npz", capsys)
    (tmp_path / "text.npz").write_text("hello")
    assert "is not PneumoniaMNIST" in refused(cfg, tmp_path / "text.npz", capsys)


# --- weights


@pytest.fixture(scope="module")
def xception_state():
    torch.manual_seed(0)
    return {key: value.half() if value.is_floating_point() else value for key, value in models.XceptionBackbone(0).body.state_dict().items()}  # fmt: skip


def test_weights_from_a_file_with_its_classifier(tmp_path, cfg, xception_state):
    torch.save(xception_state | {"fc.weight": torch.zeros(10, 2048), "fc.bias": torch.zeros(10)}, tmp_path / "w.pth")  # fmt: skip
    imagenet.take(cfg, tmp_path / "w.pth")
    backbone = models.XceptionBackbone(0).body
    models.load_weights(backbone, cfg.weights_file)
    torch.testing.assert_close(backbone.conv1.weight, xception_state["conv1.weight"].float())
    assert not any(key.startswith("fc.") for key in safetensors.torch.load_file(cfg.weights_file))


def test_the_same_weights_again_leave_the_file_as_it_is(tmp_path, cfg, xception_state):
    """What was made with them is not out of date."""
    torch.save(xception_state, tmp_path / "w.pth")
    imagenet.take(cfg, tmp_path / "w.pth")
    os.utime(cfg.weights_file, (1, 1))
    imagenet.take(cfg, tmp_path / "w.pth")
    assert cfg.weights_file.stat().st_mtime == 1
    torch.save(xception_state | {"conv1.weight": xception_state["conv1.weight"] * 2}, tmp_path / "w.pth")
    imagenet.take(cfg, tmp_path / "w.pth")
    assert cfg.weights_file.stat().st_mtime > 1


def test_bad_weights_are_refused_before_any_image_is_taken(tmp_path, cfg, capsys):
    source = zipped(tmp_path / "set.zip", small_set())
    (tmp_path / "text.safetensors").write_text("hello")
    safetensors.torch.save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, said in (
        ("none.pth", "there is no weights file"),
        ("text.safetensors", "no weights file that can be read"),
        ("list.pth", "no weights file that can be read"),
        ("other.safetensors", "does not fit"),
    ):
        assert make_data(cfg, "--source", str(source), "--weights", str(tmp_path / name)) == 1
        error = capsys.readouterr().err
        assert said in error
        assert name in error
        assert "WEIGHTS=<file>" in error
        assert error.count("\n") == 1
        assert nothing_left(cfg)
        assert cfg.weights_file.read_bytes() == b"weights"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, cfg, capsys, xception_state, value):
    broken = xception_state["conv4.pointwise.weight"].clone()
    broken[5] = value
    safetensors.torch.save_file(
        xception_state | {"conv4.pointwise.weight": broken}, tmp_path / "w.safetensors"
    )
    assert make_data(cfg, "--weights", str(tmp_path / "w.safetensors")) == 1
    error = capsys.readouterr().err
    assert "1 of its tensors hold values that are no numbers, such as conv4.pointwise.weight" in error
    assert error.count("\n") == 1
    assert cfg.weights_file.read_bytes() == b"weights"


def from_hub(state):
    """What timm.create_model gives, with these weights."""
    model = type("Features", (), {"body": models.XceptionBackbone(0).body})
    model.body.load_state_dict({key: value.float() for key, value in state.items()})
    return lambda *_, **__: model


def test_weights_of_other_values_are_taken_and_told(tmp_path, cfg, capsys, xception_state, monkeypatch):
    unpacked = zipped(tmp_path / "set.zip", small_set())
    torch.save(xception_state, tmp_path / "w.pth")
    assert make_data(cfg, "--source", str(unpacked), "--weights", str(tmp_path / "w.pth")) == 0
    assert sources.OTHER_WEIGHTS in capsys.readouterr().out
    files.remove(cfg.weights_file)
    monkeypatch.setattr(imagenet.timm, "create_model", from_hub(xception_state))
    assert make_data(cfg) == 0
    assert sources.OTHER_WEIGHTS in capsys.readouterr().out


def test_published_weights_are_recognised_in_any_precision(
    tmp_path, cfg, capsys, xception_state, monkeypatch
):
    """The published ones are stood for by others; the hub gives single precision, a file half."""
    unpacked = zipped(tmp_path / "set.zip", small_set())
    finer = {key: value.float() * (1 + 2**-14) for key, value in xception_state.items()}  # rounds to the same
    make = from_hub(finer)
    monkeypatch.setattr(imagenet, "PUBLISHED", imagenet.digest(make().body))
    monkeypatch.setattr(imagenet.timm, "create_model", make)
    torch.save(xception_state, tmp_path / "w.pth")
    assert make_data(cfg, "--source", str(unpacked), "--weights", str(tmp_path / "w.pth")) == 0
    files.remove(cfg.weights_file)
    assert make_data(cfg) == 0
    said = capsys.readouterr().out
    assert "those of w.pth fit Xception" in said
    assert "fetched from timm's hub" in said
    assert sources.OTHER_WEIGHTS not in said


@pytest.mark.skipif(not WEIGHTS.exists(), reason=f"the real weights are not at {WEIGHTS}")
def test_the_real_weights_are_the_published_ones(tmp_path, cfg, capsys):
    unpacked = zipped(tmp_path / "set.zip", small_set())
    assert make_data(cfg, "--source", str(unpacked), "--weights", str(WEIGHTS)) == 0
    assert sources.OTHER_WEIGHTS not in capsys.readouterr().out
    other = models.read_weights(WEIGHTS)
    other["conv1.weight"][0, 0, 0, 0] += 0.01
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    assert make_data(cfg, "--weights", str(tmp_path / "other.safetensors")) == 0
    assert sources.OTHER_WEIGHTS in capsys.readouterr().out


def test_hub_out_of_reach_keeps_the_images(tmp_path, cfg, capsys, monkeypatch):
    def unreachable(*_, **__):
        raise OSError(-2, "Name or service not known")

    files.remove(cfg.weights_file)
    monkeypatch.setattr(imagenet.timm, "create_model", unreachable)
    assert make_data(cfg, "--source", str(zipped(tmp_path / "set.zip", small_set()))) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the images are in place, but the ImageNet weights of Xception could not be fetched" in error
    assert "make data WEIGHTS=<file>" in error
    assert len(index.find_images(cfg.raw_dir)) == 16
    assert not cfg.weights_file.exists()


def test_help_names_both_options(capsys):
    with pytest.raises(SystemExit) as stopped:
        sources.main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "--source" in said
    assert "--weights" in said
