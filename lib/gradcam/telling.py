"""What do the explanations say? Sentences and the record of notebook 05, computed from the results."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from lib.gradcam import Maps, attribution, trust
from lib.gradcam.attribution import TokenScores
from lib.gradcam.cases import OUTCOMES, called, read_once, readings
from lib.gradcam.explanation import Cases, Study
from lib.gradcam.similarity import rank_correlation
from lib.gradcam.trust import Row
from lib.plots.style import NAMES

Profiles = dict[str, dict[str, dict[str, np.ndarray]]]  # model -> state of the head -> reading -> (B, T)


def sample(study: Study) -> str:
    labels = study.store.index["label"].to_numpy()[study.rows]
    seeds = "; ".join(
        f"{NAMES[model]}, seed{'s' if len(own) > 1 else ''} {', '.join(str(run.seed) for run in own)}"
        for model, own in study.runs.items()
    )
    return (
        f"Models: {seeds}. The trust measures use {len(labels)} test images of {len(np.unique(study.patients))} patients, "
        f"{int((labels == 0).sum())} normal and {int((labels == 1).sum())} with pneumonia, drawn with seed "
        f"{study.config.explain.seed}; the costly ones use up to {study.config.explain.costly_images} of them.{_first(study)}{_at_one(study)}"
    )


def _first(study: Study) -> str:
    """Which measures ask one network of a model, where it has several."""
    if all(len(own) == 1 for own in study.runs.values()):
        return ""
    return (
        " The mass in border and corners and the agreement across seeds are of all seeds; all other measures are of the first one alone, and "
        "say nothing of another."
    )


def _at_one(study: Study) -> str:
    """Where recorded predictions are means over zooms, a word on what is asked instead."""
    if all(read_once(study.config.train_for(model).zooms) for model in study.runs):
        return ""
    return (
        " They ask a model about the image at zoom 1, and about the class that it calls there where they do not name one; "
        "the recorded predictions read other zooms too."
    )


def cases(chosen: Cases, by: str) -> str:
    counts = Counter(chosen.table["outcome"])
    parts = [f"{counts[o]} {o}{'s' if counts[o] != 1 else ''}" for o in OUTCOMES if counts[o]]
    absent = [o for o in OUTCOMES if not counts[o]]
    none = f" It has no {' and no '.join(absent)} among the test images." if absent else ""
    blank = [f"{int(m.blank.sum())} of {NAMES[n]}" for n, m in chosen.maps.items() if m.blank.any()]
    empty = f" Blank maps: {', '.join(blank)}." if blank else ""
    return f"Image, map and overlay for {', '.join(parts)} of {NAMES[by]}.{none}{empty}{_other_class(chosen)}"


def _other_class(chosen: Cases) -> str:
    """For how many cases the one reading that a map explains calls another class than the recorded logit, by model."""
    words = ""
    for zooms in dict.fromkeys(own for own in chosen.zooms.values() if not read_once(own)):
        models = [model for model, own in chosen.zooms.items() if own == zooms]
        counts = []
        for model in models:
            turned = called(chosen.maps[model].logits) != called(chosen.logits[model])
            counts.append(f"{int(turned.sum())} of the {len(turned)} cases by {NAMES[model]}")
        words += (
            f" The recorded logit of {' and '.join(NAMES[model] for model in models)} is {readings(zooms)}; a map reads "
            f"the image at zoom 1, and that reading alone calls the other class for {' and '.join(counts)}."
        )
    return words


def ways(columns: dict[str, Maps], model: str) -> str:
    """How alike the columns of a model at the first one's layer are."""
    (first, reference), *others = columns.items()
    parts = []
    for name, maps in others:
        if maps.values.shape == reference.values.shape:
            found = rank_correlation(reference.values, maps.values)
            parts.append(
                f"{name} {np.nanmean(found):+.2f}" if np.isfinite(found).any() else f"{name} none (blank)"
            )
    return f"{NAMES[model]}: mean rank correlation with {first} at the same resolution: {', '.join(parts)}."


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
    worst = attribution.largest_gap(integrated)
    missed = (
        "find no change of score" if np.isnan(worst) else f"miss the change of score by at most {worst:.2%}"
    )
    return (
        f"{NAMES[model]}: integrated gradients {missed}; "
        f"their mean rank correlation with {' and with '.join(parts)}."
    )


def profile_table(found: Profiles) -> pd.DataFrame:
    """Share of the gradient in the last tenth of the tokens: one row a model and reading, a column a state of the head."""
    rows = [
        {"model": NAMES[model], "reading": reading}
        | {state: attribution.last_tenth(own[reading]) for state, own in states.items()}
        for model, states in found.items()
        for reading in next(iter(states.values()))
    ]
    return pd.DataFrame(rows)


def profile(table: pd.DataFrame) -> str:
    parts = [
        f"{model} read as {reading}: {_share(trained)} of the gradient on the last tenth of the tokens "
        f"({_share(untrained)} with an untrained head)"
        for model, reading, trained, untrained in table.itertuples(index=False)
    ]
    return (
        "; ".join(parts)
        + ". In raster order the last tokens are the bottom of the image, in reverse the top."
    )


def _share(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) else "none"


def blurred(advantages: dict[str, pd.DataFrame]) -> str:
    """What is left of the class that deletion takes away, when the whole image is blurred, by model."""
    left = {NAMES[model]: table["left"].iloc[0] for model, table in advantages.items()}
    parts = [f"{share:.2f} by {name}" for name, share in left.items() if np.isfinite(share)]
    if not parts:
        return "No image that takes part has a map."
    kept = [name for name, share in left.items() if share > trust.KEPT]
    words = f"When all of the image is blurred, the class explained is still given {' and '.join(parts)} (mean probability)."
    if kept:
        words += f" Where it survives so, as with {' and '.join(kept)}, a curve tells by what happens on the way, not by its end."
    return words


def checks(rows: list[Row]) -> str:
    """Rows of the trust table as a sentence."""
    return " ".join(f"{row['check']}: {row['result']} ({row['verdict']})." for row in rows)


def listed(rows: list[Row]) -> str:
    """The same as a list in Markdown, to be read one by one."""
    return "\n".join(f"- **{row['check']}** ({row['verdict']}): {row['result']}" for row in rows)


def record(rows: list[Row], last_tenth: pd.DataFrame, study: Study) -> dict:
    """What `05_gradcam.json` holds; numbers and words, no image."""
    return {
        "profile": study.config.profile,
        "findings": rows,
        "answers": {"How far may the Grad-CAM maps be trusted?": trust.sentence(rows)},
        "sample": sample(study),
        "last_tenth": last_tenth.round(4).to_dict("records"),
    }
