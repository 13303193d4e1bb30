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

HEAD = 2  # the step of a cascade that has classifier and head shuffled, and nothing else
# Rank correlation with the trained map once weights are shuffled: what is left of the map without them.
FREE_OF_WEIGHTS, BOUND_TO_WEIGHTS = 0.6, 0.3
MANY_BLANK = 0.1
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
    blank  the share of the models' maps that is blank, and takes no part
    """

    own: Interval
    seeds: int
    blind: Interval
    blank: float = 0.0


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
    empty = float(np.mean([one.blank for one in maps]))
    return {
        name: Mass(
            _mass(maps, region, patients, **boot), len(maps), _mass(blind, region, of_blind, **boot), empty
        )
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
    """The map must change with what was learned, by classifier and head alone and by all of the network: the correlation left when
    these weights are shuffled, over all draws. Of fewer than FEWEST images nothing is concluded."""
    steps = {"head": (HEAD, "classifier and head"), "weights": (cascade["step"].max(), "all weights")}
    return [
        _row(f"Map depends on the {check}", model, *_on_step(cascade, step, what))
        for check, (step, what) in steps.items()
    ]


def _on_step(cascade: pd.DataFrame, step: int, what: str) -> tuple[str, str]:
    """What is left at a step of a cascade, and the verdict on it."""
    before, after = (cascade[cascade["step"] == number] for number in (0, step))
    mapped, n = (part.loc[part["rank_correlation"].notna(), "image"].nunique() for part in (before, after))
    if not mapped:
        return f"none of the {before['image'].nunique()} images has a map that could change", "caution"
    if not n:
        result = f"no map left once {what} are shuffled ({_images(mapped)})"
        return result, "good" if mapped >= FEWEST else "caution"
    left = after["rank_correlation"].abs().mean()
    verdict = "good" if left < BOUND_TO_WEIGHTS else "caution" if left < FREE_OF_WEIGHTS else "bad"
    drawn = after.groupby("shuffle")["rank_correlation"].mean().dropna()
    by_draw = (
        f"{drawn.min():+.2f} to {drawn.max():+.2f} in {len(drawn)} draws" if len(drawn) > 1 else "one draw"
    )
    result = (
        f"rank correlation {after['rank_correlation'].mean():+.2f} ({by_draw}; mean size {left:.2f}), "
        f"SSIM {after['ssim'].mean():.2f} with {what} shuffled ({_images(n)})"
    )
    return result, verdict if n >= FEWEST else "caution"


def on_deletion(model: str, advantages: pd.DataFrame) -> list[Row]:
    """The marked places must matter more than those of every rival: all intervals above 0.

    A class may survive the blur of the whole image and still go on the way there, where a part is blurred: the curves
    between, not their end, tell maps of the right places from others.
    """
    rows = []
    for kind, group in advantages.groupby("kind", sort=False):
        pairs = list(zip(group["advantage"], group["rival"], strict=True))
        told = [pair for pair in pairs if not _negligible(pair[0])]
        verdict = _verdict_above(advantage for advantage, _ in told)
        # Of a failure the rival by which it fails; it need not be the one of the lowest estimate.
        failing = [pair for pair in told if verdict == "bad" and _verdict_above(pair[:1]) == "bad"]
        hardest, rival = min(failing or pairs, key=lambda pair: pair[0].estimate)
        result = f"hardest rival {rival}: {_said(hardest)}"
        if known(hardest):
            result = f"{hardest} over the hardest rival, {rival} ({_images(hardest.n)})"
        left = group["left"].iloc[0]
        if left > KEPT:
            result += f"; the model still gives the class {left:.2f} when all is blurred"
        if group["blank"].iloc[0]:
            result += f"; {_images(group['blank'].iloc[0])} without a map left out"
        if _negligible(hardest):
            result += "; too little to tell"
            verdict = "caution"
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
            left_out = f"; {mass.blank:.0%} of the maps blank and left out" if mass.blank else ""
            result = f"{mass.own} times an even map's share ({mass.seeds} seed{'s' if mass.seeds > 1 else ''}{left_out})"
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
    count = f" ({_images(found.same.n)})" if known(found.same) else ""
    result = f"rank correlation {_said(found.same)}{count}; {others}"
    if not known(found.beyond) and known(found.same):
        result += f"; beyond these {_said(found.beyond)}"
    return [_row(f"Maps agree across {who}", None, result, verdict)]


def on_tokens(model: str, shares: np.ndarray) -> list[Row]:
    """No tenth of the steps has most of the gradient, which is what weighs a map's channels.

    A model that answers the same to every image has no gradient: there is nothing to judge.
    """
    most, bias = attribution.largest_tenth(shares), "the logit of no image has a gradient"
    if not np.isnan(most):
        bias = f"{most:.0%} of the gradient in the tenth of the tokens that has most"
    return [_row("No tenth of the tokens decides", model, bias, "good" if most <= MOST else "caution")]


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
