"""Which profiles asked whether the LSTM helps, of which model and in which regime? And how is what they found written?"""

from __future__ import annotations

from pathlib import Path

from lib import ablation, config, files
from lib.plots import style
from lib.publish.results import ORIGINAL

REGIMES = {"finetuned": "With the backbone trained along", "frozen": "On frozen features"}

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
    return {(model, regime): f"Of {style.AMID[model]}, {within(regime)}" for model, regime in asked}


def within(regime: str) -> str:
    """A regime's words inside a sentence."""
    return f"{regime[0].lower()}{regime[1:]}"


def verdict_of(found: dict) -> str:
    """The first words of the answer, such as "Not shown"."""
    return found["answers"][ablation.HELPS].split(".")[0]


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


def one_by_one(profiles: Profiles) -> str:
    """The LSTM's difference to a head that sees tokens one by one, as a cell; nothing where no profile has such a head."""
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


def together(model: str, profiles: Profiles, variant: str = ablation.BASE) -> str:
    """The difference of a head to mean-pooling over several recipes of a model, to follow the word "over".

    Where trials chose the others, also without the original protocol, which is far from them.
    """
    recipes, n_boot = _recipes(model, profiles), min(found["n_boot"] for _, found in profiles)
    over = _pooled(recipes, variant, n_boot)
    runs = sum(row_of(found, variant)["seeds"] for _, found in profiles)
    names = ", ".join(" with ".join(f"`{folder.name}`" for folder in own) for own in recipes)
    count = f"{len(recipes)} recipes that were" if len(recipes) > 1 else "one recipe that was"
    scope = "; of these recipes, not of recipes in general" if len(recipes) > 1 else ""
    text = (
        f"the {count} asked ({names}; {runs} runs of each head) the difference to mean-pooling is {gap(over)} "
        f"(p = {over['p']:.2g}{scope})"
    )
    chosen = [own for own in recipes if own[0].name not in ORIGINAL]
    if 0 < len(chosen) < len(recipes):
        text += f", and without the original protocol (`{ORIGINAL[0]}`; a figure that came when the others were known) {gap(_pooled(chosen, variant, n_boot))}"
    return text


def again(model: str, profiles: Profiles) -> tuple[list[str], dict] | None:
    """Who else ran the recipe of the first profile, and the LSTM's difference over all who did; None where nobody else did."""
    own = _recipes(model, profiles)[0]
    if len(own) == 1:
        return None
    n_boot = min(found["n_boot"] for folder, found in profiles if folder in own)
    return [folder.name for folder in own[1:]], _pooled([own], ablation.BASE, n_boot)


def _recipes(model: str, profiles: Profiles) -> list[list[Path]]:
    """The profiles by recipe: those that differ in the variants and seeds of their ablation alone are one."""
    recipes: dict[str, list[Path]] = {}
    for folder, _ in profiles:
        settings = config.load(folder.name).as_dict()
        for part in ("variants", "seeds"):
            settings["ablation"].pop(part)
        recipe = [settings[part] for part in ("data", "train", model, "ablation")]
        recipes.setdefault(config.fingerprint(recipe), []).append(folder)
    return list(recipes.values())


def _pooled(recipes: list[list[Path]], variant: str, n_boot: int) -> dict:
    tables = [[ablation.read(folder / "ablation") for folder in own] for own in recipes]
    return ablation.pooled(tables, variant, n_boot=n_boot)
