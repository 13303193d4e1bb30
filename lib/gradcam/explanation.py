"""Which models are explained on which images, and what does each measure say? The steps of notebook 05."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import devices, gradcam, train
from lib import pixels as stores
from lib.config import MODELS, Config
from lib.gradcam import Maps, agreement, attribution, cases, deletion, question, randomised, trust
from lib.gradcam.agreement import Agreement
from lib.gradcam.attribution import TokenScores
from lib.gradcam.trust import Mass
from lib.models import CNNLSTM
from lib.plots.style import NAMES
from lib.runs import Run

SHUFFLES = 3  # draws of shuffled weights that a control rests on


@dataclass(frozen=True)
class Study:
    """The trained models and the sample of test images that the measures use."""

    config: Config
    store: stores.PixelStore
    runs: dict[str, list[Run]]  # by model, one a seed
    networks: dict[str, CNNLSTM]  # by model, of the first seed
    rows: np.ndarray  # of the store, the sample
    pixels: np.ndarray  # (n, S, S) uint8
    patients: np.ndarray  # (n,)

    @property
    def images(self) -> Tensor:
        return stores.to_input(torch.from_numpy(self.pixels))

    @property
    def boot(self) -> dict[str, int]:
        return {"n_boot": self.config.explain.n_boot, "seed": self.config.explain.seed}

    @property
    def costly(self) -> np.ndarray:
        """Positions in the sample, evenly spread: the images of the measures that ask the model many times."""
        n = min(self.config.explain.costly_images, len(self.rows))
        return np.unique(np.linspace(0, len(self.rows) - 1, n).round().astype(int))


@dataclass(frozen=True)
class Cases:
    """Images chosen by one model's outcomes, explained by every model.

    An outcome rests on the recorded logit, the mean over a model's zooms; a map reads the image once, at zoom 1, and
    `maps[model].logits` are of that reading. The class explained is the recorded one.
    """

    table: pd.DataFrame  # rows of cases.with_outcome
    pixels: np.ndarray  # (n, S, S) uint8
    maps: dict[str, Maps]
    logits: dict[str, np.ndarray]  # by model, (n,), as recorded
    zooms: dict[str, tuple[float, ...]]  # by model, of the recorded logits

    @property
    def titles(self) -> list[str]:
        return [
            f"{row.outcome}\n{row.image.split('/')[-1].rsplit('.', 1)[0]}" for row in self.table.itertuples()
        ]


def gather(config: Config) -> Study:
    """Runs (found or trained), networks on the fastest device here, and the sample."""
    store = stores.prepare(config)
    runs = {model: train.fit_all(config, model) for model in MODELS}
    networks = {model: load(own[0]) for model, own in runs.items()}
    rows = cases.sample(store.index, config.explain.images, seed=config.explain.seed)
    patients = store.index["patient"].to_numpy()[rows]
    return Study(config, store, runs, networks, rows, np.array(store.pixels[rows]), patients)


def load(run: Run) -> CNNLSTM:
    return run.load().to(devices.fastest())


def choose_cases(study: Study, by: str) -> Cases:
    """The cases of the model `by`, with the maps of all models for the class that each one's recorded logit calls."""
    explain = study.config.explain
    table = cases.choose(
        study.runs[by][0].predictions, per_outcome=explain.cases_per_outcome, seed=explain.seed
    )
    row_of = pd.Series(np.arange(len(study.store.index)), index=study.store.index["image"])
    pictures = np.array(study.store.pixels[row_of[table["image"]].to_numpy()])
    images = stores.to_input(torch.from_numpy(pictures))
    logits = {m: cases.recorded(own[0].predictions, table["image"]) for m, own in study.runs.items()}
    maps = {
        model: gradcam.explain_in_batches(net, images, target=cases.called(logits[model]))
        for model, net in study.networks.items()
    }
    zooms = {model: study.config.train_for(model).zooms for model in study.networks}
    return Cases(table, pictures, maps, logits, zooms)


