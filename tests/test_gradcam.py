"""Class activation maps: equal to an independent implementation, harmless to the model, strict about what is asked."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from torch import nn

from lib import gradcam
from lib.bench import map_speed
from lib.gradcam import Maps, geometry, overlay, question
from lib.gradcam.question import ExplainError
from lib.models import CNNLSTM, CustomCNNLSTM, XceptionLSTM


class Score:
    """A target of the grad-cam package: the logit for pneumonia, minus the logit for normal."""

    def __init__(self, target):
        self.sign = 1 if target else -1

    def __call__(self, output):
        return self.sign * output


pytestmark = pytest.mark.usefixtures("one_thread")


def livelier(model, factor=30.0):
    """The model with a larger last layer: maps of an untrained model are tiny, and rounding would count."""
    with torch.no_grad():
        model.classifier[-1].weight *= factor
    return model.eval()


@pytest.fixture(scope="module")
def custom():
    torch.manual_seed(0)
    return livelier(CustomCNNLSTM())


@pytest.fixture(scope="module")
def xception():
    torch.manual_seed(0)
    model = XceptionLSTM(lstm_hidden=16)
    with torch.no_grad():  # statistics without which an untrained Xception fades
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
                layer.training = True
        model.features(torch.randn(4, 3, 64, 64))
    return livelier(model)


def batch(n=3, size=64, seed=1):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["custom", "xception"])
def model(request):
    return request.getfixturevalue(request.param)


def reference(model, images, layer, targets, method=GradCAM):
    """The package's map at the size of the images, and before scaling."""
    with method(model, [model.get_submodule(layer)]) as cam:
        scaled = cam(images, [Score(t) for t in targets])
    return scaled


def tiled(maps):
    """Drawn as the package draws them, as if the cells tiled the image evenly; 0 where a map is blank."""
    return np.nan_to_num(dataclasses.replace(maps, grid=None).scaled())


def test_equal_to_the_grad_cam_package(model):
    images, targets = batch(), [0, 1, 1]
    maps = gradcam.explain(model, images, target=targets)
    expected = reference(model, images, maps.layer, targets)
    assert maps.values.max() > 0
    assert np.abs(tiled(maps) - expected).max() < 1e-5
    assert np.all(expected[maps.blank] == 0)


def test_equal_to_the_package_at_another_layer_in_the_frozen_prefix(xception):
    xception = copy.deepcopy(
        xception
    ).double()  # through half an untrained Xception, rounding in float32 grows
    images = batch(2).double()
    layer = "backbone.body.block4"
    assert not any(p.requires_grad for p in xception.get_submodule(layer).parameters())
    maps = gradcam.explain(xception, images, layer=layer, target=1)
    # The package needs a graph that reaches the layer, so it gets one of its own.
    for parameter in xception.parameters():
        parameter.requires_grad_(True)
    expected = reference(xception, images, layer, [1, 1])
    assert np.abs(tiled(maps) - expected).max() < 1e-5


def test_equal_to_the_package_after_an_inplace_relu_changed_the_layers_output(xception):
    """bn4's output is overwritten by act4; the map must be of what bn4 gave out."""
    xception, images = copy.deepcopy(xception).double(), batch(2).double()
    maps = gradcam.explain(xception, images, layer="backbone.body.bn4", target=1)
    xception.backbone.body.act4.inplace = False
    expected = reference(xception, images, "backbone.body.bn4", [1, 1])
    assert np.abs(tiled(maps) - expected).max() < 1e-5


def test_gradcam_plus_plus_is_the_packages_at_a_rectified_layer(custom):
    images = batch().double()
    big = livelier(
        copy.deepcopy(custom).double(), 1e8
    )  # beside such gradients the package's epsilon does not count
    maps = gradcam.explain(big, images, layer="backbone.7", target=1, method="gradcam++")
    expected = reference(big, images, "backbone.7", [1, 1, 1], GradCAMPlusPlus)
    assert np.abs(tiled(maps) - expected).max() < 1e-3


def linear(backbone):
    """The backbone as one symmetric linear filter: means for convolutions and pools, no normalisation, no ReLU."""
    for parent in list(backbone.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding))
            elif isinstance(part, (nn.BatchNorm2d, nn.ReLU)):
                setattr(parent, name, nn.Identity())
            elif isinstance(part, nn.Conv2d):
                nn.init.constant_(part.weight, 1 / part.weight[0].numel())
    return backbone.double()


