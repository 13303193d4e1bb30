"""Which of the tokens does a decision rest on? Attributions at the sequence that the head reads, and where its gradient lies."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.gradcam.question import ExplainError, checked, class_score, targets_of
from lib.gradcam.undisturbed import read, undisturbed
from lib.models import CNNLSTM
from lib.sequence import Reorder

METHODS = ("gradient x input", "integrated gradients", "occlusion")
TOLERANCE = 0.01  # of the change of score: how close integrated gradients must add up to it
MAX_STEPS = 8192  # of the integral, for the few images on whose path the score bends sharply
AT_ONCE = 2**24  # values of token sequences read in one go


@dataclass(frozen=True)
class TokenScores:
    """What each token adds to the score of the target, relative to the baseline: a token without any feature, all zero.

    values    (B, h, w), signed, each token at its place in the image
    logits    (B,)
    targets   (B,) the class explained
    change    (B,) score of the image minus score of a sequence of such tokens
    gap       (B,) |sum of values - change| / |change|: what integrated gradients leave unexplained; nan for other methods
    steps     evaluations of the integral for the image that took most; 0 for other methods
    """

    values: np.ndarray
    logits: np.ndarray
    targets: np.ndarray
    change: np.ndarray
    gap: np.ndarray
    method: str
    steps: int = 0


def features_of(model: CNNLSTM, images: Tensor) -> Tensor:
    """The map that becomes tokens, (B, 3, H, W) -> (B, C, h, w), in eval mode."""
    images = checked(images)
    with undisturbed(model), torch.no_grad():
        place = next(model.parameters()).device
        return model.features(images.to(place, memory_format=torch.channels_last))


def attribute(
    model: CNNLSTM,
    features: Tensor,
    *,
    method: str = "integrated gradients",
    target: int | Sequence[int] | Tensor | None = None,
) -> TokenScores:
    """What each token of `features` (B, C, h, w), from `features_of`, adds to the target's score.

    method  "gradient x input"; "integrated gradients" (Sundararajan et al. 2017), with Gauss-Legendre points doubled
            until the sum is within TOLERANCE of the change of score, or MAX_STEPS are reached; "occlusion": the loss of
            score when one token alone becomes zero
    target  as for `gradcam.explain`
    The baseline is a token without any feature: all zero.
    Raises ExplainError for an unknown method, a target outside the classes, features of another shape, no image, or values not
    finite.
    """
    if method not in METHODS:
        raise ExplainError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    _check_features(features)
    height, width = features.shape[2:]
    with undisturbed(model):
        tokens = model.tokens(features.detach()).contiguous()  # (B, T, C)
        with torch.no_grad():
            logits = read(model, tokens)
            targets = targets_of(target, logits)
            change = class_score(logits - read(model, torch.zeros_like(tokens)), targets)
        scores, steps = SCORERS[method](model, tokens, targets, change)
        scores = scores.detach()
        places = places_of(model, len(tokens), height, width, device=tokens.device)
        values = torch.zeros_like(scores).scatter(1, places, scores).view(-1, height, width)
    gap = (scores.sum(1) - change).abs() / change.abs()
    exact = method == "integrated gradients"
    return TokenScores(
        values=values.cpu().numpy(),
        logits=logits.cpu().numpy(),
        targets=targets.cpu().numpy(),
        change=change.cpu().numpy(),
        gap=gap.cpu().numpy() if exact else np.full(len(tokens), np.nan),
        method=method,
        steps=steps,
    )


def profile(model: CNNLSTM, features: Tensor) -> np.ndarray:
    """Each step's share of the gradient: norms of d logit / d token, (B, T) in reading order, each row summing to 1.

    A row is nan where the logit has no gradient at all.
    """
    _check_features(features)
    with undisturbed(model):
        tokens = model.tokens(features.detach()).contiguous().requires_grad_(True)
        (gradient,) = torch.autograd.grad(read(model, tokens).sum(), tokens)
        norms = gradient.norm(dim=-1)
        shares = norms / norms.sum(1, keepdim=True)
    return shares.cpu().numpy()


def last_tenth(shares: np.ndarray) -> float:
    """The mean share (B, T) that lies in the last tenth of the steps (at least one); 0.1 or so if none is preferred.

    Rows of nan are left out; nan where there is no other.
    """
    own = shares[:, -max(1, round(shares.shape[1] / 10)) :].sum(1)
    return float(own[np.isfinite(own)].mean()) if np.isfinite(own).any() else float("nan")


def largest_tenth(shares: np.ndarray) -> float:
    """The mean share (B, T) of the tenth of successive steps (at least one) that has most; 0.1 or so if none is preferred.

    Rows of nan are left out; nan where there is no other.
    """
    mean = shares[np.isfinite(shares).all(1)]
    if not len(mean):
        return float("nan")
    width = max(1, round(shares.shape[1] / 10))
    return float(np.lib.stride_tricks.sliding_window_view(mean.mean(0), width).sum(1).max())


def largest_gap(scores: TokenScores) -> float:
    """What integrated gradients leave unexplained at most; nan where the score of no image changes."""
    gap = scores.gap[~np.isnan(scores.gap)]
    return float(gap.max()) if len(gap) else float("nan")


def with_untrained_head(model: CNNLSTM, *, seed: int) -> CNNLSTM:
    """A copy whose sequence head and classifier have their initial, random weights again; the backbone stays trained."""
    twin = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in [*twin.sequence.modules(), *twin.classifier.modules()]:
            for reset in ("reset_parameters", "_reset_parameters"):  # the latter of nn.MultiheadAttention
                getattr(layer, reset, lambda: None)()
        if hasattr(twin.sequence, "position"):  # of a Transformer, as its constructor draws it
            torch.nn.init.normal_(twin.sequence.position, std=0.02)
    return twin


def reading_of(model: CNNLSTM) -> str:
    """How a model reads its tokens, as "order, read-out"."""
    return ", ".join(filter(None, [model.reorder.name, getattr(model.sequence, "readout", None)]))


def readings(model: CNNLSTM) -> dict[str, CNNLSTM]:
    """The model as it is, and the same weights read in raster order, in reverse, and out at the mean: by `reading_of`.

    The model alone where its head has no read-out to change.
    """
    found = {reading_of(model): model}
    if hasattr(model.sequence, "readout"):
        for order, readout in (("raster", "last"), ("reverse", "last"), ("raster", "mean")):
            twin = copy.deepcopy(model)
            twin.reorder, twin.sequence.readout = Reorder(order), readout
            found.setdefault(reading_of(twin), twin)
    return found


def places_of(
    model: CNNLSTM, batch: int, height: int, width: int, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Raster position of each token read, (batch, T)."""
    places = torch.arange(height * width, device=device).expand(batch, -1)[..., None]
    return model.reorder(places, height, width)[..., 0]


