"""Measures of trust: on maps and models whose answer is known, each must tell the good from the bad."""

from __future__ import annotations

import dataclasses
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

from lib import gradcam, phantoms
from lib.config import ROOT
from lib.gradcam import (
    Maps,
    agreement,
    attribution,
    cases,
    deletion,
    geometry,
    localisation,
    means,
    randomised,
    rivals,
    similarity,
    telling,
    trust,
)
from lib.models import CustomCNNLSTM, XceptionLSTM
from lib.plots import explain as plots
from lib.stats import Interval

pytestmark = pytest.mark.usefixtures("one_thread")


RNG = np.random.default_rng(0)
BOOT = {"n_boot": 200, "seed": 0}


def blob(row, column, side=32, width=3.0):
    y, x = np.mgrid[:side, :side]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2)).astype(np.float32)


# similarity


def test_rank_correlation_of_equal_opposite_unrelated_and_blank_maps():
    a = RNG.random((4, 20, 20))
    b = np.stack([a[0] ** 3, -a[1], RNG.random((20, 20)), np.full((20, 20), 2.0)])
    found = similarity.rank_correlation(a, b)
    np.testing.assert_allclose(found[:2], [1, -1], atol=1e-9)
    assert abs(found[2]) < 0.2
    assert np.isnan(found[3])


def test_ssim_is_one_for_equal_maps_and_low_for_noise():
    a = blob(10, 10)[None]
    assert similarity.ssim(a, a)[0] == pytest.approx(1)
    assert similarity.ssim(a, RNG.random(a.shape))[0] < 0.1
    assert similarity.ssim(a, blob(12, 10)[None])[0] > similarity.ssim(a, blob(24, 24)[None])[0]
    assert np.isnan(similarity.ssim(a, np.full_like(a, np.nan))[0])


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must have one shape.*\(2, 4, 4\) and \(2, 5, 5\)"):
        similarity.rank_correlation(np.zeros((2, 4, 4)), np.zeros((2, 5, 5)))


# rivals


def test_rivals_know_the_image_or_nothing():
    pixels = np.zeros((2, 56, 56), np.uint8)
    pixels[:, 20:36, 20:36] = 200
    found = rivals.rivals(pixels, (14, 14), seed=1)
    assert {name: maps.shape for name, maps in found.items()} == dict.fromkeys(rivals.RIVALS, (2, 14, 14))
    assert np.unravel_index(found["centre"][0].argmax(), (14, 14)) in {(r, c) for r in (6, 7) for c in (6, 7)}
    assert found["edges"][0, 7, 7] < found["edges"][0, 7, 5]  # the square's inside against its rim
    assert (found["plain"] == -found["edges"]).all()
    assert (rivals.rivals(pixels, (14, 14), seed=1)["random"] == found["random"]).all()
    assert (rivals.rivals(pixels, (14, 14), seed=2)["random"] != found["random"]).any()


# localisation


def test_pointing_game_and_soft_iou_reward_the_lesion():
    masks = np.stack([blob(8, 8) > 0.5] * 4)
    values = np.stack([blob(8, 8), blob(25, 25), np.zeros((32, 32)), (blob(8, 8) > 0.5).astype(float)])
    np.testing.assert_array_equal(localisation.pointing(values, masks), [1, 0, 0, 1])
    overlap = localisation.soft_iou(values, masks)
    assert overlap[3] == pytest.approx(1)
    assert overlap[3] > overlap[0] > 0.3
    assert overlap[1] < 0.05
    assert overlap[2] == 0


def test_a_mask_without_lesion_is_refused():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 1, 1] = True
    with pytest.raises(ValueError, match="the mask of image 1 is empty"):
        localisation.pointing(RNG.random((2, 4, 4)), masks)
    with pytest.raises(ValueError, match="3 maps and 2 masks"):
        localisation.soft_iou(RNG.random((3, 4, 4)), masks)


def test_border_and_corner_mass_of_known_maps():
    regions = localisation.regions((40, 40))
    frame, squares = np.ones((40, 40), bool), np.zeros((40, 40), bool)
    frame[4:-4, 4:-4] = False
    for rows, columns in itertools.product((slice(8), slice(-8, None)), repeat=2):
        squares[rows, columns] = True
    np.testing.assert_array_equal(regions["border"], frame)
    np.testing.assert_array_equal(regions["corners"], squares)
    values = np.stack([np.ones((40, 40)), blob(20, 20, 40), blob(0, 0, 40), np.zeros((40, 40))])
    values[0, 0, 0] += 1e-3  # not blank
    border, corners = (localisation.mass_ratio(values, regions[name]) for name in ("border", "corners"))
    np.testing.assert_allclose([border[0], corners[0]], 1, atol=0.01)
    assert border[1] < 0.01
    assert corners[2] == pytest.approx(1 / regions["corners"].mean(), rel=0.03)
    assert np.isnan(border[3])
    assert np.isnan(corners[3])


# deletion and insertion


def brightness_model(images):
    """Logit of a 'lesion' at the upper left: the mean there, and nothing else."""
    return 40 * images[:, 0, :8, :8].mean((1, 2)) - 10


def lesion_images(n=6, side=32):
    images = torch.full((n, 3, side, side), -1.0)
    images[:, :, :8, :8] = 1.0
    return images


