"""What do the model card and README say of the sequence beyond the answer? Recipes, variants, trained models, the known truth."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import ablation, files
from lib.ablation import control
from lib.ablation.control import LSTM as LARGEST
from lib.plots import style
from lib.publish.questions import (
    UNORDERED,
    Profiles,
    family,
    gap,
    has,
    questions,
    row_of,
    titles,
    together,
    within,
)
from lib.tables import markdown

TRIED = {
    "xception_lstm": "The trials that chose recipes (section What was tried) were of the LSTM, so mean-pooling was trained with settings that were chosen for the LSTM.",
    "custom_cnn_lstm": "The trials that chose recipes (section What was tried) were of Xception-LSTM.",
}
READINGS = {
    "levelled": "each replaced by the image's mean token",
    "shuffled": "in a random order",
    "reversed": "in reverse",
}
CHANNELS = {  # by a variant's ending: what its tokens hold
    "-learned": "`-learned` reads what a 1x1 convolution, BatchNorm and ReLU make of each token's channels, which are trained too and not counted (so its mean-pooling has a nonlinearity on every token)",
    "-all": "`-all` reads every frozen channel, whatever has neither ending their principal components",
}
TAUGHT = {"place": "where one opacity lies", "relation": "whether two opacities are in one lung or in both"}


def relied_on(folders: list[Path]) -> str:
    """Do the trained models use their sequence? What their AUC loses without it, in the first profile whose models were asked."""
    for folder in folders:
        path = folder / "04_compare.json"
        if found := files.read_json(path).get("readings") if path.exists() else None:
            break
    else:
        return ""
    changed = {(row["model"], row["reading"]): row for row in found}
    models = dict.fromkeys(row["model"] for row in found)
    trained = " and ".join(f"{changed[model, 'trained']['auc']:.3f}" for model in models)
    rows = [
        {"Tokens": what} | {style.NAMES[model]: _change(changed[model, reading]) for model in models}
        for reading, what in READINGS.items()
    ]
    return "\n\n".join(
        [
            f"What a trained model of each kind reads in its tokens (`{folder.name}`, seed {found[0]['seed']}, {found[0]['n']} test images): the change of its AUC when "
            "the tokens are changed after training.",
            markdown(pd.DataFrame(rows)),
            f"With their tokens as trained, their AUC on these images is {trained}. A fall says that this one trained model relies on what the change removes, or is misled by tokens of a kind that it never saw. "
            "It does not say that a model trained without this information would miss it. Where the mean token is enough for a model, the sequence is not seen to tell that model more.",
        ]
    )


def _change(row: dict) -> str:
    return f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"


def left_open(folders: list[Path]) -> str:
    """What would that answer have missed? What is not seen to be learned where the truth is known, by the first profile that asked; empty
    if nothing is."""
    regimes = _controlled(folders)
    if not regimes:
        return ""
    _, found = next(iter(regimes.values()))[0]
    learned = {task: _learned(found["control"][task], what) for task, what in TAUGHT.items()}
    missed = [said for seen, said in learned.values() if not seen]
    amount = next(row for row in found["control"]["amount"]["differences"] if row["variant"] == ablation.BASE)
    if amount["differs"] and amount["difference"] < 0:
        missed.append(
            f"has a test AUC {-amount['difference']:.3f} below that of mean-pooling where no order can help"
        )
    if not missed:
        return ""
    largest = [] if all(seen for seen, _ in learned.values()) else _largest(regimes)
    return " ".join(
        [
            f"On synthetic chests, where the truth is known, an LSTM of the same kind ({control.HIDDEN} "
            f"units, read out at its last step) {', and '.join(missed)}.",
            *largest,
            "On the synthetic chests a token sees its own patch alone; a token of Xception sees most of the image, so on radiographs mean-pooling may have such a relation from the tokens themselves.",
            "At length: [models/README.md](models/README.md#does-the-sequence-help).",
        ]
    )


def _controlled(folders: list[Path]) -> dict[str, Profiles]:
    """By regime: the profiles that also asked where the truth is known, of the first model that has some; no two are mixed.

    What single seeds reach there is of the seeds of all profiles, since it has nothing to do with the model.
    """
    asked, controlled = questions(folders), {}
    every = _every_seed([found for profiles in asked.values() for _, found in profiles])
    for (model, regime), profiles in asked.items():
        held = [(folder, _with_seeds(found, every)) for folder, found in profiles if found.get("control")]
        if held:
            controlled.setdefault(model, {})[regime] = held
    return next(iter(controlled.values()), {})


def _with_seeds(found: dict, every: dict[str, list[dict]]) -> dict:
    """What an ablation recorded, but for its control's single seeds, which are these."""
    tasks = {task: rows | {"per_seed": every[task]} for task, rows in found["control"].items()}
    return found | {"control": tasks}


def _every_seed(asked: list[dict]) -> dict[str, list[dict]]:
    """By control task: what every head reaches with every seed, by the first profile that has it (the same seed repeats itself)."""
    found: dict[str, dict] = {}
    for one in asked:
        for task, rows in (one.get("control") or {}).items():
            for row in rows["per_seed"]:
                found.setdefault(task, {}).setdefault((row["variant"], row["seed"]), row)
    return {task: list(rows.values()) for task, rows in found.items()}


