"""Sizes, shapes, key names of the original notebook, frozen layers, and weights files that are refused."""

import pickle

import pytest
import safetensors.torch
import torch

from lib import config, models
from tests.test_checkpoint import Attack


@pytest.fixture(scope="module")
def xception():
    torch.manual_seed(0)
    return models.XceptionLSTM()


def test_xception_lstm_has_the_original_number_of_trainable_parameters(xception):
    assert xception.trainable_parameters() == 16_936_529
    frozen = [p.numel() for p in xception.backbone.parameters() if not p.requires_grad]
    assert len(frozen) == 100
    assert sum(frozen) == 9_183_192
    assert sum(p.numel() for p in xception.backbone.parameters()) == 20_806_952


def test_custom_cnn_lstm_has_the_original_number_of_parameters():
    model = models.CustomCNNLSTM()
    assert model.trainable_parameters() == 444_579
    assert sum(p.numel() for p in model.parameters()) == 444_579


@pytest.mark.parametrize(("size", "side"), [(64, 2), (96, 3)])
def test_xception_turns_images_into_tokens_and_one_logit(xception, size, side):
    with torch.no_grad():
        features = xception.eval().features(torch.randn(2, 3, size, size))
        assert features.shape == (2, 2048, side, side)
        assert xception.tokens(features).shape == (2, side * side, 2048)
        assert xception.classify(features).shape == (2,)


@pytest.mark.parametrize("size", [28, 57])
def test_the_custom_model_always_reads_49_tokens(size):
    model = models.CustomCNNLSTM().eval()
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        features = model.features(images)
        assert features.shape == (3, 100, 7, 7)
        assert model(images).shape == (3,)
        assert torch.equal(model(images), model.classify(features))


def test_tokens_are_in_raster_order():
    features = torch.arange(12.0).view(1, 1, 3, 4)
    assert models.CustomCNNLSTM().tokens(features).ravel().tolist() == list(range(12))


def test_pooling_before_the_relu_changes_nothing():
    model = models.CustomCNNLSTM().eval()
    conv1, pool, relu, conv2, _, _, conv3, _, squeeze = model.backbone
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        original = squeeze(relu(conv3(pool(relu(conv2(pool(relu(conv1(images)))))))))
        assert torch.equal(model.features(images), original)


@pytest.mark.parametrize("order", ["raster", "snake", "hilbert", "random"])
def test_the_activation_map_sums_to_one_and_lies_where_the_token_was(order):
    torch.manual_seed(0)
    model = models.CustomCNNLSTM(order=order, head="mean").eval()
    images = torch.randn(3, 3, 28, 28)
    with torch.no_grad():
        maps = model.get_spatial_attention(images)
        plain = models.CustomCNNLSTM(head="mean")
        plain.load_state_dict(model.state_dict())
        expected = plain.eval().get_spatial_attention(images)
    assert maps.shape == (3, 7, 7)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(
        maps, expected
    )  # tokens are read apart from each other, so the order cannot matter


def test_the_channel_reducer_shortens_the_tokens():
    model = models.XceptionLSTM(use_channel_reduction=True, reduced_dim=32).eval()
    with torch.no_grad():
        assert model.features(torch.randn(1, 3, 64, 64)).shape == (1, 32, 2, 2)


def test_state_dicts_of_the_original_notebook_load(xception):
    own = xception.state_dict()
    for body in ("xception.body.", "xception."):
        original = {}
        for key, value in own.items():
            key = key.replace("backbone.body.", body).replace("sequence.rnn.", "lstm.")
            original[key] = value + 1 if value.is_floating_point() else value
        assert any(key.startswith("lstm.") for key in original)
        other = models.XceptionLSTM()
        other.load_state_dict(original)
        assert torch.equal(other.sequence.rnn.weight_ih_l0, xception.sequence.rnn.weight_ih_l0 + 1)
        assert torch.equal(other.backbone.body.conv1.weight, xception.backbone.body.conv1.weight + 1)
    custom = models.CustomCNNLSTM()
    original = {
        key.replace("backbone.", "cnn_backbone.").replace("sequence.rnn.", "lstm."): value
        for key, value in custom.state_dict().items()
    }
    models.CustomCNNLSTM().load_state_dict(original)


