"""Which profiles asked whether the LSTM helps, of which model and in which regime? And how is what they found written?"""

from __future__ import annotations

from pathlib import Path

from lib import ablation, config, files
from lib.plots import style

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


def row_of(found: dict, variant: str = ablation.BASE) -> dict:
    return next(row for row in found["headline"] if row["variant"] == variant)


def gap(row: dict) -> str:
    return f"{row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"


def family(rows: list[dict]) -> str:
    """For how many comparisons the intervals of a table are widened; nothing where it is for one."""
    count = sum(row["difference"] is not None for row in rows)
    return f", adjusted for {count} comparisons" if count > 1 else ""


def one_by_one(profiles: Profiles) -> str:
    """The LSTM's difference to a head that sees tokens one by one, as a clause; nothing where the first profile has no such head."""
    _, found = profiles[0]
    row = next((row for row in found["beyond"] if row["variant"] == ablation.BASE), None)
    if row is None:
        return ""
    return f"; minus that of a head with a nonlinearity at every token, and no sequence, it is {gap(row)}{family(found['beyond'])}"


def arrangement(profiles: Profiles) -> str:
    """What raster order changes against shuffled tokens in the first profile, as a clause; nothing where it did not shuffle them."""
    folder, found = profiles[0]
    row = next((row for row in found["orders"] if row["variant"] == "lstm-shuffle"), None)
    if row is None:
        return ""
    # Recorded is shuffled minus raster; the question is what the arrangement adds (as in lib.ablation.conclusions).
    ends = {"adjusted_low": -row["adjusted_high"], "adjusted_high": -row["adjusted_low"]}
    place = f" (`{folder.name}`)" if len(profiles) > 1 else ""
    return (
        "; raster order instead of a fresh random one for each image, in training as in evaluation, changes the LSTM's test AUC by "
        f"{gap({'difference': -row['difference']} | ends)}{family(found['orders'])}{place}"
    )


def together(model: str, profiles: Profiles) -> str:
    """The difference over several recipes of a model, to follow the word "over"; profiles that differ in their ablation alone are one."""
    recipes: dict[str, list[Path]] = {}
    for folder, _ in profiles:
        settings = config.load(folder.name).as_dict()
        settings["ablation"].pop("variants")
        recipe = [settings[part] for part in ("data", "train", model, "ablation")]
        recipes.setdefault(config.fingerprint(recipe), []).append(folder)
    tables = [[ablation.read(folder / "ablation") for folder in own] for own in recipes.values()]
    over = ablation.pooled(tables, n_boot=min(found["n_boot"] for _, found in profiles))
    runs = sum(row_of(found)["seeds"] for _, found in profiles)
    names = ", ".join(" with ".join(f"`{folder.name}`" for folder in own) for own in recipes.values())
    return (
        f"the {len(recipes)} recipes that were asked ({names}; {runs} runs of each head) the difference is {gap(over)} "
        f"(p = {over['p']:.2g})"
    )