def test_the_true_place_beats_every_rival_in_both_curves():
    images, n = lesion_images(), 6
    maps = {
        "gradcam": np.repeat((blob(3, 3, width=4) + 0.0)[None], n, 0),
        "far": np.repeat(blob(28, 28)[None], n, 0),
    }
    maps["random"] = RNG.random((n, 32, 32))
    curve = deletion.curves(brightness_model, images, maps, np.ones(n), steps=5, seed=0)
    found = deletion.advantages(curve, np.arange(n), of="gradcam", **BOOT)
    assert (found["advantage"].map(lambda i: i.low) > 0).all()
    assert set(found["kind"]) == {"deletion", "insertion"}
    worst = deletion.advantages(curve, np.arange(n), of="far", **BOOT)
    assert (worst["advantage"].map(lambda i: i.high) < 0).all()


def test_curves_start_and_end_where_they_must():
    images = lesion_images(2)
    curve = deletion.curves(
        brightness_model, images, {"a": RNG.random((2, 4, 4))}, np.ones(2), steps=3, seed=0
    )
    ends = curve.set_index(["kind", "share"])["score"]
    full = torch.sigmoid(brightness_model(images)).numpy()
    np.testing.assert_allclose(ends["deletion", 0.0], full, atol=1e-6)
    np.testing.assert_allclose(ends["insertion", 1.0], full, atol=1e-6)
    np.testing.assert_allclose(ends["deletion", 1.0], ends["insertion", 0.0])
    assert ends["deletion", 1.0].max() < full.min()


def test_the_class_followed_is_the_class_explained():
    images = lesion_images(2)
    one, zero = (
        deletion.curves(
            brightness_model, images, {"a": RNG.random((2, 4, 4))}, np.full(2, t), steps=2, seed=0
        )["score"]
        for t in (1, 0)
    )
    np.testing.assert_allclose(one.iloc[:2], 1 - zero.iloc[:2], atol=1e-6)


def test_blank_maps_have_no_curve_and_are_left_out_of_the_mean():
    maps = {
        "gradcam": np.stack([np.zeros((4, 4)), RNG.random((4, 4)), RNG.random((4, 4))]),
        "random": RNG.random((3, 4, 4)),
    }
    curve = deletion.curves(brightness_model, lesion_images(3), maps, np.ones(3), steps=3, seed=0)
    assert deletion.areas(curve)["deletion", "gradcam"].isna().tolist() == [True, False, False]
    found = deletion.advantages(curve, np.arange(3), of="gradcam", **BOOT)
    assert found["advantage"].iloc[0].n == 2
    assert found["blank"].tolist() == [1, 1]
    assert "1 image without a map left out" in trust.on_deletion("xception_lstm", found)[0]["result"]


