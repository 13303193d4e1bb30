"""How far may a map be trusted? The measures as a table of checks with verdicts, by rules stated here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from lib import devices
from lib.gradcam import Maps, attribution, localisation
from lib.gradcam.agreement import Agreement
from lib.gradcam.means import FEWEST, known, mean_interval, over_seeds
from lib.gradcam.rivals import rivals
from lib.inference import FastRest, Frozen
from lib.models import CNNLSTM
from lib.plots.style import NAMES
from lib.stats import Interval

# Rank correlation with the trained map once every weight is shuffled: what is left of the map without the model.
FREE_OF_WEIGHTS, BOUND_TO_WEIGHTS = 0.6, 0.3
MANY_BLANK = 0.1
COMPLETE = 0.01
KEPT = 0.5  # probability of the class explained with all of the image blurred: above it, the class goes only on the way there
NEGLIGIBLE = 0.005  # area between two curves, in probability: an order that moves the class by less says nothing of the map
MOST = 0.5  # share of the gradient in one tenth of the steps
Row = dict[str, str]


@dataclass(frozen=True)
class Mass:
    """Mass in a region over the region's share of the area; 1 is what an even map has.

    own    of the models' maps, the mean over seeds and images, patients and seeds resampled
    seeds  how many
    blind  the same of networks with shuffled weights, patients and draws resampled; nan where their maps are blank
    """

    own: Interval
    seeds: int
    blind: Interval


def predictor(model: CNNLSTM) -> Callable[[Tensor], Tensor]:
    """Images (B, 3, H, W) -> logits (B,), in the fastest precision of this machine; for many questions, not for records."""
    dtype = devices.dtype_of(devices.resolve_precision("auto"))
    device = next(model.parameters()).device
    frozen, rest = Frozen(model, dtype).to(device), FastRest(model, dtype).to(device)
    return lambda images: rest(frozen(images.to(device)))


def rankings(maps: Maps, pixels: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """The maps and their rivals by name, (B, H, W) and (B, h, w). The maps come first, under their method's name.

    The rivals are as coarse as the maps, whose cells are drawn where they look; those of the rivals tile the image.
    """
    return {maps.method: maps.pictures()} | rivals(pixels, maps.values.shape[1:], seed=seed)


def called_pneumonia(maps: Maps, n: int) -> np.ndarray:
    """Up to n positions of images that the model calls pneumonia, evenly spread over them; of all images if it calls under 2.

    For deletion and insertion: an image called pneumonia has a sign to lose. Whether the class goes with it is measured
    (`left` of `deletion.advantages`) and not assumed: some models call a blurred chest normal, others ill.
    """
    found = np.flatnonzero(maps.logits > 0)
    found = found if len(found) > 1 else np.arange(len(maps.logits))
    return found[np.unique(np.linspace(0, len(found) - 1, min(n, len(found))).round().astype(int))]


def localise(
    maps: Maps, pixels: np.ndarray, masks: np.ndarray, patients: np.ndarray, *, n_boot: int, seed: int
) -> pd.DataFrame:
    """Pointing game and soft IoU of maps and rivals on images whose lesions are known.

    Columns map, measure, value (Interval), and beyond (Interval): the maps' paired difference to this rival; None for the maps.
    """
    measures = {"pointing game": localisation.pointing, "soft IoU": localisation.soft_iou}
    rows = []
    for name, measure in measures.items():
        scores = {who: measure(values, masks) for who, values in rankings(maps, pixels, seed=seed).items()}
        for who, values in scores.items():
            interval = mean_interval(values, patients, n_boot=n_boot, seed=seed)
            beyond = None
            if who != maps.method:
                difference = scores[maps.method] - values
                beyond = mean_interval(difference, patients, n_boot=n_boot, seed=seed)
            rows.append({"map": who, "measure": name, "value": interval, "beyond": beyond})
    return pd.DataFrame(rows)


def masses(
    maps: Sequence[Maps], blind: Sequence[Maps], patients: np.ndarray, of_blind: np.ndarray, **boot: int
) -> dict[str, Mass]:
    """Mass in the border and in the corners, of each seed's maps and of those of networks with shuffled weights.

    patients, of_blind  of the images of either, which may be fewer for the second
    boot                n_boot and seed
    """
    return {
        name: Mass(_mass(maps, region, patients, **boot), len(maps), _mass(blind, region, of_blind, **boot))
        for name, region in localisation.regions(maps[0].size).items()
    }


def _mass(maps: Sequence[Maps], region: np.ndarray, patients: np.ndarray, **boot: int) -> Interval:
    values = np.stack([localisation.mass_ratio(one.pictures(), region) for one in maps])
    return over_seeds(values, patients, [(k,) for k in range(len(values))], **boot)


def on_blank(model: str, maps: Maps) -> list[Row]:
    share = float(maps.blank.mean())
    verdict = "good" if share == 0 else "caution" if share <= MANY_BLANK else "bad"
    result = f"{int(maps.blank.sum())} of {len(maps.blank)} maps are blank"
    return [_row("Is there a map at all", model, result, verdict)]


def on_cascade(model: str, cascade: pd.DataFrame) -> list[Row]:
    """The map must change with the weights: the correlation left when all of them are shuffled, over all draws."""
    check, trained = "Map depends on the weights", cascade[cascade["step"] == 0]
    mapped = trained.loc[trained["rank_correlation"].notna(), "image"].nunique()
    if not mapped:
        result = f"none of the {trained['image'].nunique()} images has a map that could change"
        return [_row(check, model, result, "caution")]
    last = cascade[cascade["step"] == cascade["step"].max()]
    left = last["rank_correlation"].abs().mean()
    n = last.loc[last["rank_correlation"].notna(), "image"].nunique()
    if not n:
        result = f"no map left once all are shuffled ({_images(mapped)})"
        return [_row(check, model, result, "good")]
    verdict = "good" if left < BOUND_TO_WEIGHTS else "caution" if left < FREE_OF_WEIGHTS else "bad"
    drawn = last.groupby("shuffle")["rank_correlation"].mean().dropna()
    by_draw = (
        f"{drawn.min():+.2f} to {drawn.max():+.2f} in {len(drawn)} draws" if len(drawn) > 1 else "one draw"
    )
    result = (
        f"rank correlation {last['rank_correlation'].mean():+.2f} ({by_draw}; mean size {left:.2f}), "
        f"SSIM {last['ssim'].mean():.2f} with all weights shuffled ({_images(n)})"
    )
    return [_row(check, model, result, verdict)]


def on_deletion(model: str, advantages: pd.DataFrame) -> list[Row]:
    """The marked places must matter more than those of every rival: all intervals above 0.

    A class may survive the blur of the whole image and still go on the way there, where a part is blurred: the curves
    between, not their end, tell maps of the right places from others.
    """
    rows = []
    for kind, group in advantages.groupby("kind", sort=False):
        hardest, rival = min(
            zip(group["advantage"], group["rival"], strict=True), key=lambda pair: pair[0].estimate
        )
        result = f"hardest rival {rival}: {_said(hardest)}"
        if known(hardest):
            result = f"{hardest} over the hardest rival, {rival} ({_images(hardest.n)})"
        left = group["left"].iloc[0]
        if left > KEPT:
            result += f"; the model still gives the class {left:.2f} when all is blurred"
        verdict = _verdict_above(i for i in group["advantage"] if not _negligible(i))
        if _negligible(hardest):
            result += "; too little to tell"
            verdict = "bad" if verdict == "bad" else "caution"
        rows.append(_row(f"Marked places matter: {kind}", model, result, verdict))
    return rows


def on_masses(model: str, found: dict[str, Mass]) -> list[Row]:
    """Less mass than an even map in border and corners, where no lung is; good only if less than without learning, too, and bad
    only if more, the intervals lying apart: what the networks' shape alone does is not the model's."""
    rows = []
    for region, mass in found.items():
        result, verdict = _said(mass.own), "caution"
        if known(mass.own):
            verdict = _against(mass.own, 1, below=True)
            result = (
                f"{mass.own} times an even map's share ({mass.seeds} seed{'s' if mass.seeds > 1 else ''})"
            )
        if np.isfinite(mass.blind.estimate):
            result += f"; with all weights shuffled {_said(mass.blind)}"
            learned = {"good": mass.own.high < mass.blind.low, "bad": mass.own.low > mass.blind.high}
            verdict = verdict if known(mass.blind) and learned.get(verdict) else "caution"
        rows.append(_row(f"Keeps off the {region}", model, result, verdict))
    return rows


def on_localisation(model: str, found: pd.DataFrame) -> list[Row]:
    """On phantoms the lesion is known: better than every rival."""
    rows = []
    for measure, group in found.groupby("measure", sort=False):
        own, others = group.iloc[0], group.iloc[1:]
        best = max(zip(others["map"], others["value"], strict=True), key=lambda pair: pair[1].estimate)
        result = f"{_said(own['value'])}; best rival, {best[0]}: {best[1].estimate:.3f} ({_images(own['value'].n)})"
        rows.append(_row(f"Finds the lesion: {measure}", model, result, _verdict_above(others["beyond"])))
    return rows


def on_agreement(who: str, found: Agreement) -> list[Row]:
    """The same image's maps agree more than maps of different patients do, by half of what they could or more.

    What other patients' maps share counts as agreement by chance, as in kappa (Cohen 1960).
    """
    verdict = _against(found.beyond, 0, below=False) if known(found.beyond) else "caution"
    chance = max(found.other, 0)
    if verdict == "good" and found.same.estimate - chance < 0.5 * (1 - chance):
        verdict = "caution"
    others = "no other patients' maps to compare with"
    if np.isfinite(found.other):
        others = f"with other patients' maps {found.other:.3f}"
    result = f"rank correlation {_said(found.same)}; {others}"
    if not known(found.beyond) and known(found.same):
        result += f"; beyond these {_said(found.beyond)}"
    return [_row(f"Maps agree across {who}", None, result, verdict)]


def on_tokens(model: str, scores: attribution.TokenScores, shares: np.ndarray) -> list[Row]:
    """The integral of integrated gradients has converged, and no tenth of the steps has most of the gradient.

    A model that answers the same to every image has neither change of score nor gradient: there is nothing to judge.
    """
    worst, most = attribution.largest_gap(scores), attribution.largest_tenth(shares)
    complete, bias = "no image changes the score of an empty sequence", "the logit of no image has a gradient"
    if not np.isnan(worst):
        complete = f"largest gap {worst:.2%} in {scores.steps} evaluations"
    if not np.isnan(most):
        bias = f"{most:.0%} of the gradient in the tenth of the tokens that has most"
    return [
        _row("Integrated gradients converge", model, complete, "good" if worst <= COMPLETE else "caution"),
        _row("No tenth of the tokens decides", model, bias, "good" if most <= MOST else "caution"),
    ]


def of_each(rule: Callable[[str, object], list[Row]], found: Mapping[str, object]) -> list[Row]:
    """The rows of one of the rules `on_...` for every model, or whatever `found` is of, in its order."""
    return [row for who, own in found.items() for row in rule(who, own)]


def table(rows: list[Row]) -> pd.DataFrame:
    """The checks as a table: check, result, verdict (good, caution or bad)."""
    return pd.DataFrame(rows, columns=["check", "result", "verdict"])


def sentence(rows: list[Row]) -> str:
    """The table in one sentence."""
    counts = {word: [r["check"] for r in rows if r["verdict"] == word] for word in ("good", "caution", "bad")}
    failed = f" Failed: {'; '.join(counts['bad'])}." if counts["bad"] else ""
    return (
        f"Of {len(rows)} checks {len(counts['good'])} came out good, {len(counts['caution'])} call for caution and "
        f"{len(counts['bad'])} failed.{failed}"
    )


def _row(check: str, model: str | None, result: str, verdict: str) -> Row:
    name = f"{check} ({NAMES[model]})" if model else check
    return {"check": name, "result": result, "verdict": verdict}


def _said(interval: Interval) -> str:
    """The interval, or why there is none: too few patients with a map."""
    if known(interval):
        return str(interval)
    number = f"{interval.estimate:.3f}, " if np.isfinite(interval.estimate) else ""
    return (
        f"{number}no interval, {interval.n} images with a map of {interval.n_patients} patients "
        f"(at least {FEWEST} are needed)"
    )


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n} images"


def _against(interval: Interval, value: float, *, below: bool) -> str:
    low, high = interval.low - value, interval.high - value
    if below:
        low, high = -high, -low
    return "good" if low > 0 else "bad" if high < 0 else "caution"


def _negligible(interval: Interval) -> bool:
    return known(interval) and max(abs(interval.low), abs(interval.high)) < NEGLIGIBLE


def _verdict_above(intervals) -> str:
    """good: above 0 against every rival; bad: below 0 against one; else caution."""
    verdicts = [_against(i, 0, below=False) if known(i) else "caution" for i in intervals]
    return "bad" if "bad" in verdicts else "good" if set(verdicts) == {"good"} else "caution"
