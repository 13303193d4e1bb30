"""Where is a finished run, and does it still answer to this config, data and code?"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import filelock
import pandas as pd

from lib import files, models, pixels, provenance
from lib.config import NOT_SHAPING, Config, fingerprint

LIB = Path(__file__).parent
# What shapes a trained model, besides what the data's fingerprint covers (pixels, splits, and lib.overlap where it draws).
# Everything else (plots, statistics, reports, this file) may change without a retraining; of lib.train, which chooses the epoch, and
# lib.devices, which are left out for their many other lines, whoever changes what is trained must say so here.
SHAPING = (
    "models.py",
    "sequence.py",
    "loop.py",
    "objective.py",
    "inference.py",
    "prefix.py",
    "pixels.py",
    "augment.py",
    "views.py",
)
OTHERS = "others"  # folder of a profile's runs that were trained with other settings, images or code
PARTS = ("weights.safetensors", "history.csv", "predictions.csv", "run.json")


@dataclass(frozen=True)
class Run:
    """One trained model on disk."""

    folder: Path
    model: str
    seed: int
    config: Config = dataclasses.field(repr=False)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch: losses, accuracies, validation AUC, learning rate, seconds."""
        return pd.read_csv(self.folder / "history.csv")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row an image of val, test and calibration: image, patient, split, subtype, y_true, logit (of the best epoch)."""
        return pd.read_csv(self.folder / "predictions.csv")

    @cached_property
    def info(self) -> dict:
        """`run.json`: settings, fingerprints, versions, device, duration."""
        return files.read_json(self.folder / "run.json")

    def load(self) -> models.CNNLSTM:
        """The trained model, in eval mode on the CPU."""
        settings = getattr(self.config, self.model)
        if hasattr(settings, "pretrained"):  # its weights come from this run
            settings = dataclasses.replace(settings, pretrained=False)
        model = models.build(dataclasses.replace(self.config, **{self.model: settings}), self.model)
        models.load_weights(model, self.folder / "weights.safetensors")
        return model.eval()


def find(
    config: Config, model: str, seed: int, *, store: pixels.PixelStore | None = None, quiet: bool = True
) -> Run | None:
    """The finished run of these settings, data and code, or None. `quiet=False` says why an old one does not count."""
    run = Run(config.run_dir(model, seed), model, seed, config)
    wanted = identity(config, model, seed, store)
    found = _identity_of(run.folder, wanted)
    if found is None:
        return None
    stale = [name for name, value in wanted.items() if found[name] != value]
    if stale and not quiet:
        changed = ", ".join(name.removesuffix("_fingerprint") for name in stale)
        print(
            f"{run.folder.name} was trained with another {changed}; it is trained again, and the other kept in "
            f"{run.folder.parent.name}/{OTHERS}."
        )
    return None if stale else run


def set_aside(folder: Path, wanted: dict) -> None:
    """Move a finished run out of the way of the one `wanted`, where `bring_back` finds it; one that is the same stays."""
    found = _identity_of(folder, wanted)
    if found is not None and found != wanted:
        aside = _aside(folder, found)
        aside.parent.mkdir(exist_ok=True)
        files.remove(aside)
        os.replace(folder, aside)


def bring_back(folder: Path, wanted: dict) -> None:
    """Put the run `wanted` where it was before one of other settings took its place, if it was set aside.

    Processes that train one run together (`torchrun`) each ask for it: one at a time, and those that come later find it.
    """
    aside = _aside(folder, wanted)
    if not aside.exists():
        return
    with filelock.FileLock(folder.with_name(f".{folder.name}.exchange")):
        if _identity_of(aside, wanted) == wanted != _identity_of(folder, wanted):
            set_aside(folder, wanted)
            files.remove(folder)
            os.replace(aside, folder)


def _aside(folder: Path, of: dict) -> Path:
    return folder.parent / OTHERS / f"{folder.name}-{fingerprint(of)}"


def _identity_of(folder: Path, wanted: dict) -> dict | None:
    """What the finished run in `folder` says of all that `wanted` names; None where there is no such run."""
    if not all((folder / part).is_file() for part in PARTS):
        return None
    try:
        found = files.read_json(folder / "run.json")
    except ValueError:
        return None
    return {name: found.get(name) for name in wanted}


def identity(
    config: Config, model: str, seed: int, store: pixels.PixelStore | None = None
) -> dict[str, str | int]:
    """What has to be equal for two runs to be the same run."""
    store = store or pixels.prepare(config, progress=False)
    return {
        "model": model,
        "seed": seed,
        "config_fingerprint": fingerprint(shaping_settings(config, model)),
        "data_fingerprint": store.fingerprint,
        "code_fingerprint": code_fingerprint(),
    }


def shaping_settings(config: Config, model: str) -> dict:
    """The settings that a trained model depends on; the reports' own are left out."""
    train = dataclasses.asdict(config.train_for(model))  # which refuses a model that is none
    settings = dataclasses.asdict(getattr(config, model))
    settings.pop("train")
    if settings.get("pretrained") and config.weights_file.exists():
        settings["pretrained"] = files.sha256(config.weights_file)
    return {"model": settings, "train": {k: v for k, v in train.items() if k not in NOT_SHAPING}}


def code_fingerprint() -> str:
    """Of the modules that shape a trained model, as far as they exist."""
    return provenance.code_fingerprint(LIB / name for name in SHAPING if (LIB / name).exists())
