"""Where does training run, in which precision, and with how many processes?"""

from __future__ import annotations

import logging
import os

import torch
from lightning_fabric import Fabric

from lib.config import Train


def make_fabric(train: Train) -> Fabric:
    """One device, or every process that `torchrun` or `fabric run` started, in the precision the config asks for."""
    precision = resolve_precision(train.precision)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32 where float32 is left
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it announces stands in run.json
    if "LT_CLI_USED" in os.environ:  # `fabric run` brings its own devices and strategy
        return Fabric(precision=os.environ.get("LT_PRECISION") or precision)
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if world == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    fabric = Fabric(
        accelerator="auto", strategy="ddp", devices=local, num_nodes=world // local, precision=precision
    )
    fabric.launch()
    return fabric


def resolve_precision(asked: str) -> str:
    """`auto` becomes bf16-mixed where the hardware multiplies bfloat16 itself, else 32-true."""
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        fast = False
    else:
        fast = _cpu_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def dtype_of(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision.startswith("bf16") else torch.float32


def _cpu_has_bf16() -> bool:
    """AVX-512 BF16 or AMX. torch's own questions are private and have changed their names, so each may be missing."""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in questions)
