"""Which profiles asked whether the LSTM helps, of which model and in which regime? And how is what they found written?"""

from __future__ import annotations

import re
from pathlib import Path

from lib import ablation, config, files
from lib.plots import style
from lib.publish.results import CONFIRMS, ORIGINAL, THIRD_LOOK

REGIMES = {"finetuned": "With the backbone trained too", "frozen": "On frozen features"}

# Heads that read all tokens and cannot make use of their order.
UNORDERED = {
    "token-mean": "a head that processes each token by itself",
    "lstm-shuffle": "the LSTM on shuffled tokens",
}
# Heads that are told where each token lies, and do not read one after the other.
PLACED = {"transformer-raster": "a Transformer, which is told the tokens' places and has no recurrence"}

Profiles = list[tuple[Path, dict]]  # folders as shown, and what the ablation of each recorded
Question = tuple[str, str]  # a model, and a regime in words


def questions(folders: list[Path]) -> dict[Question, Profiles]:
    """By model, Xception-LSTM first, and regime: the profiles that asked of it whether the LSTM helps. Raises ValueError for an unknown model."""
    found: dict[Question, Profiles] = {}
    for folder in folders:
        path = folder / "06_ablation.json"
        kept = files.read_json(path) if path.exists() else None
        if kept and not kept["answers"][ablation.HELPS].startswith("Not asked"):
            question = ablation.model_of(kept), REGIMES[kept["regime"]]
            found.setdefault(question, []).append((folder, kept))
    return dict(sorted(found.items(), key=lambda one: config.MODELS.index(one[0][0])))


def titles(asked: dict[Question, Profiles]) -> dict[Question, str]:
    """What each answer is of, to begin it with: the regime, and the model wherever another one than Xception-LSTM was asked too."""
    if {model for model, _ in asked} <= {"xception_lstm"}:
        return {(model, regime): regime for model, regime in asked}
    return {(model, regime): f"{style.NAMES[model]}, {within(regime)}" for model, regime in asked}


def within(words: str) -> str:
    """A regime or a verdict inside a sentence."""
    return f"{words[0].lower()}{words[1:]}"


def verdict_of(found: dict) -> str:
    """The first words of the answer, such as "Not shown" or "Yes, a little"; "Not settled" where there is one seed."""
    return re.split("[.:]", found["answers"][ablation.HELPS])[0]


def has(found: dict, variant: str) -> bool:
    """Whether a head was among those that were asked."""
    return any(row["variant"] == variant for row in found["headline"])


def row_of(found: dict, variant: str = ablation.BASE) -> dict:
    return next(row for row in found["headline"] if row["variant"] == variant)


def gap(row: dict) -> str:
    return f"{row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"


def family(rows: list[dict]) -> str:
    """For how many comparisons the intervals of a table are widened, as words; nothing where it is for one."""
    count = _count(rows)
    return f", adjusted for {count} comparisons" if count > 1 else ""


def of_several(rows: list[dict], place: str = "") -> str:
    """The same as a cell's last words, after the profile where it is not that of its row."""
    count = _count(rows)
    words = [*([f"`{place}`"] if place else []), *([f"1 of {count}"] if count > 1 else [])]
    return f" ({', '.join(words)})" if words else ""


def _count(rows: list[dict]) -> int:
    return sum(row["difference"] is not None for row in rows)


def minus_token_mean(profiles: Profiles) -> str:
    """The LSTM's difference to a head that processes each token by itself, as a cell; nothing where no profile has such a head."""
    found = _first(profiles, "beyond", ablation.BASE)
    return f"{gap(found[0])}{found[1]}" if found else ""


def arrangement(profiles: Profiles) -> str:
    """What raster order changes against shuffled tokens, as a cell; nothing where no profile shuffled them."""
    found = _first(profiles, "orders", "lstm-shuffle")
    if found is None:
        return ""
    row, comparisons = found
    # Recorded is shuffled minus raster; the question is what the arrangement adds (as in lib.ablation.conclusions).
    ends = {"adjusted_low": -row["adjusted_high"], "adjusted_high": -row["adjusted_low"]}
    return f"{gap({'difference': -row['difference']} | ends)}{comparisons}"


def _first(profiles: Profiles, table: str, variant: str) -> tuple[dict, str] | None:
    """Of the first profile whose `table` has that variant: the row, and `of_several`."""
    for folder, found in profiles:
        for row in found[table]:
            if row["variant"] == variant:
                return row, of_several(found[table], "" if folder == profiles[0][0] else folder.name)
    return None


def over_recipes(
    asked: dict[Question, Profiles], variant: str = ablation.BASE, *, without: tuple[str, ...] = ()
) -> dict[Question, dict]:
    """The difference of a head to mean-pooling over all recipes, of every question that several profiles asked. All are one family:
    whoever looks for a gain of the LSTM looks at both models.

    without  profiles that are left out
    """
    several = {}
    for question, profiles in asked.items():
        seeded = of_several_seeds(profiles)
        kept = [one for one in seeded if one[0].name not in without]
        if len(seeded) > 1 and kept:
            several[question] = kept
    gaps = [(profiles, model, variant, ablation.REFERENCE) for (model, _), profiles in several.items()]
    return dict(zip(several, _family(gaps), strict=True))


