"""What does README's first screen say of the models that it shows first? Threshold, seeds together, ROC figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

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
    accuracy, sensitivity, specificity = (
        _share(tables, name, "sensitivity_95", n_boot) for name in ("accuracy", "sensitivity", "specificity")
    )
    return (
        f"At the highest threshold that keeps 95% sensitivity on the same images it reaches accuracy {accuracy}%, sensitivity "
        f"{sensitivity}% and specificity {specificity}% on test. The table's rule, Youden's index, was settled before these figures were known."
    )


def together(results: Path) -> str:
    """What the seeds of the first model shown reach as one: their mean logit an image. Empty for a single seed."""
    model, (folder, _) = next(iter(best(results).items()))
    tables, n_boot = evaluate.recorded(folder)[model], record(folder)["n_boot"]
    if len(tables) < 2:
        return ""
    one = [evaluate.together(tables)]
    auc = evaluate.draws(one, "auc", n_boot=n_boot, seed=42).interval()
    return (
        f"The {len(tables)} seeds of {style.NAMES[model]} (`{folder.name}`) as one model, their logits averaged: test AUC {auc}, "
        f"accuracy {_share(one, 'accuracy', 'half', n_boot)}% at probability 0.5, where the seeds one by one have "
        f"{_share(tables, 'accuracy', 'half', n_boot)}%, and {_share(one, 'accuracy', evaluate.CHOSEN, n_boot)}% at its own "
        f"threshold. {_cut(one[0], n_boot)}"
    )


def _cut(table: pd.DataFrame, n_boot: int) -> str:
    """How sure a threshold is, for a reader who sees two accuracies of one model."""
    held, chosen = evaluate.deciding(table), evaluate.thresholds(table)[evaluate.CHOSEN]
    normal = held.loc[held["y_true"] == 0, "probability"]
    again = evaluate.thresholds_redrawn(table, n_boot=n_boot, seed=42)[evaluate.CHOSEN]
    low, high = np.nanquantile(again, [0.025, 0.975])
    return (
        f"Its two accuracies are of the same averaged logits and differ by the cut alone. That threshold, {chosen:.3f}, is chosen with "
        f"{(normal >= chosen).sum()} of {len(normal)} normal images at or above it; when the patients who choose it are resampled, as they "
        f"are for every interval at a chosen threshold, it lies between {low:.3f} and {high:.3f} in 95% of resamples."
    )


def _share(tables: Sequence[pd.DataFrame], name: str, point: str, n_boot: int) -> str:
    """A proportion in per cent with its interval, as the headline has it but at any operating point."""
    drawn = evaluate.draws(tables, name, n_boot=n_boot, seed=42, point=point).interval()
    found = evaluate.flat(name, evaluate.widened(drawn, tables, name, point))
    return interval(found, name, ".1f", 100)


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
