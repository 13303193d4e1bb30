"""Does the LSTM help, and would any order do? Heads of one size on one backbone under one protocol (notebook 06)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib.ablation.conclusions import HELPS, ORDER, PATTERNS, answers, findings
from lib.ablation.effects import Effects, analyse, pooled
from lib.ablation.published import read, write
from lib.ablation.record import as_json, headline, protocol_sentence, shown
from lib.ablation.variants import BASE, REFERENCE, all_variants, select
from lib.config import Config

if TYPE_CHECKING:
    from lib.ablation import regimes

__all__ = [
    "BASE", "HELPS", "ORDER", "PATTERNS", "REFERENCE", "Effects", "all_variants", "analyse", "answers", "as_json",
    "findings", "headline", "pooled", "protocol_sentence", "read", "run", "select", "shown", "write",
]  # fmt: skip


def run(config: Config, *, progress: bool = True) -> regimes.Result:
    """Every variant that the profile asks for with every seed, in its regime: found, resumed or trained."""
    from lib.ablation import regimes  # it brings training along, which takes seconds to load

    return regimes.run(config, progress=progress)