@pytest.mark.parametrize(
    ("layer", "wide", "cell"),
    [("act4", 1024, 15), ("block3", 1024, 30), ("conv2", 64, 9), ("block12.rep.1", 1024, 30)],
)
def test_a_cell_is_drawn_where_its_receptive_field_is_centred(layer, wide, cell):
    """The gradient of one cell of a linear Xception with respect to the image has its centre of mass there."""
    twin = XceptionLSTM().eval()
    grid = geometry.grid_of(twin, twin.backbone.body.get_submodule(layer), wide)
    body, kept = linear(twin.backbone).body, {}
    body.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.update(map=o))
    image = torch.zeros(1, 3, 64, wide, dtype=torch.float64, requires_grad=True)
    body(image)
    (gradient,) = torch.autograd.grad(kept["map"][0, 0, :, cell].sum(), image)
    weight = gradient.sum((0, 1, 2))
    centre = float((weight * torch.arange(wide)).sum() / weight.sum())
    assert grid.start + grid.step * cell == pytest.approx(centre, abs=0.02)


def test_cells_that_tile_the_image_are_drawn_as_tiles(custom):
    images = batch(2)
    for layer in ("backbone.0", "backbone.3", "backbone.7"):
        maps = gradcam.explain(custom, images, layer=layer)
        assert np.nanmax(np.abs(maps.scaled() - dataclasses.replace(maps, grid=None).scaled())) < 1e-5
    assert geometry.grid_of(custom, custom.backbone, 64) is None  # it ends in an adaptive pooling


def test_a_resized_image_is_seen_in_its_own_pixels():
    model = XceptionLSTM(input_size=112)
    plain = XceptionLSTM()
    large, small = (
        geometry.grid_of(m, m.backbone.body.act4, side) for m, side in ((model, 56), (plain, 112))
    )
    assert large.step == small.step / 2
    assert large.start + 0.5 == pytest.approx((small.start + 0.5) / 2)


def test_a_picture_has_each_cell_in_its_place_and_goes_on_beyond_the_last():
    values = np.array([[[0, 1.0], [2, 3]]])
    drawn = overlay.resize(values, (8, 8), geometry.Grid(1, 4))[0]
    assert drawn[1, [1, 3, 5, 7]].tolist() == [0, 0.5, 1, 1]
    assert drawn[[0, 5, 7], 0].tolist() == [0, 2, 2]


def test_the_default_layer_is_rectified(custom):
    """Negative values that the ReLU takes away cannot be evidence."""
    assert question.default_layer(custom) == "backbone.7"
    assert isinstance(custom.backbone[7], nn.ReLU)
    maps = gradcam.explain(custom, batch(), target=1)
    live = custom.backbone(batch()).detach()  # pooled from what the layer gives out
    assert (live >= 0).all()
    assert maps.layer == "backbone.7"


@pytest.mark.parametrize("layer", ["backbone.6", "backbone.3", "backbone.7"])
def test_ablation_weights_are_the_loss_of_score_without_the_channel(custom, layer):
    images = batch(1, 28)
    maps = gradcam.explain(custom, images, layer=layer, target=1, method="ablation")
    module, kept = custom.get_submodule(layer), {}
    with torch.no_grad():
        handle = module.register_forward_hook(lambda m, i, o: kept.update(a=o.clone()))
        full = custom(images)
        handle.remove()
        drops = []
        for channel in range(kept["a"].shape[1]):

            def silence(m, i, o, channel=channel):
                o = o.clone()
                o[:, channel] = 0
                return o

            handle = module.register_forward_hook(silence)
            drops.append(float(full - custom(images)))
            handle.remove()
        expected = torch.einsum("c,chw->hw", torch.tensor(drops), kept["a"][0]).relu().numpy()
    np.testing.assert_allclose(maps.values[0], expected, atol=1e-5 * max(1, expected.max()))


def test_a_batch_gives_what_its_images_give_alone(model):
    images = batch(3)
    together = gradcam.explain(model, images, target=1)
    alone = [gradcam.explain(model, image[None], target=1) for image in images]
    np.testing.assert_allclose(
        together.values, np.concatenate([m.values for m in alone]), rtol=1e-3, atol=1e-5
    )
    pieces = gradcam.explain_in_batches(model, images, batch_size=2, target=[1, 1, 1])
    np.testing.assert_allclose(together.values, pieces.values, rtol=1e-3, atol=1e-5)


def test_one_forward_and_one_backward_pass_for_the_batch(custom, monkeypatch):
    forwards, backwards, grad = [], [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: backwards.append(1) or grad(*a, **k))
    handle = custom.backbone[0].register_forward_hook(lambda *_: forwards.append(1))
    gradcam.explain(custom, batch(5, 28))
    handle.remove()
    assert (len(forwards), len(backwards)) == (1, 1)


def test_normal_and_pneumonia_are_opposite_scores(model):
    images = batch(2)
    ill, well = (gradcam.explain(model, images, target=t).values for t in (1, 0))
    assert ((ill > 0) & (well > 0)).sum() == 0  # what speaks for one speaks against the other


