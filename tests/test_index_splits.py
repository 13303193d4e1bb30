"""Splits: by patient, stratified, seeded, and refused where a patient is on both sides."""

import time

import numpy as np
import pandas as pd
import pytest

from lib import splits
from lib.errors import IndexingError

KINDS = {
    "bacteria": ("bacterial", 1),
    "virus": ("viral", 1),
    "IM": ("normal", 0),
    "NORMAL2-IM": ("normal", 0),
}


def table(patients: int = 40, images: int = 2, first: int = 1000) -> pd.DataFrame:
    rows = [
        {"image": f"{split}-{kind}-{number}-{i}", "split": split, "label": label, "subtype": subtype, "patient": f"{kind}-{number}"}
        for split, start in (("train", first), ("test", first + patients))
        for kind, (subtype, label) in KINDS.items()
        for number in range(start, start + patients)
        for i in range(images)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("kind", ["random", "block"])
def test_validation_takes_its_share_of_every_kind_of_patient(kind):
    divided = splits.split_validation(table(), share=0.1, seed=1, kind=kind)
    held = divided[divided["split"] == "val"]
    assert held.groupby(splits.series(held))["patient"].nunique().to_dict() == dict.fromkeys(KINDS, 4)
    assert len(held) == 4 * 4 * 2  # whole patients
    assert (divided["split"] == "test").equals(table()["split"] == "test")
    assert divided.groupby("patient")["split"].nunique().max() == 1


def blocks(given: pd.DataFrame, seed: int) -> list[list[int]]:
    """The numbers of the patients that a block of a fifth holds out, a list a series."""
    divided = splits.split_validation(given, share=0.2, seed=seed, kind="block")
    held = divided[divided["split"] == "val"]
    return [
        sorted(members["patient"].str.rsplit("-", n=1).str[1].astype(int).unique())
        for _, members in held.groupby(splits.series(held))
    ]


@pytest.mark.parametrize("first", [1000, 1, 80])
def test_block_is_one_run_of_the_numbering(first):
    """Also where numbers differ in length: 9 comes before 10."""
    for numbers in blocks(table(first=first), seed=3):
        assert numbers == list(range(numbers[0], numbers[0] + 8))


def test_block_begins_anywhere():
    begins = [numbers[0] for seed in range(50) for numbers in blocks(table(images=1), seed)]
    assert set(begins) == set(range(1000, 1033))


def test_seed_decides():
    first, same, other = (splits.split_validation(table(), share=0.1, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, same)
    assert not first["split"].equals(other["split"])


def test_given_table_is_not_changed():
    given = table()
    splits.split_validation(given, share=0.1, seed=1)
    pd.testing.assert_frame_equal(given, table())


def test_patient_on_both_sides_is_refused_by_name():
    mixed = table()
    mixed.loc[0, "split"] = "test"
    for divide in (splits.check_patients, lambda t: splits.split_validation(t, share=0.1, seed=1)):
        with pytest.raises(
            IndexingError, match="1 patients are in more than one split .bacteria-1000 in test and train."
        ):
            divide(mixed)  # fmt: skip


def test_same_number_of_another_kind_is_another_patient():
    splits.check_patients(pd.DataFrame({"patient": ["bacteria-7", "virus-7"], "split": ["train", "test"]}))


def test_images_without_patients_stand_for_themselves():
    anonymous = table(10, 1).assign(patient=None)
    divided = splits.split_validation(anonymous, share=0.1, seed=1)
    held = divided[divided["split"] == "val"]
    assert held.groupby(["label", "subtype"]).size().to_dict() == {
        (0, "normal"): 2,
        (1, "bacterial"): 1,
        (1, "viral"): 1,
    }
    splits.check_patients(divided)


def test_validation_split_that_is_there_stays():
    given = table().assign(patient=None)
    given.loc[:9, "split"] = "val"
    assert splits.split_validation(given, share=0.3, seed=1)["split"].equals(given["split"])


def test_calibration_takes_its_share_of_what_validation_leaves():
    divided = splits.split_validation(table(), share=0.25, seed=1, kind="block")
    further = splits.split_calibration(divided, share=0.2, seed=1)
    held = further[further["split"] == "calibration"]
    assert held.groupby(splits.series(held))["patient"].nunique().to_dict() == dict.fromkeys(KINDS, 6)
    for split in ("val", "test"):
        assert (further["split"] == split).equals(divided["split"] == split)
    assert further.groupby("patient")["split"].nunique().max() == 1
    pd.testing.assert_frame_equal(splits.split_calibration(divided, share=0, seed=1), divided)


def test_single_patient_of_a_kind_stays_in_train():
    assert set(splits.split_validation(table(1), share=0.5, seed=0)["split"]) == {"train", "test"}


def test_many_patients_are_checked_quickly():
    many = pd.DataFrame({"patient": [f"IM-{i}" for i in range(60_000)], "split": "train"})
    many.loc[np.arange(0, 60_000, 2), "split"] = "test"
    began = time.process_time()
    splits.check_patients(many)
    assert time.process_time() - began < 5  # one pass; patient by patient it would be minutes