def maps(study: Study) -> dict[str, Maps]:
    """Grad-CAM of the sample by model, for the class that it calls at zoom 1: what the measures of trust ask it about."""
    return {model: gradcam.explain_in_batches(net, study.images) for model, net in study.networks.items()}


def some(chosen: Cases, *, n: int | None = None) -> Cases:
    """The first n of the cases; without n, the first of each outcome."""
    table = chosen.table.head(n) if n else chosen.table.drop_duplicates("outcome")
    places = table.index.to_numpy()
    maps = {model: own.take(places) for model, own in chosen.maps.items()}
    logits = {model: own[places] for model, own in chosen.logits.items()}
    return Cases(table.reset_index(drop=True), chosen.pixels[places], maps, logits, chosen.zooms)


def ways(study: Study, chosen: Cases, model: str) -> dict[str, Maps]:
    """Every method at the default layer, and Grad-CAM one convolution earlier, of the class explained by `model`'s maps."""
    network, images, target = study.networks[model], _input(chosen), chosen.maps[model].targets
    found = {
        method: gradcam.explain(network, images, method=method, target=target) for method in gradcam.METHODS
    }
    earlier = question.convolutions(network)[-2]
    return found | {f"gradcam at {earlier}": gradcam.explain(network, images, layer=earlier, target=target)}


