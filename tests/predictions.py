"""Predictions tables for the tests: images of several patients and kinds, scored by a model of a given strength."""

import numpy as np
import pandas as pd
from scipy.special import logit

from lib import evaluate, metrics, stats

KINDS = np.array(["normal", "bacterial", "viral"])


def table(seed=0, *, splits=("val", "test"), each=90, shift=2.0):
    """`each` images of a split, two a patient; a third normal, a third bacterial, a third viral."""
    rng = np.random.default_rng(seed)
    parts = []
    for split in splits:
        kind = np.arange(each) % 3
        parts.append(
            pd.DataFrame(
                {
                    "image": [f"{split}{i:03d}" for i in range(each)],
                    "patient": [f"{split}-{k}-{i // 6}" for i, k in enumerate(kind)],
                    "split": split,
                    "subtype": KINDS[kind],
                    "y_true": (kind > 0).astype(int),
                    "logit": rng.normal(0, 1.5, each) + shift * (kind > 0),
                }
            )
        )
    return evaluate.with_probability(pd.concat(parts, ignore_index=True))


def rates(rows, threshold):
    """Sensitivity and specificity of a table at a probability."""
    called = rows["logit"] >= logit(threshold)
    return called[rows["y_true"] == 1].mean(), (~called)[rows["y_true"] == 0].mean()


def at(name, threshold):
    """The metric `name` of those that need a threshold, at this one: of a plain sample a float, with weights [r, n] a value each."""

    @stats.weighted
    def metric(y_true, score, weights=None):
        found = metrics.operating(metrics.cells(threshold)(y_true, score, weights))[name]
        return float(found) if weights is None else found

    metric.__name__ = name
    return metric


def every_metric(threshold):
    """Every metric by name, those that need a threshold at this one."""
    return metrics.RANKING | {name: at(name, threshold) for name in metrics.OPERATING} | metrics.PROBABILITY


def sample(n=300, patients=120, shift=1.5, seed=0):
    """One class a patient, one to several images each."""
    rng = np.random.default_rng(seed)
    patient = np.sort(rng.integers(0, patients, n))
    y = patient % 2
    score = shift * y + rng.normal(size=patients)[patient] + rng.normal(size=n)
    return pd.DataFrame({"patient": [f"IM-{p}" for p in patient], "y_true": y, "score": score})
