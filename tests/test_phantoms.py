import cv2
import numpy as np
import pytest

from lib import index, phantoms


@pytest.fixture(scope="module")
def drawn():
    return list(phantoms.draw(80, seed=3))


def test_the_same_seed_draws_the_same_phantoms(drawn):
    again = list(phantoms.draw(80, seed=3))
    assert all(
        np.array_equal(a.image, b.image) and a.path == b.path for a, b in zip(drawn, again, strict=True)
    )
    assert not np.array_equal(next(phantoms.draw(80, seed=4)).image, drawn[0].image)


def test_names_carry_patient_and_subtype_and_no_patient_crosses_splits(drawn):
    assert len({phantom.path for phantom in drawn}) == len(drawn) == 80
    patients = {"train": set(), "test": set()}
    for phantom in drawn:
        _, split, folder, name = phantom.path.split("/")
        patient, subtype = index.patient_key(name)
        assert phantoms.FOLDERS[subtype] == folder
        patients[split].add(patient)
    assert patients["train"] and patients["test"] and not patients["train"] & patients["test"]


def test_a_lesion_is_brighter_than_the_lung_and_a_normal_image_has_none(drawn):
    for phantom in drawn:
        assert phantom.mask.shape == phantom.image.shape
        assert phantom.mask.any() == ("PNEUMONIA" in phantom.path)
        if phantom.mask.any():
            ring = cv2.dilate(phantom.mask.astype(np.uint8), np.ones((15, 15))).astype(bool) & ~phantom.mask
            assert phantom.image[phantom.mask].mean() > phantom.image[ring].mean() + 15


def test_written_files_are_the_drawn_ones_with_their_masks(tmp_path, drawn):
    phantoms.write(tmp_path / "set", n=80, seed=3)
    phantom = next(p for p in drawn if p.mask.any())
    assert np.array_equal(
        cv2.imread(str(tmp_path / "set" / phantom.path), cv2.IMREAD_GRAYSCALE), phantom.image
    )
    mask = cv2.imread(str(tmp_path / "set" / "masks" / phantom.path), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(mask > 127, phantom.mask)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_file_that_cannot_be_written_is_told_and_leaves_no_set(tmp_path, monkeypatch):
    """OpenCV says so by its return value alone."""
    monkeypatch.setattr(phantoms.cv2, "imwrite", lambda path, pixels: "masks" not in path)
    with pytest.raises(OSError, match="could not be written; is the disk full"):
        phantoms.write(tmp_path / "set", n=20, seed=3)
    assert not list(tmp_path.iterdir())
