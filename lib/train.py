"""How does a config become a trained model? `fit` finds a finished run or trains one.

Without Jupyter: `python -m lib.train --profile full --model xception_lstm`, also under `torchrun`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import os
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from lib import config as configs
from lib import devices, files, loop, models, overlap, pixels, provenance, runs, splits
from lib.config import Config
from lib.errors import reports_errors
from lib.inference import Frozen, Rest
from lib.loop import State, Task, TrainingError
from lib.objective import make_average, make_optimizer
from lib.prefix import StoredPrefix
from lib.progress import Progress, watched
from lib.resume import Keeper, Repetition, forget, forget_older, remove_half_prefixes
from lib.runs import Run
from lib.settings import LARGEST_SEED, all_within


def fit(config: Config, model: str, seed: int, *, fresh: bool | None = None, progress: bool = True) -> Run:
    """The run of `model` with `seed`: found if finished, resumed if stopped, else trained.

    fresh  train again even if a finished run exists (None: when the environment variable FRESH is neither empty nor 0). Such a training that
           was stopped goes on when it is asked for again: a checkpoint that can be read and is newer than the finished run
    Raises TrainingError (loss not finite, a split without both classes), CheckpointError (disk full, a damaged checkpoint), PrefixError
    (no room for what `cache_frozen` keeps), SourceError or IndexingError (no images, or none that can be used), FileNotFoundError or
    WeightsError (ImageNet weights).
    """
    store = pixels.prepare(config, progress=progress)
    fresh = _asked_anew() if fresh is None else fresh
    run = None if fresh else runs.find(config, model, seed, store=store)
    if run:
        return run
    folder = training_folder(config, model, seed)
    with _alone(folder.with_suffix(".lock")):
        if fresh:
            forget_older(folder / "checkpoint.pt", config.run_dir(model, seed) / "run.json")
        else:  # whoever had to wait finds what the other one trained
            runs.bring_back(config.run_dir(model, seed), runs.identity(config, model, seed, store))
            run = runs.find(config, model, seed, store=store, quiet=not progress)
        return run or _train(config, model, seed, store, folder / "checkpoint.pt", progress=progress)


def fit_all(config: Config, model: str, *, fresh: bool | None = None, progress: bool = True) -> list[Run]:
    """One run for every seed of the config. A repetition (`fresh`) that was stopped does not repeat the seeds it had finished."""
    fresh = _asked_anew() if fresh is None else fresh
    repetition = Repetition(config.repeated(model), configs.fingerprint(config.as_dict()))
    if fresh and repetition.done and progress:
        print(f"{model}: goes on with a repetition that was stopped; done are the seeds {repetition.done}")
    found = []
    for seed in config.seeds:
        anew = fresh and seed not in repetition.done
        found.append(fit(config, model, seed, fresh=anew, progress=progress))
        if anew:
            repetition.finished(seed)
    if fresh:
        repetition.over()
    return found


def _asked_anew() -> bool:
    return os.environ.get("FRESH", "") not in ("", "0")


def training_folder(config: Config, model: str, seed: int) -> Path:
    """Where a training under way keeps its checkpoint; it disappears when the run is finished, unless it keeps another's."""
    run = config.run_dir(model, seed)
    return run.with_name(f".{run.name}.training")


def _train(config: Config, model: str, seed: int, store, path: Path, *, progress: bool) -> Run:
    train = config.train_for(model)
    evaluated = np.concatenate([store.rows("val"), store.rows("test")])
    _check_classes(store)
    files.remove_abandoned(config.run_dir(model, seed))
    with torch.random.fork_rng():  # the caller's random numbers stay as they are
        state, task = start(config, model, seed, store, progress=progress)
        identity = runs.identity(config, model, seed, store)
        shown = Progress(
            f"{model} seed {seed}", train.epochs, enabled=progress and task.fabric.is_global_zero
        )
        keeper = Keeper(path, identity, task, train.checkpoint_minutes)
        if keeper.restore(state, say=shown.say):
            shown.say(f"goes on from epoch {state.epoch + 1}, step {state.step + 1}")
        elif not shown.watched:  # the next line comes after an epoch, which may be half an hour away
            where = provenance.device()
            shown.say(f"starts on {where}; {train.epochs} epochs of {len(store.rows('train'))} images")
        try:
            while state.epoch < train.epochs and not _stalled(state, train.early_stopping):
                _epoch(state, task, evaluated, keeper, shown)
        except KeyboardInterrupt:
            shown.close()
            kept = "the last checkpoint is intact, the same command goes on from it"
            kept = kept if path.exists() else "nothing was saved so far, the same command starts anew"
            shown.say(f"stopped by hand in epoch {state.epoch + 1}; {kept}")
            raise
        finally:
            shown.close()
        return _finish(config, model, seed, store, state, evaluated, keeper)