def test_without_a_target_the_predicted_class_is_explained(model):
    images = batch(3)
    maps = gradcam.explain(model, images)
    np.testing.assert_array_equal(maps.targets, maps.logits > 0)
    np.testing.assert_allclose(maps.logits, model(images).detach().numpy(), atol=1e-4)


def fingerprints(model):
    return (
        {name: module.training for name, module in model.named_modules()},
        {name: p.requires_grad for name, p in model.named_parameters()},
        {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()},
    )


@pytest.mark.parametrize(
    ("method", "fails"),
    [*((method, False) for method in gradcam.METHODS), ("gradcam", True)],  # refused before a method is used
)
def test_the_model_is_left_exactly_as_it_was(method, fails):
    torch.manual_seed(0)
    model = XceptionLSTM(lstm_hidden=4, dense=4, freeze_layers=30).train()
    images = batch(2, 32)
    model(images).sum().backward()
    model.sequence.eval()  # a mode of its own
    before = fingerprints(model)
    if fails:
        with pytest.raises(ExplainError):
            gradcam.explain(model, images, layer="sequence.rnn", method=method)
        with pytest.raises(ExplainError):
            gradcam.explain(model, images, target=2, method=method)
    else:
        layer = (
            "backbone.body.conv1" if method == "gradcam" else None
        )  # ablation of the whole prefix would take long
        gradcam.explain(model, images[:1], layer=layer, method=method)
    for was, now in zip(before, fingerprints(model), strict=True):
        assert was.keys() == now.keys()
        for name in was:
            same = (
                torch.equal(was[name], now[name])
                if isinstance(was[name], torch.Tensor)
                else was[name] == now[name]
            )
            assert same, name


def test_it_works_within_inference_mode(custom):
    expected = gradcam.explain(custom, batch(1, 28), target=1).values
    with torch.inference_mode():
        np.testing.assert_array_equal(gradcam.explain(custom, batch(1, 28), target=1).values, expected)


@pytest.mark.parametrize("size", [28, 56, 75])
def test_maps_have_the_size_of_the_images(custom, size):
    maps = gradcam.explain(custom, batch(2, size))
    assert maps.scaled().shape == (2, size, size)
    assert maps.heat().shape == maps.overlay(batch(2, size)).shape == (2, size, size, 3)


def test_the_channel_reducer_is_a_layer_too():
    torch.manual_seed(0)
    model = XceptionLSTM(lstm_hidden=4, use_channel_reduction=True, reduced_dim=8).eval()
    assert question.layer_names(model)[-1] == "channel_reducer"
    assert question.default_layer(model) == "backbone.body.act4"
    for method in gradcam.METHODS:
        assert gradcam.explain(model, batch(1, 48), layer="channel_reducer", method=method).values.shape == (
            1,
            2,
            2,
        )
    assert gradcam.explain(
        model, batch(1, 48), layer="backbone", method="ablation", target=1
    ).values.shape == (1, 2, 2)


def test_a_whole_backbone_is_a_layer_for_every_method(custom):
    for method in gradcam.METHODS:
        maps = gradcam.explain(custom, batch(1, 28), layer="backbone", method=method)
        assert maps.values.shape == (1, 7, 7)


def test_every_offered_layer_works(custom):
    images = batch(1, 28)
    for name in question.layer_names(custom):
        shape = custom.backbone[: int(name.removeprefix("backbone.")) + 1](images).shape
        maps = gradcam.explain(custom, images, layer=name)
        assert (maps.layer, maps.values.shape) == (name, (1, *shape[2:]))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer": "backbone.66"}, "no layer 'backbone.66'; near it are backbone.6"),
        ({"layer": ""}, "no layer ''"),
        ({"layer": "classifier.0"}, "'classifier.0' is not spatial.*\\(2, 64\\)"),
        ({"layer": "sequence"}, "'sequence' is not spatial"),
        ({"layer": "sequence.rnn"}, "'sequence.rnn' is not spatial"),
        ({"target": 2}, "target is 2; it must be 0 \\(normal\\), 1 \\(pneumonia\\)"),
        ({"target": "pneumonia"}, "target is 'pneumonia'"),
        ({"target": [1]}, "1 targets were given for 2 images"),
        ({"target": 0.5}, "target is 0.5"),
        ({"method": "smoothgrad"}, "unknown method 'smoothgrad'; the methods are gradcam, "),
    ],
)
def test_what_cannot_be_explained_is_named(custom, asked, message):
    with pytest.raises(ExplainError, match=message):
        gradcam.explain(custom, batch(2, 28), **asked)