def test_ties_are_broken_by_the_seed():
    flat_top = np.zeros((1, 16, 16))
    flat_top[0, :8] = 1
    places = [deletion._places(flat_top, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert (places[0] == places[1]).all()
    assert (places[0] != places[2]).any()
    assert places[0][0, :8].max() < 0.5 <= places[0][0, 8:].min()


# randomisation


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = CustomCNNLSTM(readout="mean").eval()
    with torch.no_grad():
        network.classifier[-1].weight *= 30
    return network


def test_the_cascade_reaches_every_part_and_leaves_the_model(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    found = randomised.cascade(model, images, seed=0, steps=4)
    first = found[found["step"] == 0]
    assert np.allclose(first["rank_correlation"].dropna(), 1)
    names = found.groupby("step")["randomised"].first().tolist()
    assert names[:3] == ["nothing", "classifier", "sequence"]
    assert names[-1] == "backbone.0"
    assert len(found) == 3 * len(names)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    again = randomised.cascade(model, images, seed=0, steps=4)
    pd.testing.assert_frame_equal(found, again)


def test_shuffling_keeps_the_values_and_changes_their_order(model):
    part = nn.Linear(20, 1)
    before = {name: value.clone() for name, value in part.state_dict().items()}
    randomised.shuffle_weights(part, np.random.default_rng(0))
    assert torch.equal(part.weight.sort().values, before["weight"].sort().values)
    assert not torch.equal(part.weight, before["weight"])
    assert torch.equal(part.bias, -before["bias"])


def test_frozen_layers_are_shuffled_too_and_statistics_follow():
    torch.manual_seed(0)
    model, images = XceptionLSTM(lstm_hidden=4, dense=4).eval(), torch.randn(4, 3, 64, 64)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.4), nn.init.normal_(layer.bias)
    assert not all(parameter.requires_grad for parameter in model.parameters())
    twin, own = randomised.shuffled(model, images, seed=0), dict(model.named_parameters())
    assert not [name for name, parameter in twin.named_parameters() if torch.equal(parameter, own[name])]
    body = twin.backbone.body
    with torch.no_grad():
        seen = body.conv1(images).mean((0, 2, 3))
    torch.testing.assert_close(body.bn1.running_mean, seen, rtol=1e-3, atol=1e-4)


def test_shuffled_is_the_end_of_the_cascade(model):
    images = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    twin = randomised.shuffled(model, images, seed=0)
    found = randomised.cascade(model, images, seed=0, steps=4)
    trained = gradcam.explain(model, images)
    blind = gradcam.explain(twin, images, target=trained.targets)
    left = similarity.rank_correlation(trained.values, blind.values)
    np.testing.assert_allclose(found[found["step"] == found["step"].max()]["rank_correlation"], left)


@pytest.mark.parametrize(("free", "bad"), [(True, True), (False, False)])
def test_a_map_free_of_the_weights_is_found_out(model, monkeypatch, free, bad):
    """End to end: a 'map' of the image's own brightness stays as it is when the weights are shuffled."""
    images = torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    bright = torch.nn.functional.avg_pool2d(images.mean(1), 4).numpy()
    if free:
        own = gradcam.explain
        monkeypatch.setattr(
            gradcam, "explain", lambda *a, **k: dataclasses.replace(own(*a, **k), values=bright)
        )
    cascade = randomised.cascade(model, images, seed=0, steps=3).assign(shuffle=0)
    assert [row["verdict"] == "bad" for row in trust.on_cascade("custom_cnn_lstm", cascade)] == [bad, bad]


def test_a_cascade_needs_three_steps(model):
    with pytest.raises(ValueError, match="steps is 2; a cascade needs at least 3"):
        randomised.cascade(model, torch.randn(1, 3, 28, 28), seed=0, steps=2)


# agreement


def agreed(*sets, patients=None):
    """Of images that are all called the same; of a patient each unless `patients` says otherwise."""
    n = len(sets[0])
    return agreement.agree(sets, np.arange(n) if patients is None else patients, np.zeros(n), **BOOT)


def test_agreement_beyond_what_all_images_share():
    n = 12
    shared = blob(16, 16, width=8)
    own = np.stack([blob(4 + 2 * i, 28 - 2 * i) for i in range(n)])
    alike = agreed(shared + own, shared + own + 0.01 * RNG.random(own.shape))
    assert alike.same.estimate > 0.9
    assert alike.beyond.low > 0
    prior = agreed(shared + 0.05 * RNG.random(own.shape), shared + 0.05 * RNG.random(own.shape))
    assert prior.same.estimate > 0.7  # two maps that agree, and say nothing about the image
    assert prior.beyond.low < 0.02
    assert trust.on_agreement("models", alike)[0]["verdict"] == "good"
    assert trust.on_agreement("models", prior)[0]["verdict"] != "good"


def test_agreement_that_is_mostly_shared_by_all_images_is_no_good_news():
    same = Interval(0.694, 0.646, 0.736, 0.95, 64, 64)
    shared = agreement.Agreement(same, 0.647, Interval(0.047, 0.020, 0.075, 0.95, 64, 64))
    own = agreement.Agreement(same, 0.2, Interval(0.494, 0.440, 0.550, 0.95, 64, 64))
    assert trust.on_agreement("seeds", shared)[0]["verdict"] == "caution"
    assert trust.on_agreement("seeds", own)[0]["verdict"] == "good"


def test_what_maps_of_two_patients_share_is_as_uncertain_as_both_of_them():
    """Some patients' maps are more like everybody's than others: against resampling the patients and their pairs anew."""
    n, rng = 40, np.random.default_rng(1)
    typical = rng.uniform(0, 3, (n, 1, 1)) * blob(16, 16, width=8)
    first, second = (typical + rng.random((n, 32, 32)) for _ in range(2))
    ranks = [similarity.rank_correlation(np.repeat(first[i : i + 1], n, 0), second) for i in range(n)]
    drawn = []
    for _ in range(1000):
        who = rng.integers(0, n, n)
        apart = who[:, None] != who[None]
        table = np.stack(ranks)[np.ix_(who, who)]
        drawn.append(np.diag(table).mean() - table[apart].mean())
    found = agreement.agree([first, second], np.arange(n), np.zeros(n), n_boot=1000, seed=0).beyond
    assert found.high - found.low == pytest.approx(np.ptp(np.quantile(drawn, [0.025, 0.975])), rel=0.15)


def test_several_pairs_agree_by_the_mean_of_their_pairs_and_no_set_meets_itself():
    a, b, c = RNG.random((3, 10, 6, 6))
    pairs = [(a, b), (a, c), (b, c)]
    alone = [agreed(*pair) for pair in pairs]
    found = agreed(a, b, c)
    assert found.same.estimate == pytest.approx(np.mean([one.same.estimate for one in alone]))
    assert found.other == pytest.approx(np.mean([one.other for one in alone]))
    assert found.beyond.estimate == pytest.approx(np.mean([one.beyond.estimate for one in alone]))
    assert (found.same.n, found.same.n_patients) == (10, 10)


def test_maps_that_say_only_what_the_image_is_called_do_not_agree_on_the_image():
    """Two templates, one a class, and noise: other patients of the same class agree as much as the image itself."""
    n, called = 40, np.arange(40) % 2
    templates = np.stack([blob(8, 8), blob(24, 24)])[called]
    first, second = (templates + 0.05 * RNG.random((n, 32, 32)) for _ in range(2))
    found = agreement.agree([first, second], np.arange(n), called, **BOOT)
    assert abs(found.beyond.estimate) < 0.01
    assert trust.on_agreement("models", found)[0]["verdict"] != "good"
    mixed = agreed(first, second)
    assert mixed.beyond.low > 0.1  # what the classes taken together would have passed for


def test_seeds_that_differ_widen_the_interval_of_their_agreement():
    """Four seeds share their maps and one has its own: patients alone would take the mean of the pairs for certain."""
    n = 30
    shared, other = RNG.random((2, n, 8, 8))
    sets = [shared + 0.01 * RNG.random(shared.shape) for _ in range(4)] + [other]
    found = agreed(*sets).same
    assert found.estimate == pytest.approx(0.6, abs=0.05)
    assert found.low < 0.4
    assert found.high > 0.9


def test_the_mean_over_seeds_is_as_uncertain_as_its_seeds():
    values = np.repeat([[0.9], [1.0], [1.1], [1.2], [1.3]], 30, axis=1) + 0.001 * RNG.random((5, 30))
    found = means.over_seeds(values, np.arange(30), [(k,) for k in range(5)], **BOOT)
    assert found.estimate == pytest.approx(values.mean())
    assert found.low < 0.98
    assert found.high > 1.22
    values[0] = np.nan  # a seed without a map
    values[1, :10] = np.nan
    left = means.over_seeds(values, np.arange(30), [(k,) for k in range(5)], **BOOT)
    assert left.estimate == pytest.approx(np.nanmean(values))
    assert (left.n, left.n_patients) == (30, 30)


def test_the_mean_over_pairs_is_as_uncertain_as_its_seeds():
    """Each pair has what its two seeds bring along: the mean's standard error is twice that of the seeds' mean."""
    own = np.array([-0.3, -0.1, 0.0, 0.1, 0.3])
    pairs = list(itertools.combinations(range(5), 2))
    values = np.array([own[list(pair)].sum() + 0.001 * RNG.random(30) for pair in pairs])
    found = means.over_seeds(values, np.arange(30), pairs, **BOOT)
    reach = scipy.stats.t.ppf(0.975, 4) * 2 * own.std(ddof=1) / np.sqrt(5)
    assert (
        0.65 < (found.high - found.low) / (2 * reach) < 1.2
    )  # by resampling alone, of few seeds, it would be 0.54
    once = means.over_seeds(values[:1], np.arange(30), pairs[:1], **BOOT)
    assert once.high - once.low < 0.01  # of one pair the seeds cannot tell


def test_images_of_one_patient_are_not_other_patients():
    maps = RNG.random((4, 6, 6))
    found = agreed(maps, maps, patients=np.zeros(4))
    assert np.isnan(found.other)
    assert trust.on_agreement("models", found)[0]["verdict"] == "caution"


# cases and samples


def predictions(n=40):
    frame = pd.DataFrame({"image": [f"i{k}" for k in range(n)], "patient": [f"p{k // 2}" for k in range(n)]})
    frame["split"] = ["val"] * 8 + ["test"] * (n - 8)
    frame["y_true"] = [k // 2 % 2 for k in range(n)]
    frame["logit"] = [3.0 if k % 4 in (2, 3) else -3.0 for k in range(n)]
    frame.loc[[10, 14], "logit"] = -1.0  # false negatives
    frame.loc[20, "logit"] = 1.0  # a false positive
    return frame.assign(subtype="unknown")


def test_cases_are_equal_in_number_of_test_one_a_patient_and_seeded():
    chosen = cases.choose(predictions(), per_outcome=2, seed=5)
    counts = chosen["outcome"].value_counts()
    assert counts.to_dict() == {
        "true positive": 2,
        "true negative": 2,
        "false negative": 2,
        "false positive": 1,
    }
    assert (chosen["split"] == "test").all()
    assert not chosen["patient"].duplicated().any()
    pd.testing.assert_frame_equal(
        chosen, cases.choose(predictions().sample(frac=1, random_state=1), per_outcome=2, seed=5)
    )
    assert list(chosen["image"]) != list(cases.choose(predictions(), per_outcome=2, seed=6)["image"])


def test_a_sample_is_balanced_and_prefers_new_patients():
    index = pd.DataFrame(
        {"split": "test", "label": [0] * 10 + [1] * 30, "patient": [f"p{k // 3}" for k in range(40)]}
    )
    rows = cases.sample(index, 16, seed=0)
    assert index["label"].iloc[rows].value_counts().to_dict() == {0: 8, 1: 8}
    ill = index.iloc[rows].query("label == 1")
    assert ill["patient"].nunique() == 8
    assert len(cases.sample(index, 1000, seed=0)) == 40
    with pytest.raises(ValueError, match="no test image has label 0"):
        cases.sample(index.assign(split=["val"] * 10 + ["test"] * 30), 4, seed=0)


# the table


def interval(estimate, low, high):
    return Interval(estimate, low, high, 0.95, 20, 20)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "good"), (-0.1, 0.3, "caution"), (-0.3, -0.1, "bad"), (np.nan, np.nan, "caution")],
)
def test_verdicts_of_deletion_follow_the_interval(low, high, verdict):
    found = pd.DataFrame(
        [
            {"kind": "deletion", "rival": "random", "advantage": interval(0.5, 0.4, 0.6)},
            {
                "kind": "deletion",
                "rival": "edges",
                "advantage": interval(np.nanmean([low, high, 0]), low, high),
            },
        ]
    ).assign(blank=0)
    (row,) = trust.on_deletion("custom_cnn_lstm", found.assign(left=0.1))
    assert row["verdict"] == verdict
    assert "edges" in row["result"]
    (row,) = trust.on_deletion("custom_cnn_lstm", found.assign(left=0.97))
    assert row["verdict"] == verdict  # the class that survives at the end may go on the way there
    assert "0.97 when all is blurred" in row["result"]