def start(config: Config, model: str, seed: int, store, *, progress: bool = True) -> tuple[State, Task]:
    """Everything that a training needs, at its first step."""
    train = config.train_for(model)
    fabric = devices.make_fabric(train)
    dtype = devices.dtype_of(devices.resolve_precision(train.precision))
    torch.manual_seed(loop.derived_seed(seed))
    network = models.build(config, model).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, train)
    rest = Rest(network)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        devices.synchronize(rest)
    if fabric.device.type == "cuda":
        devices.recurrent_in_float32(rest)
    if train.compile:
        rest = devices.compiled(rest, fabric.device)
    rest, optimizer = fabric.setup(rest, optimizer)
    if fabric.device.type != "cpu":
        store = devices.resident(store, fabric.device)
    frozen = Frozen(network, dtype).to(fabric.device)
    average = make_average(network, train.ema)
    stored = None
    if train.cache_frozen and frozen.stages is not None:
        remove_half_prefixes(config.store_dir.parent)
        stored = StoredPrefix(
            config.store_dir.with_name(f"{config.store_dir.name}-frozen"), store, frozen, augment=train.augment, stretch=train.stretch, copies=train.cache_frozen, device=fabric.device,
            progress=progress and fabric.is_global_zero and watched(),
        )  # fmt: skip
    return State(network, rest, optimizer, average), Task(train, seed, store, frozen, fabric, dtype, stored)


def _epoch(state: State, task: Task, evaluated: np.ndarray, keeper: Keeper, shown: Progress) -> None:
    """Train one epoch, look at validation (and, apart, at test), keep the best weights, write a checkpoint."""

    def after_step(state: State, steps: int) -> None:
        shown.step(state.epoch, state.step, steps, state.sums)
        keeper.now_and_then(state)

    started = time.perf_counter() - state.seconds
    try:
        drawn = overlap.drawn(task.store, loop.derived_seed(task.seed, state.epoch, 2))
        epoch = loop.train_epoch(state, dataclasses.replace(task, store=drawn), after_step=after_step)
        row = {"epoch": state.epoch + 1} | epoch
    except TrainingError:
        if torch.isfinite(state.sums).all():
            raise
        raise keeper.diverged("the training loss is", state) from None  # which knows what was saved
    n_val = len(task.store.rows("val"))
    rows = evaluated if task.train.test_every_epoch else evaluated[:n_val]
    logits = _logits(state, task, rows)
    if not torch.isfinite(logits).all():  # what the last step made of the weights
        raise keeper.diverged("a logit of the evaluated images is", state)
    row |= loop.scores(logits[:n_val], loop.labels(task.store, rows[:n_val]), "val")
    test = loop.labels(task.store, rows[n_val:])
    row["test_accuracy_optimistic"] = (
        float(((logits[n_val:] > 0).numpy() == test).mean()) if len(test) else None
    )
    row["learning_rate"] = state.optimizer.param_groups[0]["lr"]
    row["seconds"] = round(time.perf_counter() - started, 3)
    if state.best is None or (row["val_auc"], -row["val_loss"]) > (
        state.best["val_auc"],
        -state.best["val_loss"],
    ):
        weights = {
            k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, v in state.evaluated_model.state_dict().items()
        }
        state.best = {"epoch": row["epoch"], "val_auc": row["val_auc"], "val_loss": row["val_loss"]}
        state.best |= {"weights": weights, "logits": logits}
    state.history.append(row)
    state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
    state.sums = torch.zeros_like(state.sums)
    state.duration += row["seconds"]
    keeper.keep(state)
    shown.epoch(row)


