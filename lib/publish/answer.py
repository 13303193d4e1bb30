"""What do README and the model card answer? Whether the LSTM helps: in README a list item a model, in the card what they rest on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import ablation
from lib.plots import style
from lib.publish.questions import (
    PLACED,
    REGIMES,
    UNORDERED,
    Profiles,
    Question,
    alone,
    arrangement,
    counted,
    gap,
    lstm_minus,
    minus_token_mean,
    of_several,
    of_several_seeds,
    over_recipes,
    questions,
    row_of,
    runs,
    titles,
    together,
    too_late,
    verdict_of,
    within,
)
from lib.publish.results import CONFIRMS
from lib.tables import markdown


def in_short(folders: list[Path]) -> str:
    """Does the LSTM help? Of each model a list item: the verdict, and by how much."""
    asked = questions(folders)
    over = over_recipes(asked)
    items = "\n".join(f"- **{name}: {_of_model(model, asked, over)}" for model, name in style.NAMES.items())
    more = "By head, token order and recipe, and what trained models read in their tokens: [models/README.md](models/README.md#the-answer-at-length)."
    question = "**Does the LSTM help, compared with mean-pooling with as many parameters?**"
    return f"{question}\n\n{items}\n\n{more}" if asked else ""


def _of_model(model: str, asked: dict[Question, Profiles], over: dict[Question, dict]) -> str:
    """The verdict, which ends the bold words, of the profile that asked first; another regime is named where its verdict is another."""
    own = [question for question in asked if question[0] == model]
    if not own:
        return "not asked.**"
    folder, found = asked[own[0]][0]
    verdicts = {question: within(verdict_of(asked[question][0][1])) for question in own}
    others = [
        f" {question[1]}: {verdict}." for question, verdict in verdicts.items() if verdict != verdicts[own[0]]
    ]
    row, change = row_of(found), ""
    seen = ""
    if _powered(found):
        seen = f", where a true difference of {row['detectable']:.3f} would have been detected with 80% power"
    if all_runs := over.get(own[0]):
        late = too_late(all_runs, asked[own[0]])
        said = "not shown" if late else within(ablation.verdict(all_runs))
        other = f": {said}{late}" if late or said != verdicts[own[0]] else ""
        change = f", and {gap(all_runs)} over all profiles that compared the two with several seeds ({counted(model, of_several_seeds(asked[own[0]]))}){other}"
    first = f"{verdicts[own[0]]}.** Test AUC of the LSTM minus that of mean-pooling: {gap(row)} in profile `{folder.name}`{seen}{change}."
    return "".join([first, _confirmed(model, asked[own[0]]), *others])


def _confirmed(model: str, profiles: Profiles) -> str:
    """What became of a gain that one profile had shown by itself, in a sentence; nothing where none was to be confirmed."""
    found = _confirmation(profiles)
    return (
        f" On a CPU a gain was shown, and {_outcome(alone(model, found[1]))} by fresh seeds (below)."
        if found
        else ""
    )


def confirmation(folders: list[Path]) -> str:
    """The same at length, with what that gain is not shown to be due to; of the first model that has it."""
    for (model, _), profiles in questions(folders).items():
        if found := _confirmation(profiles):
            (first, shown), (again, fresh) = found
            row = alone(model, found[1])
            own, pool = (row_of(fresh, head) for head in (ablation.BASE, ablation.REFERENCE))
            return (
                f"The LSTM's gain over mean-pooling was shown in `{first.name}` ({gap(row_of(shown))}) and {_outcome(row)} by {own['seeds']} fresh seeds on the same test images "
                f"(`{again.name}`, {gap(row)}).{_over_others(model, found[1])} On validation pairs that thumbnails cannot tell apart, the LSTM's AUC is "
                f"{own['val_auc']:.3f}, that of mean-pooling {pool['val_auc']:.3f}."
            )
    return ""


def _confirmation(profiles: Profiles) -> tuple[tuple[Path, dict], tuple[Path, dict]] | None:
    """The profile that had shown a gain by itself, and the one that was settled as its confirmation."""
    named = {profile[0].name: profile for profile in profiles}
    for again, first in CONFIRMS.items():
        if {again, first} <= named.keys():
            return named[first], named[again]
    return None


def _outcome(row: dict) -> str:
    return "confirmed" if row["differs"] and row["difference"] > 0 else "not confirmed"


def _over_others(model: str, profile: tuple[Path, dict]) -> str:
    """What the LSTM gains over heads that cannot use the tokens' order, and over one that knows their places, in one profile that has them."""
    unordered, placed = (
        {
            head: (gap(row), _seen(row))
            for head, (row, _) in lstm_minus(heads, model, [profile], at_least=1).items()
        }
        for heads in (UNORDERED, PLACED)
    )
    listed = " and ".join(f"{change} to {head} ({seen})" for head, (change, seen) in unordered.items())
    said = f" The LSTM's difference to heads that cannot use the tokens' order: {listed}."
    return "".join(
        [
            said if unordered else "",
            *(f" To {head}, it is {change} ({seen})." for head, (change, seen) in placed.items()),
        ]
    )


