"""Which images are explained? Chosen by rule and seed, never by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

OUTCOMES = ("true positive", "false positive", "true negative", "false negative")
RULE = "up to {n} of each outcome (at probability 0.5) among the test images, drawn at random with seed {seed}, one a patient"


def with_outcome(predictions: pd.DataFrame) -> pd.DataFrame:
    """The test rows of a predictions table with `probability` and `outcome`, at probability 0.5, indexed 0 to n - 1."""
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    called, ill = test["logit"] > 0, test["y_true"] == 1
    outcome = np.select([called & ill, called & ~ill, ~called & ~ill], OUTCOMES[:3], OUTCOMES[3])
    return test.assign(probability=1 / (1 + np.exp(-test["logit"])), outcome=outcome)


def choose(predictions: pd.DataFrame, *, per_outcome: int, seed: int) -> pd.DataFrame:
    """Up to `per_outcome` test images of each outcome, drawn with `seed`, one a patient: rows of `with_outcome`.

    An outcome that occurs less often gives what it has; one that does not occur gives none.
    """
    rows = with_outcome(predictions)
    rng = np.random.default_rng(seed)
    order = rows.sort_values("image").iloc[rng.permutation(len(rows))]
    picked, used = {}, set()
    for outcome in sorted(
        OUTCOMES, key=lambda name: (rows["outcome"] == name).sum()
    ):  # the rarest chooses first
        free = order[(order["outcome"] == outcome) & ~order["patient"].isin(used)]
        picked[outcome] = free.drop_duplicates("patient").head(per_outcome)
        used |= set(picked[outcome]["patient"])
    return pd.concat([picked[outcome] for outcome in OUTCOMES]).reset_index(drop=True)


def sample(index: pd.DataFrame, n: int, *, seed: int, split: str = "test") -> np.ndarray:
    """Rows of `index` for the trust measures: n images of `split`, as many of each class, a new patient while there is one.

    Raises ValueError when the split does not hold both classes.
    """
    chosen: list[int] = []
    for label in (0, 1):
        rows = np.flatnonzero((index["split"] == split) & (index["label"] == label))
        if not len(rows):
            raise ValueError(
                f"the split {split!r} holds no image with label {label}; there is nothing to explain"
            )
        rows = np.random.default_rng([seed, label]).permutation(rows)
        repeated = index["patient"].iloc[rows].duplicated().to_numpy()
        chosen += [*rows[~repeated], *rows[repeated]][: n // 2 + (n % 2) * label]
    return np.sort(np.array(chosen))
