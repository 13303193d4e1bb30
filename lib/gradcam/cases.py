"""Which images are explained? Chosen by rule and seed, never by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

OUTCOMES = ("true positive", "false positive", "true negative", "false negative")
RULE = "up to {n} of each outcome (at probability 0.5) among the test images, drawn at random with seed {seed}, one a patient"


def called(logits: np.ndarray) -> np.ndarray:
    """The class that each logit (n,) calls at probability 0.5, (n,): 0 normal, 1 pneumonia."""
    return (np.asarray(logits) > 0).astype(int)


def recorded(predictions: pd.DataFrame, images: Sequence[str]) -> np.ndarray:
    """The recorded logit of each of the images, (n,). Raises KeyError for an image that the predictions lack."""
    return predictions.set_index("image")["logit"].loc[list(images)].to_numpy()


def read_once(zooms: Sequence[float]) -> bool:
    """Whether a recorded logit is one reading at zoom 1, as that of a map is."""
    return tuple(zooms) == (1.0,)


def readings(zooms: Sequence[float]) -> str:
    """What a recorded logit is, in words."""
    *others, last = (f"{zoom:g}" for zoom in zooms)
    return f"the mean at zooms {', '.join(others)} and {last}" if others else f"that at zoom {last}"


def with_outcome(predictions: pd.DataFrame) -> pd.DataFrame:
    """The test rows of a predictions table with their `outcome` at probability 0.5, indexed 0 to n - 1."""
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    ill_called, ill = called(test["logit"]) == 1, test["y_true"] == 1
    outcome = np.select([ill_called & ill, ill_called & ~ill, ~ill_called & ~ill], OUTCOMES[:3], OUTCOMES[3])
    return test.assign(outcome=outcome)


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


def sample(index: pd.DataFrame, n: int, *, seed: int) -> np.ndarray:
    """Rows of `index` for the trust measures: n of the test images, as many of each class, a new patient while there is one.

    Raises ValueError when these are not of both classes.
    """
    chosen: list[int] = []
    for label in (0, 1):
        rows = np.flatnonzero((index["split"] == "test") & (index["label"] == label))
        if not len(rows):
            raise ValueError(f"no test image has label {label}; there is nothing to explain")
        rows = np.random.default_rng([seed, label]).permutation(rows)
        repeated = index["patient"].iloc[rows].duplicated().to_numpy()
        chosen += [*rows[~repeated], *rows[repeated]][: n // 2 + (n % 2) * label]
    return np.sort(np.array(chosen))