def depths(study: Study, chosen: Cases) -> dict[str, Maps]:
    """Grad-CAM of every model at an early, a middle and its default layer: what a report shows in place of the viewer."""
    columns = {}
    for model, network in study.networks.items():
        last = question.default_layer(network)
        names = question.layer_names(network)
        names = names[: names.index(last) + 1]
        for layer in (names[len(names) // 3], names[2 * len(names) // 3], last):
            title = f"{NAMES[model]}\n{type(network.get_submodule(layer)).__name__} {layer.split('.')[-1]}"
            columns[title] = gradcam.explain(
                network, _input(chosen), layer=layer, target=chosen.maps[model].targets
            )
    return columns


def token_scores(
    study: Study, model: str, chosen: Cases, *, methods: Sequence[str] = attribution.METHODS
) -> list[TokenScores]:
    """Token attributions of the cases, of the class that their maps explain: one entry a method."""
    network, target = study.networks[model], chosen.maps[model].targets
    features = attribution.features_of(network, _input(chosen))
    return [attribution.attribute(network, features, method=method, target=target) for method in methods]


def profiles(study: Study, model: str) -> dict[str, dict[str, np.ndarray]]:
    """Where the gradient lies along the sequence: {"trained" | "untrained head": {"order, read-out": (B, T)}}."""
    network = study.networks[model]
    features = attribution.features_of(network, study.images[study.costly])
    untrained = attribution.with_untrained_head(network, seed=study.config.explain.seed)
    return {
        state: {
            label: attribution.profile(twin, features) for label, twin in attribution.readings(own).items()
        }
        for state, own in (("trained", network), ("untrained head", untrained))
    }


def cascades(study: Study) -> dict[str, pd.DataFrame]:
    """Parameter randomisation of each model on the costly images, in several draws (column `shuffle`)."""
    explain = study.config.explain
    images = study.images[study.costly]
    return {
        model: pd.concat(
            [
                randomised.cascade(net, images, seed=explain.seed + k, steps=explain.steps).assign(shuffle=k)
                for k in range(SHUFFLES)
            ],
            ignore_index=True,
        )
        for model, net in study.networks.items()
    }


def deletions(
    study: Study, found: dict[str, Maps]
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Curves and advantages by model, on images that the model calls pneumonia at zoom 1 (`trust.called_pneumonia`)."""
    explain = study.config.explain
    drawn, better = {}, {}
    for model, network in study.networks.items():
        own = found[model]
        chosen = trust.called_pneumonia(own, explain.costly_images)
        ranks = trust.rankings(own, study.pixels, seed=explain.seed)
        drawn[model] = deletion.curves(
            trust.predictor(network), study.images[chosen], {name: m[chosen] for name, m in ranks.items()},
            own.targets[chosen], steps=explain.steps, seed=explain.seed,
        )  # fmt: skip
        better[model] = deletion.advantages(drawn[model], study.patients[chosen], of=own.method, **study.boot)
    return drawn, better


def localisations(study: Study) -> dict[str, pd.DataFrame]:
    """Maps for pneumonia against the lesions of the sample's phantoms, by model; empty for real images, which have no mask."""
    masks = [study.store.mask(row) for row in study.rows]
    lesion = np.array([mask is not None and mask.any() for mask in masks])
    if not lesion.any():
        return {}
    known = np.stack([mask for mask, use in zip(masks, lesion, strict=True) if use])
    images = study.images[torch.from_numpy(lesion)]
    return {
        model: trust.localise(
            gradcam.explain_in_batches(net, images, target=1), study.pixels[lesion], known, study.patients[lesion], **study.boot
        )
        for model, net in study.networks.items()
    }  # fmt: skip


def seen(study: Study) -> dict[str, list[Maps]]:
    """Grad-CAM of the sample for pneumonia, by model, one a seed: where each of them sees it, whatever it calls the image."""
    return {
        model: [
            gradcam.explain_in_batches(network, study.images, target=1) for network in _networks(study, model)
        ]
        for model in study.runs
    }


def _networks(study: Study, model: str) -> Iterator[CNNLSTM]:
    """Of every seed, one after the other, so that no more than two are in memory."""
    yield study.networks[model]
    yield from (load(run) for run in study.runs[model][1:])


def masses(study: Study, found: dict[str, list[Maps]]) -> dict[str, dict[str, Mass]]:
    """By model and region: mass there over an even map's, of every seed's maps, and of the same networks with shuffled weights, in
    several draws of each on the costly images."""
    chosen, images, made = study.costly, study.images[study.costly], {}
    for model in study.runs:
        # One permutation would make near copies of networks that share their frozen layers, so no two draws have the same.
        draws = itertools.count(study.config.explain.seed)
        blind = [
            gradcam.explain_in_batches(
                randomised.shuffled(network, images, seed=next(draws)), images, target=1
            )
            for network in _networks(study, model)
            for _ in range(SHUFFLES)
        ]
        made[model] = trust.masses(found[model], blind, study.patients, study.patients[chosen], **study.boot)
    return made


def agreements(study: Study, found: dict[str, list[Maps]]) -> dict[str, Agreement]:
    """Between the models' first seeds, and for each model with several seeds across those, over all pairs of seeds."""
    calls = {model: np.mean([own.logits for own in maps], axis=0) > 0 for model, maps in found.items()}
    both = np.stack([maps[0].logits > 0 for maps in found.values()])
    agreed = {
        "models": agreement.agree(
            _on_common_cells([maps[0] for maps in found.values()]), study.patients, both[0] * 2 + both[1], **study.boot
        )
    }  # fmt: skip
    for model, own in found.items():
        if len(own) > 1:
            agreed[f"{len(own)} seeds of {NAMES[model]}"] = agreement.agree(
                [maps.values for maps in own], study.patients, calls[model], **study.boot
            )
    return agreed


def _on_common_cells(maps: Sequence[Maps]) -> list[np.ndarray]:
    """The maps of several layers on even tiles of the image, as many as the coarsest has cells."""
    side = min(own.values.shape[1] for own in maps)
    return [
        np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_AREA) for m in own.pictures()])
        for own in maps
    ]


def advantage_lines(found: dict[str, pd.DataFrame]) -> list[tuple[str, str, object]]:
    """Advantages by model as lines of a figure: (name, model, Interval)."""
    return [
        (f"{NAMES[model]}: {row.kind}, against {row.rival}", model, row.advantage)
        for model, table in found.items()
        for row in table.itertuples()
    ]


def _input(chosen: Cases) -> Tensor:
    return stores.to_input(torch.from_numpy(chosen.pixels))
