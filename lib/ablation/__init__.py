"""Does the LSTM help, and would any order do? Heads of one size on one backbone under one protocol (notebook 06)."""

from lib.ablation.conclusions import HELPS, ORDER, PATTERNS, answers, findings, p_value, verdict
from lib.ablation.effects import Effects, analyse, judged, pooled
from lib.ablation.published import read, write
from lib.ablation.record import as_json, headline, model_of, protocol_sentence, shown
from lib.ablation.variants import BASE, NAMED, REFERENCE, all_variants, select

__all__ = [
    "BASE", "HELPS", "NAMED", "ORDER", "PATTERNS", "REFERENCE", "Effects", "all_variants", "analyse", "answers", "as_json",
    "findings", "headline", "judged", "model_of", "p_value", "pooled", "protocol_sentence", "read", "select", "shown", "verdict", "write",
]  # fmt: skip
