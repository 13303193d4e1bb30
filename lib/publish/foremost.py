"""What does README's first screen say of the models that it shows first? Threshold, seeds together, ROC figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib import evaluate, metrics
from lib.plots import style
from lib.publish.results import ORIGINAL, best, interval, record


def rows(results: Path) -> list[tuple[Path, dict]]:
    """The headline, as profile and row: each model by the recipe put first, then by the original study's protocol."""
    shown = [*best(results).values(), *best(results, ORIGINAL).values()]
    return [row for k, row in enumerate(shown) if row not in shown[:k]]


def threshold(results: Path) -> str:
    """Does the threshold carry over? Specificity where it was chosen and where it is used, of the first model shown."""
    model, (folder, row) = next(iter(best(results).items()))
    kept = []
    for table in evaluate.recorded(folder)[model]:
        held, chosen = evaluate.deciding(table), evaluate.thresholds(table)[evaluate.CHOSEN]
        kept.append(metrics.at("specificity", chosen)(held["y_true"], held["probability"]))
    return (
        f"Specificity of {style.NAMES[model]} (`{folder.name}`) at its threshold: {100 * np.mean(kept):.1f}% on the images "
        f"that chose it, {interval(row, 'specificity', '.1f', 100)}% on the test images, which are shifted (data/README.md)."
    )


def at_sensitivity(results: Path) -> str:
    """What the first model shown reaches at the other usual threshold: the one that keeps a given sensitivity where it is chosen."""
    model, (folder, _) = next(iter(best(results).items()))
    tables, n_boot = evaluate.recorded(folder)[model], record(folder)["n_boot"]
    found = {}
    for name in ("accuracy", "sensitivity", "specificity"):
        drawn = evaluate.draws(tables, name, n_boot=n_boot, seed=42, point="sensitivity_95").interval()
        found |= evaluate.flat(name, evaluate.widened(drawn, tables, name, "sensitivity_95"))
    accuracy, sensitivity, specificity = (
        interval(found, name, ".1f", 100) for name in ("accuracy", "sensitivity", "specificity")
    )
    return (
        f"At the highest threshold that keeps 95% sensitivity on the same images it reaches accuracy {accuracy}%, sensitivity "
        f"{sensitivity}% and specificity {specificity}% on test. The table's rule, Youden's index, was settled before these figures were known."
    )


def together(results: Path) -> str:
    """What the seeds of the first model shown reach as one: their mean logit an image. Empty for a single seed."""
    model, (folder, _) = next(iter(best(results).items()))
    tables = evaluate.recorded(folder)[model]
    if len(tables) < 2:
        return ""
    one = evaluate.headline({model: [evaluate.together(tables)]}, n_boot=record(folder)["n_boot"]).iloc[0]
    return (
        f"The {len(tables)} seeds of {style.NAMES[model]} (`{folder.name}`) as one model, their logits averaged: test AUC "
        f"{interval(one, 'auc', '.3f')}, accuracy {interval(one, 'accuracy', '.1f', 100)}% at its own threshold; these intervals "
        "resample patients."
    )


def labels(shown: dict[str, tuple[Path, dict]]) -> dict[str, str]:
    """Legend entries of the ROC figure: model, AUC with its interval."""
    return {
        model: f"{style.NAMES[model]}, AUC {interval(row, 'auc', '.3f')}" for model, (_, row) in shown.items()
    }


def figure(results: Path) -> str:
    shown = best(results)
    named = [f"{label} (profile {shown[model][0].name})" for model, label in labels(shown).items()]
    return (
        f"![ROC curves on the official test set, with 95% bands: {'; '.join(named)}](reports/results/roc.svg)"
    )
