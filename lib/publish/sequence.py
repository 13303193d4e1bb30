"""What do README and the model card say of the sequence? Whether the LSTM helps, by regime and over all recipes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import ablation, files
from lib.tables import markdown

REGIMES = {"finetuned": "With the backbone trained along", "frozen": "On frozen features"}


def answer(folders: list[Path]) -> str:
    """Does the LSTM help? One sentence a regime: by the first profile shown, and by all that asked."""
    said = []
    for regime, (folder, found) in _first(folders).items():
        row = _row(found)
        verdict = found["answers"][ablation.HELPS].split(".")[0]
        said.append(
            f"{REGIMES[regime]} (`{folder.name}`, {row['seeds']} seeds): {verdict[0].lower()}{verdict[1:]}; the test AUC with an LSTM "
            f"minus that with mean-pooling and as many weights is {'; '.join([_gap(row), *_together(_asked(folders, regime))])}."
        )
    return f"**Does the LSTM help?** {' '.join(said)}" if said else ""


def answers(folders: list[Path]) -> list[str]:
    """The same at length, whether the order matters, and a table of all recipes where there are several."""
    parts = ["### Does the sequence help?"] if _first(folders) else []
    for regime, (folder, found) in _first(folders).items():
        listed = [
            f"- {question} {text}"
            for question, text in found["answers"].items()
            if not text.startswith("Not asked")
        ]
        parts.append(f"{REGIMES[regime]} (`{folder.name}`):\n\n" + "\n".join(listed))
        asked = _asked(folders, regime)
        if len(asked) > 1:
            parts.append(markdown(pd.DataFrame([_line(*one) for one in asked])))
            parts += [f"{text[0].upper()}{text[1:]}." for text in _together(asked)]
    return parts


def _asked(folders: list[Path], regime: str) -> list[tuple[Path, dict]]:
    """The profiles that asked in this regime whether the LSTM helps, and what each recorded, in the order shown."""
    found = [
        (folder, files.read_json(folder / "06_ablation.json"))
        for folder in folders
        if (folder / "06_ablation.json").exists()
    ]
    return [
        (folder, one)
        for folder, one in found
        if one["regime"] == regime and not one["answers"][ablation.HELPS].startswith("Not asked")
    ]


def _first(folders: list[Path]) -> dict[str, tuple[Path, dict]]:
    asked = {regime: _asked(folders, regime) for regime in REGIMES}
    return {regime: found[0] for regime, found in asked.items() if found}


def _row(found: dict, variant: str = ablation.BASE) -> dict:
    return next(row for row in found["headline"] if row["variant"] == variant)


def _gap(row: dict) -> str:
    return f"{row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"


def _line(folder: Path, found: dict) -> dict[str, str]:
    row = _row(found)
    return {
        "Profile": folder.name,
        "Seeds": f"{row['seeds']}",
        "AUC, LSTM": f"{row['auc']:.4f}",
        "AUC, mean-pooling": f"{_row(found, ablation.REFERENCE)['auc']:.4f}",
        "Difference": _gap(row),
    }


def _together(asked: list[tuple[Path, dict]]) -> list[str]:
    """What all recipes say together, as a clause; none where a single one asked."""
    if len(asked) < 2:
        return []
    tables = [ablation.read(folder / "ablation") for folder, _ in asked]
    row = ablation.pooled(tables, n_boot=min(found["n_boot"] for _, found in asked))
    runs = sum(_row(found)["seeds"] for _, found in asked)
    names = ", ".join(f"`{folder.name}`" for folder, _ in asked)
    return [
        f"over the {len(asked)} recipes that were asked ({names}; {runs} runs of each head) the difference is {_gap(row)} "
        f"(p = {row['p']:.2g})"
    ]