def _largest(regimes: dict[str, Profiles]) -> list[str]:
    """What the read-out that learns the relation makes of radiographs: the first profile that can say, and all of its regime that asked."""
    for regime, profiles in regimes.items():
        asking = [one for one in profiles if has(one[1], LARGEST)]
        for folder, found in asking:
            if _learned(found["control"]["relation"], "that relation", LARGEST)[0]:
                return [_on_radiographs(folder, found, regime, asking)]
    return []


def _on_radiographs(folder: Path, found: dict, regime: str, asking: Profiles) -> str:
    """That sentence of one profile."""
    _, reached = _learned(found["control"]["relation"], "that relation", LARGEST)
    model = ablation.model_of(found)
    several = together({(model, regime): asking}, LARGEST).values()  # none, where fewer than two can say
    change = "; over ".join([f"{gap(row_of(found, LARGEST))}{family(found['headline'])}", *several])
    return (
        f"Max-pooled over its steps instead, it {reached}. On radiographs ({style.NAMES[model]}, `{folder.name}`, {within(regime)}), the test "
        f"AUC of that read-out minus that of mean-pooling is {change}."
    )


def _learned(task: dict, what: str, head: str = ablation.BASE) -> tuple[bool, str]:
    """Whether a head is seen to learn a control task, and the same in words, with what its seeds reach."""
    row = next(row for row in task["differences"] if row["variant"] == head)
    learned = bool(row["differs"] and row["difference"] > 0)
    reached = control.reached(pd.DataFrame(task["per_seed"]), head)
    return learned, f"{'learns' if learned else 'does not reliably learn'} {what} ({reached})"


def answers(folders: list[Path]) -> list[str]:
    """The same at length, whether the order matters, and a table of all recipes where there are several."""
    asked = questions(folders)
    parts = ["### Does the sequence help?"] if asked else []
    if any(len(found["headline"]) > 2 for profiles in asked.values() for _, found in profiles):
        parts.append(ablation.NAMED)
    for question, title in titles(asked).items():
        parts += _at_length(title, question[0], asked[question])
    return [
        *parts,
        *filter(None, [relied_on(folders)]),
        *_checks(folders),
    ]


def _at_length(title: str, model: str, profiles: Profiles) -> list[str]:
    """All that is said of one model in one regime."""
    parts = [
        f"{title} (`{name}`):\n\n" + "\n".join(listed) for name, listed in _first_answers(profiles).items()
    ]
    parts += _variants(profiles)
    if len(profiles) > 1:
        rows = pd.DataFrame([_line(*one) for one in profiles])
        return [*parts, markdown(rows), TRIED[model]]
    return [*parts, TRIED[model]] if model == "custom_cnn_lstm" else parts


def _first_answers(profiles: Profiles) -> dict[str, list[str]]:
    """By profile: the questions that it answers and none shown before it does, as list items."""
    listed: dict[str, list[str]] = {}
    answered: set[str] = set()
    for folder, found in profiles:
        for question, text in found["answers"].items():
            if question not in answered and not text.startswith("Not asked"):
                answered.add(question)
                listed.setdefault(folder.name, []).append(f"- {question} {text}")
    return listed


def _variants(profiles: Profiles) -> list[str]:
    """All variants of every ablation that also asked a head which cannot use the tokens' order, as tables with headings."""
    larger = [one for one in profiles if any(has(one[1], head) for head in UNORDERED)]
    return [part for folder, found in larger for part in _table(folder, found)]


def _table(folder: Path, found: dict) -> list[str]:
    """All variants of a profile: a heading, and a row each."""
    beyond = {row["variant"]: gap(row) for row in found["beyond"]}
    rows = [
        {
            "Variant": row["variant"],
            "Parameters": f"{row['parameters']:,}",
            "Test AUC": f"{row['auc']:.4f}",
            "Minus mean-pooling": "" if row["difference"] is None else gap(row),
            "Minus token-mean": beyond.get(row["variant"], ""),
        }
        for row in found["headline"]
    ]
    names = " ".join(row["variant"] for row in found["headline"])
    channels = "; ".join(told for suffix, told in CHANNELS.items() if suffix in names)
    return [
        f"Every variant of `{folder.name}`, mean of {found['headline'][0]['seeds']} seeds; mean-pooling is that of the same channels, and each "
        f"column is adjusted for its own comparisons. Parameters are those of the head and the dense layers after it{channels and f'; {channels}'}:",
        markdown(pd.DataFrame(rows)),
    ]


def _checks(folders: list[Path]) -> list[str]:
    """What the ablation's control showed where the truth is known, by the first profile that asked, as a table."""
    regimes = _controlled(folders)
    if not regimes:
        return []
    folder, found = next(iter(regimes.values()))[0]
    rows = pd.DataFrame(found["checks"])[["check", "result", "verdict"]]
    rows.columns = ["Checked", "Result", "Verdict"]
    return [f"Where the truth is known (synthetic chests, `{folder.name}`):", markdown(rows)]


def _line(folder: Path, found: dict) -> dict[str, str]:
    row = row_of(found)
    return {
        "Profile": folder.name,
        "Seeds": f"{row['seeds']}",
        "AUC, LSTM": f"{row['auc']:.4f}",
        "AUC, mean-pooling": f"{row_of(found, ablation.REFERENCE)['auc']:.4f}",
        "Difference": gap(row),
    }
