"""Does every command say in one sentence what its user can mend? With patients in two splits, full disks, foreign weights."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors
import safetensors.torch

from lib import bench, errors, models, publish, sweep, train
from lib.config import load
from lib.errors import SourceError, UserError, reports_errors
from lib.sources import imagenet

ALONE = ["--profile", "quick", "--model", "custom_cnn_lstm"]


def put_images(root: Path, *, test_from: int = 3) -> None:
    """Three patients a class in train, three in test; patients from `test_from` on."""
    for split, first in (("train", 0), ("test", test_from)):
        for number in range(first, first + 3):
            for name in (f"NORMAL/IM-{number:04d}-0001.png", f"PNEUMONIA/person{number}_virus_{number}.png"):
                path = root / "data" / "raw" / "chest_xray" / split / name
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (40, 40), np.uint8))


def sentence(capsys) -> str:
    """What was said on standard error, one line of it."""
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.mark.parametrize(
    "command",
    [
        lambda root: train.main([*ALONE, "--root", root]),
        lambda root: sweep.main(["--profile", "quick", "--root", root]),
        lambda root: bench.main(["--root", root]),
    ],
    ids=["train", "sweep", "bench"],
)
def test_patients_in_two_splits_are_named_by_every_command(command, tmp_path, capsys):
    put_images(tmp_path, test_from=0)
    assert command(str(tmp_path)) == 1
    assert "patients are in more than one split" in sentence(capsys)


def test_a_seed_that_no_generator_takes_is_refused(tmp_path, capsys):
    assert train.main([*ALONE, "--root", str(tmp_path), "--seed", "-1"]) == 1
    assert "--seed is -1; it must lie between" in sentence(capsys)
    assert sweep.main(["--profile", "quick", "--root", str(tmp_path), "--seeds", "0", "-1"]) == 1
    assert "seeds is -1; it must lie between" in sentence(capsys)


def test_publishing_without_images_is_told_in_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(publish.config, "load", lambda profile: load(profile, root=tmp_path))
    assert publish.main(["collect", "--profile", "quick"]) == 1
    assert "there are no images at" in sentence(capsys)


def test_damaged_imagenet_weights_are_named_by_training(tmp_path, capsys):
    put_images(tmp_path)
    weights = load("quick", root=tmp_path).weights_file
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"damaged")
    words = ["--profile", "quick", "--model", "xception_lstm", "--root", str(tmp_path)]
    assert train.main([*words, "--set", "data.image_size=32"]) == 1
    assert f"{weights} is not a readable weights file" in sentence(capsys)


def test_a_damaged_note_of_the_origin_is_named_by_training(tmp_path, capsys):
    put_images(tmp_path)
    (tmp_path / "data" / "raw" / "chest_xray" / "source.json").touch()
    assert train.main([*ALONE, "--root", str(tmp_path)]) == 1
    assert "source.json is damaged" in sentence(capsys)


def test_a_full_disk_under_the_imagenet_weights_is_a_source_error(tmp_path, monkeypatch):
    def full(*_):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(models.XceptionBackbone(0).body.state_dict(), file)
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(SourceError, match="could not be written to .*No space left.*free some disk space"):
        imagenet.take(load("full", root=tmp_path), file)


def raising(error: BaseException, *others: type[Exception]):
    @reports_errors(*others)
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("no images; run make data"), "no images; run make data"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "No space left on device (a/b); free some disk space and run again"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "Permission denied (a/b)"),
        (FileNotFoundError("the weights are not there"), "the weights are not there"),
        (models.WeightsError("damaged"), "damaged"),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_said_in_a_sentence(error, words, capsys):
    assert raising(error, models.WeightsError)() == 1
    assert capsys.readouterr().err == f"error: {words}\n"


def test_an_interrupted_command_says_nothing_and_a_mistake_of_the_code_keeps_its_traceback(capsys):
    assert raising(KeyboardInterrupt())() == errors.INTERRUPTED == 130
    with pytest.raises(ValueError, match="shapes"):
        raising(ValueError("shapes"))()
    with pytest.raises(json.JSONDecodeError):
        raising(json.JSONDecodeError("empty", "", 0), models.WeightsError)()
    assert capsys.readouterr().err == ""