def _seen(row: dict) -> str:
    return "shown" if row["differs"] else "not shown"


def _powered(found: dict) -> bool:
    """Whether it is known what a profile's comparison with mean-pooling could have shown: not from one seed, or without room to differ."""
    return len(found["seeds"]) > 1 and row_of(found)["detectable"] is not None


def at_length(folders: list[Path]) -> list[str]:
    """The same of every model and regime as a table, what its columns are, and the difference over all recipes that asked."""
    asked = questions(folders)
    if not asked:
        return []
    rows = [_line(question, profiles) for question, profiles in asked.items()]
    columns = (
        "How to read the table: differences are of the test AUC, mean over seeds, with 95% intervals.\n"
        "- *LSTM minus mean-pooling*: mean-pooling has as many parameters as the LSTM. *Detectable* is the smallest true difference between them that such a study shows with 80% power.\n"
        "- *LSTM minus token-mean*: the other head processes every token by itself and averages.\n"
        "- *Raster minus shuffled*: raster order is row by row; shuffled is a fresh random order for each image, in training too (and for each zoom at which an image is read).\n"
        '- In parentheses: the profile, where another one than that of the row had the comparison; and "1 of n", where the comparison is one of n. Its interval then holds for all n at once, and is wider.'
    )
    frozen = (
        "\n- *On frozen features*: only a head is trained, a smaller one, for a few epochs and without augmentation, on frozen ImageNet features."
        if any(regime == REGIMES["frozen"] for _, regime in asked)
        else ""
    )
    all_runs = together(asked)
    over = [
        f"{title}: over {all_runs[question]}{_unordered(question[0], asked[question])}."
        for question, title in titles(asked).items()
        if question in all_runs
    ]
    at_once = (
        [
            "The intervals of the differences to mean-pooling over all recipes of a model hold for all models at once, on the same test images; so does their adjusted p."
        ]
        if len(over) > 1
        else []
    )
    items = "\n".join(f"- {item}" for item in (*over, _shown(asked)))
    return ["### The answer at length", f"{columns}{frozen}", markdown(pd.DataFrame(rows)), items, *at_once]


def _unordered(model: str, profiles: Profiles) -> str:
    """The LSTM's difference to heads that cannot make use of the tokens' order, over the profiles that had them."""
    told, profiles = "", of_several_seeds(profiles)
    for head, (row, having) in lstm_minus(UNORDERED, model, profiles).items():
        names = ", ".join(f"`{folder.name}`" for folder, _ in having)
        whose = "" if len(having) == len(profiles) else f"; {names}, {runs(having)} runs of each head"
        late = too_late(row, having)
        told += f"; to {head} it is {gap(row)} ({ablation.p_value(row, '.2g')}{whose}){late and f': not shown{late}'}"
    return told


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
        "Of all heads, token orders and read-outs that were tried (below), each corrected for the comparisons of its profile alone, these are shown to differ from mean-pooling: "
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
        "LSTM better?": within(verdict),
        "LSTM minus mean-pooling": f"{gap(row)}{of_several(found['headline'])}",
        "Detectable": f"{row['detectable']:.3f}" if _powered(found) else "",
        "LSTM minus token-mean": minus_token_mean(profiles),
        "Raster minus shuffled": arrangement(profiles),
    }
