"""The folded prefix computes what the plain one does, and its stored outputs are those of every step."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from lib import devices, inference, models, pixels, prefix, sequence, train
from tests import tiny

MODEL = "xception_lstm"


@pytest.fixture(scope="module")
def xception():
    """Xception with statistics and scales that a wrong fold would show."""
    torch.manual_seed(0)
    model = models.XceptionLSTM(lstm_hidden=16, use_channel_reduction=True, reduced_dim=24).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.7, 1.4)
            torch.nn.init.uniform_(layer.weight, 0.7, 1.4)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    return model


def test_folding_changes_no_number(xception):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        between = inference.Frozen(xception, torch.float32)(images)
        torch.testing.assert_close(between, xception.backbone.frozen_part(images), rtol=1e-3, atol=1e-4)
        logits = inference.FastRest(xception, torch.float32)(between)
        torch.testing.assert_close(logits, xception(images), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(inference.Rest(xception)(between), xception(images), rtol=1e-3, atol=1e-4)
        half = inference.FastRest(xception, torch.bfloat16)(
            inference.Frozen(xception, torch.bfloat16)(images)
        )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, xception(images), rtol=0.1, atol=0.03)


@pytest.mark.parametrize("order", ["reverse", "spiral"])
def test_the_fast_copy_reads_the_tokens_in_the_models_order(order):
    torch.manual_seed(0)
    model, images = models.CustomCNNLSTM(order=order).eval(), torch.randn(3, 3, 28, 28)
    with torch.no_grad():
        model.classifier[-1].weight *= 30
        fast, wanted = inference.FastRest(model, torch.float32)(images), model(images)
        model.reorder = sequence.Reorder("raster")
        assert (model(images) - wanted).abs().max() > 1e-3  # the order matters
    torch.testing.assert_close(fast, wanted, rtol=1e-4, atol=1e-5)


def test_the_folded_copy_has_no_batchnorm_left_and_the_model_keeps_its_own(xception):
    copy = inference.FastRest(xception, torch.float32)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in copy.modules())
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in xception.modules())
    assert xception.trainable_parameters() > 0


def test_statistics_over_several_gpus_change_neither_freezing_nor_folding(xception):
    model = copy.deepcopy(xception)
    norms = sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())
    devices.synchronize(inference.Rest(model))
    assert sum(isinstance(layer, torch.nn.SyncBatchNorm) for layer in model.modules()) == norms
    images = torch.randn(2, 3, 64, 64)
    for part in (inference.Frozen, inference.FastRest):
        folded = part(model, torch.float32)
        assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(model(images), xception(images))
    for network in (model, xception):
        network.train()
    still = [
        [layer.training for layer in m.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        for m in (model, xception)
    ]
    xception.eval()
    assert still[0] == still[1]
    assert False in still[0]


def test_a_batchnorm_without_its_convolution_is_refused():
    with pytest.raises(ValueError, match="no convolution of 4 channels before it"):
        inference.folded(torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1), torch.nn.BatchNorm2d(4)))


def test_the_custom_model_has_no_frozen_prefix():
    images = torch.randn(1, 3, 28, 28)
    assert inference.Frozen(models.CustomCNNLSTM(), torch.bfloat16)(images) is images


def test_stored_outputs_train_the_same_model(tmp_path):
    plain = train.fit(tiny.xception(tmp_path / "plain"), MODEL, 0, progress=False)
    stored = train.fit(
        tiny.xception(tmp_path / "stored", train={"cache_frozen": 1}), MODEL, 0, progress=False
    )
    columns = ["train_loss", "val_loss"]
    pd.testing.assert_frame_equal(plain.history[columns], stored.history[columns], rtol=0.02)
    np.testing.assert_allclose(plain.predictions["logit"], stored.predictions["logit"], atol=0.02)
    again = train.fit(stored.config, MODEL, 0, progress=False, fresh=True)  # reads what the first has written
    np.testing.assert_array_equal(again.predictions["logit"], stored.predictions["logit"])


def test_a_task_reads_the_stored_rows_of_its_own_images(tmp_path):
    cfg = tiny.xception(tmp_path, train={"cache_frozen": 1})
    store = pixels.prepare(cfg, progress=False)
    _, task = train.start(cfg, MODEL, 0, store, progress=False)
    computed = dataclasses.replace(task, stored=None)
    for split, epoch in (("train", 0), ("val", None), ("test", None)):
        rows = store.rows(split)[:7]
        found, wanted = (one.inputs(rows, epoch=epoch)[0].float() for one in (task, computed))
        unlike = (wanted.roll(1, 0) - wanted).abs().mean()  # of two images
        assert (found - wanted).abs().mean() < unlike / 5


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Images, and the frozen layers that see them."""
    config = tiny.xception(tmp_path_factory.mktemp("prefix"))
    store = pixels.prepare(config, progress=False)
    torch.manual_seed(0)
    return store, inference.Frozen(models.build(config, MODEL), torch.bfloat16)