def _gradient_x_input(model, tokens, targets, change) -> tuple[Tensor, int]:
    return (_gradient(model, tokens, targets) * tokens).sum(-1), 0


def _integrated(model, tokens, targets, change) -> tuple[Tensor, int]:
    scores = torch.zeros(tokens.shape[:2], device=tokens.device)
    left = torch.arange(len(tokens), device=tokens.device)  # images whose sum is not close enough yet
    steps, evaluations = 16, 0
    while len(left):
        scores[left] = (_integral(model, tokens[left], targets[left], steps) * tokens[left]).sum(-1)
        evaluations += steps
        far = (scores[left].sum(1) - change[left]).abs() > TOLERANCE * change[left].abs()
        left = left[far] if steps < MAX_STEPS else left[:0]
        steps *= 2
    return scores, evaluations


def _integral(model: CNNLSTM, tokens: Tensor, targets: Tensor, steps: int) -> Tensor:
    """Mean gradient on the straight line from zero to `tokens`, (B, T, C), by Gauss-Legendre quadrature."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    points, weights = (
        torch.tensor(v, dtype=tokens.dtype, device=tokens.device) for v in ((points + 1) / 2, weights / 2)
    )
    total = torch.zeros_like(tokens)
    for some in torch.arange(steps, device=tokens.device).split(_at_once(tokens)):
        line = points[some, None, None, None] * tokens  # (points, B, T, C)
        gradient = _gradient(model, line.flatten(0, 1), targets.repeat(len(some)))
        total += torch.einsum("p,pbtc->btc", weights[some], gradient.view_as(line))
    return total


@torch.no_grad()
def _occlusion(model, tokens, targets, change) -> tuple[Tensor, int]:
    score = class_score(read(model, tokens), targets)
    without = []
    for some in torch.arange(tokens.shape[1], device=tokens.device).split(_at_once(tokens)):
        hidden = tokens.repeat(len(some), 1, 1, 1)  # (steps, B, T, C)
        for k, step in enumerate(some):
            hidden[k, :, step] = 0
        logits = read(model, hidden.flatten(0, 1)).view(len(some), -1)
        without.append(class_score(logits, targets).T)
    return score[:, None] - torch.cat(without, 1), 0


def _at_once(tokens: Tensor) -> int:
    """How many variants of a batch of sequences are read in one go."""
    return max(1, AT_ONCE // tokens.numel())


SCORERS = dict(zip(METHODS, (_gradient_x_input, _integrated, _occlusion), strict=True))


def _gradient(model: CNNLSTM, tokens: Tensor, targets: Tensor) -> Tensor:
    leaf = tokens.detach().requires_grad_(True)
    return torch.autograd.grad(class_score(read(model, leaf), targets).sum(), leaf)[0]


def _check_features(features: Tensor) -> None:
    if features.ndim != 4:
        raise ExplainError(
            f"features must be a map (B, C, h, w), as features_of gives, not {tuple(features.shape)}"
        )
    if not len(features):
        raise ExplainError("the batch is empty; there is no image to explain")
    if not torch.isfinite(features).all():
        raise ExplainError("the features hold values that are not finite; are the model's weights intact?")
