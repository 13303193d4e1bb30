"""The steps of notebook 05 keep images, maps, targets and patients together, and explain the decision that they name."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib import config, gradcam
from lib.gradcam import Maps, attribution, cases, deletion, explanation, geometry, randomised, telling, trust
from lib.gradcam.question import CLASSES, targets_of
from lib.models import CustomCNNLSTM
from lib.pixels import PixelStore
from lib.plots import explain as plots

SIDE, CELLS = 28, 7
FIRST, SECOND = config.MODELS


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return CustomCNNLSTM(lstm_hidden=8, dense=8).eval()


# A world in which every image is known by its gray: row k of the store is 6 * k everywhere, and its patient is "p<k>".


def index_of(n):
    return pd.DataFrame(
        {
            "image": [f"test/X/i{k}.png" for k in range(n)],
            "split": ["train" if k % 5 == 0 else "test" for k in range(n)],
            "label": [k // 2 % 2 for k in range(n)],
            "subtype": "unknown",
            "patient": [f"p{k}" for k in range(n)],
        }
    )


def store_of(shades, masks=None):
    return PixelStore(
        index_of(len(shades)), shades, "none", quarantined=index_of(len(shades)).iloc[:0], masks=masks
    )


def gray_store(n=40):
    return store_of(np.repeat(6 * np.arange(n, dtype=np.uint8), SIDE * SIDE).reshape(n, SIDE, SIDE))


def run_of(store, seed, **more):
    """A run whose recorded logits have nothing to do with the images, its rows in an order of their own."""
    rng = np.random.default_rng(seed)
    test = store.index[store.index["split"] == "test"].sample(frac=1, random_state=seed)
    table = test[["image", "patient", "split", "subtype"]].assign(y_true=test["label"])
    return SimpleNamespace(seed=seed, predictions=table.assign(logit=rng.normal(0, 2, len(test))), **more)


def study_of(network, store, *, rows=None, runs=None, **overrides):
    rows = store.rows("test") if rows is None else np.asarray(rows)
    runs = runs or {FIRST: [run_of(store, 1)], SECOND: [run_of(store, 2)]}
    networks = dict.fromkeys(runs, network)
    patients = store.index["patient"].to_numpy()[rows]
    cfg = config.load("demo", **({"explain.n_boot": 50} | overrides))
    return explanation.Study(cfg, store, runs, networks, rows, np.array(store.pixels[rows]), patients)


@pytest.fixture
def asked(monkeypatch):
    """Maps whose first cell is the mean gray of their image; the logit at zoom 1 is positive for a bright image."""
    found = []

    def explained(model, images, *, target=None, layer=None, method="gradcam", **_):
        gray = gradcam.to_pixels(images).mean((1, 2))
        logits = torch.from_numpy(gray - 100)
        targets = targets_of(target, logits).numpy()
        found.append({"model": model, "gray": gray, "targets": targets})
        ramp = 1 + np.arange(CELLS * CELLS).reshape(CELLS, CELLS)
        return Maps(gray[:, None, None] * ramp, logits.numpy(), targets, layer or "", method, (SIDE, SIDE))

    monkeypatch.setattr(gradcam, "explain", explained)
    return found


def assert_together(study, chosen, by):
    """Row i of the table, pixels[i], every map's i and every recorded logit's i are of one image."""
    place = {image: k for k, image in enumerate(study.store.index["image"])}
    for i, row in enumerate(chosen.table.itertuples()):
        gray = 6 * place[row.image]
        assert (chosen.pixels[i] == gray).all()
        for model, maps in chosen.maps.items():
            recorded = study.runs[model][0].predictions.set_index("image")["logit"][row.image]
            assert maps.values[i, 0, 0] == gray
            assert maps.logits[i] == gray - 100
            assert chosen.logits[model][i] == recorded
            assert maps.targets[i] == (recorded > 0)
        assert row.outcome.endswith("positive" if chosen.maps[by].targets[i] else "negative")
        assert row.outcome.startswith("true") == (chosen.maps[by].targets[i] == row.y_true)
    lengths = {len(own) for maps in chosen.maps.values() for own in (maps.values, maps.logits, maps.targets)}
    assert (
        lengths | {len(own) for own in chosen.logits.values()} == {len(chosen.table)} == {len(chosen.pixels)}
    )


@pytest.mark.parametrize("by", [FIRST, SECOND])
def test_cases_and_some_of_them_keep_each_image_with_its_maps_and_its_decision(network, asked, by):
    study = study_of(network, gray_store(), **{"explain.cases_per_outcome": 3})
    chosen = explanation.choose_cases(study, by)
    assert len(chosen.table) == 12
    assert_together(study, chosen, by)
    three = explanation.some(chosen, n=3)
    assert len(three.table) == 3
    assert_together(study, three, by)
    each = explanation.some(chosen)
    assert each.table["outcome"].tolist() == list(cases.OUTCOMES)
    assert_together(study, each, by)


def test_every_view_of_a_case_explains_the_recorded_class(network, asked, monkeypatch):
    study = study_of(network, gray_store())
    chosen = explanation.choose_cases(study, FIRST)
    for model in config.MODELS:
        recorded = cases.called(chosen.logits[model])
        assert (recorded != cases.called(chosen.maps[model].logits)).any()  # or the test could not fail
        for found in explanation.ways(study, chosen, model).values():
            assert found.targets.tolist() == recorded.tolist()
        for found in explanation.token_scores(study, model, chosen, methods=["gradient x input"]):
            assert found.targets.tolist() == recorded.tolist()
    shown = list(explanation.depths(study, chosen).values())
    for model, columns in zip(config.MODELS, (shown[:3], shown[3:]), strict=True):
        assert all((own.targets == cases.called(chosen.logits[model])).all() for own in columns)


def test_a_profile_of_several_zooms_says_where_the_maps_reading_calls_the_other_class(network, asked):
    zooms = {f"{SECOND}.train": {"zooms": [1.0, 1.1, 0.92]}}
    chosen = explanation.choose_cases(study_of(network, gray_store(), **zooms), FIRST)
    gray = chosen.pixels[:, 0, 0].astype(int)
    turned = ((gray > 100) != (chosen.logits[SECOND] > 0)).sum()
    assert 0 < turned < len(gray)
    said = telling.cases(chosen, FIRST)
    assert (
        "The recorded logit of Custom CNN-LSTM is the mean at zooms 1, 1.1 and 0.92; a map reads the image at zoom 1"
        in said
    )
    assert f"alone calls the other class for {turned} of the {len(gray)} cases by Custom CNN-LSTM." in said
    assert "cases by Xception-LSTM" not in said  # it is read once
    both = explanation.choose_cases(study_of(network, gray_store(), **{"train.zooms": [1.0, 1.1]}), FIRST)
    assert "logit of Xception-LSTM and Custom CNN-LSTM is the mean at zooms 1 and 1.1" in telling.cases(
        both, FIRST
    )


def test_a_profile_of_one_reading_has_nothing_to_say_of_zooms(network, asked):
    study = study_of(network, gray_store())
    one = study_of(network, gray_store(), **{f"{SECOND}.train": {"zooms": [1.1]}})
    assert "at zoom 1" in telling.sample(one)
    assert "is that at zoom 1.1; a map" in telling.cases(explanation.choose_cases(one, FIRST), FIRST)
    assert "zoom" not in telling.cases(explanation.choose_cases(study, FIRST), FIRST)
    assert "zoom" not in telling.sample(study)
    assert "at zoom 1" in telling.sample(study_of(network, gray_store(), **{"train.zooms": [1.0, 1.1]}))


def test_the_probability_printed_is_the_recorded_one(network, asked):
    chosen = explanation.some(explanation.choose_cases(study_of(network, gray_store()), FIRST), n=1)
    chosen = dataclasses.replace(chosen, logits={FIRST: np.array([2.13]), SECOND: np.array([-2.13])})
    figure = plots.side_by_side(chosen.pixels, chosen.maps, chosen.titles, logits=chosen.logits)
    titles = [ax.get_title() for ax in figure.axes]
    plt.close(figure)
    assert titles[1].startswith("Xception-LSTM: 0.89")
    assert titles[3].startswith("Custom CNN-LSTM: 0.11")


def test_each_map_and_each_tokens_picture_names_the_class_that_it_explains(network, asked):
    study = study_of(network, gray_store())
    chosen = explanation.choose_cases(study, FIRST)
    classes = [CLASSES[target] for target in cases.called(chosen.logits[SECOND])]
    assert set(classes) == set(CLASSES)
    ways = explanation.ways(study, chosen, SECOND)
    scores = explanation.token_scores(study, SECOND, chosen, methods=["gradient x input"])
    for figure, columns in (
        (plots.gallery(chosen.pixels, ways, chosen.titles), len(ways)),
        (plots.tokens(chosen.pixels, scores, chosen.titles), 1),
    ):
        titles = [ax.get_title() for ax in figure.axes]
        plt.close(figure)
        for column in range(1, columns + 1):
            said = [title.split("\n")[1].removesuffix(", no map") for title in titles[column :: columns + 1]]
            assert said == [f"for {name}" for name in classes]


def test_the_maps_of_the_sample_are_of_the_class_called_at_zoom_1(network, asked):
    study = study_of(network, gray_store(), **{"train.zooms": [1.0, 1.1]})
    for found in explanation.maps(study).values():
        assert found.values[:, 0, 0].tolist() == (6 * study.rows).tolist()
        assert found.targets.tolist() == (6 * study.rows > 100).astype(int).tolist()


# A world in which every image has a bright square of its own: row k in cell k % 49, its patient "p<k>".


def square_of(row):
    return row % (CELLS * CELLS)


def square_store(n=60, masks=None):
    shades = np.full((n, CELLS * CELLS), 20, np.uint8)
    shades[np.arange(n), square_of(np.arange(n))] = 250
    side = SIDE // CELLS
    return store_of(shades.reshape(n, CELLS, CELLS).repeat(side, 1).repeat(side, 2), masks)


def cells(images):
    """Mean gray of each cell, images (n, H, W) -> (n, 49)."""
    side = SIDE // CELLS
    return np.asarray(images, float).reshape(-1, CELLS, side, CELLS, side).mean((2, 4)).reshape(-1, 49)


def marking(rows, called):
    """Maps of rows of the store that mark the square of each, with logits that call some of them pneumonia."""
    across = np.stack(np.divmod(np.arange(CELLS * CELLS), CELLS)).T  # row and column of each cell
    away = np.linalg.norm(across[None] - across[square_of(rows)][:, None], axis=-1)  # (n, 49)
    values = (1 / (1 + away)).astype(np.float32)
    logits = np.where(called, 1.0, -1.0).astype(np.float32)
    return Maps(
        values.reshape(-1, CELLS, CELLS), logits, (logits > 0).astype(int), "", "gradcam", (SIDE, SIDE)
    )


def see_squares(images):
    """The logit of a model that looks for a bright square, wherever it lies."""
    return 12 * torch.nn.functional.avg_pool2d(images[:, :1], SIDE // CELLS).amax((1, 2, 3)) - 4


def wrapped(monkeypatch, module, name):
    """The arguments of every call of a function, which goes on as it was."""
    calls, own = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: calls.append((a, k)) or own(*a, **k))
    return calls


def test_deletion_takes_images_rankings_targets_and_patients_of_one_subset(network, monkeypatch):
    monkeypatch.setattr(trust, "predictor", lambda _: see_squares)
    drawn, weighed = wrapped(monkeypatch, deletion, "curves"), wrapped(monkeypatch, deletion, "advantages")
    study = study_of(network, square_store(), **{"explain.costly_images": 12})
    some = (
        study.rows % 3 == 1
    )  # called pneumonia by the first model; the second calls one image, so all take part
    one = study.rows == study.rows[5]
    found = {FIRST: marking(study.rows, some), SECOND: marking(study.rows, one)}
    curves, better = explanation.deletions(study, found)
    for (_, images, ranks, targets), _ in drawn:
        places = cells(gradcam.to_pixels(images)).argmax(1)
        assert (cells(ranks["gradcam"]).argmax(1) == places).all()
        assert ranks["edges"].shape == (12, CELLS, CELLS)
        assert len(targets) == len(places) == 12
    for ((_, images, _, targets), _), ((_, patients), _), maps in zip(
        drawn, weighed, found.values(), strict=True
    ):
        rows = np.array([int(name[1:]) for name in patients])
        assert (cells(gradcam.to_pixels(images)).argmax(1) == square_of(rows)).all()
        own = pd.Series(maps.targets, index=study.rows)
        assert targets.tolist() == own[rows].tolist()
    assert drawn[0][0][3].all()
    assert not drawn[1][0][3].all()
    aligned = better[FIRST].set_index(["kind", "rival"])["advantage"]
    assert all(aligned[kind, rival].low > 0 for kind in deletion.KINDS for rival in ("random", "centre"))
    assert set(curves) == set(better) == {FIRST, SECOND}


def test_deletion_with_the_maps_of_other_images_shows_no_advantage(network, monkeypatch):
    """What the test above rests on: maps that belong to images half a sample away mark nothing that matters.

    Only the plain places, which are all but the square itself, are worse than such maps.
    """
    monkeypatch.setattr(trust, "predictor", lambda _: see_squares)
    study = study_of(network, square_store(), **{"explain.costly_images": 12})
    shifted = marking(np.roll(study.rows, len(study.rows) // 2), np.ones(len(study.rows), bool))
    _, better = explanation.deletions(study, {FIRST: shifted, SECOND: shifted})
    others = better[FIRST].query("rival != 'plain'")
    assert len(others) == 6
    assert (others["advantage"].map(lambda found: found.low) <= 0).all()


def masks_of(rows, n=60):
    """The square of each of `rows` as its lesion; the other images have none."""
    masks = np.zeros((n, SIDE, SIDE), bool)
    masks[rows] = square_store(n).pixels[rows] > 100
    return masks


def test_lesions_stay_with_their_images_maps_and_patients(network, monkeypatch):
    def explained(model, images, *, target=None, **_):
        assert target == 1
        return marking(cells(gradcam.to_pixels(images)).argmax(1), np.ones(len(images), bool))

    monkeypatch.setattr(gradcam, "explain", explained)
    scored = wrapped(monkeypatch, trust, "localise")
    rows = np.array([2, 7, 11, 23, 42])
    study = study_of(network, square_store(masks=masks_of(rows[[1, 3]])), rows=rows)
    found = explanation.localisations(study)
    assert set(found) == {FIRST, SECOND}
    for (maps, shades, masks, patients), _ in scored:
        assert patients.tolist() == ["p7", "p23"]
        assert cells(shades).argmax(1).tolist() == cells(masks).argmax(1).tolist() == [7, 23]
        assert maps.values.reshape(2, -1).argmax(1).tolist() == [7, 23]
    hits = found[FIRST].query("measure == 'pointing game'")["value"].iloc[0]
    assert (hits.estimate, hits.n, hits.n_patients) == (1, 2, 2)


@pytest.mark.parametrize("masks", [None, np.zeros((60, SIDE, SIDE), bool)])
def test_without_lesions_nothing_is_localised(network, masks):
    assert explanation.localisations(study_of(network, square_store(masks=masks))) == {}


# seeds


class Seed(nn.Module):
    """Stands for a trained network: it has the same map for every image, and no two seeds have the same."""

    def __init__(self, seed):
        super().__init__()
        self.seed = seed
        self.map = np.random.default_rng(seed).random((CELLS, CELLS)).astype(np.float32)


def seeds_study(network, store, seeds):
    runs = {
        model: [run_of(store, seed, load=functools.partial(Seed, seed)) for seed in own]
        for model, own in seeds.items()
    }
    study = study_of(network, store, runs=runs)
    return dataclasses.replace(study, networks={model: own[0].load() for model, own in runs.items()})


def test_every_seed_is_asked_where_it_sees_pneumonia_and_never_meets_itself(network, monkeypatch):
    asked = []

    def explained(model, images, *, target=None, **_):
        asked.append((model.seed, target))
        n = len(images)
        logits = np.where(np.arange(n) % 3 == model.seed % 3, 1.0, -1.0)
        targets = targets_of(target, torch.from_numpy(logits)).numpy()
        return Maps(np.repeat(model.map[None], n, 0), logits, targets, "", "gradcam", (SIDE, SIDE))

    monkeypatch.setattr(gradcam, "explain", explained)
    store = gray_store()
    store.index["patient"] = [f"p{k // 2}" for k in range(len(store.index))]
    study = seeds_study(network, store, {FIRST: (1, 2, 3, 4, 5), SECOND: (6,)})
    found = explanation.seen(study)
    assert {seed for seed, _ in asked} == {1, 2, 3, 4, 5, 6}
    assert {target for _, target in asked} == {1}
    agreed = explanation.agreements(study, found)
    assert list(agreed) == ["models", "5 seeds of Xception-LSTM"]
    own = agreed["5 seeds of Xception-LSTM"]
    maps = [run.load().map.ravel() for run in study.runs[FIRST]]
    expected = np.mean(
        [pd.Series(a).corr(pd.Series(b), "spearman") for k, a in enumerate(maps) for b in maps[k + 1 :]]
    )
    # Every image has one map, so other patients agree as the image itself does; a seed beside itself would add a 1.
    assert own.other == pytest.approx(expected, abs=1e-6)
    assert own.same.estimate == pytest.approx(expected, abs=1e-6)
    assert own.same.n_patients == own.beyond.n_patients == len(np.unique(study.patients)) < len(study.rows)
    assert own.same.n == len(study.rows)


def test_masses_take_every_seeds_maps_and_networks_that_have_learned_nothing(network, monkeypatch):
    rows, seeds, explained = np.arange(1, 11), [], []
    shuffled, explain = randomised.shuffled, gradcam.explain_in_batches

    def twin(model, images, *, seed):
        seeds.append(seed)
        found = shuffled(model, images, seed=seed)
        found.blind = True
        return found

    def of_a_twin(model, *about, **settings):
        explained.append(getattr(model, "blind", False))
        return explain(model, *about, **settings)

    monkeypatch.setattr(randomised, "shuffled", twin)
    monkeypatch.setattr(gradcam, "explain_in_batches", of_a_twin)
    store = square_store()
    runs = {FIRST: [run_of(store, k, load=lambda: network) for k in (1, 2)], SECOND: [run_of(store, 3)]}
    study = study_of(network, store, rows=rows, runs=runs, **{"explain.costly_images": 4})
    marked = marking(study.rows, np.ones(len(rows), bool))
    scored = explanation.masses(study, {FIRST: [marked, marked], SECOND: [marked]})
    assert len(explained) == len(seeds) == 9 and all(explained)
    assert len(set(seeds[:6])) == 6 and len(set(seeds[6:])) == 3  # of each model, whatever its network
    assert [scored[model]["border"].seeds for model in (FIRST, SECOND)] == [2, 1]
    assert scored[FIRST]["border"].own.estimate == pytest.approx(scored[SECOND]["border"].own.estimate)
    assert 0.2 < scored[FIRST]["corners"].blind.estimate < 5
    assert scored[FIRST]["corners"].blind.n_patients == 4


def test_the_draws_of_a_cascade_are_drawn_apart(network):
    study = study_of(network, square_store(), rows=np.arange(1, 11), **{"explain.costly_images": 4})
    found = explanation.cascades(study)[FIRST]
    draws = [own.drop(columns="shuffle").reset_index(drop=True) for _, own in found.groupby("shuffle")]
    assert len(draws) == 3
    assert not any(draws[0].equals(other) for other in draws[1:])


def test_maps_that_tell_the_class_called_alone_agree_no_more_on_an_image_than_across_patients(network):
    rows = np.arange(1, 41)
    called, rng = np.arange(40) % 2 == 0, np.random.default_rng(0)
    grid = np.mgrid[:CELLS, :CELLS].sum(0)
    templates = np.stack([grid, grid[::-1, ::-1]])[called.astype(int)]  # one map for each class

    def own():
        noisy = templates + 0.5 * rng.random(templates.shape)
        return dataclasses.replace(marking(rows, called), values=noisy.astype(np.float32))

    study = study_of(network, square_store(), rows=rows)
    found = explanation.agreements(study, {FIRST: [own(), own()], SECOND: [own()]})
    assert list(found) == ["models", "2 seeds of Xception-LSTM"]
    for one in found.values():
        assert one.same.estimate > 0.9
        assert abs(one.beyond.estimate) < 0.05


def test_one_seed_of_each_model_is_compared_between_models_alone(network, monkeypatch):
    study = seeds_study(network, gray_store(), {FIRST: (1,), SECOND: (6,)})
    n = len(study.rows)
    found = {
        model: [
            Maps(np.repeat(net.map[None], n, 0), np.ones(n), np.ones(n, int), "", "gradcam", (SIDE, SIDE))
        ]
        for model, net in study.networks.items()
    }
    assert list(explanation.agreements(study, found)) == ["models"]


def test_models_are_compared_where_their_cells_look(network):
    """One marks the second cell of an even grid; the other's cells lie half a tile further down and right."""
    study = study_of(network, square_store(), rows=np.arange(1, 13))
    marked = marking(study.rows, np.ones(12, bool))
    shifted = dataclasses.replace(marked, grid=geometry.Grid(1.5 + 2, 4))
    same = explanation.agreements(study, {FIRST: [marked], SECOND: [marked]})["models"].same.estimate
    apart = explanation.agreements(study, {FIRST: [marked], SECOND: [shifted]})["models"].same.estimate
    assert same == pytest.approx(1)
    assert apart < 0.99


