"""Maps are computed once, for these pixels and weights, and a stopped computation goes on."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from torch.optim.swa_utils import update_bn

from lib import config, files, models, pixels
from lib.ablation import features, projection
from lib.ablation.features import Tokens

N, SIZE = 12, 64  # images, pixels: maps of 2 by 2


def make_store(seed=0, split=None):
    values = np.random.default_rng(seed).integers(0, 256, (N, SIZE, SIZE), dtype=np.uint8)
    index = pd.DataFrame({"split": split or ["train"] * 8 + ["test"] * 4})
    return pixels.PixelStore(index=index, pixels=values, fingerprint=f"{seed}", quarantined=index[:0])


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    return config.load("demo", root=root, **{"train.precision": "32-true", "data.image_size": SIZE})


@pytest.fixture(scope="module")
def tokens(cfg):
    return features.extract(cfg, make_store(), progress=False)


def test_maps_are_those_of_the_backbone(cfg, tokens):
    store = make_store()
    torch.manual_seed(0)
    backbone = models.XceptionBackbone(0)
    update_bn([features._images(store, store.rows("train")[: features.CALIBRATION])], backbone)
    backbone.eval()
    with torch.no_grad():
        expected = backbone(pixels.to_input(torch.from_numpy(store.pixels[:3])))
    assert tokens.shape == (2, 2)
    assert tokens.values.shape == (N, 4, 2048)
    maps = tokens.maps(np.arange(3))
    assert expected.std() > 0.05  # random weights without statistics of their own would fade to nothing
    torch.testing.assert_close(maps, expected, atol=2e-2, rtol=2e-3)  # float16


def test_a_second_call_computes_nothing(cfg, tokens, monkeypatch):
    monkeypatch.setattr(features, "_compute", lambda *a, **k: pytest.fail("computed again"))
    assert features.extract(cfg, make_store(), progress=False) == tokens
    other_test = make_store(split=["train"] * 8 + ["val"] * 4)
    assert features.extract(cfg, other_test, progress=False) == tokens


def test_only_random_weights_take_their_statistics_from_the_training_images(cfg, tmp_path):
    stores = make_store(), make_store(split=["test"] * 4 + ["train"] * 8)
    assert len({features._key(cfg, store) for store in stores}) == 2
    settings = dataclasses.replace(cfg.xception_lstm, pretrained=True)
    trained = dataclasses.replace(cfg, root=tmp_path, xception_lstm=settings)
    trained.weights_file.parent.mkdir(parents=True)
    trained.weights_file.write_bytes(b"weights")
    assert len({features._key(trained, store) for store in stores}) == 1


def test_older_maps_of_the_same_images_go_and_those_of_others_stay(tmp_path):
    keys = [f"{digit}" * 16 for digit in "abc"]
    own = [f"features-x-224-squash-{keys[0]}", f"features-x-224-squash-{keys[1]}.part"]
    others = [f"features-x-224-squash-harmonised-{key}" for key in (keys[0], f"{keys[1]}.part")]
    for name in [*own, *others]:
        files.write_text(tmp_path / name / "values.npy", "")
    with features.writing(tmp_path / f"features-x-224-squash-{keys[2]}", "features-x-224-squash") as missing:
        assert missing
    assert sorted(path.name for path in tmp_path.glob("features-*")) == sorted(others)


def test_other_pixels_make_another_store(cfg, tokens):
    assert features._key(cfg, make_store(1)) != features._key(cfg, make_store(0))
    half = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, precision="bf16-mixed"))
    assert features._key(half, make_store()) != features._key(cfg, make_store())


def test_a_stopped_computation_goes_on(cfg, tmp_path, monkeypatch):
    """With a stand-in for the backbone, stopped at the eleventh of twelve images."""
    seen, stop = [], True

    def backbone(images):
        assert not (stop and len(seen) == 11), "stopped"
        seen.append(len(images))
        return images.mean(1, keepdim=True)[:, :, ::32, ::32].expand(-1, 2048, -1, -1)

    fresh = dataclasses.replace(cfg, root=tmp_path)
    monkeypatch.setattr(features, "BATCH", 1)
    monkeypatch.setattr(features, "_backbone", lambda *_: backbone)
    with pytest.raises(AssertionError, match="stopped"):
        features.extract(fresh, make_store(), progress=False)
    stop = False
    seen.clear()
    found = features.extract(fresh, make_store(), progress=False)
    assert len(seen) == 1 + 4  # one look at the shape, and the images after the last flush, at eight
    expected = make_store().pixels[:, ::32, ::32].reshape(N, 4) / 127.5 - 1
    np.testing.assert_allclose(found.values[:, :, 0], expected, atol=1e-3)
    assert not list(found.folder.parent.glob("*.part"))


def small_disk(monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))


TOO_SMALL = r"need \d\.\d\d GB in .*, where 0\.00 GB are free; free some disk space and run again$"


def test_a_small_disk_is_told_before_the_maps_are_computed(cfg, tmp_path, monkeypatch):
    fresh = dataclasses.replace(cfg, root=tmp_path)

    def backbone(images):
        return images[:, :1, ::32, ::32].expand(-1, 2048, -1, -1)

    monkeypatch.setattr(features, "_backbone", lambda *_: backbone)
    small_disk(monkeypatch)
    with pytest.raises(OSError, match=TOO_SMALL):
        features.extract(fresh, make_store(), progress=False)
    assert not list(tmp_path.rglob("*.npy"))


def test_missing_weights_say_what_to_do(cfg):
    pretrained = dataclasses.replace(
        cfg, xception_lstm=dataclasses.replace(cfg.xception_lstm, pretrained=True)
    )
    with pytest.raises(FileNotFoundError, match="run `make data`"):
        features.extract(pretrained, make_store(), progress=False)


@pytest.fixture
def small(tmp_path):
    """Tokens with known structure: 10 images of 2 by 3 tokens with 7 channels of unlike variance."""
    rng = np.random.default_rng(0)
    values = rng.normal(3, [5, 4, 3, 2, 1, 0.5, 0.1], (10, 6, 7)).astype(np.float16)
    folder = tmp_path / "features-small-0123456789abcdef"
    folder.mkdir()
    np.save(folder / "values.npy", values)
    files.write_json(folder / "tokens.json", {"shape": [2, 3]})
    return Tokens(folder)


def test_projection_is_the_pca_of_the_training_tokens(small):
    rows = np.arange(6)
    projected = projection.project(small, rows, 3)
    train = small.values[rows].reshape(-1, 7).astype(float)
    pca = PCA(3).fit(train)
    expected = pca.transform(small.values.reshape(-1, 7).astype(float))
    expected /= np.sqrt((train @ pca.components_.T).var(0).mean())
    found = projected.values.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=5e-3)


def test_a_new_projection_replaces_the_old_one(small):
    first = projection.project(small, np.arange(6), 3)
    second = projection.project(small, np.arange(6), 2)
    assert not first.folder.exists()
    assert second.values.shape == (10, 6, 2)
    assert small.values.shape == (10, 6, 7)


def test_a_small_disk_is_told_before_the_projection_is_written(small, monkeypatch):
    small_disk(monkeypatch)
    with pytest.raises(OSError, match=TOO_SMALL):
        projection.project(small, np.arange(6), 3)
    assert [path.name for path in small.folder.parent.iterdir() if path.is_dir()] == [small.folder.name]


def test_the_test_images_have_no_say_in_the_projection(small):
    before = np.array(projection.project(small, np.arange(6), 3).values[:6])
    changed = np.load(small.folder / "values.npy")
    changed[6:] *= 3
    other = small.folder.with_name("features-other-1")
    other.mkdir()
    np.save(other / "values.npy", changed)
    files.write_json(other / "tokens.json", {"shape": [2, 3]})
    after = projection.project(Tokens(other), np.arange(6), 3)
    np.testing.assert_array_equal(before, after.values[:6])


def test_standardised_tokens_are_centred_with_mean_variance_one(small):
    rows = np.arange(6)
    maps = projection.standardise(small, rows).maps(rows)
    assert maps.shape == (6, 7, 2, 3)
    flat = maps.permute(0, 2, 3, 1).reshape(-1, 7)
    assert flat.mean(0).abs().max() < 1e-3
    assert flat.var(0, unbiased=False).mean() == pytest.approx(1, abs=1e-3)


def test_maps_keep_the_places_of_tokens(small):
    maps = small.maps(np.array([4]))
    np.testing.assert_array_equal(maps[0, :, 1, 2].numpy(), small.values[4, 5].astype(np.float32))
    tokens = maps.flatten(2).transpose(1, 2)
    assert tokens.is_contiguous()  # taking tokens from a map copies nothing


@pytest.mark.parametrize("components", [-1, 8])
def test_components_must_fit(small, components):
    with pytest.raises(
        ValueError, match=f"ablation.components is {components}; 6 training images .* allow 1 to 7"
    ):
        projection.project(small, np.arange(6), components)


def test_the_fingerprint_follows_what_is_read(small):
    rows = np.arange(6)
    prints = {small.fingerprint, projection.standardise(small, rows).fingerprint}
    prints |= {
        projection.standardise(small, rows[:5]).fingerprint,
        projection.project(small, rows, 2).fingerprint,
    }
    assert len(prints) == 4