def with_value(value):
    images = batch(3, 28)
    images[1, 0, 2, 2] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.empty(0, 3, 28, 28), "the batch is empty"),
        (with_value(float("nan")), "image 1 of the batch holds values that are not finite"),
        (with_value(float("inf")), "image 1 of the batch"),
        (torch.zeros(3, 28, 28), "shape \\(B, 3, H, W\\), not \\(3, 28, 28\\)"),
        (torch.zeros(1, 1, 28, 28), "not \\(1, 1, 28, 28\\)"),
        (torch.zeros(1, 3, 28, 28, dtype=torch.uint8), "torch.uint8; pass them through pixels.to_input"),
        (np.zeros((1, 3, 28, 28)), "must be a tensor"),
    ],
)
def test_bad_images_are_named(custom, images, message):
    with pytest.raises(ExplainError, match=message):
        gradcam.explain(custom, images)


def test_broken_weights_are_named():
    model = CustomCNNLSTM()
    with torch.no_grad():
        model.classifier[-1].bias.fill_(float("nan"))
    with pytest.raises(ExplainError, match="logit for image 0 is nan; are its weights intact"):
        gradcam.explain(model, batch(1, 28))


def test_a_zero_map_is_reported_and_not_scaled(custom):
    """With a last layer of zeros nothing speaks for any class."""
    model = CustomCNNLSTM()
    nn.init.zeros_(model.classifier[-1].weight)
    maps = gradcam.explain(model, batch(2, 28))
    assert maps.blank.all()
    assert np.isnan(maps.scaled()).all()
    assert (maps.heat() == maps.heat()[0, 0, 0]).all()  # one gray
    pixels = np.full((2, 28, 28), 77, np.uint8)
    assert (maps.overlay(pixels) == 77).all()  # the image shows through


def some_maps(values, size=(8, 8)):
    values = np.asarray(values, np.float32)
    n = len(values)
    return Maps(values, np.zeros(n, np.float32), np.ones(n, int), "layer", "gradcam", size)


def test_each_map_is_scaled_by_its_own_range():
    weak, strong = np.array([[0, 1], [0, 0.0]]), np.array([[0, 10], [0, 0.0]])
    maps = some_maps([weak, strong, 0 * weak, 0 * weak + 3])
    assert list(maps.blank) == [False, False, True, True]
    scaled = maps.scaled()
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-6)
    assert scaled[:2].max() == 1
    assert scaled[:2].min() == 0


def test_rounding_of_a_flat_map_is_not_a_picture():
    flat = 0.3 + 1e-9 * np.random.default_rng(0).random((1, 4, 4))
    assert overlay.blank(flat.astype(np.float64)).all()


def test_overlay_follows_alpha_and_colours():
    maps, pixels = some_maps([[[0, 1], [0, 0]]]), np.full((1, 8, 8), 100, np.uint8)
    assert (maps.overlay(pixels, alpha=0) == 100).all()
    np.testing.assert_array_equal(maps.overlay(pixels, alpha=1), maps.heat())
    assert (maps.overlay(pixels, colours="jet") != maps.overlay(pixels)).any()
    with pytest.raises(ValueError, match="alpha is 1.5; it must lie between 0"):
        maps.overlay(pixels, alpha=1.5)
    with pytest.raises(ValueError, match="no colour map 'heat'"):
        maps.heat(colours="heat")


def test_pixels_come_back_from_normalised_images():
    pixels = torch.arange(0, 256, dtype=torch.uint8).view(1, 16, 16)
    images = (pixels[:, None].float() / 255 - 0.5) / 0.5
    np.testing.assert_array_equal(gradcam.to_pixels(images.expand(-1, 3, -1, -1)), pixels.numpy())


def test_bench_compares_with_the_originals_loop():
    results = map_speed.measure(batch=2, size=48)
    assert set(results) == {"xception_lstm", "custom_cnn_lstm"}
    for found in results.values():
        assert found["original_s"] > 0
        assert found["batched_s"] > 0
        assert found["largest_difference"] < 1e-4


def test_a_backbone_without_convolutions_asks_for_a_layer():
    model = CNNLSTM(nn.Sequential(nn.MaxPool2d(4)), 3, hidden=2, dense=2, dropout=0.0)
    with pytest.raises(ExplainError, match="no convolution to explain; name a layer"):
        gradcam.explain(model, batch(1, 28))
    assert gradcam.explain(model, batch(1, 28), layer="backbone.0").values.shape == (1, 7, 7)


def test_fast_maps_are_close_and_ablation_stays_exact(custom):
    images = batch(2, 28)
    exact, fast = (gradcam.explain(custom, images, target=1, fast=f) for f in (False, True))
    assert np.abs(np.nan_to_num(exact.scaled()) - np.nan_to_num(fast.scaled())).mean() < 0.05
    assert fast.values.dtype == np.float32
    exact, fast = (
        gradcam.explain(custom, images, target=1, fast=f, method="ablation") for f in (False, True)
    )
    np.testing.assert_array_equal(exact.values, fast.values)
