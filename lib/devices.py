"""Where does training run, in which precision, and with how many processes?"""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from lib import memory
from lib.config import Train
from lib.pixels import PixelStore


def make_fabric(train: Train) -> Fabric:
    """One device, or every process that `torchrun` started, in the precision the config asks for."""
    precision = resolve_precision(train.precision)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32 where float32 is left
        # Of the copy that each evaluation makes of the head; its few dozen calls are not worth another layout.
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
    else:
        memory.keep_freed_memory()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it announces stands in run.json
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if world == 1:
        return Fabric(accelerator=fastest().type, devices=1, precision=precision)
    fabric = Fabric(
        accelerator=fastest().type,
        strategy="ddp",
        devices=local,
        num_nodes=world // local,
        precision=precision,
    )
    fabric.launch()
    return fabric


def fastest() -> torch.device:
    """An NVIDIA GPU, or the processor where there is none; a Mac's too, as its GPU does not pool a map of 20 into one of 7 (80 pixels)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resident(store: PixelStore, device: torch.device) -> PixelStore:
    """The same images held by the device, so that batches never leave it: 294 MB for 5,856 images at 224 pixels."""
    return dataclasses.replace(store, pixels=torch.as_tensor(np.array(store.pixels), device=device))


class Synchronized(nn.SyncBatchNorm, nn.BatchNorm2d):
    """BatchNorm over the batches of all processes that still is a BatchNorm2d: it is frozen and folded like one."""


def synchronize(module: nn.Module) -> None:
    """Let every BatchNorm2d of `module` take its statistics over all processes. (torch's own conversion makes other layers of
    them, which whoever looks for BatchNorm2d passes over.)"""
    for layer in module.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__, layer.process_group = Synchronized, None


class _Float32:
    """A recurrent layer that computes in float32 under autocast too: PyTorch's, on NVIDIA GPUs, would have it in float16 whatever is
    asked (`AutocastRNN.cpp`), and the loss is not scaled for that."""

    def forward(self, input: torch.Tensor, hx: torch.Tensor | tuple | None = None) -> tuple:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float(), hx)


class Float32LSTM(_Float32, nn.LSTM):
    """A long short-term memory in float32."""


class Float32GRU(_Float32, nn.GRU):
    """A gated recurrent unit in float32."""


def recurrent_in_float32(module: nn.Module) -> None:
    """Let every LSTM and GRU of `module` compute in float32; its weights and their names stay what they are."""
    for layer in module.modules():
        if type(layer) in (nn.LSTM, nn.GRU):
            layer.__class__ = {nn.LSTM: Float32LSTM, nn.GRU: Float32GRU}[type(layer)]


def compiled(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` through torch.compile, or as it is where this machine has no working compiler."""
    try:
        trial = torch.compile(nn.Linear(2, 2).to(device))
        trial(torch.ones(2, 2, device=device)).sum().backward()
    except Exception as error:  # whatever a missing compiler, header or driver raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(f"train.compile has no effect here: {reason}", stacklevel=2)
        return module
    return torch.compile(module)


def resolve_precision(asked: str) -> str:
    """`auto` becomes bf16-mixed where the hardware multiplies bfloat16 itself, else 32-true."""
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = _cpu_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def dtype_of(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision.startswith("bf16") else torch.float32


def _cpu_has_bf16() -> bool:
    """AVX-512 BF16 or AMX. torch's own questions are private and have changed their names, so each may be missing."""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in questions)
