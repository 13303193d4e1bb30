"""The control's truth is what it says: equal parts in both classes, and only the arrangement tells."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from lib import config
from lib.ablation import analyse, control, grid, tasks
from lib.ablation.fit import fit, protocol, reader
from lib.ablation.variants import Size
from lib.metrics import auc


@pytest.fixture(scope="module")
def relation():
    return tasks.draw("relation", 1200, seed=3)


@pytest.fixture(scope="module")
def place():
    return tasks.draw("place", 1200, seed=3)


def patches(image: np.ndarray) -> np.ndarray:
    """(49, 64), in raster order."""
    side, size = tasks.SIDE, tasks.PATCH
    return image.reshape(side, size, side, size).swapaxes(1, 2).reshape(side * side, -1)


def opaque(images: np.ndarray) -> np.ndarray:
    """Which patches of the lungs hold an opacity, bool (N, 7, 7), by their brightest quarter."""
    centre = np.stack([patches(image) for image in images]).reshape(len(images), 7, 7, 8, 8)[..., 3:5, 3:5]
    lungs = np.zeros((7, 7), bool)
    lungs[:, [*tasks.LEFT, *tasks.RIGHT]] = True
    return (centre.mean((-1, -2)) > 115) & lungs


@pytest.mark.parametrize("name", ["place", "relation"])
def test_twins_hold_the_very_same_patches(name, request):
    task = request.getfixturevalue(name)
    assert task.table["label"].tolist() == [0, 1] * 600
    for first in (0, 500, 1198):
        a, b = (np.array(sorted(map(tuple, patches(task.images[first + k])))) for k in (0, 1))
        np.testing.assert_array_equal(a, b)
        assert (a[0] != a[-1]).any()


def test_classes_differ_in_the_place_of_one_opacity(place):
    places, label = opaque(place.images), place.table["label"].to_numpy()
    assert (places.sum((1, 2)) == 1).all()
    row = places.any(2).argmax(1)
    assert (row[label == 1] < 3).all() and (row[label == 0] > 3).all()
    assert len(np.unique(row)) == 6


def test_classes_differ_in_the_relation_and_in_no_single_place(relation):
    places, label = opaque(relation.images), relation.table["label"].to_numpy()
    assert (places.sum((1, 2)) == 2).all()
    left, right = places[:, :, tasks.LEFT].sum((1, 2)), places[:, :, tasks.RIGHT].sum((1, 2))
    assert ((left == 1) & (right == 1) == (label == 1)).all()
    for kind in (0, 1):  # every lung place is opaque in one image of fourteen, whatever the class
        share = places[label == kind].mean(0)[:, [*tasks.LEFT, *tasks.RIGHT]]
        assert np.abs(share - 1 / 14).max() < 4.5 * np.sqrt(1 / 14 / 600)


def test_a_linear_model_of_all_places_can_only_guess(relation):
    """The marginals are equal, so even with its place known no single patch helps."""
    from sklearn.linear_model import LogisticRegression

    places, label = (
        opaque(relation.images).reshape(1200, -1).astype(float),
        relation.table["label"].to_numpy(),
    )
    model = LogisticRegression().fit(places[:600], label[:600])
    assert abs(auc(label[600:], model.decision_function(places[600:])) - 0.5) < 0.1


def test_twins_never_cross_splits(relation):
    assert relation.table.groupby("patient")["split"].nunique().max() == 1
    assert (relation.table["patient"].iloc[::2].to_numpy() == relation.table["patient"].iloc[1::2]).all()
    share = relation.table["split"].value_counts(normalize=True)
    assert share["train"] == pytest.approx(0.5, abs=0.01)
    assert share["test"] == pytest.approx(0.3, abs=0.01)


def test_amount_is_decided_by_the_brightness_of_the_image():
    task = tasks.draw("amount", 1000, seed=3)
    brightness, label = task.images.mean((1, 2)), task.table["label"].to_numpy()
    assert 0.85 < auc(label, brightness) < 0.98
    pooled = task.maps(None)(np.arange(1000)).mean((2, 3))[:, 0]  # the mean over tokens holds it
    assert np.corrcoef(pooled, brightness)[0, 1] == pytest.approx(1, abs=1e-6)


def test_a_draw_repeats_itself():
    first, again, other = (tasks.draw("relation", 40, seed=seed) for seed in (1, 1, 2))
    assert (first.images == again.images).all()
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_another_embedding_is_another_task(relation, monkeypatch):
    before, embed = relation.fingerprint, tasks.embed
    monkeypatch.setattr(tasks, "embed", lambda images: 3 * embed(images))
    assert relation.fingerprint != before


def test_the_embedding_sees_each_patch_by_itself(relation):
    images = relation.images[:1].copy()
    before = tasks.embed(images)
    images[0, 8:16, 16:24] = 0
    changed = (tasks.embed(images) != before).any(1)[0]
    assert changed.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("task", "n", "message"),
    [("colour", 100, "unknown control task 'colour'; the tasks are place, relation, amount"),
     ("relation", 20, "ablation.control_images is 20; the control needs at least 40")],
)  # fmt: skip
def test_errors(task, n, message):
    with pytest.raises(ValueError, match=message):
        tasks.draw(task, n, seed=0)


def scores(task: tasks.Task, name: str) -> float:
    variant = next(v for v in control.HEADS[task.name] if v.name == name)
    train = dataclasses.replace(protocol(config.load("demo")), **tasks.TRAIN)
    splits = {split: np.flatnonzero(task.table["split"] == split) for split in ("train", "val", "test")}
    y = task.table["label"].to_numpy()
    size = Size(tasks.CHANNELS, control.HIDDEN, 32, 0.0)
    done = fit(lambda: reader(variant, size), task.maps(variant), y, splits, train=train, seed=0)
    return auc(y[splits["test"]], done.logits["test"].round(grid.DECIMALS))


def test_only_a_head_that_knows_the_arrangement_solves_it():
    torch.manual_seed(0)
    task = tasks.draw("relation", 500, seed=0)
    assert scores(task, control.LSTM) > 0.85
    assert abs(scores(task, control.SHUFFLED) - 0.5) < 0.15
    assert scores(task, "mean-mlp") == 0.5  # twins tie: they differ by less than the published digits


def test_the_head_of_the_first_question_tells_a_place():
    task = tasks.draw("place", 500, seed=0)
    assert scores(task, "lstm-raster") > 0.95
    assert scores(task, "mean-mlp") == 0.5


CHECKS = ("place", "relation", "relation too", "nothing left", "none can")
GAIN = {"variant": "x", "difference": 0.1, "adjusted_low": 0.05, "adjusted_high": 0.15, "differs": True}
NONE = GAIN | {"difference": 0.01, "adjusted_low": -0.05, "adjusted_high": 0.07, "differs": False}
LOSS = GAIN | {"difference": -0.1, "adjusted_low": -0.15, "adjusted_high": -0.05}
WORKS = {
    ("place", "lstm-raster"): GAIN, ("relation", control.LSTM): GAIN, ("relation", "lstm-raster"): GAIN,
    ("amount", "lstm-raster"): LOSS,
}  # fmt: skip


class Found:
    def __init__(self, task: str, rows: dict):
        self.effects, self.task, self.rows = self, task, rows
        reached = {"lstm-raster": [0.46, 0.99], control.LSTM: [0.97, 0.99]}
        rows = [(name, k, value) for name, values in reached.items() for k, value in enumerate(values)]
        self.per_seed = pd.DataFrame(rows, columns=["variant", "seed", "auc"])

    def row(self, name):
        return self.rows.get((self.task, name), NONE)

    by_own_orders = row


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({}, set()),
        ({("place", "lstm-raster"): NONE}, {"place"}),
        ({("place", "lstm-raster"): LOSS}, {"place"}),
        ({("relation", control.LSTM): NONE}, {"relation"}),
        ({("relation", "lstm-raster"): NONE}, {"relation too"}),
        ({("place", "lstm-shuffle"): GAIN}, {"nothing left"}),  # seen where nothing is left to see
        ({("relation", control.SHUFFLED): LOSS}, {"nothing left"}),
        ({("relation", "attention-pool"): GAIN}, {"nothing left"}),
        ({("amount", "lstm-raster"): GAIN}, {"none can"}),
        ({("amount", "lstm-raster"): NONE}, set()),
    ],
)
def test_findings_fail_where_the_ablation_does(change, fails):
    rows = WORKS | change
    found = control.findings({task: Found(task, rows) for task in control.TASKS})
    assert {name for name, row in zip(CHECKS, found, strict=True) if row["verdict"] == "bad"} == fails
    assert ("such a relation may still be there" in found[2]["result"]) == ("relation too" in fails)
    assert "(test AUC 0.460 to 0.990 by seed, 1 of 2 above 0.9)" in found[2]["result"]
    assert found[1]["result"].endswith("(test AUC 0.970 to 0.990 by seed).")  # all of them: nothing to count


@pytest.mark.parametrize(("null", "verdict"), [(GAIN, "bad"), (NONE, "good"), (LOSS, "caution")])
def test_a_head_that_loses_where_no_sequence_can_help_is_a_caution(null, verdict):
    rows = WORKS | {("amount", "lstm-raster"): null}
    found = control.findings({task: Found(task, rows) for task in control.TASKS})[-1]
    assert found["verdict"] == verdict
    assert ("zero there does not by itself say that the sequence tells nothing" in found["result"]) == (
        verdict == "caution"
    )


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True)])
def test_shuffled_heads_are_judged_where_their_orders_chose_no_epoch(first, last):
    """The first test images are read in the orders of the validation images, by which the epoch was chosen."""
    table = tasks.draw("place", 200, seed=3).table
    test = table[table["split"] == "test"].rename(columns={"label": "y_true"})
    validation = (table["split"] == "val").sum()
    assert validation == control.SHARED * len(test)
    told = np.where(np.arange(len(test)) < validation, first, last) * test["y_true"]
    noise = np.random.default_rng(0).normal(0, 0.1, (2, len(test)))

    def seeds(logit) -> pd.DataFrame:
        return pd.concat([test.assign(seed=seed, logit=logit + noise[seed]) for seed in (0, 1)])

    asked = {
        name: {head.name: seeds(0.0) for head in heads}
        | ({"lstm-shuffle": seeds(told)} if name == "place" else {})
        for name, heads in control.HEADS.items()
    }
    found = {name: control.Control(name, own, analyse(own, n_boot=200), 200) for name, own in asked.items()}
    assert found["place"].effects.row("lstm-shuffle")["differs"] == (first or last)
    verdicts = {row["check"]: row["verdict"] for row in control.findings(found)}
    assert verdicts["Without the arrangement nothing is left to see"] == ("bad" if last else "good")
