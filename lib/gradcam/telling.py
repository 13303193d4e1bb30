"""What do the explanations say? Sentences and the record of notebook 05, computed from the results."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from lib.gradcam import Maps, attribution, trust
from lib.gradcam.attribution import TokenScores
from lib.gradcam.cases import OUTCOMES
from lib.gradcam.explanation import Cases, Study
from lib.gradcam.similarity import rank_correlation
from lib.gradcam.trust import Row
from lib.plots.style import NAMES

Profiles = dict[str, dict[str, dict[str, np.ndarray]]]  # model -> state of the head -> reading -> (B, T)


def sample(study: Study) -> str:
    labels = study.store.index["label"].to_numpy()[study.rows]
    seeds = "; ".join(
        f"{NAMES.get(model, model)}, seed{'s' if len(own) > 1 else ''} {', '.join(str(run.seed) for run in own)}"
        for model, own in study.runs.items()
    )
    return (
        f"Models: {seeds}. The trust measures use {len(labels)} test images of {len(np.unique(study.patients))} patients, "
        f"{int((labels == 0).sum())} normal and {int((labels == 1).sum())} with pneumonia, drawn with seed "
        f"{study.config.explain.seed}; the costly ones use up to {study.config.explain.costly_images} of them."
    )


def cases(chosen: Cases, by: str) -> str:
    counts = Counter(chosen.table["outcome"])
    parts = [f"{counts[o]} {o}{'s' if counts[o] != 1 else ''}" for o in OUTCOMES if counts[o]]
    absent = [o for o in OUTCOMES if not counts[o]]
    none = f" It has no {' and no '.join(absent)} among the test images." if absent else ""
    blank = [f"{int(m.blank.sum())} of {NAMES.get(n, n)}" for n, m in chosen.maps.items() if m.blank.any()]
    empty = f" Blank maps: {', '.join(blank)}." if blank else ""
    return f"Image, map and overlay for {', '.join(parts)} of {NAMES.get(by, by)}.{none}{empty}"


def ways(columns: dict[str, Maps]) -> str:
    """How alike the columns at the first one's layer are."""
    (first, reference), *others = columns.items()
    parts = []
    for name, maps in others:
        if maps.values.shape == reference.values.shape:
            found = rank_correlation(reference.values, maps.values)
            parts.append(
                f"{name} {np.nanmean(found):+.2f}" if np.isfinite(found).any() else f"{name} none (blank)"
            )
    return f"Mean rank correlation with {first} at the same resolution: {', '.join(parts)}."


def tokens(scores: list[TokenScores], model: str) -> str:
    by_name = {found.method: found for found in scores}
    integrated = by_name["integrated gradients"]
    parts = []
    for name, found in by_name.items():
        if found is not integrated:
            same = rank_correlation(integrated.values, found.values)
            parts.append(
                f"{name} {np.nanmean(same):+.2f}" if np.isfinite(same).any() else f"{name} none (blank)"
            )
    return (
        f"{NAMES.get(model, model)}: integrated gradients miss the change of score by at most "
        f"{np.nanmax(integrated.gap):.2%}; their mean rank correlation with {' and with '.join(parts)}."
    )


def profile_table(found: Profiles) -> pd.DataFrame:
    """Share of the gradient in the last tenth of the tokens: one row a model and reading, a column a state of the head."""
    rows = [
        {"model": NAMES.get(model, model), "reading": reading}
        | {state: attribution.last_tenth(own[reading]) for state, own in states.items()}
        for model, states in found.items()
        for reading in next(iter(states.values()))
    ]
    return pd.DataFrame(rows)


def profile(table: pd.DataFrame) -> str:
    parts = [
        f"{model} read as {reading}: {trained:.0%} of the gradient on the last tenth of the tokens ({untrained:.0%} with an "
        "untrained head)"
        for model, reading, trained, untrained in table.itertuples(index=False)
    ]
    return (
        "; ".join(parts)
        + ". In raster order the last tokens are the bottom of the image, in reverse the top."
    )


def checks(rows: list[Row]) -> str:
    """Rows of the trust table as a sentence."""
    return " ".join(f"{row['check']}: {row['result']} ({row['verdict']})." for row in rows)


def record(rows: list[Row], last_tenth: pd.DataFrame, study: Study) -> dict:
    """What `05_gradcam.json` holds; numbers and words, no image."""
    return {
        "profile": study.config.profile,
        "findings": rows,
        "answers": {"How far may the Grad-CAM maps be trusted?": trust.sentence(rows)},
        "sample": sample(study),
        "last_tenth": last_tenth.round(4).to_dict("records"),
    }
