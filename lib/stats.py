"""How sure is a figure? Intervals that resample patients (and seeds), and the correction for many tests."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, t

Metric = Callable[..., float | np.ndarray]
BLOCK = 4_000_000  # weights drawn at once while resampling: some tens of megabytes, of which some 8 are kept, for the last 16 draws
PIECE = 150_000  # of them, weights computed with at once; a processor's cache holds as many


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval, from `n` images of `n_patients` patients."""

    estimate: float
    low: float
    high: float
    level: float
    n: int
    n_patients: int

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the interval."""
        return bool(value < self.low or value > self.high)


def weighted(metric: Metric) -> Metric:
    """Mark a metric that also takes `weights` [R, n] and then returns R values, or [k, R] of k figures: the fast way through a bootstrap."""
    metric.takes_weights = True
    return metric


def patient_bootstrap(
    table: pd.DataFrame,
    metric: Metric,
    *,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int,
    score: str = "score",
    both_classes: bool = True,
) -> Interval:
    """Percentile interval of `metric` when patients, not images, are resampled (Efron 1979; Field & Welsh 2007).

    table         columns patient, y_true [0, 1] and the one that `score` names; n rows
    metric        (y_true [m], score [m]) -> float; one marked with `weighted` is evaluated on all resamples at once
    both_classes  whether a table with one class is refused; False for sensitivity in a subgroup and the like
    Resamples on which the metric is not defined (nan) are left out. An estimate at the edge of its range, such as an
    AUC of 1, has no width here: no resample can differ.
    Raises ValueError if a class, a patient or a score is missing, if there are fewer than 2 patients or if the metric is not defined.
    """
    draws = resample([table], [metric], n_boot=n_boot, seed=seed, score=score, both_classes=both_classes)
    if np.isnan(draws.estimate):
        name = getattr(metric, "__name__", "the metric")
        raise ValueError(
            f"{name} is not defined on this table of {len(table)} images; is a class missing in it?"
        )
    return draws.interval(level)


@dataclass(frozen=True)
class Draws:
    """A metric of one model: on each seed, and the mean over seeds in each resample of patients and seeds.

    Draws made with one `seed` share their patients, so the difference of two is a paired one; those of one `stream` share
    their seeds too, and then the seeds' differences tell its error. (In simulated studies whose seeds were correlated by -0.5
    to 0.8 a test at 5% rejects 4 to 6% by these, and 0 to 8% by the two models' own spreads.) Few seeds are too alike
    in two ways: drawn again with replacement, k of them show (k - 1) / k of their variance, and their own spread is
    uncertain. `error` and `interval` make up for both; with one seed they are those of the patient bootstrap.
    """

    per_seed: np.ndarray  # [seeds]; in a difference of seeds drawn apart, the one difference of the means
    values: np.ndarray  # [n_boot]
    n: int
    n_patients: int
    seeds: tuple[tuple[float, int], ...] = ()  # of each draw of seeds: variance of the mean over k, and k
    stream: int | None = None  # which draw of the seeds; None where there are several

    @property
    def estimate(self) -> float:
        return float(self.per_seed.mean())

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; nan with one seed."""
        return float(self.per_seed.std(ddof=1)) if len(self.per_seed) > 1 else float("nan")

    @property
    def error(self) -> float:
        """Standard error: the spread over resamples, the seeds' share of it brought to its full size."""
        return float(np.sqrt(np.nanvar(self.values, ddof=1) + sum(v / k for v, k in self.seeds)))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of `error`, by Satterthwaite (1946): few where the spread of few seeds makes most of it."""
        scarce = sum(variance**2 / (k - 1) for variance, k in self.seeds)
        return self.error**4 / scarce if scarce > 0 else np.inf

    def interval(self, level: float = 0.95) -> Interval:
        """Percentile interval, stretched about its median by the seeds' scarcity but not beyond what was drawn.

        The stretch is that of the error, times Student's quantile over the normal one, with `freedom` degrees.
        Where two or three seeds lie much further apart than patients explain, what was drawn ends at these seeds and the
        interval is too narrow: in simulations with ten times the patients' error 95% cover 65% (two seeds), 82% (three)
        and 92% (five).
        """
        found = interval(self.estimate, self.values, level=level, n=self.n, n_patients=self.n_patients)
        width = np.nanstd(self.values, ddof=1)
        if np.isinf(self.freedom) or not width > 0:  # one seed, seeds that agree, a metric not defined
            return found
        q = (1 + level) / 2
        stretch = self.error / width * t.ppf(q, self.freedom) / norm.ppf(q)
        middle, least, most = np.nanmedian(self.values), np.nanmin(self.values), np.nanmax(self.values)
        low = float(max(middle - stretch * (middle - found.low), least))
        return dataclasses.replace(
            found, low=low, high=float(min(middle + stretch * (found.high - middle), most))
        )

    @property
    def size(self) -> tuple[int, int, int]:
        return self.n, self.n_patients, len(self.values)

    def __sub__(self, other: Draws) -> Draws:
        if self.size != other.size:
            raise ValueError(
                f"a paired difference needs the same images: {self.n} images of {self.n_patients} patients "
                f"against {other.n} of {other.n_patients}"
            )
        values = self.values - other.values
        if self.stream is None or self.stream != other.stream or len(self.per_seed) != len(other.per_seed):
            apart = np.array([self.estimate - other.estimate])
            return Draws(apart, values, self.n, self.n_patients, self.seeds + other.seeds)
        pairs = self.per_seed - other.per_seed
        return Draws(pairs, values, self.n, self.n_patients, _scarce(pairs), self.stream)


def resample(
    tables: Sequence[pd.DataFrame], metrics: Sequence[Metric], *, n_boot: int = 2000, seed: int, stream: int = 0,
    score: str = "score", both_classes: bool = True,
) -> Draws:  # fmt: skip
    """One model's metric when patients and seeds are resampled together; with one seed, patients alone.

    tables   one a seed, all of the same images, as `patient_bootstrap` takes them
    metrics  one a table: a threshold may differ from seed to seed
    stream   as `over_seeds` takes it
    """
    settings = {"n_boot": n_boot, "seed": seed, "score": score, "both_classes": both_classes}
    found = [over_patients(*pair, **settings) for pair in zip(tables, metrics, strict=True)]
    return over_seeds(*map(np.array, zip(*found, strict=True)), tables, seed=seed, stream=stream)


def over_seeds(
    per_seed: np.ndarray, values: np.ndarray, tables: Sequence[pd.DataFrame], *, seed: int, stream: int
) -> Draws:
    """One model's metric with its seeds resampled, from its figure on each [seeds] and in resamples of patients [seeds, n_boot].

    tables  that they are of, one a seed. Raises ValueError when their patients differ
    stream  which independent draw of the seeds; another one for the other model of a difference, unless their seeds are pairs
    """
    first, *others = (table["patient"].to_numpy() for table in tables)
    if any(not np.array_equal(own, first) and sorted(own) != sorted(first) for own in others):
        raise ValueError("the seeds of one model must be scored on the same images; their patients differ")
    chosen = np.random.default_rng([seed, stream, 1]).integers(len(values), size=values.shape)
    mean = np.take_along_axis(values, chosen, axis=0).mean(0)
    return Draws(per_seed, mean, len(first), len(set(first)), _scarce(per_seed), stream)


def _scarce(per_seed: np.ndarray) -> tuple[tuple[float, int], ...]:
    """The variance of the mean over seeds, and their number; nothing of a single one."""
    k = len(per_seed)
    return ((float(per_seed.var(ddof=1)) / k, k),) if k > 1 else ()


def over_patients(
    table: pd.DataFrame, metric: Metric, *, n_boot: int, seed: int, score: str, both_classes: bool = True,
    redrawn: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`metric` on a table, and in every resample of its patients [n_boot]; of a `weighted` metric of k figures, [k] and [k, n_boot].

    table, metric, score and both_classes are those of `patient_bootstrap`, which also names the errors.
    redrawn  a value a resample [n_boot], which a `weighted` metric takes after the weights as its threshold
    """
    _check(table, score, both_classes=both_classes)
    column = table["y_true"].to_numpy(), table[score].to_numpy(dtype=float)
    values, start = [], 0
    for weights in patient_weights(table["patient"], n_boot, seed=seed):
        own = () if redrawn is None else (redrawn[start : start + len(weights)],)
        values.append(_resampled(metric, *column, weights, *own))
        start += len(weights)
    return np.asarray(metric(*column), dtype=float), np.concatenate(values, axis=-1)