# the costly images, and profiles


@pytest.mark.parametrize(("size", "most"), [(30, 12), (30, 30), (5, 12), (1, 12), (64, 24), (7, 1)])
def test_costly_images_are_some_of_the_sample(network, size, most):
    store = gray_store(40) if size <= 30 else square_store(100)
    study = study_of(network, store, rows=store.rows("test")[:size], **{"explain.costly_images": most})
    assert len(set(study.costly)) == len(study.costly) == min(size, most)
    assert study.costly.min() >= 0
    assert study.costly.max() < size


@pytest.mark.parametrize("n", [8, 32, 64])
@pytest.mark.parametrize("most", [2, 5, 16, 24])
def test_costly_images_of_a_balanced_sample_hold_both_classes(network, n, most):
    """Balanced and in the order of the index, where the classes lie one behind the other, as in a folder of images."""
    index = index_of(200).assign(label=np.arange(200) // 100, split="test")
    store = dataclasses.replace(square_store(200), index=index)
    rows = cases.sample(index, n, seed=3)
    study = study_of(network, store, rows=rows, **{"explain.costly_images": most})
    counts = index["label"].to_numpy()[rows[study.costly]]
    assert set(counts) == {0, 1}
    assert abs((counts == 0).sum() - (counts == 1).sum()) <= 1


def test_profiles_of_both_states_have_the_same_readings_and_leave_the_network(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reading, modes = attribution.reading_of(network), [module.training for module in network.modules()]
    study = study_of(network, square_store(), **{"explain.costly_images": 4})
    found = explanation.profiles(study, FIRST)
    assert list(found) == ["trained", "untrained head"]
    trained, untrained = found.values()
    assert list(trained) == list(untrained) == list(attribution.readings(network))
    assert {shares.shape for own in found.values() for shares in own.values()} == {(4, CELLS * CELLS)}
    assert not np.allclose(trained[reading], untrained[reading])
    features = attribution.features_of(network, study.images[study.costly])
    np.testing.assert_allclose(trained[reading], attribution.profile(network, features), rtol=1e-5)
    assert attribution.reading_of(network) == reading
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(value.grad is None for value in network.parameters())
