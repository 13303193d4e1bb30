"""The temperature is the likeliest one, and the reliability table says how often pneumonia followed."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from lib import calibration, metrics


def held(n=4000, overconfidence=1.0, seed=0):
    """Labels drawn from the probabilities themselves; the logits then made too large by a factor."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.5, 2, n)
    y = (rng.random(n) < expit(logit)).astype(int)
    frame = pd.DataFrame({"patient": np.arange(n) // 2, "y_true": y, "logit": overconfidence * logit})
    return frame.assign(probability=expit(frame["logit"]))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_it_undoes_the_factor_by_which_logits_are_too_large(factor):
    assert calibration.fit_temperature(held(overconfidence=factor)) == pytest.approx(factor, rel=0.1)


def test_no_other_temperature_is_likelier():
    table = held(n=300, overconfidence=2.0)
    found = calibration.fit_temperature(table)

    def loss(temperature):
        return metrics.log_loss(table["y_true"], expit(table["logit"] / temperature))

    assert all(loss(found) <= loss(found * factor) + 1e-12 for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))


# At 100 every temperature up to 0.13 has the loss 0 in digits.
@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_images_told_apart_without_an_error_have_the_lowest_temperature(size):
    table = pd.DataFrame({"y_true": [0, 0, 1, 1], "logit": [-2 * size, -size, size, 2 * size]})
    assert calibration.fit_temperature(table) == calibration.RANGE[0]


def test_one_class_has_no_temperature():
    with pytest.raises(ValueError, match="needs held-out images of both classes"):
        calibration.fit_temperature(pd.DataFrame({"y_true": [1, 1], "logit": [0.0, 1.0]}))


def test_scaling_keeps_the_ranking_and_makes_probabilities_to_match():
    table = held(n=50)
    after = calibration.scaled(table, 2.5)
    assert (after["logit"].rank() == table["logit"].rank()).all()
    assert after["probability"].to_numpy() == pytest.approx(expit(table["logit"].to_numpy() / 2.5))
    assert table["logit"].equals(held(n=50)["logit"])  # the table given is left as it was


def test_scaling_by_the_fitted_temperature_calibrates():
    table = held(overconfidence=3.0)
    after = calibration.scaled(table, calibration.fit_temperature(table))
    before, now = (metrics.expected_calibration_error(t["y_true"], t["probability"]) for t in (table, after))
    assert now < 0.3 * before


def test_reliability_by_hand():
    table = pd.DataFrame(
        {
            "patient": ["a", "a", "b", "c", "d"],
            "y_true": [0, 1, 1, 1, 1],
            "probability": [0.11, 0.19, 0.15, 0.95, 1.0],
        }
    )
    found = calibration.reliability(table, n_boot=200, seed=1)
    assert found["predicted"].tolist() == pytest.approx([0.15, 0.975])
    assert found["observed"].tolist() == pytest.approx([2 / 3, 1])
    assert found["n"].tolist() == [3, 2]
    assert found["n_patients"].tolist() == [2, 2]
    assert found["low"][0] == pytest.approx(0.5)  # patient a twice
    assert found["high"][0] == pytest.approx(1)  # patient b twice


def test_a_bin_of_one_patient_has_no_interval():
    table = pd.DataFrame({"patient": ["a", "a"], "y_true": [1, 1], "probability": [0.3, 0.31]})
    assert calibration.reliability(table, n_boot=20, seed=1)[["low", "high"]].isna().all(axis=None)


def test_bins_of_a_calibrated_model_hold_their_observed_frequency():
    found = calibration.reliability(held(), n_boot=200, seed=1)
    inside = (found["low"] <= found["predicted"]) & (found["predicted"] <= found["high"])
    assert len(found) == 10
    assert inside.sum() >= 8