def alone(model: str, profile: tuple[Path, dict]) -> dict:
    """The LSTM's difference to mean-pooling in one profile, as the only comparison, whatever else its ablation compared."""
    (row,) = _family([([profile], model, ablation.BASE, ablation.REFERENCE)])
    return row


def lstm_minus(
    heads: dict[str, str], model: str, profiles: Profiles, *, at_least: int = 2
) -> dict[str, tuple[dict, Profiles]]:
    """By those of `heads` that so many profiles had, in words: the LSTM's difference to it over their recipes, these being a family of
    their own, and those profiles.

    heads  by name: what it is in a sentence
    """
    having = {head: [one for one in of_several_seeds(profiles) if has(one[1], head)] for head in heads}
    asked = [head for head, own in having.items() if len(own) >= at_least]
    rows = _family([(having[head], model, ablation.BASE, head) for head in asked])
    return {heads[head]: (row, having[head]) for head, row in zip(asked, rows, strict=True)}


def of_several_seeds(profiles: Profiles) -> Profiles:
    """Without those of one seed, whose figures say nothing of another seed and would count as if all seeds agreed."""
    return [one for one in profiles if len(one[1]["seeds"]) > 1]


def _family(gaps: list[tuple[Profiles, str, str, str]]) -> list[dict]:
    """Of each (profiles, model, variant, reference) the row over all recipes, the rows being one family of `comparisons`."""
    if not gaps:
        return []
    n_boot = min(found["n_boot"] for profiles, *_ in gaps for _, found in profiles)
    draws, stream = [], 0
    for profiles, model, variant, reference in gaps:
        pair = (variant, reference)
        tables = [
            [ablation.read(folder / "ablation", pair) for folder in own] for own in by_recipe(model, profiles)
        ]
        draws.append(ablation.pooled(tables, *pair, n_boot=n_boot, stream=stream))
        stream += len(profiles)
    return ablation.judged(draws, [(variant, reference) for *_, variant, reference in gaps]).to_dict(
        "records"
    )


def together(asked: dict[Question, Profiles], variant: str = ablation.BASE) -> dict[Question, str]:
    """By question that several profiles asked: the difference of a head to mean-pooling over their recipes, to follow the word "over".

    Where trials chose the others, also without the original protocol, which is far from them.
    """
    over, chosen = (over_recipes(asked, variant, without=left_out) for left_out in ((), ORIGINAL))
    return {
        question: _together(question, of_several_seeds(asked[question]), over, chosen, variant)
        for question in over
    }


def _together(
    question: Question, profiles: Profiles, over: dict[Question, dict], chosen: dict[Question, dict], variant: str
) -> str:  # fmt: skip
    recipes = by_recipe(question[0], profiles)
    names = ", ".join(" with ".join(f"`{folder.name}`" for folder in own) for own in recipes)
    count = f"{len(recipes)} recipes" if len(recipes) > 1 else "one recipe"
    heads = (
        "the LSTM with mean-pooling" if variant == ablation.BASE else "the two"
    )  # whom the sentence before names
    scope = "; for these recipes, not for recipes in general" if len(recipes) > 1 else ""
    late = too_late(over[question], profiles) if variant == ablation.BASE else ""
    text = (
        f"the {count} that compared {heads} ({names}; {runs(profiles, variant)} runs of each head) the difference to mean-pooling is {gap(over[question])} "
        f"({ablation.p_value(over[question], '.2g')}{scope}){late and f': not shown{late}'}"
    )
    if question in chosen and (left := [folder.name for folder, _ in profiles if folder.name in ORIGINAL]):
        text += f"; without the original protocol (`{'`, `'.join(left)}`) it is {gap(chosen[question])}, a figure that was added when the others were known"
    return text


def too_late(row: dict, profiles: Profiles) -> str:
    """Why a difference over all recipes does not count as shown although its interval leaves zero out; nothing where it counts.

    Runs that were added because the p of the others had been near 0.05 make a chance finding likelier.
    """
    third = any(folder.name in CONFIRMS for folder, _ in profiles)
    if not third or not row["differs"] or row["p_adjusted"] < THIRD_LOOK:
        return ""
    return f" (p = {row['p_adjusted']:.2g}; this third look required p < {THIRD_LOOK})"


def runs(profiles: Profiles, variant: str = ablation.BASE) -> int:
    """How many trained models of a head the profiles have."""
    return sum(row_of(found, variant)["seeds"] for _, found in profiles)


def counted(model: str, profiles: Profiles) -> str:
    """How many recipes of a model there are, and how many trained models of each head, as words."""
    number = len(by_recipe(model, profiles))
    return f"{number} recipe{'s' if number > 1 else ''}, {runs(profiles)} runs of each head"


def by_recipe(model: str, profiles: Profiles) -> list[list[Path]]:
    """The profiles by recipe: those that train the model by the same settings are one, whatever their seeds, their device and the
    variants of their ablation."""
    recipes: dict[str, list[Path]] = {}
    for folder, _ in profiles:
        settings = config.load(folder.name).as_dict()
        for part in ("variants", "seeds"):
            settings["ablation"].pop(part)
        recipe = [settings[part] for part in ("data", "train", model, "ablation")]
        recipes.setdefault(config.fingerprint(recipe), []).append(folder)
    return list(recipes.values())
