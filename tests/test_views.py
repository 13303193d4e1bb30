"""Zooms: geometry that does what it says, and a mean of logits that equals the parts'."""

import dataclasses

import pytest
import torch

from lib import config, loop, pixels, train
from lib.views import zoomed
from tests import tiny


def disc(radius: float, side: int = 64) -> torch.Tensor:
    y, x = torch.meshgrid(*(torch.arange(side) - (side - 1) / 2,) * 2, indexing="ij")
    return torch.where(x**2 + y**2 <= radius**2, 1.0, -1.0)[None, None]


def test_zoom_of_one_is_the_image_itself():
    image = disc(9)
    assert zoomed(image, 1.0) is image


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_zoom_scales_about_the_centre(zoom):
    torch.testing.assert_close(zoomed(disc(16), zoom).mean(), disc(16 * zoom).mean(), atol=0.01, rtol=0)


def test_beyond_the_frame_lies_black():
    seen = zoomed(torch.ones(2, 3, 64, 64), 0.5)
    assert torch.equal(seen[..., :15, :], -torch.ones(2, 3, 15, 64))
    assert torch.equal(seen[..., 20:44, 20:44], torch.ones(2, 3, 24, 24))
    assert seen.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("zooms", [[0.1], [1, 3]])
def test_zooms_are_checked(zooms):
    with pytest.raises(config.ConfigError, match="zooms"):
        config.load("demo", **{"train.zooms": zooms})


@pytest.mark.parametrize(
    ("model", "make"),
    [
        ("custom_cnn_lstm", tiny.custom),
        ("xception_lstm", tiny.xception),
        ("xception_lstm", lambda root: tiny.xception(root, train={"cache_frozen": 1})),
    ],
)
def test_logits_are_the_mean_over_the_zooms(model, make, tmp_path):
    cfg = make(tmp_path)
    store = pixels.prepare(cfg, progress=False)
    state, task = train.start(cfg, model, 0, store, progress=False)
    rows = store.rows("val")

    def logits(*zooms):
        asked = dataclasses.replace(task.train, zooms=zooms)
        return loop.evaluate(state, dataclasses.replace(task, train=asked), rows)

    alone = torch.stack([logits(zoom) for zoom in (1.0, 1.2)])
    torch.testing.assert_close(logits(1.0, 1.2), alone.mean(0))
    assert not torch.allclose(alone[0], alone[1])
