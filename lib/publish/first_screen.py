"""What is said of the models that README shows first? Threshold, ROC figure and, in the model card, the seeds together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib import config, evaluate, metrics
from lib.measured import Measured, flat
from lib.plots import style
from lib.publish.results import BY_PAIRS, ORIGINAL, PROFILES, SQUARES, best, interval, record


def rows(results: Path) -> list[tuple[Path, dict]]:
    """The headline, as profile and row: each model by the recipe put first, by the one that pairs chose, by the one on centre squares
    when its seeds are complete, and by the original protocol."""
    shown = [
        one
        for among in (PROFILES, BY_PAIRS, SQUARES, ORIGINAL)
        for one in best(results, among).values()
        if among != SQUARES or _complete(*one)
    ]
    return [row for k, row in enumerate(shown) if row not in shown[:k]]


def _complete(folder: Path, row: dict) -> bool:
    return row["seeds"] == len(config.load(folder.name).seeds)


def recipes(shown: list[tuple[Path, dict]]) -> str:
    """Why `rows` shows the recipes that it does; of the pairs' choice and the original protocol nothing where they are not shown."""
    names = list(dict.fromkeys(folder.name for folder, _ in shown))
    words = [
        "the recipe declared primary before that recipe's test figures were known (listed first, not necessarily the best)"
    ]
    for name in names[1:]:
        models = " and ".join(style.NAMES[row["model"]] for folder, row in shown if folder.name == name)
        if name in BY_PAIRS:
            words.append(
                "the recipe chosen by validation on matched pairs, equal numbers of normal and pneumonia training patients whom a classifier on "
                f"thumbnails cannot tell apart ({models}: `{name}`, added when its test figures were known)"
            )
        if name in SQUARES:
            words.append(
                f"the recipe on centre squares, as published figures of several seeds are ({models}: `{name}`)"
            )
    original = {"full": "`full`", "quick": "`quick`, its short form for 2 cores"}
    held = [original[name] for name in names if name in original]
    words += (
        [f"the protocol of the notebook that this project grew out of ({' and '.join(held)})"] if held else []
    )
    return "The table lists, for each model:\n\n" + "\n".join(f"- {word}" for word in words)


def squares(shown: list[tuple[Path, dict]]) -> str:
    """How do the images of published figures differ from those of `rows`?"""
    found = [f"`{folder.name}`" for folder, _ in shown if folder.name in SQUARES]
    besides = (
        f" The exception is {found[0]}: its squares are cut from copies of 224 pixels and enlarged, so they are less sharp."
        if found
        else ""
    )
    return f"Where they read centre squares, this study reads squashed images (the whole image, squeezed into a square).{besides} The table is context, not a comparison like for like."


def threshold(results: Path) -> str:
    """Does the threshold carry over? Specificity where it was chosen and where it is used, of the first model shown."""
    model, (folder, row) = next(iter(best(results).items()))
    kept = []
    for table in evaluate.recorded(folder)[model]:
        held, chosen = evaluate.deciding(table), evaluate.thresholds(table)[evaluate.CHOSEN]
        cells = metrics.cells(chosen)(held["y_true"], held["probability"])
        kept.append(metrics.operating(cells)["specificity"])
    normal = (held["y_true"] == 0).sum()  # the seeds hold out the same images
    return (
        f"At its threshold, {style.NAMES[model]} (`{folder.name}`) has a specificity of {100 * np.mean(kept):.1f}% on the {normal} normal images among those on "
        f"which the threshold was chosen, and of {interval(row, 'specificity', '.1f', 100)}% on the test set, whose distribution differs ([data/README.md](data/README.md))."
    )


def at_sensitivity(results: Path) -> str:
    """What the first model shown reaches at the other usual threshold: the one that keeps a given sensitivity where it is chosen; and
    what it reaches by the recipe that pairs chose."""
    model, (folder, _) = next(iter(best(results).items()))
    other = best(results, BY_PAIRS).get(model, (folder, None))[0]
    besides = (
        ""
        if other == folder
        else f"; `{other.name}` by the same rule reaches {_at_sensitivity(other, model)}"
    )
    return (
        "At another threshold, the highest that keeps 95% sensitivity on the images on which thresholds are chosen, it reaches "
        f"{_at_sensitivity(folder, model)} on test{besides}. The rule of the first table, Youden's index (the threshold at which sensitivity plus specificity is largest), was settled before these figures were known."
    )


def _at_sensitivity(folder: Path, model: str) -> str:
    found = Measured(evaluate.recorded(folder)[model], n_boot=record(folder)["n_boot"])
    accuracy, sensitivity, specificity = (
        _share(found, name, "sensitivity_95") for name in ("accuracy", "sensitivity", "specificity")
    )
    return f"accuracy {accuracy}%, sensitivity {sensitivity}% and specificity {specificity}%"


def together(results: Path) -> str:
    """What the seeds of the first model shown reach as one: their mean logit an image. Empty for a single seed."""
    model, (folder, _) = next(iter(best(results).items()))
    tables, n_boot = evaluate.recorded(folder)[model], record(folder)["n_boot"]
    if len(tables) < 2:
        return ""
    apart, one = (Measured(own, n_boot=n_boot) for own in (tables, [evaluate.together(tables)]))
    return (
        f"The {len(tables)} seeds of {style.NAMES[model]} (`{folder.name}`) as one model, their logits averaged: test AUC "
        f"{one.interval('auc')}, accuracy {_share(one, 'accuracy', 'half')}% at probability 0.5, where the single seeds average "
        f"{_share(apart, 'accuracy', 'half')}%, and {_share(one, 'accuracy', evaluate.CHOSEN)}% at its own "
        f"threshold. {_cut(one)}"
    )


def _cut(one: Measured) -> str:
    """How sure a threshold is, for a reader who sees two accuracies of one model."""
    held, chosen = evaluate.deciding(one.tables[0]), one.thresholds[0][evaluate.CHOSEN]
    normal = held.loc[held["y_true"] == 0, "probability"]
    low, high = np.nanquantile(one.redrawn[0][evaluate.CHOSEN], [0.025, 0.975])
    return (
        f"Its two accuracies are of the same averaged logits and differ in the threshold alone. That threshold, {chosen:.3f}, is chosen with "
        f"{(normal >= chosen).sum()} of {len(normal)} normal images at or above it; when the patients who choose it are resampled, as they "
        f"are for every interval at a chosen threshold, it lies between {low:.3f} and {high:.3f} in 95% of resamples."
    )


def _share(found: Measured, name: str, point: str) -> str:
    """A proportion in per cent with its interval, as the headline has it but at any operating point."""
    return interval(flat(name, found.interval(name, point=point)), name, ".1f", 100)


def labels(shown: dict[str, tuple[Path, dict]]) -> dict[str, str]:
    """Legend entries of the ROC figure: model, AUC with its interval."""
    return {
        model: f"{style.NAMES[model]}, AUC {interval(row, 'auc', '.3f')}" for model, (_, row) in shown.items()
    }


def figure(results: Path) -> str:
    shown = best(results)
    named = [f"{label} (profile {shown[model][0].name})" for model, label in labels(shown).items()]
    return f"![ROC curves on the official test set, with pointwise 95% bands: {'; '.join(named)}](reports/results/roc.svg)"
