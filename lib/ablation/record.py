"""What does the ablation leave for the reports? Plain rows and sentences, the same from published predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lib.ablation import control
from lib.ablation.conclusions import answers, findings
from lib.ablation.effects import Effects, analyse
from lib.ablation.published import read
from lib.ablation.variants import all_variants
from lib.config import Config
from lib.durations import spoken
from lib.plots import style

if TYPE_CHECKING:
    from lib.ablation.regimes import Result


def headline(effects: Effects, costs: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a variant, best first: AUC with interval, spread over seeds, difference to mean-pooling and what of it would have been
    found; costs beside it."""
    heads = effects.heads.drop(columns=["low", "high", "p", "comparisons"])
    table = effects.auc.merge(heads, on="variant", how="left").sort_values("auc", ascending=False)
    if costs is not None:
        table = table.merge(costs[["variant", "parameters", "val_auc", "seconds"]], on="variant", how="left")
    return table.reset_index(drop=True)


def protocol_sentence(config: Config, result: Result) -> str:
    """What was run, and how alike in size the heads are, as a sentence."""
    costs, seeds = result.costs(), len(config.ablation.seeds)
    images = next(iter(result.tables.values()))
    channels = costs["variant"].str.extract("(-learned|-all)$", expand=False).fillna("")
    within = costs.groupby(channels)["parameters"]
    spread = (within.max() / within.min() - 1).max()
    model = config.ablation.model
    pretrained = model == "xception_lstm" and config.xception_lstm.pretrained
    weights = "ImageNet" if pretrained else "random"
    regime = f"on features of a frozen Xception with {weights} weights"
    if config.ablation.regime == "finetuned":
        regime = f"heads of {style.AMID[model]}, the backbone trained too from {weights} weights"
    return (
        f"{_counted(len(costs), 'variant')} with {_counted(seeds, 'seed')} each ({_counted(len(result.runs), 'run')}, {spoken(result.runs['seconds'].sum())} "
        f"of computing), {regime}; heads on the same channels differ "
        f"by at most {spread:.1%} in parameters. Scored {_how_often(config)} on {images['image'].nunique()} test images of "
        f"{images['patient'].nunique()} patients."
    )


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'s' if count != 1 else ''}"


def _how_often(config: Config) -> str:
    if config.ablation.regime == "finetuned" and config.train_for(config.ablation.model).test_every_epoch:
        return "after every epoch (which chooses nothing)"
    return "once a run"


def as_json(config: Config, result: Result, effects: Effects, controls: Mapping) -> dict:
    """What reports/results/<profile>/06_ablation.json holds. controls: `control.Control` by task."""
    return stated(effects, controls, n_boot=config.n_boot) | {
        "regime": config.ablation.regime,
        "model": config.ablation.model,
        "data_fingerprint": result.data_fingerprint,
        "headline": headline(effects, result.costs()).to_dict("records"),
    }


def model_of(kept: dict) -> str:
    """Whose heads a recorded 06_ablation.json varies; one from before the custom model could be asked does not say it."""
    return kept.get("model", "xception_lstm")


def recorded(folder: Path, *, n_boot: int) -> dict:
    """The same from the test predictions that `published.write` kept in `folder`, without what they do not tell.

    That is the regime, the model, the fingerprint of the images and, in the headline, parameters, validation AUC and seconds.
    """
    tables = read(folder)
    order = [*all_variants(), *tables]  # as the grid has them, for sentences list them so
    effects = analyse({name: tables[name] for name in sorted(tables, key=order.index)}, n_boot=n_boot)
    return stated(effects, control.read(folder, n_boot=n_boot), n_boot=n_boot)


def stated(effects: Effects, controls: Mapping, *, n_boot: int) -> dict:
    """What follows from the test predictions of the grid and of its controls; without all of these, no checks."""
    checks = control.findings(controls) if set(controls) == set(control.TASKS) else []
    return {
        "seeds": sorted(int(seed) for seed in effects.per_seed["seed"].unique()),
        "n_boot": n_boot,
        "answers": answers(effects),
        "findings": findings(effects) + checks,
        "checks": checks,
        "headline": headline(effects).to_dict("records"),
        "orders": effects.orders.to_dict("records"),
        "beyond": effects.beyond.to_dict("records"),
        "components": effects.components,
        "per_seed": effects.per_seed.to_dict("records"),
        "control": {
            task: {
                "auc": found.effects.auc.to_dict("records"),
                "differences": found.effects.heads.to_dict("records"),
                "per_seed": found.effects.per_seed.to_dict("records"),
            }
            for task, found in controls.items()
        },
    }


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The headline as a page shows it: intervals in one column, four decimals; those of differences, and p, hold for all rows at once.

    table  from `headline`, or its rows as they are recorded, where what there is no number of is null
    """
    table = table.astype({name: float for name in ("spread", "difference", "p_adjusted")})
    return pd.DataFrame(
        {
            "Variant": table["variant"],
            "Parameters": table["parameters"].map("{:,.0f}".format),
            "AUC": [
                f"{a:.4f} [{low:.4f}, {high:.4f}]"
                for a, low, high in table[["auc", "low", "high"]].to_numpy()
            ],
            "SD over seeds": table["spread"].map(lambda spread: "" if np.isnan(spread) else f"{spread:.4f}"),
            "Compared with": table["reference"].fillna(""),
            "Difference, interval": [
                "" if np.isnan(d) else f"{d:+.4f} [{low:+.4f}, {high:+.4f}]"
                for d, low, high in table[["difference", "adjusted_low", "adjusted_high"]].to_numpy(float)
            ],
            "p": table["p_adjusted"].map(lambda p: "" if np.isnan(p) else f"{p:.3g}"),
        }
    )
