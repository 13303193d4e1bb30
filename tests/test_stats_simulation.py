"""Do intervals cover, and do tests of nothing find nothing? A thousand simulated studies each, where no library can be asked."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from lib import metrics, stats
from lib.comparison import paired
from lib.measured import Measured
from tests.predictions import at

STUDIES = 1000
PATIENTS, IMAGES = 150, 2  # per study, images per patient
SHIFT = 2.0  # between the classes' mean scores, in standard deviations of an image's noise


def patients() -> tuple[np.ndarray, np.ndarray]:
    """Patient and label of each image: 300 images, half of the patients ill."""
    patient = np.repeat(np.arange(PATIENTS), IMAGES)
    return patient, patient % 2


def scores(rng: np.random.Generator, *, models: int = 1, shift: np.ndarray | float = SHIFT) -> np.ndarray:
    """Scores [models, images]: a patient's images resemble one another, and so do the models' errors."""
    patient, y = patients()
    shared = rng.normal(size=PATIENTS)[patient] * 0.8 + rng.normal(size=len(y)) * 0.6
    own = rng.normal(size=(models, PATIENTS))[:, patient] * 0.6 + rng.normal(size=(models, len(y))) * 0.8
    return np.reshape(shift, (-1, 1)) * y + shared + own


def true_auc(shift: float = SHIFT) -> float:
    """Of two images of different patients; each score has variance 2 within its class."""
    return float(norm.cdf(shift / np.sqrt(4)))


def table(score: np.ndarray) -> pd.DataFrame:
    patient, y = patients()
    return pd.DataFrame({"patient": patient, "y_true": y, "score": score})


def true_sensitivity() -> float:
    return float(norm.cdf((SHIFT - 1.0) / np.sqrt(2)))


@pytest.mark.parametrize(
    ("metric", "truth"),
    [(metrics.auc, true_auc()), (at("sensitivity", 1.0), true_sensitivity())],
    ids=["auc", "sensitivity"],
)
def test_patient_bootstrap_covers(metric, truth):
    rng = np.random.default_rng(0)
    covered = 0
    for study in range(STUDIES):
        found = stats.patient_bootstrap(table(scores(rng)[0]), metric, n_boot=400, seed=study)
        covered += not found.excludes(truth)
    assert 0.93 <= covered / STUDIES <= 0.97


def test_resampling_images_instead_of_patients_would_not_cover():
    """That the simulation can tell: with patients ignored, intervals are too narrow."""
    rng = np.random.default_rng(1)
    covered = 0
    for study in range(STUDIES):
        images = table(scores(rng)[0]).assign(patient=np.arange(PATIENTS * IMAGES))
        covered += not stats.patient_bootstrap(images, metrics.auc, n_boot=200, seed=study).excludes(
            true_auc()
        )
    assert 0.75 <= covered / STUDIES < 0.92


def test_an_interval_at_a_chosen_threshold_covers():
    """Patients who choose and patients of the test are drawn anew in each of 200 studies; the truth is the specificity at the
    best cut there is. A nominal 95% may miss by three standard errors of 200 studies; with the threshold held it covers 76%."""
    rng, studies, each = np.random.default_rng(6), 200, 150
    y = np.arange(2 * each) % 2
    rows = {
        "image": np.arange(2 * each),
        "patient": np.arange(2 * each),
        "split": np.repeat(["val", "test"], each),
    }
    covered = 0
    for study in range(studies):
        drawn = pd.DataFrame(
            rows | {"subtype": "", "y_true": y, "logit": SHIFT * (y - 0.5) + rng.normal(size=len(y))}
        )
        found = Measured([drawn], n_boot=200, seed=study).draws("specificity").interval()
        covered += not found.excludes(norm.cdf(SHIFT / 2))
    assert abs(covered / studies - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / studies)


def coverage_over_seeds(spread: float) -> float:
    """Of intervals from five seeds, whose true AUCs differ; what is estimated is the mean over all seeds there could be."""
    rng = np.random.default_rng(2)
    truth = np.mean([true_auc(SHIFT + spread * z) for z in norm.ppf((np.arange(2000) + 0.5) / 2000)])
    covered = 0
    for study in range(STUDIES):
        shift = SHIFT + spread * rng.normal(size=5)
        tables = [table(score) for score in scores(rng, models=5, shift=shift)]
        draws = stats.resample(tables, [metrics.auc] * 5, n_boot=300, seed=study)
        covered += not draws.interval().excludes(truth)
    return covered / STUDIES


def test_interval_over_seeds_and_patients_covers():
    assert 0.93 <= coverage_over_seeds(spread=0.25) <= 0.97


def test_interval_over_seeds_that_are_all_alike_is_wide_rather_than_narrow():
    """What the patients alone make of five equal models looks like a spread of seeds, and is counted as one too."""
    assert 0.95 <= coverage_over_seeds(spread=0.0) <= 0.98


def test_a_null_comparison_rejects_about_five_percent():
    rng = np.random.default_rng(11)
    patient, y = patients()
    rejected = {"DeLong": 0, "bootstrap": 0}
    for study in range(STUDIES):
        first, second = scores(rng, models=2)
        rejected["DeLong"] += paired.delong(y, first, second, patient=patient).p_value < 0.05
        draws = [stats.resample([table(s)], [metrics.auc], n_boot=400, seed=study) for s in (first, second)]
        rejected["bootstrap"] += (draws[0] - draws[1]).interval().excludes(0.0)
    for name, count in rejected.items():
        assert 0.03 <= count / STUDIES <= 0.07, f"{name} rejects {count / STUDIES:.1%}"


def test_mcnemar_rejects_at_most_five_percent():
    """Exact, so below the nominal level; images of one patient each, as it assumes."""
    rng = np.random.default_rng(4)
    y = np.arange(300) % 2
    p_values = []
    for _ in range(STUDIES):
        right = rng.random((2, 300)) < 0.85
        p_values.append(paired.mcnemar(y, np.where(right[0], y, 1 - y), np.where(right[1], y, 1 - y)).p_value)
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.05


def test_a_family_of_null_comparisons_rejects_in_about_five_percent_of_studies():
    rng = np.random.default_rng(5)
    rejected = np.mean(
        [(stats.holm(2 * norm.sf(np.abs(rng.normal(size=8)))) < 0.05).any() for _ in range(4000)]
    )
    assert 0.04 <= rejected <= 0.06
