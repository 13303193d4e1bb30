"""What do the predictions say? Differences in AUC paired by seed and image, corrected for their number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats

from lib.ablation.variants import BASE, REFERENCE
from lib.metrics import auc
from lib.stats import Draws, resample

Tables = Mapping[str, pd.DataFrame]  # by variant: image, patient, y_true, seed, logit; the test split
FIXED_ORDERS = ("raster", "reverse", "column", "snake", "spiral", "hilbert", "random")
SET_HEAD = "token-mean"
POWER = 0.8  # of `detectable`


@dataclass(frozen=True)
class Effects:
    """Everything that the tables say, as plain tables.

    auc          one row a variant: auc, low, high (resampling seeds and patients), spread (over seeds), seeds
    heads        one row a variant: its difference to mean-pooling on the same channels (see `differences`)
    orders       one row an order: its difference to the same head in raster order
    beyond       one row a kind of sequence head in raster order: its difference to the head that processes each token by itself
    components   spread between fixed orders and between seeds (see `order_components`); empty with fewer than three orders or two seeds
    per_seed     one row a run: variant, seed, auc
    """

    auc: pd.DataFrame
    heads: pd.DataFrame
    orders: pd.DataFrame
    beyond: pd.DataFrame
    components: dict
    per_seed: pd.DataFrame

    def row(self, variant: str) -> dict:
        """The variant's difference to mean-pooling, as a dict."""
        return self.heads[self.heads["variant"] == variant].iloc[0].to_dict()


def analyse(tables: Tables, *, n_boot: int = 2000) -> Effects:
    """Every comparison of the ablation, from the predictions of its runs alone; the same tables give the same figures.

    Raises ValueError when the variants were not all run with the same seeds on the same images.
    """
    _check(tables)
    draws = {name: _draws(table, n_boot=n_boot, seed=0) for name, table in tables.items()}
    per_seed = {name: dict(zip(seeds_of(tables[name]), draws[name].per_seed, strict=True)) for name in draws}
    return Effects(
        auc=pd.DataFrame([_auc_row(name, draw) for name, draw in draws.items()]),
        heads=differences(draws, against_mean_pooling(tables)),
        orders=differences(draws, against_raster(tables)),
        beyond=differences(draws, against_token_mean(tables)),
        components=order_components(per_seed),
        per_seed=pd.DataFrame(
            [(name, k, value) for name, row in per_seed.items() for k, value in row.items()],
            columns=["variant", "seed", "auc"],
        ),
    )


def pooled(
    recipes: Sequence[Sequence[Tables]],
    variant: str = BASE,
    reference: str = REFERENCE,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    stream: int = 0,
) -> Draws:
    """One difference out of several ablations of the same images: `variant` minus `reference`, the mean over them; for `judged`.

    recipes  the ablations of each, which count as one; patients are resampled for all at once, seeds within each ablation
    stream   the first draw of seeds, of which each ablation takes one; differences that are judged together take others
    Raises ValueError when the ablations were not scored on the same images.
    """
    images = [sorted(tables[variant]["image"].unique()) for ablations in recipes for tables in ablations]
    if any(listed != images[0] for listed in images):
        raise ValueError("these ablations were scored on different images; they have no common difference")
    streams, means = itertools.count(stream), []
    for ablations in recipes:
        gaps = [
            _gap(tables, variant, reference, n_boot=n_boot, seed=seed, stream=next(streams))
            for tables in ablations
        ]
        means.append(mean_of(gaps))
    return mean_of(means)


def mean_of(draws: Sequence[Draws]) -> Draws:
    """The mean of several draws, such as one model's AUC under several recipes; its seeds are those of each.

    draws  made with one `seed`, so that they share their patients, and each with a `stream` of its own, so that their seeds
           are drawn apart
    Raises ValueError when their numbers of images, patients or resamples differ.
    """
    if any(d.size != draws[0].size for d in draws):
        raise ValueError("draws of different images or of different length have no mean")
    estimate = np.array([np.mean([d.estimate for d in draws])])
    seeds = tuple((variance / len(draws) ** 2, k) for d in draws for variance, k in d.seeds)
    return Draws(estimate, np.mean([d.values for d in draws], axis=0), *draws[0].size[:2], seeds)


