"""What does README answer? Whether the LSTM helps, in two sentences, and what they rest on, as a table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.plots import style
from lib.publish.asked import (
    REGIMES,
    Profiles,
    Question,
    again,
    arrangement,
    gap,
    of_several,
    one_by_one,
    questions,
    row_of,
    titles,
    together,
    verdict_of,
    within,
)
from lib.tables import markdown


def in_short(folders: list[Path]) -> str:
    """Does the LSTM help? The verdict, and by how much, in two sentences: of each model by the first profile that asked it, and by
    all that ran its recipe again."""
    asked = questions(folders)
    if not asked:
        return ""
    first = {model: profiles for (model, _), profiles in reversed(asked.items())}
    models = [model for model in style.AMID if model in first]
    rows = {model: row_of(first[model][0][1]) for model in models}
    repeated = {model: found for model in models if (found := again(model, first[model]))}
    gaps = " and ".join(
        f"{gap(rows[model])} for {style.AMID[model]} (`{first[model][0][0].name}`{_repeated(model, first[model], repeated)})"
        for model in models
    )
    seen = " and ".join(f"{rows[model]['detectable']:.3f}" for model in models)
    verdict = _verdict(asked, models)
    for model, (_, row) in repeated.items():
        if row["differs"] != rows[model]["differs"]:
            shown = "shown" if row["differs"] else "not shown"
            verdict += f" by the profile that asked first; {shown} for {style.AMID[model]} once its recipe was run again"
    return (
        f"**Does the LSTM help?** {verdict}. The test AUC with an LSTM minus that with mean-pooling and as many weights is "
        f"{gaps}, where {seen} would have been detected (80% power)."
    )


def _repeated(model: str, profiles: Profiles, repeated: dict[str, tuple[list[str], dict]]) -> str:
    """What else there is to say of a model's difference: over all that ran its recipe, and, of a gain, without a sequence."""
    if model not in repeated:
        return ""
    names, row = repeated[model]
    said = f"; {gap(row)} with {' and '.join(f'`{name}`' for name in names)}, the same recipe again"
    alone = one_by_one(profiles) if row["differs"] and row["difference"] > 0 else ""
    return f"{said}; minus a head that reads tokens one by one {alone}" if alone else said


def _verdict(asked: dict[Question, Profiles], models: list[str]) -> str:
    """The answer's first words where all that was asked has one, and of whom it is."""
    verdicts = {verdict_of(profiles[0][1]) for profiles in asked.values()}
    if len(verdicts) > 1:
        return "That depends on what is asked (The answer at length)"
    if len(models) > 1:
        return f"{verdicts.pop()} for either model"
    (unasked,) = (name for model, name in style.AMID.items() if model not in models)
    return f"{verdicts.pop()} for {style.AMID[models[0]]}; {unasked} has not been asked"


def at_length(folders: list[Path]) -> list[str]:
    """The same of every model and regime as a table, what its columns are, and the difference over all recipes that asked."""
    asked = questions(folders)
    if not asked:
        return []
    rows = [_line(question, profiles) for question, profiles in asked.items()]
    columns = (
        "Differences of the test AUC, mean over seeds, with 95% intervals. Mean-pooling has as many weights as the LSTM; *detectable* is the smallest true difference to it that such a "
        "study shows with 80% power. *One by one* is a head that reads every token by itself and averages. *Raster* order is row by row, *shuffled* a fresh random order for each image, in "
        "training too. In parentheses: another profile that had the comparison, and of how many comparisons it is one, over which its interval is simultaneous and so wider."
    )
    frozen = (
        "On frozen ImageNet features only a head is trained, a smaller one."
        if any(regime == REGIMES["frozen"] for _, regime in asked)
        else ""
    )
    over = [
        f"{title}, over {together(question[0], asked[question])}."
        for question, title in titles(asked).items()
        if len(asked[question]) > 1
    ]
    read = " ".join(filter(None, [columns, frozen]))
    return ["### The answer at length", markdown(pd.DataFrame(rows)), " ".join([*over, _shown(asked)]), read]


def _shown(asked: dict[Question, Profiles]) -> str:
    """Of all heads, orders and read-outs that were asked: what differs from mean-pooling, and which order from raster order."""
    told = {"headline": [], "orders": []}
    for (model, regime), profiles in asked.items():
        for folder, found in profiles:
            for table, names in told.items():
                names += [
                    f"`{row['variant']}` {gap(row)} ({style.NAMES[model]}, {within(regime)}, `{folder.name}`)"
                    for row in found[table]
                    if row["differs"]
                ]
    heads, orders = (" and ".join(names) or "none" for names in told.values())
    return (
        "Of all heads, token orders and read-outs that were tried ([models/README.md](models/README.md)), shown to differ from mean-pooling: "
        f"{heads}; orders shown to differ from raster order: {orders}."
    )


def _line(question: Question, profiles: Profiles) -> dict[str, str]:
    """A row of that table: what is said of one model and regime."""
    folder, found = profiles[0]
    (model, regime), row, verdict = question, row_of(found), verdict_of(found)
    return {
        "Model": f"{style.NAMES[model]}, {within(regime)}",
        "Profile": folder.name,
        "Seeds": f"{row['seeds']}",
        "AUC, LSTM": f"{row['auc']:.3f}",
        "LSTM better?": f"{verdict[0].lower()}{verdict[1:]}",
        "LSTM minus mean-pooling": f"{gap(row)}{of_several(found['headline'])}",
        "Detectable": f"{row['detectable']:.3f}",
        "LSTM minus one by one": one_by_one(profiles),
        "Raster minus shuffled": arrangement(profiles),
    }