@pytest.mark.parametrize(
    ("low", "high", "other", "verdict"),
    [(-0.0004, -0.0001, 0.2, "caution"), (0.0001, 0.0004, 0.2, "caution"), (-0.001, 0.001, -0.2, "bad"), (-0.009, -0.001, 0.2, "bad")],
)  # fmt: skip
def test_an_order_that_hardly_moves_the_class_says_nothing_of_the_map(low, high, other, verdict):
    pairs = (
        ("random", interval((low + high) / 2, low, high)),
        ("edges", interval(other, other - 0.1, other + 0.1)),
    )
    found = pd.DataFrame(
        [
            {"kind": "deletion", "rival": name, "advantage": own, "left": 1.0, "blank": 0}
            for name, own in pairs
        ]
    )
    (row,) = trust.on_deletion("xception_lstm", found)
    assert row["verdict"] == verdict
    assert ("too little to tell" in row["result"]) == (verdict == "caution")


@pytest.mark.parametrize(
    "other",
    [interval(-0.03, -0.07, 0.01), interval(-0.004, -0.0045, -0.003), interval(np.nan, np.nan, np.nan)],
)
def test_a_failure_names_the_rival_by_which_it_fails(other):
    """It need not be the rival of the lowest estimate, whose interval may hold zero, or be too small to tell."""
    pairs = (("random", other), ("edges", interval(-0.02, -0.03, -0.01)))
    found = pd.DataFrame([{"kind": "deletion", "rival": name, "advantage": own} for name, own in pairs])
    (row,) = trust.on_deletion("xception_lstm", found.assign(left=0.1, blank=0))
    assert row["verdict"] == "bad"
    assert row["result"] == "-0.020 [-0.030, -0.010] over the hardest rival, edges (20 images)"