def patient_weights(patients: pd.Series, n_boot: int, *, seed: int, stream: int = 0) -> Iterator[np.ndarray]:
    """How often each image occurs in each resample of the patients: weights [r, n] piece by piece, n_boot rows in all.

    The draw depends on the order of the patients' names, on the numbers of patients and images and on the seed, not on the order of
    the rows; another `stream` is drawn apart.
    """
    codes, names = pd.factorize(patients, sort=True)
    rows, piece = (max(1, weights // len(codes)) for weights in (BLOCK, PIECE))
    for start in range(0, n_boot, rows):
        block = _weights(codes.tobytes(), len(names), min(rows, n_boot - start), seed, start, stream)
        yield from (block[first : first + piece].astype(float) for first in range(0, len(block), piece))


@functools.lru_cache(maxsize=16)  # hundreds of figures ask for the same few draws
def _weights(codes: bytes, n_patients: int, size: int, seed: int, start: int, stream: int) -> np.ndarray:
    rng = np.random.default_rng([seed, start, 0, stream])  # of stream 0 the same as [seed, start]
    counts = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=size)
    small = counts.astype(np.min_scalar_type(n_patients))  # since it is kept; pieces of it become float
    weights = small[:, np.frombuffer(codes, dtype=np.intp)]
    weights.flags.writeable = False
    return weights


def _resampled(
    metric: Metric, y_true: np.ndarray, scores: np.ndarray, weights: np.ndarray, *own
) -> np.ndarray:
    """`metric` under each row of integer weights [r, n] -> r values; `own` are thresholds of the rows, if it takes them."""
    if getattr(metric, "takes_weights", False):
        return np.asarray(metric(y_true, scores, weights, *own))
    values = []
    for row in weights.astype(int):
        again = np.repeat(np.arange(len(row)), row)
        defined = len(np.unique(y_true[again])) == len(np.unique(y_true))
        values.append(metric(y_true[again], scores[again]) if defined else np.nan)
    return np.array(values, dtype=float)


def interval(estimate: float, values: np.ndarray, *, level: float, n: int, n_patients: int) -> Interval:
    """Percentile interval from resampled values; nan among them are left out. An estimate of nan has bounds of nan.

    Raises ValueError for a level outside (0, 1) or when no value is left.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, for example 0.95")
    values = values[~np.isnan(values)]
    if np.isnan(estimate):  # as PPV is when nothing is called positive
        return Interval(np.nan, np.nan, np.nan, level, n, n_patients)
    if not len(values):
        raise ValueError("no resample holds both classes: too few patients for an interval")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), level, n, n_patients)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for the whole family, in the order given (Holm 1979). Raises ValueError outside [0, 1]."""
    p = np.asarray(p_values, dtype=float)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must lie between 0 and 1, got {p[~((p >= 0) & (p <= 1))][0]}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)) if p.size else p
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _check(table: pd.DataFrame, score: str, *, both_classes: bool) -> None:
    missing = {"patient", "y_true", score} - set(table.columns)
    if missing:
        raise ValueError(
            f"the table lacks the columns {', '.join(sorted(missing))}; it has {', '.join(table.columns)}"
        )
    if not len(table):
        raise ValueError("the table is empty; there is nothing to resample")
    if table[score].isna().any():
        raise ValueError(
            f"{int(table[score].isna().sum())} of {len(table)} values of {score} are not numbers"
        )
    if table["patient"].isna().any():
        raise ValueError(f"{int(table['patient'].isna().sum())} of {len(table)} images have no patient")
    classes = set(table["y_true"].unique())
    if not classes <= {0, 1}:
        raise ValueError(f"y_true must be 0 or 1, got {sorted(classes)}")
    if both_classes and len(classes) < 2:
        raise ValueError(
            f"every image has y_true {classes.pop()}; both classes are needed (or pass both_classes=False)"
        )
    if table["patient"].nunique() < 2:
        raise ValueError("all images are of one patient; an interval over patients needs at least 2 of them")