def _logits(state: State, task: Task, rows: np.ndarray) -> Tensor:
    """Logits of `rows`, the same each time: the token order `shuffle` draws from torch's generator, here a seeded one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return loop.evaluate(state, task, rows)


def _stalled(state: State, patience: int) -> bool:
    return bool(patience and state.best and state.epoch - state.best["epoch"] >= patience)


def _finish(config, model, seed, store, state, evaluated, keeper: Keeper) -> Run:
    """Score test and calibration once with the best epoch's weights (unless that epoch already has), and write the run's folder."""
    best, folder, task = state.best, config.run_dir(model, seed), keeper.task
    state.evaluated_model.load_state_dict(best["weights"])
    n_val = len(store.rows("val"))
    logits = best["logits"]
    if len(logits) == n_val:
        logits = torch.cat([logits, _logits(state, task, evaluated[n_val:])])
    if len(calibration := store.rows("calibration")):  # read once, so their frozen prefix is not stored
        logits = torch.cat([logits, _logits(state, dataclasses.replace(task, stored=None), calibration)])
        evaluated = np.concatenate([evaluated, calibration])
    if task.fabric.is_global_zero:
        table = store.index.iloc[evaluated]
        predictions = table[["image", "patient", "split", "subtype"]].assign(
            y_true=table["label"].astype(int), logit=logits.double().numpy()
        )
        with files.replacing(folder) as beside:
            beside.mkdir()
            (beside / "weights.safetensors").write_bytes(safetensors.torch.save(best["weights"]))
            pd.DataFrame(state.history).to_csv(beside / "history.csv", index=False)
            predictions.to_csv(beside / "predictions.csv", index=False)
            files.write_json(beside / "run.json", keeper.identity | _provenance(config, state, keeper))
            files.flush(beside)  # before the only checkpoint goes
            runs.set_aside(folder, keeper.identity)
        forget(keeper.path, keeper.identity)
    task.fabric.barrier()
    return Run(folder, model, seed, config)


def _provenance(config: Config, state: State, keeper: Keeper) -> dict:
    return {
        "profile": config.profile,
        "config": config.as_dict(),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "device": provenance.device(),
        "processes": keeper.task.fabric.world_size,
        "precision": ", then ".join(keeper.precisions),
        "duration_s": round(state.duration, 1),
        "epochs": state.epoch,
        "best_epoch": state.best["epoch"],
        "trainable_parameters": state.model.trainable_parameters(),
        "total_parameters": sum(p.numel() for p in state.model.parameters()),
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _check_classes(store) -> None:
    for split in splits.SPLITS:
        found = set(loop.labels(store, store.rows(split)))
        if found != {0, 1} and (found or split != "calibration"):  # there may be none of these
            raise TrainingError(
                f"the {split} split has {len(store.rows(split))} images and {len(found)} of the two classes; "
                "training needs normal and pneumonia images in every split (look at the data audit, or change data.val_share)"
            )


def _alone(path: Path) -> contextlib.AbstractContextManager:
    """Held by the one process that trains a run, and by the first of several that train it together."""
    if int(os.environ.get("RANK", 0)):
        return contextlib.nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path)


@reports_errors(models.WeightsError, RuntimeError)  # RuntimeError: of a training that cannot go on
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.train", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", help="a file of lib/profiles, such as quick")
    parser.add_argument("--model", required=True, choices=configs.MODELS)
    parser.add_argument("--seed", type=int, help="one seed; without it every seed of the profile")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as train.epochs=2"
    )
    parser.add_argument("--fresh", action="store_true", help="train again even if a finished run exists")
    parser.add_argument("--root", type=Path, default=configs.ROOT, help="folder of data/ and models/")
    asked = parser.parse_args(argv)
    config = configs.load(asked.profile, root=asked.root, **configs.read_overrides(asked.set))
    seeds = config.seeds if asked.seed is None else (asked.seed,)
    all_within("--seed", seeds, 0, LARGEST_SEED, such_as="42")
    fresh = asked.fresh or None  # then FRESH decides
    if asked.seed is None:
        found = fit_all(config, asked.model, fresh=fresh)
    else:
        found = [fit(config, asked.model, asked.seed, fresh=fresh)]
    for run in found if not int(os.environ.get("RANK", 0)) else []:
        print(f"{run.folder}: best epoch {run.info['best_epoch']} of {run.info['epochs']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
