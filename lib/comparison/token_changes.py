"""Does a trained model use its sequence? The same images, read with the tokens shuffled, reversed or levelled.

A model meets here what it was not trained on: a fall by a random order says that this model relies on the order, or is misled
by tokens of a kind that it never saw, not that a model needs it: that is the question of the ablation, which trains each variant anew.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import pixels, stats
from lib.inference import FastRest, Frozen
from lib.metrics import auc
from lib.models import CNNLSTM

READINGS = {
    "trained": "as trained",
    "reversed": "tokens in reverse",
    "shuffled": "tokens in a random order, new for each image",
    "levelled": "every token replaced by the image's mean token",
}


def changed(tokens: Tensor, reading: str, *, generator: torch.Generator) -> Tensor:
    """Tokens (B, T, C) as one of READINGS hands them to the sequence head."""
    if reading == "trained":
        return tokens
    if reading == "reversed":
        return tokens.flip(1)
    if reading == "shuffled":
        order = torch.rand(tokens.shape[:2], generator=generator).argsort(1).to(tokens.device)
        return tokens.gather(1, order[..., None].expand_as(tokens))
    if reading == "levelled":
        return tokens.mean(1, keepdim=True).expand_as(tokens)
    raise ValueError(f"unknown reading {reading!r}; the readings are {', '.join(READINGS)}")


@torch.inference_mode()
def readings(model: CNNLSTM, store, rows: np.ndarray, *, seed: int, batch_size: int = 32) -> pd.DataFrame:
    """Logits of the store's images under every reading, in float32: columns image, patient, y_true and one a reading."""
    device = next(model.parameters()).device
    frozen, rest = Frozen(model, torch.float32).to(device), FastRest(model, torch.float32).to(device)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {reading: [] for reading in READINGS}
    for images, _, _ in pixels.batches(store, rows, batch_size, device=device):
        tokens = model.tokens(rest.features(frozen(images)))
        for reading, logits in found.items():
            logits.append(model.read(changed(tokens, reading, generator=generator)).cpu())
    index = store.index.iloc[rows]
    table = pd.DataFrame({"image": index["image"], "patient": index["patient"], "y_true": index["label"]})
    return table.assign(**{name: torch.cat(logits).double().numpy() for name, logits in found.items()})


def sample(store, *, most: int, seed: int) -> np.ndarray:
    """At most `most` test rows of the store, drawn without replacement, in the store's order."""
    rows = store.rows("test")
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def effects(table: pd.DataFrame, *, n_boot: int = 2000, seed: int = 42) -> pd.DataFrame:
    """AUC under each reading and its paired difference from the trained one, patients resampled.

    table    from `readings`
    returns  one row a reading: reading, auc (Interval), difference (Interval, None for the trained reading)
    """
    draws = {name: stats.resample([table], [auc], n_boot=n_boot, seed=seed, score=name) for name in READINGS}
    return pd.DataFrame(
        {
            "reading": name,
            "auc": own.interval(),
            "difference": None if name == "trained" else (own - draws["trained"]).interval(),
        }
        for name, own in draws.items()
    )
