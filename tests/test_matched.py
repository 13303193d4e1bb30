"""Matched validation: pairs that a thumbnail does not tell apart, although elsewhere it does."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lib import config, matched, pixels, splits
from lib.splits import check_patients
from tests.tiny import small_set, unzipped

PATIENTS = 60  # of each class


def shortcut(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Two images a patient whose gray level tells the class of most patients, and misleads for every fifth."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], PATIENTS)
    level = np.where(np.arange(2 * PATIENTS) % 5, label, 1 - label) * 60 + rng.normal(90, 25, 2 * PATIENTS)
    table = pd.DataFrame(
        {"patient": [f"IM-{n}" if n < PATIENTS else f"virus-{n}" for n in range(2 * PATIENTS)]}
    )
    table = table.assign(label=label, subtype=np.where(label, "viral", "normal"), split="train")
    table = table.loc[table.index.repeat(2)].reset_index(drop=True)
    table["image"] = [f"{n}.png" for n in table.index]
    images = level.repeat(2)[:, None, None] + rng.normal(0, 2, (4 * PATIENTS, 32, 32))
    return table, images.clip(0, 255).astype(np.uint8)


def divided(share: float = 0.5, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    table, images = shortcut()
    return splits.split_validation(table, share=share, seed=seed, kind="matched", pixels=images), images


def test_gray_level_tells_the_class_of_all_but_not_of_the_matched():
    table, images = divided()
    gray, held = images.mean((1, 2)), table["split"] == "val"
    assert roc_auc_score(table["label"], gray) > 0.75
    assert roc_auc_score(table["label"][held], gray[held]) == pytest.approx(0.5, abs=0.1)


def test_as_many_normal_as_ill_patients_and_none_on_both_sides():
    table, _ = divided()
    held = table[table["split"] == "val"].groupby("label")["patient"].nunique()
    assert held[0] == held[1] >= 10
    check_patients(table)
    assert table.groupby("patient")["split"].nunique().max() == 1


def test_share_is_the_most_that_is_held_out_and_seed_chooses_among_the_pairs():
    chosen = [set(divided(share=0.1, seed=seed)[0].query("split == 'val'")["patient"]) for seed in (1, 1, 2)]
    assert len(chosen[0]) == 0.1 * 2 * PATIENTS
    assert chosen[0] == chosen[1] != chosen[2]


def test_test_images_take_no_part():
    table, images = shortcut()
    test = table.assign(split="test", patient="test-" + table["patient"], image="test-" + table["image"])
    both = splits.split_validation(
        pd.concat([test, table], ignore_index=True), share=0.5, seed=0, kind="matched", pixels=np.concatenate([255 - images, images])
    )  # fmt: skip
    assert (both["split"][: len(test)] == "test").all()
    assert both["split"][len(test) :].tolist() == divided()[0]["split"].tolist()


def test_patients_are_scored_by_models_that_never_saw_them():
    """Four copies of noise a patient and random labels: a model that saw one of them would know the label of the others."""
    rng = np.random.default_rng(0)
    patients = np.arange(60).repeat(4)
    table = pd.DataFrame({"patient": patients, "label": rng.permutation(np.arange(60) % 2)[patients]})
    noise = rng.integers(0, 256, (60, matched.SIDE, matched.SIDE), dtype=np.uint8)
    scores = matched._scores(table, noise[patients], folds=5)
    assert roc_auc_score(table["label"], scores) < 0.75


def test_another_processor_chooses_the_same_pairs(monkeypatch):
    """Mirrored, an image has the same pixels in another order of summation; other processors also differ in the last digits."""
    table, images = shortcut()
    scores, mirrored = (matched._scores(table, shown, folds=5) for shown in (images, images[:, :, ::-1]))
    assert (scores == mirrored).all()
    assert len(set(scores)) > PATIENTS
    fit, rng = matched.images.fit, np.random.default_rng(0)
    monkeypatch.setattr(matched.images, "fit", lambda *words: fit(*words) + rng.normal(0, 1e-6))
    assert (matched._scores(table, images, folds=5) == scores).all()


def test_published_pairs_are_read_for_their_patients_share_and_seed_alone(tmp_path, monkeypatch):
    table, images = shortcut()
    published = tmp_path / "pairs.json"
    question = matched.asked(table.sample(frac=1, random_state=0), share=0.1, seed=1)
    published.write_text(json.dumps({question: ["IM-3", "virus-70"]}), encoding="utf-8")
    monkeypatch.setattr(matched, "PUBLISHED", published)
    assert matched.patients(table, images, share=0.1, seed=1) == {"IM-3", "virus-70"}
    assert len(matched.patients(table, images, share=0.1, seed=2)) == 0.1 * 2 * PATIENTS
    assert len(matched.patients(table[2:], images[2:], share=0.1, seed=1)) > 2


def cut_by_class(table: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    """Sizes of originals that tell the class of most patients: the ill are lower, wider and whole blocks, but every fourth is as the others are."""
    rng = np.random.default_rng(seed)
    patient = table["patient"].str.extract(r"(\d+)$")[0].astype(int)
    low = (table["label"] == 1) ^ (patient % 4 == 0)
    height = np.where(low, 8 * rng.integers(80, 120, len(table)), 8 * rng.integers(110, 160, len(table)) + 3)
    return pd.DataFrame({"width": np.where(low, height * 1.5 // 8 * 8, height * 1.2), "height": height})


def test_matched_in_everything_pairs_do_not_differ_in_how_they_were_taken_either():
    table, images = shortcut()
    size = cut_by_class(table)
    found = {}
    for kind in ("matched", "matched_everything"):
        divided = splits.split_validation(
            table, share=0.5, seed=0, kind=kind, pixels=images, size=size.set_axis(table.index)
        )
        held = (divided["split"] == "val").to_numpy()
        found[kind] = (
            roc_auc_score(table["label"][held], -size["height"][held]),
            roc_auc_score(table["label"][held], images.mean((1, 2))[held]),
        )
        assert divided[held].groupby("label")["patient"].nunique().min() >= 8
        check_patients(divided)
    assert roc_auc_score(table["label"], -size["height"]) > 0.7
    assert found["matched"][0] > 0.65
    assert found["matched_everything"] == pytest.approx((0.5, 0.5), abs=0.12)


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (250, 250)])
def test_the_centre_square_of_a_squashed_copy_is_that_of_its_original(width, height):
    y, x = np.mgrid[:height, :width]
    original = (40 + x * 180 / 300 * (y > height / 2)).astype(np.uint8)
    copy = matched.images.fit(original, 96, "squash")
    (square,) = matched._centre_squares(copy[None], pd.DataFrame({"width": [width], "height": [height]}))
    shown, wanted = matched.images.fit(square, 16, "squash"), matched.images.fit(original, 16, "crop")
    assert np.abs(shown.astype(int) - wanted).max() <= 16  # a step of the edge in the middle is 110
    assert np.abs(shown.astype(int) - wanted).mean() < 3


def test_published_pairs_of_one_question_do_not_answer_the_other():
    table, _ = shortcut()
    names = {matched.asked(table, share=0.1, seed=1, everything=everything) for everything in (False, True)}
    assert len(names) == 2


def test_pairs_in_everything_need_squashed_images():
    with pytest.raises(config.ConfigError, match="pairs need squashed images, and data.aspect is pad"):
        config.load("quick", **{"data.val_kind": "matched_everything", "data.aspect": "pad"})


@pytest.mark.parametrize("kind", ["matched", "matched_everything"])
def test_the_store_divides_by_it(kind, tmp_path):
    cfg = config.load(
        "quick", root=tmp_path, **{"data.image_size": 32, "data.val_kind": kind, "data.val_share": 0.2}
    )
    unzipped(cfg.raw_dir, small_set(patients=40))
    prepared = pixels.prepare(cfg, progress=False)
    assert pixels.prepare(cfg, progress=False).fingerprint == prepared.fingerprint
    assert set(prepared.index["label"].iloc[prepared.rows("val")]) == {0, 1}
    at_random = pixels.prepare(config.changed(cfg, {"data.val_kind": "random"}), progress=False)
    held, others = (set(one.index["patient"].iloc[one.rows("val")]) for one in (prepared, at_random))
    assert held != others
