"""Which training settings does validation support? Trials of Xception-LSTM on validation sets that are harder on purpose.

Random validation patients are told apart almost perfectly by every setting, which leaves nothing to choose by. Two
others stand for the shift of the official test set, and neither needs a test image: a block of the numbering, as the
test set is one; and matched pairs, between whom the shortcuts of a thumbnail do not decide (lib.splits). Either all of
these are held out, or few, so that training sees the others. On the few it is also measured how much
a setting leans on the width of the chest and on what surrounds the lungs (lib.swapped).

python -m lib.trials          train what is not there yet, and write reports/results/trials.json
python -m lib.trials block    only the trials on one of the validation sets; what is recorded of the others stays
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

import pandas as pd

from lib import config, evaluate, files, metrics, pixels, swapped, train
from lib.config import Config
from lib.errors import reports_errors
from lib.models import WeightsError

MODEL, SEED = "xception_lstm", 42
VALIDATIONS = {
    name: {"data.val_kind": kind, "data.val_share": share, "train.test_every_epoch": False}
    for name, kind, share in (
        ("block", "block", 0.15),
        ("matched", "matched", 0.15),
        ("few", "matched", 0.05),
    )
}
DECAYING = {"train.schedule": "cosine", "train.warmup_epochs": 0.1}
AVERAGED = DECAYING | {"xception_lstm.readout": "mean"}
VARIED = DECAYING | {"train.epochs": 3, "train.augment": 0.5, "xception_lstm.train.cache_frozen": 3}
EVEN = DECAYING | {
    "train.epochs": 5,
    "train.balanced": True,
    "train.augment": 0.3,
    "train.mix_style": 0.5,
    "train.zooms": [1.0, 1.1, 0.92],
    "xception_lstm.train": {"learning_rate": 3e-4, "cache_frozen": 3},
}
WIDE = EVEN | {
    "train.stretch": 0.2,
    "train.zooms": [1.0, 1.1],
    "xception_lstm.input_size": 299,
    "xception_lstm.train": {"learning_rate": 3e-4, "cache_frozen": 2},
}
FRAMED = EVEN | {"train.epochs": 8, "train.mix_border": 0.5}
SWAPS = {"swapped_auc": swapped.widths, "borders_auc": swapped.borders}
# (validation set, settings) of each, on top of profile quick. Those on the block ran before augmentation varied sharpness and noise.
TRIALS = {
    "one epoch, nothing added": ("block", {"train.epochs": 1}),
    "augmentation 0.5, decaying rate, weights averaged over 50 steps, mean read-out": (
        "block",
        AVERAGED | {"train.epochs": 1, "train.ema": 0.98, "train.augment": 0.5},
    ),
    "augmentation 1, decaying rate, weights averaged over 50 steps, mean read-out": (
        "block",
        AVERAGED | {"train.epochs": 1, "train.ema": 0.98, "train.augment": 1.0},
    ),
    "two epochs, decaying rate, weights averaged over 20 steps, mean read-out": (
        "block",
        AVERAGED | {"train.epochs": 2, "train.ema": 0.95},
    ),
    "two epochs, augmentation 0.25, decaying rate, weights averaged over 20 steps, mean read-out": (
        "block",
        AVERAGED | {"train.epochs": 2, "train.ema": 0.95, "train.augment": 0.25},
    ),
    "one epoch, decaying rate": ("matched", DECAYING | {"train.epochs": 1}),
    "one epoch, decaying rate, label smoothing 0.1": (
        "matched",
        DECAYING | {"train.epochs": 1, "train.label_smoothing": 0.1},
    ),
    "three epochs, decaying rate": ("matched", DECAYING | {"train.epochs": 3}),
    "three epochs, decaying rate, augmentation 0.5": ("matched", VARIED),
    "three epochs, decaying rate, augmentation 0.5, read at zooms 1, 1.1 and 0.92": (
        "matched",
        VARIED | {"train.zooms": [1.0, 1.1, 0.92]},
    ),
    "the settings of `matched`, trained on most pairs": (
        "few",
        VARIED | {"train.zooms": [1.0, 1.1, 0.92]},
    ),
    "the settings of `balanced`: five epochs of as many normal as ill images, rate 0.0003, augmentation 0.3, styles mixed, zooms 1, 1.1 and 0.92": (
        "few",
        EVEN,
    ),
    "`balanced` at 299 pixels, widths varied by 0.2, zooms 1 and 1.1": ("few", WIDE),
    "`balanced` for eight epochs, half of the borders exchanged": ("few", FRAMED),
    "`balanced` for eight epochs, half of the borders exchanged, at 299 pixels": (
        "few",
        FRAMED | {"xception_lstm.input_size": 299},
    ),
}


def settings(name: str) -> Config:
    """The config of a trial, whose run has a folder of its own below models/trials."""
    kind, added = TRIALS[name]
    found = config.load("quick", **VALIDATIONS[kind], **added)
    return dataclasses.replace(found, profile=f"trials/{list(TRIALS).index(name)}")


def judged(name: str, *, progress: bool = True) -> dict:
    """A trial's figures on its validation patients; the test rows of its predictions are not read."""
    cfg, kind = settings(name), TRIALS[name][0]
    run = train.fit(cfg, MODEL, SEED, progress=progress)
    found = {"trial": name, "validation": kind, **scores(run.predictions)}
    if kind == "few":
        store, model = pixels.prepare(cfg, progress=progress), run.load()
        found |= {key: round(swapped.auc(cfg, MODEL, model, store, swap), 5) for key, swap in SWAPS.items()}
    return found


def scores(predictions: pd.DataFrame) -> dict:
    """Figures of the validation rows of a predictions table."""
    validation = evaluate.part(predictions, "val")
    y_true, probability = validation["y_true"], validation["probability"]
    at_half = metrics.operating(metrics.cells(0.5)(y_true, probability))
    return {
        "val_auc": round(metrics.auc(y_true, validation["logit"]), 5),
        "log_loss": round(metrics.log_loss(y_true, probability), 4),
        **{name: round(float(at_half[name]), 4) for name in ("sensitivity", "specificity")},
        "images": len(validation),
        "patients": int(validation["patient"].nunique()),
    }


@reports_errors(WeightsError, RuntimeError)  # RuntimeError: of a training that cannot go on
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lib.trials", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "validation", nargs="*", help=f"on which validation sets: {', '.join(VALIDATIONS)} (default: all)"
    )
    wanted = parser.parse_args(argv).validation or list(VALIDATIONS)
    if unknown := set(wanted) - set(VALIDATIONS):
        parser.error(
            f"unknown validation set {', '.join(sorted(unknown))}; they are {', '.join(VALIDATIONS)}"
        )
    record([judged(name) for name, (kind, _) in TRIALS.items() if kind in wanted])
    return 0


def record(rows: list[dict]) -> None:
    """Write the figures of trials to reports/results/trials.json, and keep what is there of others."""
    target = config.ROOT / "reports" / "results" / "trials.json"
    known = files.read_json(target)["trials"] if target.exists() else []
    found = {row["trial"]: row for row in [*known, *rows]}
    kept = [found[name] for name in TRIALS if name in found]
    best = {}
    for kind in VALIDATIONS:
        if tried := [row for row in kept if row["validation"] == kind]:
            best[kind] = max(tried, key=lambda row: row["val_auc"])["trial"]
            print(f"best on {kind} validation: {best[kind]}")
    files.write_json(target, {"model": MODEL, "seed": SEED, "trials": kept, "best": best})
    print(f"written to {target}")


if __name__ == "__main__":
    sys.exit(main())
