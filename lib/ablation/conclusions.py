"""What do the effects answer? The three research questions, in sentences that say no more than the intervals do."""

from __future__ import annotations

import pandas as pd

from lib.ablation.effects import FIXED_ORDERS, Effects, gains
from lib.ablation.variants import BASE, REFERENCE

HELPS = "Does sequence processing help?"
PATTERNS = "Do sequential patterns exist?"
ORDER = "Does token order matter?"
SHUFFLED = "lstm-shuffle"  # BASE on tokens in a fresh random order for each image
ONE_SEED = "Not settled: there is one training of each head, so intervals are of the patients alone and say nothing of another seed. In this one:"


def answers(effects: Effects) -> dict[str, str]:
    """Question -> sentences. A difference is called shown only where its adjusted interval excludes zero.

    One seed settles nothing: single seeds of the recorded ablations would have said yes where their five do not.
    """
    found = {HELPS: _helps(effects), PATTERNS: _patterns(effects), ORDER: _order(effects)}
    return {
        asked: text if text.startswith("Not asked") else _settled(text, effects)
        for asked, text in found.items()
    }


def _settled(text: str, effects: Effects) -> str:
    return text if effects.per_seed["seed"].nunique() > 1 else f"{ONE_SEED} {text}"


def findings(effects: Effects) -> list[dict[str, str]]:
    """The answers and the grid's outcome as rows: check, result, verdict."""
    rows = [
        {"check": question, "result": text, "verdict": "info"} for question, text in answers(effects).items()
    ]
    differing = effects.heads[effects.heads["differs"]] if len(effects.heads) else effects.heads
    result = (
        f"{len(differing)} of {_variants(len(effects.heads))} from mean-pooling"
        + (": " + "; ".join(map(gap, differing.to_dict("records"))) if len(differing) else "")
        + "."
    )
    row = {"check": "Variants against mean-pooling", "result": _settled(result, effects), "verdict": "info"}
    return [*rows, row]


def _variants(count: int) -> str:
    return "1 variant differs" if count == 1 else f"{count} variants differ, after correction,"


def gap(row: dict) -> str:
    """One difference in words: 'lstm-raster +0.0051 [+0.0012, +0.0090]', the interval being the adjusted one."""
    return (
        f"{row['variant']} {row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"
    )


def row_of(table: pd.DataFrame, variant: str) -> dict | None:
    found = table[table["variant"] == variant]
    return found.iloc[0].to_dict() if len(found) else None


def _helps(effects: Effects) -> str:
    row = row_of(effects.heads, BASE)
    if row is None:
        return f"Not asked in this run: it lacks {BASE} or {REFERENCE}."
    auc = effects.auc.set_index("variant")["auc"]
    text = (
        f"{verdict(row)}. With as many weights, the LSTM in raster order reaches a test AUC of {auc[BASE]:.4f} and "
        f"mean-pooling with an MLP {auc[REFERENCE]:.4f}: a difference of {_numbers(row)}"
    )
    beyond, shuffled = row_of(effects.beyond, BASE), row_of(effects.orders, SHUFFLED)
    if beyond is not None:
        text += (
            f" Against a head that applies its nonlinearity to every token and then averages, without any sequence, "
            f"the LSTM's difference is {_numbers(beyond)}"
        )
    if not gains(row):
        return text
    over = [] if beyond is None else [gains(beyond)]
    over += [] if shuffled is None else [bool(shuffled["differs"] and shuffled["difference"] < 0)]
    if not over:
        return f"{text} Heads that cannot use the tokens' order were not asked in this run, so what it gains need not be due to the sequence."
    return (
        text
        if all(over)
        else f"{text} What it gains is not shown over every head that cannot use the tokens' order, so it need not be due to the sequence."
    )


