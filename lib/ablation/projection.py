"""On which scale do heads read frozen features? Principal components, or all channels, fitted on training images only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.linalg

from lib import files
from lib.ablation.features import Tokens, check_space, writing
from lib.config import fingerprint

BLOCK = 128  # images whose tokens are held as float32 at once


def project(tokens: Tokens, rows: np.ndarray, components: int) -> Tokens:
    """The tokens on the first principal components of the training tokens (Pearson 1901): found or computed.

    rows  the training images; no other image has a say in the components, the mean or the scale
    The projection keeps distances (it is not whitened); one number scales it to a mean variance of 1 a component.
    Raises ValueError when there are fewer channels or training tokens than components, OSError when the disk is too small.
    """
    _check(tokens, rows, components)
    name = tokens.folder.name.replace("features", "tokens", 1)
    key = fingerprint([name, components, rows.tolist()])
    folder = tokens.folder.parent / f"{name}-{key}"
    family = name.rpartition("-")[0]  # of the same images, whatever the backbone or its weights
    with writing(folder, family) as missing:
        if missing:
            _compute(tokens, rows, components, folder)
    return Tokens(folder)


def _compute(tokens: Tokens, rows: np.ndarray, components: int, folder: Path) -> None:
    mean, covariance = _moments(tokens.values, rows)
    variances, axes = principal_axes(covariance, components)
    scale = float(np.sqrt(variances.mean())) or 1.0
    with files.replacing(folder) as beside:
        beside.mkdir()
        _write(tokens.values, beside / "values.npy", mean, axes / scale)
        files.write_json(beside / "tokens.json", {"shape": tokens.shape})


def standardise(tokens: Tokens, rows: np.ndarray) -> Tokens:
    """All channels, centred, and scaled by one number to a mean variance of 1 over the training tokens."""
    path = tokens.folder / f"moments-{fingerprint(rows.tolist())}.json"
    if not path.exists():
        mean, square, count = 0.0, 0.0, 0
        for block in _blocks(tokens.values, rows):
            mean, square, count = mean + block.sum(0), square + float((block**2).sum()), count + len(block)
        mean = mean / count
        variance = square / count - float((mean**2).sum())
        files.write_json(path, {"mean": mean.tolist(), "scale": float(np.sqrt(variance / len(mean))) or 1.0})
    found = files.read_json(path)
    return dataclasses.replace(tokens, mean=np.array(found["mean"], np.float32), scale=found["scale"])


def principal_axes(covariance: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest variances [k] and their axes [C, k]; an axis' largest entry is positive, so that signs repeat."""
    n = len(covariance)
    variances, axes = scipy.linalg.eigh(covariance, subset_by_index=[n - components, n - 1])
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    largest = axes[np.abs(axes).argmax(0), np.arange(components)]
    return variances, axes * np.sign(largest)


def _moments(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (C,) and covariance (C, C) of the tokens of `rows`."""
    channels = values.shape[2]
    mean, product, count = np.zeros(channels), np.zeros((channels, channels)), 0
    for block in _blocks(values, rows):
        mean, product, count = mean + block.sum(0), product + block.T @ block, count + len(block)
    mean = mean / count
    return mean, product / count - np.outer(mean, mean)


def _write(values: np.ndarray, path: Path, mean: np.ndarray, axes: np.ndarray) -> None:
    images, tokens, _ = values.shape
    check_space(path.parent, images * tokens * axes.shape[1] * np.dtype(np.float16).itemsize)
    target = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float16, shape=(images, tokens, axes.shape[1])
    )
    axes, offset = axes.astype(np.float32), (mean @ axes).astype(np.float32)
    everything = np.arange(images)
    for start, block in zip(range(0, images, BLOCK), _blocks(values, everything), strict=True):
        target[start : start + BLOCK] = (block @ axes - offset).reshape(-1, tokens, axes.shape[1])
    target.flush()


def _blocks(values: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The tokens of `rows`, some images at a time: float32 (n, C)."""
    for start in range(0, len(rows), BLOCK):
        yield values[rows[start : start + BLOCK]].reshape(-1, values.shape[2]).astype(np.float32)


def _check(tokens: Tokens, rows: np.ndarray, components: int) -> None:
    most = min(tokens.channels, len(rows) * tokens.values.shape[1])
    if not 1 <= components <= most:
        raise ValueError(
            f"ablation.components is {components}; {len(rows)} training images with {tokens.channels} channels "
            f"allow 1 to {most}, and 0 stands for all channels"
        )