@pytest.fixture
def problem(parts, tmp_path):
    return tmp_path / "kept", *parts


def make(problem, **settings):
    folder, store, frozen = problem
    given = {"augment": 0.0, "copies": 1, "device": torch.device("cpu"), "progress": False} | settings
    return prefix.StoredPrefix(folder, store, frozen, **given)


def test_every_stored_row_is_its_own_image(problem):
    _, store, frozen = problem
    stored = make(problem)
    for split, epoch in (("train", 0), ("val", None), ("test", None)):
        rows = store.rows(split)[::-1][:7].copy()
        images, _, _ = next(pixels.batches(store, rows, len(rows)))
        torch.testing.assert_close(stored.read(rows, epoch=epoch), frozen(images), rtol=0.05, atol=0.05)


def test_every_varied_row_is_its_own_image(problem):
    """The varied images are drawn in another order than that of the rows; so small a stretch changes nothing else."""
    _, store, frozen = problem
    rows = store.rows("train")
    images, _, _ = next(pixels.batches(store, rows, len(rows)))
    stored = make(problem, stretch=1e-6, copies=2)
    for epoch in (0, 1):
        torch.testing.assert_close(stored.read(rows, epoch=epoch), frozen(images), rtol=0.05, atol=0.05)


def test_training_walks_through_the_augmented_versions(problem):
    _, store, _ = problem
    rows = store.rows("train")[:6]
    stored = make(problem, augment=0.5, copies=2)
    first, second, third = (stored.read(rows, epoch=epoch) for epoch in range(3))
    assert torch.equal(first, third)
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    files = {path.name for path in stored.folder.glob("*.npy")}
    assert files == {"evaluated.npy", "train-0.5-0-0.npy", "train-0.5-0-1.npy"}
    wide = make(problem, augment=0.0, stretch=0.5, copies=2)
    assert not torch.equal(wide.read(rows, epoch=0), wide.read(rows, epoch=1))


def test_other_images_or_code_have_other_files(problem, monkeypatch):
    """Of the same folder and weights: outputs that lie beside other rows would give their logits to other images."""
    folder, store, frozen = problem
    kept = [
        make(problem),
        make((folder, dataclasses.replace(store, fingerprint="other"), frozen)),
    ]
    monkeypatch.setattr(prefix.provenance, "code_fingerprint", lambda paths: "other")
    assert len({stored.folder for stored in [*kept, make(problem)]}) == 3


def test_another_size_has_other_files(problem, tmp_path):
    """The weights are the same, what they compute is not."""
    folder, store, _ = problem
    torch.manual_seed(0)
    larger = models.build(tiny.xception(tmp_path, **{"xception_lstm.input_size": 80}), MODEL)
    other = make((folder, store, inference.Frozen(larger, torch.bfloat16)))
    assert other.folder != make(problem).folder
    rows = store.rows("val")
    assert other.read(rows).shape[2:] == (5, 5)
    assert make(problem).read(rows).shape[2:] == (4, 4)


def test_other_weights_have_other_files(problem):
    first = make(problem)
    torch.manual_seed(1)
    other = inference.Frozen(models.XceptionLSTM(), torch.bfloat16)
    assert make((*problem[:2], other)).folder != first.folder


def test_a_small_disk_is_told_before_anything_is_written(problem, monkeypatch):
    monkeypatch.setattr(
        prefix.shutil, "disk_usage", lambda _: dataclasses.make_dataclass("Usage", ["free"])(1000)
    )
    with pytest.raises(
        prefix.PrefixError, match=r"train.cache_frozen needs .* GB.*set train.cache_frozen to 0"
    ):
        make(problem)
    assert not list(problem[0].rglob("*.npy*"))
