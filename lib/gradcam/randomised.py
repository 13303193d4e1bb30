"""Does a map depend on what the model learned? Maps while the weights are randomised from the top down."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib import gradcam
from lib.gradcam import Maps, question, similarity
from lib.models import CNNLSTM

BATCHNORM = (nn.BatchNorm2d,)


def cascade(model: CNNLSTM, images: Tensor, *, seed: int, steps: int = 8) -> pd.DataFrame:
    """Randomise the classifier, then the head too, and so on down to the first layer (Adebayo et al. 2018).

    Each tensor's values are shuffled, which keeps their scale; BatchNorm statistics below follow suit, since old ones would
    fade the maps to nothing. At most `steps` steps, the first, the second and the last always among them.
    The maps are Grad-CAM's at the default layer.
    Returns one row a step and image: step (0 is the trained model), randomised (the lowest part reached), image (its
    position), rank_correlation, ssim (both with the trained model's map of the same class), blank.
    """
    trained = gradcam.explain(model, images)
    rows = _rows(0, "nothing", trained, trained)
    twin = copy.deepcopy(model).eval()
    rng = np.random.default_rng(seed)
    groups = _groups(parts_from_top(model), steps)
    for step, group in enumerate(groups, 1):
        for name in group:
            shuffle_weights(twin.get_submodule(name), rng)
        _recalibrate(twin, [name for done in groups[:step] for name in done], images)
        maps = gradcam.explain(twin, images, target=trained.targets)
        rows += _rows(step, group[-1], trained, maps)
    return pd.DataFrame(rows)


def shuffled(model: CNNLSTM, images: Tensor, *, seed: int) -> CNNLSTM:
    """A copy with all weights shuffled, as at the end of a cascade with the same seed: a network that has learned nothing."""
    twin, rng, names = copy.deepcopy(model).eval(), np.random.default_rng(seed), parts_from_top(model)
    for name in names:
        shuffle_weights(twin.get_submodule(name), rng)
    _recalibrate(twin, names, images)
    return twin


def parts_from_top(model: CNNLSTM) -> list[str]:
    """Names of the parts that have weights, from the logit down to the image."""
    names = ["classifier", "sequence", *reversed(question.layer_names(model))]
    return [name for name in names if any(True for _ in model.get_submodule(name).parameters())]


def shuffle_weights(part: nn.Module, rng: np.random.Generator) -> None:
    """Permute the values of each parameter of `part`, in place. A tensor of one value, which has no other order, is negated."""
    with torch.no_grad():
        for parameter in part.parameters():
            if parameter.numel() == 1:
                parameter.neg_()
                continue
            order = torch.from_numpy(rng.permutation(parameter.numel())).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _groups(names: list[str], steps: int) -> list[list[str]]:
    """The parts in at most `steps` groups: the first two alone, the rest as evenly as it goes."""
    if steps < 3:
        raise ValueError(
            f"steps is {steps}; a cascade needs at least 3: the classifier, the head, everything"
        )
    return [names[:1], names[1:2]] + [
        list(group) for group in np.array_split(np.array(names[2:], object), steps - 2) if len(group)
    ]


@torch.no_grad()
def _recalibrate(model: CNNLSTM, names: list[str], images: Tensor) -> None:
    """Give the BatchNorm layers of the randomised parts the statistics of these images."""
    layers = [m for name in names for m in model.get_submodule(name).modules() if isinstance(m, BATCHNORM)]
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the statistics become those of this one batch
        layer.training = True
    model.features(images.to(next(model.parameters()).device))
    model.eval()


def _rows(step: int, name: str, trained: Maps, maps: Maps) -> list[dict]:
    correlation = similarity.rank_correlation(trained.values, maps.values)
    structure = similarity.ssim(trained.scaled(), maps.scaled())
    return [
        {"step": step, "randomised": name, "image": i, "rank_correlation": c, "ssim": s, "blank": bool(b)}
        for i, (c, s, b) in enumerate(zip(correlation, structure, maps.blank, strict=True))
    ]