def test_frozen_batchnorm_stays_in_eval_mode_while_training(xception):
    norms = [m for m in xception.train().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    frozen = [m for m in norms if not m.weight.requires_grad]
    assert frozen
    assert len(frozen) < len(norms)
    assert not any(m.training for m in frozen)
    assert all(m.training for m in norms if m.weight.requires_grad)


def test_the_frozen_stages_run_without_autograd_only_while_training(xception):
    images = torch.randn(2, 3, 64, 64, requires_grad=True)
    assert not xception.train().backbone.frozen_part(images).requires_grad
    assert xception.eval().backbone.frozen_part(images).requires_grad  # for explanations


def test_images_are_resized_on_their_way_in():
    torch.manual_seed(0)
    as_given = models.XceptionLSTM(lstm_hidden=16).eval()
    resized = models.XceptionLSTM(lstm_hidden=16, input_size=299).eval()
    resized.load_state_dict(as_given.state_dict())  # the same weights
    images = torch.rand(1, 3, 224, 224)
    larger = torch.nn.functional.interpolate(images, (299, 299), mode="bilinear")
    assert resized.tokens(resized.features(images)).shape == (1, 100, 2048)
    torch.testing.assert_close(resized(images), as_given(larger))


def test_no_map_of_a_stage_is_kept_alive(xception):
    assert not any(layer._forward_hooks for layer in xception.modules())


@pytest.mark.parametrize("freeze", [-1, 155])
def test_an_impossible_number_of_frozen_layers_is_named(freeze):
    with pytest.raises(ValueError, match=f"freeze_layers is {freeze}; Xception has 0 to 154"):
        models.XceptionBackbone(freeze)


def test_a_truncated_weights_file_is_refused_by_name(tmp_path):
    path = tmp_path / "cut.safetensors"
    model = models.CustomCNNLSTM()
    path.write_bytes(safetensors.torch.save(model.state_dict())[:-1000])
    with pytest.raises(models.WeightsError, match="cut.safetensors is not a readable weights file"):
        models.load_weights(model, path)


def test_weights_of_another_architecture_are_refused_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(models.WeightsError, match=r"other.safetensors does not fit CustomCNNLSTM: .*"):
        models.load_weights(models.CustomCNNLSTM(), path)


def test_code_in_a_pth_file_is_not_run(tmp_path):
    path = tmp_path / "attack.pth"
    torch.save({"weight": Attack()}, path)
    with pytest.raises(models.WeightsError, match="attack.pth is not a readable weights file"):
        models.read_weights(path)
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(models.WeightsError, match="attack.pth"):
        models.read_weights(path)


def test_an_original_checkpoint_is_read_as_data(tmp_path):
    path = tmp_path / "original.pth"
    model = models.CustomCNNLSTM()
    torch.save({"model_state_dict": model.state_dict(), "epoch": 3}, path)
    other = models.CustomCNNLSTM()
    models.load_weights(other, path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_missing_imagenet_weights_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `make data`"):
        models.build(config.load("full", root=tmp_path), "xception_lstm")


def test_dropout_is_as_strong_as_asked():
    for model in (models.XceptionLSTM(lstm_hidden=4, dropout=0.4), models.CustomCNNLSTM(dropout_rate=0.4)):
        torch.manual_seed(0)
        given, (dropout,) = (
            torch.ones(10_000),
            [m for m in model.modules() if isinstance(m, torch.nn.Dropout)],
        )
        assert (dropout.train()(given) == 0).float().mean() == pytest.approx(0.4, abs=0.03)
        assert torch.equal(dropout.eval()(given), given)