def test_a_map_of_the_plain_places_is_not_good_for_a_model_that_takes_blur_for_ill():
    """No place matters to such a model: any blur raises its score, wherever it is. Without the last rival the map would pass."""

    def model(images):
        return 3 - 30 * images[:, 0].diff(dim=1).abs().mean((1, 2))

    n = 12
    images = torch.zeros(n, 3, 32, 32)
    images[:, :, :, 12:] += torch.linspace(0, 1, 20) * torch.randn(
        n, 3, 32, 20, generator=torch.Generator().manual_seed(0)
    )
    pixels = (images[:, 0].numpy() * 40 + 128).clip(0, 255).astype(np.uint8)
    values = rivals.rivals(pixels, (8, 8), seed=0)["plain"]
    ranks = trust.rankings(maps_of(values + 1e-3 * RNG.random(values.shape)), pixels, seed=0)
    curve = deletion.curves(model, images, ranks, np.ones(n), steps=6, seed=0)
    found = deletion.advantages(curve, np.arange(n), of="gradcam", **BOOT)
    assert "good" not in [row["verdict"] for row in trust.on_deletion("xception_lstm", found)]
    without = trust.on_deletion("xception_lstm", found[found["rival"] != "plain"])
    assert [row["verdict"] for row in without] == ["good", "good"]


@pytest.mark.parametrize(("place", "verdict"), [((3, 3), "good"), ((28, 28), "bad")])
def test_a_model_that_keeps_its_class_when_all_is_blurred_still_tells_the_right_map_from_the_wrong(
    place, verdict
):
    """It looks for contrast in one corner and takes a smooth image for ill as well, as some models do."""

    def model(images):
        corner = images[:, 0, :8, :8].mean((1, 2))
        smooth = (images[:, 0].diff(dim=1).abs().mean((1, 2)) < 0.05).float()
        return 12 * corner - 4 + 12 * smooth

    n = 12
    images = lesion_images(n)
    images[:, :, 8:] += 0.6 * torch.rand(n, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    maps = {"gradcam": np.repeat(blob(*place, width=4)[None], n, 0), "random": RNG.random((n, 32, 32))}
    curve = deletion.curves(model, images, maps, np.ones(n), steps=6, seed=0)
    found = deletion.advantages(curve, np.arange(n), of="gradcam", **BOOT)
    assert found["left"].iloc[0] > trust.KEPT
    assert trust.on_deletion("custom_cnn_lstm", found)[0]["verdict"] == verdict


@pytest.mark.parametrize(
    ("n_patients", "wanted"), [(2, False), (3, False), (7, False), (8, True), (20, True)]
)
def test_few_patients_conclude_nothing_and_are_counted(n_patients, wanted):
    """An interval of three patients leaves its own mean out too often to be a verdict (`means.FEWEST`)."""

    def own(estimate):
        return Interval(estimate, estimate - 0.05, estimate + 0.05, 0.95, n_patients, n_patients)

    better = pd.DataFrame([{"kind": "deletion", "rival": "edges", "advantage": own(-0.3)}])
    known = pd.DataFrame(
        [
            {"map": "gradcam", "measure": "soft IoU", "value": own(0.5), "beyond": None},
            {"map": "edges", "measure": "soft IoU", "value": own(0.2), "beyond": own(0.3)},
        ]
    )
    rows = trust.on_deletion("xception_lstm", better.assign(left=0.1, blank=0))
    border, corners = (trust.Mass(own(estimate), 1, own(np.nan)) for estimate in (1.5, 0.5))
    rows += trust.on_masses("xception_lstm", {"border": border, "corners": corners})
    rows += trust.on_localisation("xception_lstm", known)
    rows += trust.on_agreement("models", agreement.Agreement(own(0.8), 0.1, own(0.7)))
    verdicts = [row["verdict"] for row in rows]
    assert verdicts == (["bad", "bad", "good", "good", "good"] if wanted else ["caution"] * 5)
    said = f"no interval, {n_patients} images with a map of {n_patients} patients (at least 8 are needed)"
    assert all((said in row["result"]) != wanted for row in rows)


def test_an_agreement_whose_excess_alone_is_of_few_patients_names_their_number():
    found = agreement.Agreement(interval(0.8, 0.7, 0.9), 0.1, Interval(0.7, 0.6, 0.8, 0.95, 3, 3))
    (row,) = trust.on_agreement("models", found)
    assert row["verdict"] == "caution"
    assert "beyond these 0.700, no interval, 3 images with a map of 3 patients" in row["result"]


def test_no_line_is_drawn_where_no_interval_may_be_read():
    few, enough = (Interval(0.5, 0.4, 0.6, 0.95, n, n) for n in (3, 8))
    ax = plots.intervals([("few", None, few), ("enough", None, enough)])
    lines = [
        line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2
    ]
    marks = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "D"]
    plt.close(ax.figure)
    assert [list(line) for line in lines] == [[0.4, 0.6]]
    assert marks == [0, 1]


