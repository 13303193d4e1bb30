"""Token attributions: they add up, they lie at the right place, and they see what a read-out prefers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lib.gradcam import attribution
from lib.gradcam.question import ExplainError
from lib.models import CNNLSTM, CustomCNNLSTM

pytestmark = pytest.mark.usefixtures("one_thread")


def model_of(**how):
    torch.manual_seed(0)
    return CustomCNNLSTM(**how).eval()


def features(n=2, scale=3.0, seed=1):
    return scale * torch.rand(n, 100, 7, 7, generator=torch.Generator().manual_seed(seed))


class LinearHead(nn.Module):
    """Reads tokens (B, T, C) as their sum over steps, later ones counting more: every attribution is known."""

    out_features = 100

    def forward(self, tokens):
        weights = torch.arange(1.0, tokens.shape[1] + 1)
        return (weights[None, :, None] * tokens).sum(1)


def linear_model(order="raster"):
    model = CNNLSTM(nn.Sequential(nn.Conv2d(3, 100, 1)), 100, hidden=2, dense=2, dropout=0.0, order=order)
    model.sequence, model.classifier = LinearHead(), nn.Linear(100, 1, bias=False)
    return model


@pytest.mark.parametrize("order", ["raster", "reverse", "spiral"])
@pytest.mark.parametrize("method", attribution.METHODS)
def test_every_method_is_exact_for_a_linear_head_in_any_order(method, order):
    model, maps = linear_model(order), features()
    found = attribution.attribute(model, maps, method=method, target=1)
    weight = model.classifier.weight[0].detach()
    places = attribution.places_of(model, 1, 7, 7)[0]
    step = torch.empty(49).scatter(0, places, torch.arange(1.0, 50.0)).view(7, 7)
    expected = step * torch.einsum("c,bchw->bhw", weight, maps)
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(found.values.sum((1, 2)), found.change, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("head", ["lstm", "gru", "mean", "attention"])
@pytest.mark.parametrize("target", [None, 0])
def test_integrated_gradients_add_up_within_one_percent(head, target):
    found = attribution.attribute(model_of(head=head), features(), target=target)
    assert (np.abs(found.values.sum((1, 2)) - found.change) <= 0.0101 * np.abs(found.change)).all()
    assert (found.gap <= 0.0101).all()
    assert found.steps >= 16


def test_targets_turn_the_sign():
    model = model_of()
    ill, well = (
        attribution.attribute(model, features(), method="occlusion", target=t).values for t in (1, 0)
    )
    np.testing.assert_allclose(ill, -well, atol=1e-6)


def test_occlusion_is_the_loss_of_score_without_one_token():
    model, maps = model_of(order="snake"), features(1)
    found = attribution.attribute(model, maps, method="occlusion", target=1)
    hidden = maps.clone()
    hidden[:, :, 2, 5] = 0
    with torch.no_grad():
        expected = float(model.classify(maps) - model.classify(hidden))
    assert found.values[0, 2, 5] == pytest.approx(expected, abs=1e-6)


def test_many_variants_at_once_change_nothing(monkeypatch):
    model, maps = model_of(), features()
    together = [attribution.attribute(model, maps, method=m, target=1).values for m in attribution.METHODS]
    monkeypatch.setattr(attribution, "AT_ONCE", 1)
    apart = [attribution.attribute(model, maps, method=m, target=1).values for m in attribution.METHODS]
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_last_step_bias_and_its_cure():
    """Untrained, the last read-out hears the last tokens; the mean read-out and a linear sum do not prefer them so."""
    model, maps = model_of(), features(4)
    shares = {
        name: attribution.last_tenth(attribution.profile(twin, maps))
        for name, twin in attribution.readings(model).items()
    }
    assert shares["raster, last"] > 0.6
    assert shares["reverse, last"] > 0.6
    assert shares["raster, mean"] < 0.3
    profile = attribution.profile(linear_model(), maps)
    np.testing.assert_allclose(profile[0], np.arange(1, 50) / np.arange(1, 50).sum(), rtol=1e-4)


def test_profiles_are_in_reading_order():
    """In reverse the last step reads the first cell, and its share moves there with it."""
    model = linear_model("reverse")
    assert attribution.profile(model, features())[0].argmax() == 48
    assert attribution.places_of(model, 1, 7, 7)[0, -1] == 0


def test_a_dead_head_has_no_profile_and_blank_scores():
    model = model_of()
    nn.init.zeros_(model.classifier[-1].weight)
    assert np.isnan(attribution.profile(model, features())).all()
    found = attribution.attribute(model, features(), method="gradient x input", target=1)
    assert (found.values == 0).all()


def test_shares_and_gaps_that_are_not_defined_are_left_out():
    shares = np.full((3, 20), np.nan)
    assert np.isnan(attribution.last_tenth(shares))
    shares[1] = np.arange(20) == 19
    assert attribution.last_tenth(shares) == 1
    assert attribution.last_tenth(np.full((1, 20), 1 / 20)) == pytest.approx(0.1)
    assert attribution.last_tenth((np.arange(20) == 17)[None].astype(float)) == 0
    found = attribution.attribute(model_of(), features(), method="occlusion")
    assert np.isnan(attribution.largest_gap(found))  # occlusion need not add up
    own = dataclasses.replace(found, gap=np.array([0.01, np.nan, 0.03]))
    assert attribution.largest_gap(own) == 0.03


def test_rereading_leaves_the_model_alone():
    model = model_of()
    twins = attribution.readings(model)
    assert list(twins) == ["raster, last", "reverse, last", "raster, mean"]
    assert list(twins) == [attribution.reading_of(twin) for twin in twins.values()]
    assert twins["raster, last"] is model
    for twin in twins.values():
        for name, value in twin.state_dict().items():
            assert torch.equal(value, model.state_dict()[name]), name
    fresh = attribution.with_untrained_head(model, seed=3)
    assert not torch.equal(fresh.classifier[0].weight, model.classifier[0].weight)
    assert torch.equal(fresh.backbone[0].weight, model.backbone[0].weight)
    again = attribution.with_untrained_head(model, seed=3)
    assert torch.equal(fresh.sequence.rnn.weight_ih_l0, again.sequence.rnn.weight_ih_l0)


def test_no_weight_of_an_untrained_head_was_trained():
    model = model_of(head="transformer")
    fresh = attribution.with_untrained_head(model, seed=3)
    drawn = [
        (a, b)
        for a, b in zip(model.sequence.parameters(), fresh.sequence.parameters(), strict=True)
        if a.std() > 0
    ]
    assert len(drawn) > 8  # the others are biases at 0 and scales at 1, as at the start
    assert not [a.shape for a, b in drawn if torch.equal(a, b)]


def test_a_head_without_read_out_is_read_as_it_is():
    model = model_of(head="mean")
    found = attribution.readings(model)
    assert list(found) == ["raster"]
    assert found["raster"] is model


def test_features_come_in_eval_mode_and_the_mode_stays():
    model = model_of().train()
    maps = attribution.features_of(model, torch.randn(2, 3, 28, 28))
    assert maps.shape == (2, 100, 7, 7)
    assert model.training
    assert not maps.requires_grad


@pytest.mark.parametrize(
    ("maps", "how", "message"),
    [
        (features(), {"method": "lrp"}, "method is 'lrp'; it must be one of gradient x input"),
        (features(), {"target": 3}, "target is 3"),
        (features(0), {}, "the batch is empty"),
        (features() * float("nan"), {}, "features hold values that are not finite"),
        (
            torch.zeros(2, 49, 100),
            {},
            "must be a map \\(B, C, h, w\\), as features_of gives, not \\(2, 49, 100\\)",
        ),
    ],
)
def test_bad_questions_are_named(maps, how, message):
    with pytest.raises(ExplainError, match=message):
        attribution.attribute(model_of(), maps, **how)
