"""Do the places that a map marks matter to the model? The score while pixels go or come in the map's order."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.gradcam.means import mean_interval
from lib.gradcam.overlay import blank, resize

KINDS = ("deletion", "insertion")
BATCH = 32  # images that a model is asked about at once


def curves(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    rankings: dict[str, np.ndarray],
    targets: np.ndarray,
    *,
    steps: int = 6,
    seed: int,
) -> pd.DataFrame:
    """Deletion and insertion curves (Petsiuk, Das & Saenko 2018), one row a map, kind, image and share of pixels.

    predict   images (B, 3, H, W) -> logits (B,)
    rankings  by name, maps (n, h, w) of the n images; pixels of highest value go (deletion) or come (insertion) first
    targets   (n,) class whose probability is followed
    What is deleted becomes blurred, not black: a black hole is itself something to see. Ties, such as the zeros of a map, are
    broken at random with `seed`. Columns map, kind, image, share, score; score is nan where the map is blank.
    """
    shares = np.linspace(0, 1, steps + 1)
    size = tuple(images.shape[2:])
    blurred = _blurred(images)
    pictures = {name: resize(maps, size) for name, maps in rankings.items()}
    empty = {name: blank(maps) for name, maps in rankings.items()}
    ends = [_scores(predict, which, targets) for which in (images, blurred)]
    rows = []
    for number, (name, maps) in enumerate(pictures.items()):
        place = _places(maps, np.random.default_rng([seed, number]))  # (n, H, W), 0 for the first pixel, to 1
        for kind, (begin, end) in zip(KINDS, ((images, blurred), (blurred, images)), strict=True):
            scores = [ends[KINDS.index(kind)]]
            for share in shares[1:-1]:
                done = torch.from_numpy(place < share)[:, None].to(images.device)
                scores.append(_scores(predict, torch.where(done, end, begin), targets))
            scores.append(ends[1 - KINDS.index(kind)])
            for share, values in zip(shares, scores, strict=True):
                values = np.where(empty[name], np.nan, values)
                rows += [(name, kind, i, share, value) for i, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["map", "kind", "image", "share", "score"])


def areas(curve: pd.DataFrame) -> pd.DataFrame:
    """Area under each curve: index image, columns (kind, map). Low is good for deletion, high for insertion."""
    table = curve.pivot_table(index="image", columns=["kind", "map", "share"], values="score", dropna=False)
    found = {}
    for kind, name in dict.fromkeys((kind, name) for kind, name, _ in table.columns):
        block = table[kind][name]
        found[kind, name] = np.trapezoid(block.to_numpy(), block.columns.to_numpy(dtype=float), axis=1)
    return pd.DataFrame(found, index=table.index)


def advantages(curve: pd.DataFrame, patients: np.ndarray, *, of: str, n_boot: int, seed: int) -> pd.DataFrame:
    """By how much the map `of` beats each other map: mean paired difference of areas, positive when it is better.

    Columns kind, rival, advantage (Interval, patients resampled), left: the mean score when everything is deleted, and blank:
    how many images are left out, for want of a map.
    """
    area, gone = areas(curve), curve[(curve["kind"] == "deletion") & (curve["share"] == 1)]
    own = gone.loc[gone["map"] == of, "score"]
    of_all = {"left": own.mean(), "blank": int(own.isna().sum())}
    rows = []
    for kind in KINDS:
        for rival in area[kind].columns.drop(of):
            better = area[kind][of] - area[kind][rival]
            better = -better if kind == "deletion" else better
            interval = mean_interval(better.to_numpy(), patients, n_boot=n_boot, seed=seed)
            rows.append({"kind": kind, "rival": rival, "advantage": interval} | of_all)
    return pd.DataFrame(rows)


def _places(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The share of pixels that come before each pixel, (n, H, W), highest value first, ties in random order."""
    flat = maps.reshape(len(maps), -1)
    ties = rng.random(flat.shape)
    order = np.lexsort((ties, -flat), axis=1)
    place = np.empty(flat.shape)
    np.put_along_axis(place, order, np.arange(flat.shape[1])[None] / flat.shape[1], axis=1)
    return place.reshape(maps.shape)


def _blurred(images: Tensor) -> Tensor:
    """Images without detail: a Gaussian of 1/14 of the side (16 of 224 pixels). What is larger than that stays, as a shade."""
    sigma = images.shape[-1] / 14
    smooth = [cv2.GaussianBlur(image.permute(1, 2, 0).cpu().numpy(), (0, 0), sigma) for image in images]
    return torch.from_numpy(np.stack(smooth)).permute(0, 3, 1, 2).to(images)


@torch.no_grad()
def _scores(predict: Callable[[Tensor], Tensor], images: Tensor, targets: np.ndarray) -> np.ndarray:
    """Probability of each image's target, (n,)."""
    logits = torch.cat([predict(batch).float().cpu() for batch in images.split(BATCH)])
    sign = torch.from_numpy(2.0 * np.asarray(targets) - 1)
    return torch.sigmoid(logits * sign).numpy()