def test_an_area_is_that_under_the_curve():
    scores = {"a": (1, 0, 0), "b": (1, 1, 0)}
    rows = [
        (name, "deletion", 0, share, score)
        for name, own in scores.items()
        for share, score in zip((0.0, 0.5, 1.0), own, strict=True)
    ]
    found = deletion.areas(pd.DataFrame(rows, columns=["map", "kind", "image", "share", "score"]))
    assert found.loc[0].to_dict() == pytest.approx({("deletion", "a"): 0.25, ("deletion", "b"): 0.75})


def test_what_is_left_when_everything_is_deleted():
    images, targets = lesion_images(3), np.ones(3)
    curve = deletion.curves(
        brightness_model,
        images,
        {"a": RNG.random((3, 4, 4)), "b": RNG.random((3, 4, 4))},
        targets,
        steps=3,
        seed=0,
    )
    found = deletion.advantages(curve, np.arange(3), of="a", **BOOT)
    blurred = torch.sigmoid(brightness_model(deletion._blurred(images))).mean().item()
    np.testing.assert_allclose(found["left"], blurred, atol=1e-6)


def test_verdicts_of_border_mass():
    found = {
        "border": trust.Mass(interval(0.5, 0.4, 0.6), 5, interval(1.0, 0.9, 1.1)),
        "corners": trust.Mass(interval(1.5, 1.2, 1.8), 1, interval(1.1, 1.05, 1.15)),
        "other": trust.Mass(interval(1, 0.8, 1.2), 1, interval(1.0, 0.9, 1.1)),
        "blind": trust.Mass(interval(0.78, 0.7, 0.9), 1, interval(1.0, 0.85, 1.1)),
        "shape": trust.Mass(interval(1.5, 1.2, 1.8), 1, interval(1.1, 0.9, 1.3)),
        "few": trust.Mass(interval(1.5, 1.2, 1.8), 1, Interval(1.1, 1.05, 1.15, 0.95, 3, 3)),
        "unknown": trust.Mass(interval(1.5, 1.2, 1.8), 1, interval(np.nan, np.nan, np.nan)),
    }
    rows = trust.on_masses("xception_lstm", found)
    # Two are not seen to keep off the region better, nor to lean on it more, than networks that have learned nothing.
    verdicts = ["good", "bad", "caution", "caution", "caution", "caution", "bad"]
    assert [row["verdict"] for row in rows] == verdicts
    assert "(5 seeds); with all weights shuffled 1.000 [0.900, 1.100]" in rows[0]["result"]
    assert "shuffled 1.100, no interval, 3 images with a map of 3 patients" in rows[5]["result"]
    (row,) = trust.on_masses("xception_lstm", {"border": dataclasses.replace(found["border"], blank=0.25)})
    assert "(5 seeds; 25% of the maps blank and left out)" in row["result"]


def test_masses_are_of_all_seeds_and_of_the_places_where_cells_look():
    values = np.zeros((10, 7, 7))
    values[:, 0, 3] = (
        1.0  # the uppermost row: tiles put its middle 15 pixels down, the last layer of Xception looks at pixel 3
    )
    even, seen = maps_of(values, (224, 224)), maps_of(values, (224, 224), grid=geometry.Grid(3, 32))
    inside = maps_of(np.roll(values, 3, axis=1), (224, 224))
    few, patients = inside.take(np.arange(8)), (np.arange(10), np.arange(8))
    found = trust.masses([even, inside], [few], *patients, **BOOT)["border"]
    assert found.seeds == 2
    assert found.blind.estimate < 0.1 and found.blind.n_patients == 8
    alone = [trust.masses([one], [few], *patients, **BOOT)["border"].own.estimate for one in (even, inside)]
    assert found.own.estimate == pytest.approx(np.mean(alone))
    assert trust.masses([seen], [few], *patients, **BOOT)["border"].own.estimate > alone[0]


@pytest.mark.parametrize(
    ("left", "verdict"), [(0.1, "good"), (-0.1, "good"), (0.5, "caution"), (0.9, "bad"), (np.nan, "good")]
)
def test_verdicts_of_randomisation(left, verdict):
    cascade = cascade_of([left] * 3)
    for row in trust.on_cascade("xception_lstm", cascade):
        assert row["verdict"] == verdict
        assert row["result"].endswith("(8 images)")
        assert "nan" not in row["result"]
    few = trust.on_cascade("xception_lstm", cascade[cascade["image"] < 7])
    assert [row["verdict"] for row in few] == ["caution", "caution"]


def cascade_of(left, n=8):
    """A cascade of n images, all of which have these correlations left at its steps."""
    steps = [{"step": k, "rank_correlation": value} for k, value in enumerate([1.0, *left])]
    return pd.concat([pd.DataFrame(steps).assign(image=i) for i in range(n)]).assign(shuffle=0, ssim=0.3)


