"""What does the model card say of the trials? The settings that validation sets told apart, and what became of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import acquisition, config, evaluate, files, metrics, stats
from lib.plots import style
from lib.tables import markdown

N_BOOT = 2000
# Validation sets of `lib.trials`: the profile they chose, and what they hold out.
CHOSEN_ON = {
    "few": ("reframed", "of the pairs below, the few that profile `matched` holds out too"),
    "matched": ("matched", "paired so that a 16 x 16 thumbnail does not tell normal from pneumonia"),
    "block": ("tuned", "that are consecutive in the numbering, as the test patients are"),
}

SWAPPED = (
    " In the column on widths, normal images are narrowed by 13% and pneumonia images widened by 11%: squashing turned the originals' "
    "aspect ratios into widths, and a model that leans on them loses there. In the column on borders, each image wears the "
    "outer 12% of one of the other class. The widths helped to choose `stretched` and nothing since, the borders nothing ([EXPERIMENTS.md](EXPERIMENTS.md), which explains its words)."
)


def trials(results: Path) -> list[str]:
    """What `lib.trials` tried on each validation set, best first; nothing where it did not run."""
    path = results / "trials.json"
    if not path.exists():
        return []
    found = files.read_json(path)["trials"]
    parts = ["### What was tried"]
    for kind, (profile, held) in CHOSEN_ON.items():
        if tried := [row for row in found if row["validation"] == kind]:
            parts += [_tried_on(tried, profile, held) + _seeds_apart(results / profile), _tried(tried)]
    return parts


def _tried_on(tried: list[dict], profile: str, held: str) -> str:
    return (
        f"Settings of Xception-LSTM, judged by {tried[0]['images']} validation images of "
        f"{tried[0]['patients']} patients {held}; no setting was chosen by a test figure. At probability 0.5. Profile `{profile}` is the first; "
        "the others did not help more."
        f"{SWAPPED if any('swapped_auc' in row for row in tried) else ''}"
    )


def _tried(tried: list[dict]) -> str:
    rows = [
        {
            "Tried": row["trial"], "Validation AUC": f"{row['val_auc']:.4f}",
            "Widths swapped": _given(row, "swapped_auc"), "Borders swapped": _given(row, "borders_auc"),
            "Log loss": f"{row['log_loss']:.3f}",
            "Sensitivity, %": f"{100 * row['sensitivity']:.1f}", "Specificity, %": f"{100 * row['specificity']:.1f}",
        }
        for row in sorted(tried, key=lambda row: -row["val_auc"])
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    return markdown(table.drop(columns=[name for name in table if (table[name] == "").all()]))


def _given(row: dict, key: str) -> str:
    return f"{row[key]:.4f}" if key in row else ""


def on_pairs(rows: list[tuple[Path, dict]]) -> list[str]:
    """How well each model (profile, row of its headline) tells the matched pairs it holds out apart, mean over seeds."""
    told = []
    for folder, row in rows:
        if config.load(folder.name).data.val_kind != "matched":
            continue
        held = [evaluate.part(table, "val") for table in evaluate.recorded(folder)[row["model"]]]
        found = stats.resample(held, [metrics.auc] * len(held), n_boot=N_BOOT, seed=42, score="logit")
        told.append(
            {
                "Model": style.NAMES[row["model"]],
                "Profile": folder.name,
                "Seeds": f"{len(held)}",
                "AUC on pairs": f"{found.interval()}",
            }
        )
        pairs = held[0]
    if not told:
        return []
    return [
        f"Mean AUC on {len(pairs)} validation images whose normal and pneumonia patients look alike to a thumbnail (a linear classifier on thumbnails reaches 0.52: [EXPERIMENTS.md](EXPERIMENTS.md), Pairs in everything), "
        "at the epoch that was chosen on these images:",
        markdown(pd.DataFrame(told)),
        *filter(None, [_cut(pairs)]),
    ]


def _cut(pairs: pd.DataFrame) -> str:
    """What tells pairs apart besides what is in the lungs; nothing where the sizes of the originals are not known."""
    if not acquisition.known(pairs):
        return ""
    whole, ill = acquisition.whole(pairs), pairs["y_true"].to_numpy() == 1
    return (
        f"These patients are not paired by how their images were cut: {whole[ill].mean():.0%} of the pneumonia images and {whole[~ill].mean():.0%} of the normal "
        f"ones have whole JPEG blocks; by this alone the AUC would be {metrics.auc(ill, whole):.2f}."
    )


def _seeds_apart(folder: Path) -> str:
    """How far a change of seed alone moves the figure by which trials were judged."""
    histories = sorted((folder / "predictions").glob("xception_lstm-seed*.history.csv"))
    if len(histories) < 2:
        return ""
    found = [pd.read_csv(path)["val_auc"].max() for path in histories]
    return (
        f" The profile's {len(found)} seeds reach {min(found):.4f} to {max(found):.4f} on the validation patients they "
        "hold out, so smaller gaps tell nothing."
    )