def _patterns(effects: Effects) -> str:
    row = row_of(effects.orders, SHUFFLED)
    if row is None:
        return "Not asked in this run: it lacks the LSTM on shuffled tokens (add `lstm-shuffle` to `ablation.variants`)."
    # The table holds shuffled minus raster; the question is what the arrangement adds.
    gain = -row["difference"]
    low, high = -row["adjusted_high"], -row["adjusted_low"]
    start = (
        "Not shown." if not row["differs"] else "Yes, the LSTM uses the arrangement, or shuffling costs it something else." if gain > 0
        else "No: the fixed arrangement even costs AUC."
    )  # fmt: skip
    text = (
        f"{start} When every image is read in a fresh random order, in training and evaluation, the LSTM is not told where a "
        f"token comes from (its content may still say so); raster order changes its AUC by {gain:+.4f} [{low:+.4f}, {high:+.4f}] ({p_value(row)})."
    )
    if not row["differs"]:
        text += f" {_power(row['detectable'])}"
    other = row_of(effects.orders, "transformer-shuffle")
    if other is not None:
        text += (
            f" The Transformer's AUC differs from that of the same one on shuffled tokens by {-other['difference']:+.4f} "
            f"[{-other['adjusted_high']:+.4f}, {-other['adjusted_low']:+.4f}]."
        )
    return text


def _order(effects: Effects) -> str:
    fixed = effects.orders[effects.orders["variant"].isin([f"lstm-{order}" for order in FIXED_ORDERS])]
    if not len(fixed):
        return "Not asked in this run: it has no second fixed order (add one, such as `lstm-snake`, to `ablation.variants`)."
    differing = fixed[fixed["differs"]]
    if len(differing):
        text = f"Yes: {len(differing)} of {len(fixed)} fixed orders differ from raster order: " + "; ".join(
            map(gap, differing.to_dict("records"))
        )
        text += "."
    else:
        text = (
            f"Not shown: none of {len(fixed)} other fixed orders differs from raster order"
            f"{' after correction' if len(effects.orders) > 1 else ''}. {_power(fixed['detectable'].max(skipna=False))}"
        )
    averaged = row_of(effects.orders, "lstm-reverse-mean")
    if averaged is not None:
        text += (
            f" Where the head averages its states of all steps instead of taking the last one, reverse order changes the AUC by "
            f"{averaged['difference']:+.4f} [{averaged['adjusted_low']:+.4f}, {averaged['adjusted_high']:+.4f}]."
        )
        if fixed.set_index("variant")["differs"].get("lstm-reverse", False) and not averaged["differs"]:
            text += (
                " So reverse order is seen to matter to a head that is read out at its last step, and is not seen to where states are "
                "averaged; whether the two heads differ in this was not tested."
            )
    parts = effects.components
    if parts:
        text += (
            f" Between {len(parts['orders'])} fixed orders the AUC's standard deviation is {_component(parts['between_orders'])}, "
            f"between seeds {_component(parts['between_seeds'])}, and what is left {parts['residual']:.4f} (F test of the orders on "
            f"these test images as they are, without resampling patients as the comparisons above do: p = {parts['p']:.3g})."
        )
    return text


def verdict(row: dict) -> str:
    """Whether a difference to mean-pooling is a gain, in the answer's first words."""
    if not row["differs"]:
        return "Not shown"
    return (
        "Yes, a little"
        if 0 < row["difference"] < 0.01
        else "Yes"
        if row["difference"] > 0
        else "No, it hurts"
    )


def p_value(row: dict, form: str = ".3g") -> str:
    """Of a difference; adjusted where it is not the only one of its family."""
    return f"{'adjusted ' if row['comparisons'] > 1 else ''}p = {row['p_adjusted']:{form}}"


def _numbers(row: dict) -> str:
    adjusted = "adjusted " if row["comparisons"] > 1 else ""
    text = (
        f"{row['difference']:+.4f} ({adjusted}interval {row['adjusted_low']:+.4f} to {row['adjusted_high']:+.4f}, "
        f"{p_value(row)})."
    )
    return text if row["differs"] else f"{text} {_power(row['detectable'])}"


def _power(detectable: float) -> str:
    if pd.isna(detectable):
        return "Resamples leave no room for a difference here, so what could have been found is unknown."
    return f"A difference of {detectable:.4f} or more would have been found with 80% power."


def _component(spread: float) -> str:
    return f"{spread:.4f}" if spread > 0 else "not told apart from 0"