@pytest.mark.parametrize(
    ("left", "of_head", "of_weights"),
    [
        ([0.1, 0.1, -0.9], "good", "bad"),
        ([0.9, 0.9, 0.1], "bad", "good"),
        ([0.9, 0.1, 0.1, 0.9], "good", "bad"),
        ([0.9, 0.4, 0.9, 0.1], "caution", "good"),
    ],
)
def test_a_cascade_is_judged_at_its_head_and_at_its_end_by_the_size_of_what_is_left(
    left, of_head, of_weights
):
    """A map turned into its opposite still depends on nothing that was learned."""
    rows = trust.on_cascade("xception_lstm", cascade_of(left))
    assert [row["verdict"] for row in rows] == [of_head, of_weights]
    assert [row["check"].split(" (")[0] for row in rows] == [
        "Map depends on the head",
        "Map depends on the weights",
    ]


@pytest.mark.parametrize(("most", "verdict"), [(0.05, "good"), (0.6, "caution")])
def test_verdicts_of_tokens_follow_the_largest_share(most, verdict):
    shares = np.full((2, 20), (1 - most) / 19)
    shares[:, 4] = most
    assert attribution.largest_tenth(shares) == pytest.approx(most + (1 - most) / 19)
    assert [row["verdict"] for row in trust.on_tokens("xception_lstm", shares)] == [verdict]


def test_a_cascade_counts_the_images_that_it_compares():
    """Nine of ten trained maps are there, and one of them is left when all is shuffled."""
    cascade = cascade_of([0.1, 0.1, 0.1], n=10)
    last = cascade["step"] == 3
    cascade.loc[(cascade["image"] == 9) | (last & (cascade["image"] > 0)), "rank_correlation"] = np.nan
    head, weights = trust.on_cascade("xception_lstm", cascade)
    assert head["result"].endswith("classifier and head shuffled (9 images)")
    assert (weights["verdict"], weights["result"][-9:]) == ("caution", "(1 image)")
    cascade.loc[last, "rank_correlation"] = np.nan
    _, row = trust.on_cascade("xception_lstm", cascade)
    assert (row["verdict"], row["result"]) == ("good", "no map left once all weights are shuffled (9 images)")


def advantages_of(left):
    return pd.DataFrame(
        [{"kind": "deletion", "rival": "random", "advantage": interval(0.5, 0.4, 0.6), "left": left}]
    )


def test_what_a_blurred_image_is_called_is_said_as_it_was_measured():
    said = telling.blurred({"xception_lstm": advantages_of(0.999), "custom_cnn_lstm": advantages_of(0.12)})
    assert "still given 1.00 by Xception-LSTM and 0.12 by Custom CNN-LSTM" in said
    assert "as with Xception-LSTM, a curve tells by what happens on the way" in said
    low = telling.blurred({"xception_lstm": advantages_of(0.3), "custom_cnn_lstm": advantages_of(np.nan)})
    assert "0.30 by Xception-LSTM (mean" in low
    assert "on the way" not in low
    assert "nan" not in low
    assert telling.blurred({"xception_lstm": advantages_of(np.nan)}) == "No image that takes part has a map."


def maps_of(values, size=(32, 32), logits=None, grid=None):
    n = len(values)
    logits = np.ones(n, np.float32) if logits is None else np.asarray(logits, np.float32)
    return Maps(np.asarray(values, np.float32), logits, np.ones(n, int), "layer", "gradcam", size, grid)


@pytest.mark.parametrize(("blanks", "verdict"), [(0, "good"), (1, "caution"), (10, "bad")])
def test_blank_maps_are_counted(blanks, verdict):
    values = RNG.random((20, 4, 4))
    values[:blanks] = 0
    (row,) = trust.on_blank("xception_lstm", maps_of(values))
    assert row["verdict"] == verdict
    assert row["result"].startswith(f"{blanks} of 20")


def test_a_map_that_is_the_lesion_is_found_good_and_noise_is_not():
    """On real phantoms: the lesion's own mask as the map beats every rival; noise does not."""
    drawn = [p for p in phantoms.draw(60, seed=3) if p.mask.any()][:12]
    size = 64
    pixels = np.stack([np.asarray(p.image)[:130, :150][: size * 2 : 2, : size * 2 : 2] for p in drawn])
    masks = np.stack([p.mask[:130, :150][: size * 2 : 2, : size * 2 : 2] for p in drawn])
    seen = masks.any(axis=(1, 2))
    pixels, masks = pixels[seen], masks[seen]
    patients = np.arange(len(masks))
    truth = trust.localise(
        maps_of(masks + 0.01 * RNG.random(masks.shape), (size, size)), pixels, masks, patients, **BOOT
    )
    noise = trust.localise(
        maps_of(RNG.random((len(masks), 8, 8)), (size, size)), pixels, masks, patients, **BOOT
    )
    assert [row["verdict"] for row in trust.on_localisation("xception_lstm", truth)] == ["good", "good"]
    assert "good" not in [row["verdict"] for row in trust.on_localisation("xception_lstm", noise)]


def test_images_called_pneumonia_are_preferred():
    maps = maps_of(RNG.random((10, 4, 4)), logits=[-1, 1] * 5)
    assert set(trust.called_pneumonia(maps, 3)) <= {1, 3, 5, 7, 9}
    assert len(trust.called_pneumonia(maps_of(RNG.random((10, 4, 4)), logits=[-1] * 10), 4)) == 4


def test_the_fast_predictor_is_the_model(model):
    images = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
    np.testing.assert_allclose(
        trust.predictor(model)(images).numpy(), expected.numpy(), atol=0.05 * expected.abs().max()
    )


