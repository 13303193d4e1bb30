"""The curves are scikit-learn's, read at a grid of a hundred steps, and their bands hold them."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from lib import curves, evaluate, stats
from lib.config import MODELS
from lib.plots import evidence, outcomes, style
from tests.predictions import table

matplotlib.use("Agg")


def test_sensitivity_is_read_off_the_roc_curve_without_interpolation():
    test = evaluate.part(table(1), "test")
    false_alarms, sensitivity, _ = roc_curve(test["y_true"], test["logit"], drop_intermediate=False)
    found = curves.roc([table(1)], n_boot=20)
    expected = [sensitivity[false_alarms <= x + 1e-12].max() for x in curves.GRID]
    assert found["y"].to_numpy() == pytest.approx(expected)
    assert len(found) == 101
    assert found["y"].iloc[-1] == 1


def test_precision_is_that_of_the_first_threshold_which_finds_as_many():
    test = evaluate.part(table(1), "test")
    precision, recall, _ = precision_recall_curve(test["y_true"], test["logit"])
    found = curves.precision_recall([table(1)], n_boot=20)
    for x, y in zip(found["x"][1:], found["y"][1:], strict=True):
        reached = np.flatnonzero(recall >= x - 1e-12)[-1]  # thresholds fall towards the front
        assert y == pytest.approx(precision[reached])
    assert found["y"].iloc[-1] == pytest.approx(precision[recall == 1].max())


@pytest.mark.parametrize("curve", [curves.roc, curves.precision_recall])
def test_of_several_seeds_it_is_the_mean_and_the_band_holds_it(curve):
    tables = [table(k) for k in (1, 2, 3)]
    found = curve(tables, n_boot=300)
    alone = [curve([one], n_boot=2)["y"] for one in tables]
    assert found["y"].to_numpy() == pytest.approx(np.mean(alone, axis=0))
    inside = (found["low"] <= found["y"] + 1e-12) & (found["y"] <= found["high"] + 1e-12)
    assert inside.mean() > 0.95
    assert (found["high"] - found["low"]).max() > 0.05


def test_the_band_of_few_seeds_is_wider_than_what_was_drawn():
    """At every x it is the interval of the sensitivity there, as of any figure."""
    tables, x = [table(k, shift=shift) for k, shift in ((1, 1.0), (2, 2.0), (3, 3.0))], 20
    tests = [evaluate.part(one, "test") for one in tables]
    drawn = [curves._drawn(test, curves._sensitivity, 400, 42) for test in tests]
    lines, clouds = np.array([line[x] for line, _ in drawn]), np.array([cloud[:, x] for _, cloud in drawn])
    wanted = stats.over_seeds(lines, clouds, tests, seed=42, stream=0)
    found = curves.roc(tables, n_boot=400).iloc[x]
    interval = wanted.interval()
    assert (found["y"], found["low"], found["high"]) == (interval.estimate, interval.low, interval.high)
    low, high = np.quantile(wanted.values, [0.025, 0.975])
    assert found["high"] - found["low"] > 1.1 * (high - low)


def test_the_band_of_patients_who_all_look_alike_has_no_width():
    sure = table(1, shift=60.0)
    assert (curves.roc([sure], n_boot=50)[["y", "low", "high"]] == 1).all(axis=None)


def test_resamples_without_a_class_have_no_curve():
    """Of three normal patients a resample in some tens holds none; a perfect model stays perfect in all others."""
    rows = [("test", f"i{n}", f"p{n}", "", int(n > 2), 4.0 if n > 2 else -4.0) for n in range(12)]
    tables = [pd.DataFrame(rows, columns=["split", "image", "patient", "subtype", "y_true", "logit"])]
    for found in (curves.roc(tables, n_boot=400), curves.precision_recall(tables, n_boot=400)):
        assert (found["low"] == 1).all()


def test_validation_images_are_not_in_it():
    other = table(1)
    other.loc[other["split"] == "val", "logit"] *= -1
    assert curves.roc([other], n_boot=20).equals(curves.roc([table(1)], n_boot=20))


@pytest.mark.parametrize(
    ("draw", "x", "y"),
    [
        (evidence.roc, "1 - specificity", "Sensitivity"),
        (lambda *words: evidence.precision_recall(*words, 0.6), "Sensitivity", "Precision"),
    ],
)
def test_a_curve_bears_the_name_and_the_colour_of_its_model(draw, x, y):
    shown = {
        model: curves.roc([table(1, shift=shift)], n_boot=20)
        for model, shift in zip(MODELS, (3.0, 1.0), strict=True)
    }
    ax = draw(shown, {model: f"the label of {model}" for model in MODELS})
    lines = {line.get_label(): line for line in ax.lines}
    for model, curve in shown.items():
        line = lines[f"the label of {model}"]
        np.testing.assert_array_equal(line.get_xydata(), curve[["x", "y"]])
        assert line.get_color() == style.COLOURS[model]
    assert ax.get_xlabel().startswith(x) and ax.get_ylabel().startswith(y)
    matplotlib.pyplot.close(ax.figure)


def test_a_confusion_matrix_has_every_count_in_its_place():
    point = next(iter(outcomes.POINTS))
    row = {"model": MODELS[0], "point": point, "threshold": 0.5, "tn": 11, "fp": 22, "fn": 33, "tp": 44}
    figure = outcomes.confusion_grid(pd.DataFrame([row]))
    (ax, *_) = figure.axes
    labels = [[label.get_text() for label in found()] for found in (ax.get_yticklabels, ax.get_xticklabels)]
    assert labels == [list(outcomes.CLASSES)] * 2
    shown = {tuple(np.floor(text.get_position())): text.get_text().split()[0] for text in ax.texts}
    assert shown == {(0, 0): "11", (1, 0): "22", (0, 1): "33", (1, 1): "44"}  # columns are what was called
    matplotlib.pyplot.close(figure)
