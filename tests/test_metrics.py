"""Every metric equals scikit-learn's where it has one, and a worked example where it has none; weights count images."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sklearn_metrics

from lib import metrics
from tests.predictions import at, every_metric

THRESHOLD = 0.4


def sample(n=211, seed=0, digits=2):
    """Scores with ties, as few distinct values make them; without with more digits."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return y, expit(1.5 * y - 1 + rng.normal(0, 1.2, n)).round(digits).clip(0.01, 0.99)


REFERENCES = {
    "auc": sklearn_metrics.roc_auc_score,
    "average_precision": sklearn_metrics.average_precision_score,
    "brier": sklearn_metrics.brier_score_loss,
    "log_loss": sklearn_metrics.log_loss,
    "accuracy": lambda y, s: sklearn_metrics.accuracy_score(y, s >= THRESHOLD),
    "balanced_accuracy": lambda y, s: sklearn_metrics.balanced_accuracy_score(y, s >= THRESHOLD),
    "f1": lambda y, s: sklearn_metrics.f1_score(y, s >= THRESHOLD),
    "mcc": lambda y, s: sklearn_metrics.matthews_corrcoef(y, s >= THRESHOLD),
    "sensitivity": lambda y, s: sklearn_metrics.recall_score(y, s >= THRESHOLD),
    "specificity": lambda y, s: sklearn_metrics.recall_score(y, s >= THRESHOLD, pos_label=0),
    "ppv": lambda y, s: sklearn_metrics.precision_score(y, s >= THRESHOLD),
    "npv": lambda y, s: sklearn_metrics.precision_score(y, s >= THRESHOLD, pos_label=0),
}
WITHOUT = {"sensitivity_at_90_specificity", "sensitivity_at_95_specificity", "ece"}


def test_every_metric_is_held_against_something():
    assert set(metrics.NAMES) == set(every_metric(0.5)) == set(REFERENCES) | WITHOUT


@pytest.mark.parametrize("digits", [2, 12])
@pytest.mark.parametrize("name", REFERENCES)
def test_it_equals_scikit_learn(name, digits):
    y, score = sample(digits=digits)
    assert (len(np.unique(score)) == len(y)) == (digits == 12)
    assert every_metric(THRESHOLD)[name](y, score) == pytest.approx(REFERENCES[name](y, score), abs=1e-12)


@pytest.mark.parametrize("digits", [2, 12])
@pytest.mark.parametrize("name", metrics.NAMES)
def test_a_weight_counts_an_image_so_many_times(name, digits):
    y, score = sample(digits=digits)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(y))).astype(float)
    metric = every_metric(THRESHOLD)[name]
    repeated = [metric(np.repeat(y, w.astype(int)), np.repeat(score, w.astype(int))) for w in weights]
    assert metric(y, score, weights) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("target", [0.9, 0.95])
def test_sensitivity_at_a_specificity_is_read_off_the_roc_curve(target):
    for seed in range(20):
        y, score = sample(seed=seed)
        wrong, right, _ = sklearn_metrics.roc_curve(y, score, drop_intermediate=False)
        expected = right[1 - wrong >= target - 1e-12].max()
        assert metrics.sensitivity_at_specificity(target)(y, score) == pytest.approx(expected)


def test_calibration_error_by_hand():
    """Two bins: three images at 0.1 of whom one is ill (gap 0.7 / 3), one at 0.8 who is (gap 0.2); weighed 3 to 1."""
    found = metrics.expected_calibration_error([0, 0, 1, 1], [0.1, 0.1, 0.1, 0.8])
    assert found == pytest.approx(0.75 * (1 / 3 - 0.1) + 0.25 * 0.2)


def test_a_probability_of_one_belongs_to_the_last_bin():
    assert metrics.expected_calibration_error([1, 1], [1.0, 0.95]) == pytest.approx(0.025)


def test_a_sure_mistake_costs_much_but_not_everything():
    assert 30 < metrics.log_loss([1], [0.0]) < 40


@pytest.mark.parametrize(("name", "y"), [("auc", [1, 1]), ("sensitivity", [0, 0]), ("specificity", [1, 1]), ("average_precision", [0, 0])])  # fmt: skip
def test_what_a_sample_does_not_define_is_nan(name, y):
    assert np.isnan(every_metric(0.5)[name](y, [0.2, 0.7]))


def test_calling_everything_alike_has_no_ppv_and_an_mcc_of_zero():
    found = {name: at(name, 0.9)([0, 1, 1], [0.1, 0.2, 0.3]) for name in ("ppv", "npv", "mcc")}
    assert np.isnan(found["ppv"])
    assert found["npv"] == pytest.approx(1 / 3)
    assert found["mcc"] == 0


def test_an_image_at_the_threshold_is_pneumonia():
    tp, fp, fn, tn = metrics.confusion([1, 0, 1, 0], [0.5, 0.5, 0.49, 0.1], threshold=0.5)
    assert (tp[0], fp[0], fn[0], tn[0]) == (1, 1, 1, 1)


@pytest.mark.parametrize("name", metrics.OPERATING)
def test_each_resample_may_have_a_threshold_of_its_own(name):
    y, score = sample()
    weights = np.random.default_rng(1).integers(0, 4, (4, len(y))).astype(float)
    own = np.array([0.2, THRESHOLD, np.nan, 0.8])
    found = metrics.operating(metrics.cells(THRESHOLD)(y, score, weights, own))[name]
    assert found[[0, 1, 3]].tolist() == [at(name, own[k])(y, score, weights)[k] for k in (0, 1, 3)]
    assert np.isnan(found[2])


def test_a_cut_lies_halfway_between_images_that_the_resample_holds():
    """With the image at 1 left out the neighbours are -1 and 2; with both that are ill left out there is no cut."""
    found = metrics.cuts([0, 0, 1, 1], [-2, -1, 1, 2], np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 0, 0.0]]))
    assert found["youden"].tolist()[:2] == found["sensitivity_95"].tolist()[:2] == [0, 0.5]
    assert np.isnan([cut[2] for cut in found.values()]).all()


def test_an_auc_of_infinite_scores_counts_their_ties_as_half():
    assert metrics.auc([1, 1, 0, 0], [np.inf, 0.3, np.inf, 0.2]) == 2.5 / 4