def test_means_resample_patients_and_survive_too_few():
    values, patients = np.array([0.0, 0, 1, 1, np.nan]), np.array(["a", "a", "b", "b", "c"])
    found = means.mean_interval(values, patients, n_boot=500, seed=0)
    assert (found.estimate, found.n, found.n_patients) == (0.5, 4, 2)
    assert (found.low, found.high) == (0, 1)  # two patients, not four images
    lonely = means.mean_interval(values[:2], patients[:2], n_boot=10, seed=0)
    assert lonely.estimate == 0
    assert np.isnan(lonely.low)
    assert np.isnan(means.mean_interval(np.array([np.nan]), np.array(["a"]), n_boot=10, seed=0).estimate)


def test_the_sentence_counts_the_table():
    rows = [
        {"check": c, "result": "r", "verdict": v} for c, v in (("A", "good"), ("B", "bad"), ("C", "caution"))
    ]
    assert trust.sentence(rows) == "Of 3 checks 1 came out good, 1 call for caution and 1 failed. Failed: B."
    assert list(trust.table(rows)) == ["check", "result", "verdict"]
    assert telling.listed(rows).splitlines()[1:] == ["- **B** (bad): r", "- **C** (caution): r"]


def test_the_notebook_states_the_rule_of_the_shuffled_weights_as_it_is():
    said = (ROOT / "notebooks" / "05_gradcam.ipynb").read_text(encoding="utf-8")
    assert f"good below {trust.BOUND_TO_WEIGHTS}, bad from {trust.FREE_OF_WEIGHTS}, caution between" in said
    assert trust.MOST == 0.5 and "whether any tenth, wherever it lies, has more than half." in said
    assert f"Of fewer than {means.FEWEST} images nothing is concluded." in said


def test_rivals_are_as_coarse_as_the_maps_which_are_drawn_where_they_look():
    maps = gradcam.Maps(RNG.random((2, 7, 7)), np.ones(2), np.ones(2, int), "l", "gradcam", (28, 28))
    ranks = trust.rankings(maps, RNG.integers(0, 255, (2, 28, 28)).astype(np.uint8), seed=0)
    assert list(ranks) == ["gradcam", *rivals.RIVALS]
    assert {ranks[name].shape for name in rivals.RIVALS} == {(2, 7, 7)}
    np.testing.assert_array_equal(ranks["gradcam"], maps.pictures())


def test_every_rival_is_drawn_in_a_way_of_its_own():
    drawn = {(plots.MAP_COLOURS[name], plots.MAP_STYLES[name]) for name in rivals.RIVALS}
    assert len(drawn) == len(rivals.RIVALS)
    assert plots.MAP_COLOURS["gradcam"] not in {colour for colour, _ in drawn}
    curve = [(who, "deletion", 0, share, 0.5) for who in ("gradcam", *rivals.RIVALS) for share in (0, 1)]
    figure = plots.curves(
        {"xception_lstm": pd.DataFrame(curve, columns=["map", "kind", "image", "share", "score"])}
    )
    looks = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    plt.close(figure)
    assert looks == {who: plots.MAP_COLOURS[who] for who in looks} and set(looks) == {
        "gradcam",
        *rivals.RIVALS,
    }


def test_a_model_with_blank_maps_alone_is_judged_without_numbers():
    blank, patients = maps_of(np.zeros((4, 4, 4))), np.arange(4)
    assert trust.on_blank("custom_cnn_lstm", blank)[0]["verdict"] == "bad"
    rows = trust.on_masses("custom_cnn_lstm", trust.masses([blank], [blank], patients, patients, **BOOT))
    rows += trust.on_agreement("models", agreed(blank.values, RNG.random((4, 4, 4))))
    maps = {"gradcam": blank.values, "random": RNG.random((4, 4, 4))}
    curve = deletion.curves(brightness_model, lesion_images(4), maps, np.ones(4), steps=3, seed=0)
    rows += trust.on_deletion("custom_cnn_lstm", deletion.advantages(curve, patients, of="gradcam", **BOOT))
    assert {row["verdict"] for row in rows} == {"caution"}
    assert all("no interval, 0 images with a map" in row["result"] for row in rows)
    rows += judged_of_a_dead_model()
    assert {row["verdict"] for row in rows} == {"caution"}
    assert not [row["result"] for row in rows if "nan" in row["result"]]


def dead_model():
    """It answers the same to every image: no map, no gradient, no change of score."""
    network = CustomCNNLSTM(lstm_hidden=4, dense=4).eval()
    nn.init.zeros_(network.classifier[-1].weight)
    return network


def judged_of_a_dead_model():
    """What the checks say of it that look at weights and at tokens."""
    network, images = dead_model(), torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    features = attribution.features_of(network, images)
    cascade = randomised.cascade(network, images, seed=0, steps=3).assign(shuffle=0)
    rows = trust.on_cascade("custom_cnn_lstm", cascade)
    assert "none of the 3 images has a map" in rows[0]["result"]
    return rows + trust.on_tokens("custom_cnn_lstm", attribution.profile(network, features))


def test_sentences_of_a_dead_model_hold_no_nan():
    network = dead_model()
    features = attribution.features_of(network, torch.randn(3, 3, 28, 28))
    scores = [attribution.attribute(network, features, method=m, target=1) for m in attribution.METHODS]
    said = telling.tokens(scores, "custom_cnn_lstm")
    shares = {"raster, last": attribution.profile(network, features)}
    said += telling.profile(
        telling.profile_table({"custom_cnn_lstm": {"trained": shares, "untrained head": shares}})
    )
    assert "integrated gradients find no change of score" in said
    assert "none of the gradient" in said
    assert "nan" not in said
