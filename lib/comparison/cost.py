"""What is a model made of, and what does it cost? Parameters, operations for one image, and seconds."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib.comparison import original
from lib.models import CNNLSTM
from lib.plots.style import NAMES
from lib.stats import Interval


def architecture(model: CNNLSTM) -> str:
    """The road of an image through a model, in one line."""
    reducer = "" if isinstance(model.channel_reducer, nn.Identity) else " -> 1x1 reduction"
    dense, logit = model.classifier[0], model.classifier[-1]
    head, order = type(getattr(model.sequence, "rnn", model.sequence)).__name__, model.reorder.name
    readout = getattr(model.sequence, "readout", None)
    how = f"{order} order" + (f", {readout} state" if readout else "")
    backbone = "Xception" if hasattr(model.backbone, "frozen_stages") else "3 convolutions"
    return (
        f"{backbone}{reducer} -> tokens -> {head} {model.sequence.out_features} ({how}) -> "
        f"{dense.out_features} -> {logit.out_features}"
    )


def flops(model: CNNLSTM, image_size: int) -> int:
    """Floating-point operations of one image's forward pass, a multiply-add being two.

    Convolutions and matrix products, the LSTM's included; BatchNorm, pooling and activations are not counted.
    """
    # On the meta device nothing is computed, and the LSTM shows as the matrix products it is made of: on a CPU it is
    # one fused operation, which the counter does not know.
    twin = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, 3, image_size, image_size, device="meta"))
    return counter.get_total_flops()


def seconds_per_image(model: CNNLSTM, images: torch.Tensor) -> float:
    """Median over three forward passes of the batch (B, 3, H, W) of the time they take, divided by B; one more warms up."""
    on_gpu = images.device.type == "cuda"
    times = []
    with torch.inference_mode():
        for _ in range(4):
            started = time.perf_counter()
            model(images)
            if on_gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) / len(images)


def sentence(costs: pd.DataFrame, aucs: Mapping[str, Interval]) -> str:
    """A `table` and the test AUCs of its models, in words."""
    parts = [
        f"{NAMES[row.Index]} has {row.parameters:,} trainable parameters, takes {row.gflops:.1f} giga-operations and {row.image_milliseconds:.1f} ms an "
        f"image and {row.epoch_seconds:.0f} s an epoch, for a test AUC of {aucs[row.Index]}"
        for row in costs.itertuples()
    ]
    return "; ".join(parts) + ". The milliseconds are of this machine, the seconds of those that trained."


def table(runs: dict[str, Sequence], images: torch.Tensor) -> pd.DataFrame:
    """One row a model: trainable parameters, giga-operations for an image, seconds an epoch, milliseconds an image.

    runs    by model, `runs.Run`s; the first of each is loaded and timed, the fastest tells the seconds an epoch
    images  (B, 3, S, S), S being the size at which the operations are counted
    """
    rows = {}
    for model, own in runs.items():
        network = own[0].load().to(images.device)
        rows[model] = {
            "parameters": own[0].info["trainable_parameters"],
            "gflops": flops(network, images.shape[-1]) / 1e9,
            "epoch_seconds": original.epoch_seconds(own),
            "image_milliseconds": 1000 * seconds_per_image(network, images),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
