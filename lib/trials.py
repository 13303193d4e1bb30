"""Which training settings does validation support? Trials of Xception-LSTM on a validation set that is shifted on purpose.

The official test set is a few blocks of the numbering, so validation here is one too: consecutive patients of each series.
Random validation patients are told apart almost perfectly by every setting, which leaves nothing to choose by.

python -m lib.trials    train what is not there yet, and write reports/results/tuned/trials.json
"""

from __future__ import annotations

import dataclasses
import sys

from sklearn.metrics import log_loss

from lib import config, evaluate, files, metrics, train
from lib.config import Config

MODEL, SEED = "xception_lstm", 42
SHIFTED = {"data.val_kind": "block", "data.val_share": 0.15, "train.test_every_epoch": False}
AVERAGED = {"train.schedule": "cosine", "train.warmup_epochs": 0.1, "xception_lstm.readout": "mean"}
# Each on top of profile quick; the first is that profile, shortened.
TRIALS = {
    "one epoch, nothing added": {"train.epochs": 1},
    "augmentation 0.5, decaying rate, weights averaged over 50 steps, mean read-out": AVERAGED
    | {"train.epochs": 1, "train.ema": 0.98, "train.augment": 0.5},
    "augmentation 1, decaying rate, weights averaged over 50 steps, mean read-out": AVERAGED
    | {"train.epochs": 1, "train.ema": 0.98, "train.augment": 1.0},
    "two epochs, decaying rate, weights averaged over 20 steps, mean read-out": AVERAGED
    | {"train.epochs": 2, "train.ema": 0.95},
    "two epochs, augmentation 0.25, decaying rate, weights averaged over 20 steps, mean read-out": AVERAGED
    | {"train.epochs": 2, "train.ema": 0.95, "train.augment": 0.25},
}


def settings(name: str, **others) -> Config:
    """The config of a trial, whose run has a folder of its own below models/trials."""
    number = list(TRIALS).index(name)
    found = config.load("quick", **SHIFTED, **TRIALS[name], **others)
    return dataclasses.replace(found, profile=f"trials/{number}")


def judged(name: str, *, progress: bool = True) -> dict:
    """A trial's figures on its validation patients; the test rows of its predictions are not read."""
    run = train.fit(settings(name), MODEL, SEED, progress=progress)
    validation = evaluate.part(run.predictions, "val")
    y_true, probability = validation["y_true"], validation["probability"]
    return {
        "trial": name,
        "val_auc": round(metrics.auc(y_true, validation["logit"]), 5),
        "log_loss": round(float(log_loss(y_true, probability)), 4),
        "sensitivity": round(metrics.at("sensitivity", 0.5)(y_true, probability), 4),
        "specificity": round(metrics.at("specificity", 0.5)(y_true, probability), 4),
        "images": len(validation),
        "patients": int(validation["patient"].nunique()),
    }


def main() -> int:
    rows = [judged(name) for name in TRIALS]
    best = max(rows, key=lambda row: row["val_auc"])
    target = config.ROOT / "reports" / "results" / "tuned" / "trials.json"
    files.write_json(target, {"model": MODEL, "seed": SEED, "trials": rows, "best": best["trial"]})
    print(f"best on validation: {best['trial']} (AUC {best['val_auc']}); written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