def _gap(tables: Tables, variant: str, reference: str, **drawn: int) -> Draws:
    return _draws(tables[variant], **drawn) - _draws(tables[reference], **drawn)


def against_mean_pooling(tables: Tables) -> list[tuple[str, str]]:
    """Each variant and the mean-pooling that reads the same channels."""
    pairs = []
    for name in tables:
        suffix = next((s for s in ("-learned", "-all") if name.endswith(s)), "")
        if name != REFERENCE + suffix and REFERENCE + suffix in tables:
            pairs.append((name, REFERENCE + suffix))
    return pairs


def against_raster(tables: Tables) -> list[tuple[str, str]]:
    """Each variant that differs from another one in nothing but its order, and that other one, in raster order."""
    pairs = [(f"lstm-{order}", BASE) for order in (*FIXED_ORDERS[1:], "shuffle")]
    pairs += [("lstm-reverse-mean", "lstm-raster-mean"), ("lstm-shuffle-max", "lstm-raster-max")]
    pairs += [("transformer-shuffle", "transformer-raster")]
    return [pair for pair in pairs if set(pair) <= set(tables)]


def against_token_mean(tables: Tables) -> list[tuple[str, str]]:
    """Each kind of head that reads a sequence, in raster order, and the head with a nonlinearity on every token and no sequence."""
    names = [
        name
        for name in ("lstm-raster", "bilstm-raster", "gru-raster", "transformer-raster")
        if name in tables
    ]
    return [(name, SET_HEAD) for name in names if SET_HEAD in tables]


def differences(
    draws: Mapping[str, Draws], pairs: Sequence[tuple[str, str]], *, level: float = 0.95
) -> pd.DataFrame:
    """One row a pair (variant, reference), all rows being one family of comparisons.

    difference              of the mean AUCs; low, high: its own interval, resampling seeds and patients
    adjusted_low, _high     the interval that holds for the whole family at once: the estimate -+ c standard errors, c
                            being the quantile of the largest deviation in a resample (max-t; Westfall & Young 1993),
                            carried over from the normal to Student's distribution for the few seeds
    p, p_adjusted           two-sided, from the bootstrap's standard error and Student's distribution; for the whole family, by
                            the same largest deviations, so that it says what that interval says; 1 / (n_boot + 1) at least
    comparisons             how many rows the family has
    differs                 whether the adjusted interval excludes zero
    detectable              the smallest true difference that would differ so in four studies of five (80% power); nan where
                            resamples leave no room to differ, as between heads that rank every image rightly
    """
    return judged([draws[variant] - draws[reference] for variant, reference in pairs], pairs, level=level)


def judged(gaps: Sequence[Draws], pairs: Sequence[tuple[str, str]], *, level: float = 0.95) -> pd.DataFrame:
    """The rows of `differences` from the draws themselves, which were made with one `seed`, so that they share their patients."""
    columns = ["variant", "reference", "difference", "low", "high", "adjusted_low", "adjusted_high"]
    columns += ["p", "p_adjusted", "comparisons", "differs", "detectable"]
    if not pairs:
        return pd.DataFrame(columns=columns)
    estimate, error = np.array([g.estimate for g in gaps]), np.array([g.error for g in gaps])
    freedom = np.array([g.freedom for g in gaps])
    largest = largest_deviations(np.stack([g.values for g in gaps]))
    reach = scipy.stats.t.isf(scipy.stats.norm.sf(np.quantile(largest, level)), freedom) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error > 0, np.abs(estimate) / error, np.where(estimate == 0, 0.0, np.inf))
    p = 2 * scipy.stats.t.sf(ratio, freedom)
    intervals = [g.interval(level) for g in gaps]
    return pd.DataFrame(
        {
            "variant": [variant for variant, _ in pairs],
            "reference": [reference for _, reference in pairs],
            "difference": estimate,
            "low": [i.low for i in intervals],
            "high": [i.high for i in intervals],
            "adjusted_low": estimate - reach,
            "adjusted_high": estimate + reach,
            "p": p,
            "p_adjusted": [_share_beyond(largest, one) for one in p],
            "comparisons": len(pairs),
            "differs": (estimate - reach > 0) | (estimate + reach < 0),
            "detectable": np.where(error > 0, reach + scipy.stats.t.ppf(POWER, freedom) * error, np.nan),
        }
    )


