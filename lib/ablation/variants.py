"""What is compared? The grid of sequence heads, token orders, read-outs and channel treatments, at matched size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from lib.config import Config
from lib.settings import ORDERS

REFERENCE = "mean-mlp"  # what every head on the same channels is compared with: no sequence, no arrangement
BASE = "lstm-raster"  # whose size every head is matched to, and which the orders are compared with
TOLERANCE = 0.02  # relative difference in the number of parameters that counts as matched
NAMED = (
    "A name says what reads the tokens: `mean-mlp` a hidden layer on their mean (the reference); `token-mean` a hidden layer on every token by itself, then the "
    "mean; `attention-pool` gated attention, then a hidden layer; `lstm-<order>` an LSTM in that order, read out at its last step or, with `-mean` and `-max`, mean-pooled or max-pooled over "
    "all steps. `random` is one random order for all images, `shuffle` a new one for each. `transformer-<order>` is a small Transformer with learned positions, mean-pooled."
)


@dataclass(frozen=True)
class Variant:
    """One cell of the grid.

    channels  what a token holds: `base` (principal components when frozen, all channels when fine-tuned), `learned`
              (a trained 1x1 convolution in between) or `all` (every channel; frozen only)
    """

    name: str
    head: str
    order: str = "raster"
    readout: str = "last"
    channels: str = "base"


def all_variants(regime: str = "frozen", model: str = "xception_lstm") -> dict[str, Variant]:
    """Every variant of a regime and model by name, the reference first."""
    heads = [
        Variant(REFERENCE, "mean"),
        Variant("token-mean", "token-mean"),
        Variant("attention-pool", "attention"),
        Variant(BASE, "lstm"),
        Variant("bilstm-raster", "bilstm"),
        Variant("gru-raster", "gru"),
        Variant("transformer-raster", "transformer", readout="mean"),
    ]
    orders = [Variant(f"lstm-{order}", "lstm", order=order) for order in ORDERS if order != "raster"]
    others = [
        Variant("transformer-shuffle", "transformer", order="shuffle", readout="mean"),
        Variant("lstm-raster-mean", "lstm", readout="mean"),
        Variant("lstm-reverse-mean", "lstm", order="reverse", readout="mean"),
        Variant("lstm-raster-max", "lstm", readout="max"),
        Variant("mean-mlp-learned", "mean", channels="learned"),
        Variant("lstm-raster-learned", "lstm", channels="learned"),
    ]
    if regime == "frozen":
        others += [
            Variant("mean-mlp-all", "mean", channels="all"),
            Variant("lstm-raster-all", "lstm", channels="all"),
        ]
    if model == "custom_cnn_lstm":
        others = [variant for variant in others if variant.channels == "base"]  # it has no channels to reduce
    return {variant.name: variant for variant in heads + orders + others}


def select(config: Config) -> list[Variant]:
    """The variants that `ablation.variants` names, or all; the reference is always among them."""
    known = all_variants(config.ablation.regime, config.ablation.model)
    asked = config.ablation.variants or tuple(known)
    return [variant for variant in known.values() if variant.name in asked or variant.name == REFERENCE]


@dataclass(frozen=True)
class Size:
    """What sets the number of weights of a reader."""

    channels: int  # of a token, as the head reads it
    hidden: int  # of the LSTM that every head is matched to
    dense: int
    dropout: float


def parameters(head: str, size: Size, hidden: int) -> int:
    """Weights of a head and its classifier; a channel reducer, the same for every head, is not counted."""
    import torch  # takes seconds to load, and who only reads what is recorded counts no weights
    from torch import nn

    from lib.models import CNNLSTM

    with torch.device("meta"):
        model = CNNLSTM(
            nn.Identity(), size.channels, hidden=hidden, dense=size.dense, dropout=size.dropout, head=head
        )
    return model.trainable_parameters()


@lru_cache
def matched_hidden(head: str, size: Size) -> int:
    """The width at which `head` has as many parameters as the LSTM, within TOLERANCE.

    Raises ValueError when no width comes that close, which happens for a very small LSTM, or when the width changes nothing.
    """
    if head == "lstm":
        return size.hidden
    target = parameters("lstm", size, size.hidden)
    low, high = 1, 2
    while (found := parameters(head, size, high)) < target:
        if high > target:  # a head that grows with its width has a weight a unit by now
            raise ValueError(
                f"the head {head!r} has {found:,} parameters at a width of {high:,}, so no width gives it the {target:,} of an LSTM of {size.hidden}"
            )
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(head, size, middle) < target else (low, middle)
    best = min((low, high), key=lambda hidden: abs(parameters(head, size, hidden) - target))
    off = abs(parameters(head, size, best) / target - 1)
    if off > TOLERANCE:
        raise ValueError(
            f"no width of the head {head!r} comes within {TOLERANCE:.0%} of the {target:,} parameters of an LSTM of "
            f"{size.hidden} (nearest {off:.1%}); take a larger LSTM (ablation.hidden on frozen features, lstm_hidden of the model otherwise)"
        )
    return best
