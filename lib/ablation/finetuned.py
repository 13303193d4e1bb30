"""What happens when the backbone learns along with the head? The same grid through the study's own training."""

from __future__ import annotations

import dataclasses

import pandas as pd
from tqdm.auto import tqdm

from lib import models, train
from lib.ablation.variants import Size, Variant, matched_hidden, parameters
from lib.config import Config
from lib.runs import Run

CUSTOM_CHANNELS = 100  # of the custom model's tokens


def variant_config(config: Config, variant: Variant, model: str = "xception_lstm") -> Config:
    """The config whose `model` is this variant, as wide as matches its LSTM, its runs in a folder of their own.

    The variant that is the study's own model is the study's own config, whose runs are not trained a second time.
    """
    settings = getattr(config, model)
    changes = {
        "head": variant.head,
        "order": variant.order,
        "readout": variant.readout,
        "lstm_hidden": matched_hidden(variant.head, size(config, variant, model)),
    }
    if model == "xception_lstm":
        changes["use_channel_reduction"] = variant.channels == "learned"
    changed = dataclasses.replace(settings, **changes)
    if changed == settings:
        return config
    return dataclasses.replace(
        config, profile=f"{config.profile}/ablation/{variant.name}", **{model: changed}
    )


def size(config: Config, variant: Variant, model: str) -> Size:
    settings = getattr(config, model)
    if model == "custom_cnn_lstm":
        return Size(CUSTOM_CHANNELS, settings.lstm_hidden, settings.dense, settings.dropout_rate)
    channels = settings.reduced_dim if variant.channels == "learned" else models.XceptionBackbone.channels
    return Size(channels, settings.lstm_hidden, settings.dense, settings.dropout)


def run(
    config: Config, variants: list[Variant], *, model: str = "xception_lstm", progress: bool = True
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Fine-tune every variant with every seed of `ablation`: found, resumed or trained by `train.fit`.

    Returns one row a run (name, seed, parameters, best_epoch, val_auc, seconds, folder), and the predictions by variant.
    """
    rows, tables = [], {variant.name: [] for variant in variants}
    jobs = [(variant, seed) for seed in config.ablation.seeds for variant in variants]
    for variant, seed in tqdm(jobs, desc="fine-tuned ablation", unit="run", disable=not progress):
        done = train.fit(variant_config(config, variant, model), model, seed, progress=progress)
        rows.append(_row(config, variant, model, done))
        tables[variant.name].append(done.predictions.assign(seed=seed))
    return pd.DataFrame(rows), {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _row(config: Config, variant: Variant, model: str, done: Run) -> dict:
    shape = size(config, variant, model)
    return {
        "name": variant.name,
        "seed": done.seed,
        "parameters": parameters(variant.head, shape, matched_hidden(variant.head, shape)),
        "best_epoch": done.info["best_epoch"],
        "val_auc": float(done.history["val_auc"].max()),
        "seconds": float(done.info["duration_s"]),
        "folder": done.folder,
    }