def largest_deviations(values: np.ndarray) -> np.ndarray:
    """How many standard errors the family's worst row lies off in each resample [n_boot]; values [pairs, n_boot]."""
    values = values[:, ~np.isnan(values).any(0)]
    error = values.std(1, ddof=1, keepdims=True)
    centred = np.abs(values - values.mean(1, keepdims=True))
    scaled = np.divide(centred, error, out=np.zeros_like(centred), where=error > 0)
    return scaled.max(0)


def _share_beyond(largest: np.ndarray, p: float) -> float:
    """The p-value `p` of one row for its whole family: in what share of resamples, itself among them, some row lies as far off."""
    return float((1 + (largest >= scipy.stats.norm.isf(p / 2)).sum()) / (1 + len(largest)))


def gains(row: dict) -> bool:
    """Whether a difference is shown, and is one for the better."""
    return bool(row["differs"] and row["difference"] > 0)


def order_components(per_seed: Mapping[str, Mapping[int, float]]) -> dict:
    """How much of the AUC's spread comes from the order, and how much from the seed, over the LSTM's fixed orders.

    A two-way analysis of variance without replication (orders by seeds; Fisher 1925), on these test images:
    between_orders, between_seeds (standard deviations; a variance estimated below 0 counts as 0), residual, f, p.
    """
    orders = [order for order in FIXED_ORDERS if f"lstm-{order}" in per_seed]
    if len(orders) < 3:
        return {}
    table = np.array([list(per_seed[f"lstm-{order}"].values()) for order in orders])  # (orders, seeds)
    k, n = table.shape
    if n < 2:
        return {}
    rows, columns, mean = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
    residual = ((table - rows - columns + mean) ** 2).sum() / ((k - 1) * (n - 1))
    by_order, by_seed = n * rows.var(ddof=1), k * columns.var(ddof=1)
    least = 1e-20  # squares of differences that are rounding errors
    f = by_order / residual if residual > least else float("inf") if by_order > least else 0.0
    return {
        "orders": orders,
        "seeds": n,
        "between_orders": float(np.sqrt(max(0.0, (by_order - residual) / n))),
        "between_seeds": float(np.sqrt(max(0.0, (by_seed - residual) / k))),
        "residual": float(np.sqrt(residual)),
        "range": float(np.ptp(rows)),
        "f": float(f),
        "p": float(scipy.stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
    }


def seeds_of(table: pd.DataFrame) -> list[int]:
    return sorted(int(seed) for seed in table["seed"].unique())


def _draws(table: pd.DataFrame, *, n_boot: int, seed: int, stream: int = 0) -> Draws:
    tables = [one.sort_values("image") for _, one in table.groupby("seed", sort=True)]
    return resample(tables, [auc] * len(tables), n_boot=n_boot, seed=seed, stream=stream, score="logit")


def _auc_row(name: str, draw: Draws) -> dict:
    interval = draw.interval()
    return {
        "variant": name,
        "auc": draw.estimate,
        "low": interval.low,
        "high": interval.high,
        "spread": draw.spread,
        "seeds": len(draw.per_seed),
        "n": draw.n,
        "n_patients": draw.n_patients,
    }


def _check(tables: Tables) -> None:
    if REFERENCE not in tables:
        raise ValueError(
            f"the ablation needs {REFERENCE!r} to compare with; it has {', '.join(tables) or 'nothing'}"
        )
    first = tables[REFERENCE]
    seeds, images = seeds_of(first), sorted(first["image"].unique())
    for name, table in tables.items():
        if seeds_of(table) != seeds:
            raise ValueError(
                f"{name} has the seeds {seeds_of(table)}, {REFERENCE} has {seeds}; pairs need the same"
            )
        if len(table) != len(seeds) * len(images) or sorted(table["image"].unique()) != images:
            raise ValueError(
                f"{name} was not scored once on every image that {REFERENCE} was scored on, for each seed"
            )
