"""Images brought to one spectrum: what a camera changes is gone, what lies where is left, and gradients stay finite."""

import pytest
import torch

from lib import bands
from lib.bands import EvenBands
from lib.inference import FastRest, Frozen
from lib.models import XceptionLSTM


@pytest.fixture(scope="module")
def images():
    """Noise whose octaves are about as strong as those of radiographs, (4, 3, 224, 224)."""
    generator, drawn = torch.Generator().manual_seed(0), 0
    for side, spread in ((7, 0.4), (14, 0.25), (28, 0.18), (56, 0.12), (112, 0.08), (224, 0.04)):
        coarse = spread * torch.randn(4, 1, side, side, generator=generator)
        drawn = drawn + torch.nn.functional.interpolate(coarse, (224, 224), mode="bilinear")
    return drawn.expand(-1, 3, -1, -1)


def middle(x):
    rows, columns = (round(share * side) for share, side in zip(bands.MARGIN, x.shape[2:], strict=True))
    return x[..., rows:-rows, columns:-columns]


def test_every_octave_gets_the_spread_of_training_images(images):
    left = EvenBands()(images)[:, :1]
    found = []
    for _ in EvenBands.SPREADS[1:]:
        coarse = torch.nn.functional.avg_pool2d(left, 2)
        found.append(middle(left - bands._enlarged(coarse, left)).std())
        left = coarse
    found.append(middle(left).std() if left.shape[-1] > 20 else left.std())
    # Bands of a pyramid overlap, so each gets some of its neighbours'.
    assert torch.stack(found).tolist() == pytest.approx(EvenBands.SPREADS, rel=0.25)


@pytest.mark.parametrize(
    ("change", "most"),
    [(lambda x: 0.5 * x + 0.3, 1e-3), (lambda x: 1.6 * x - 0.2, 1e-3), (lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1), 0.12)],
    ids=["darker", "brighter", "softer"],
)  # fmt: skip
def test_exposure_and_contrast_are_taken_away_and_sharpness_mostly(images, change, most):
    even = EvenBands()
    apart = middle(even(change(images)) - even(images)).std()
    assert apart < most
    assert apart < 0.7 * middle(change(images) - images).std() or most < 0.01


def test_what_lies_where_is_left(images):
    evened = EvenBands()(images)
    assert torch.corrcoef(torch.stack([evened.flatten(), images.flatten()]))[0, 1] > 0.8


def test_a_flat_image_stays_flat_and_gives_gradients():
    flat = torch.full((1, 3, 224, 224), 0.4, requires_grad=True)
    out = EvenBands()(flat)
    assert out.abs().max() < 1e-5
    out.square().sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_a_band_is_amplified_at_most_so_much():
    faint = 1e-3 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert bands._scaled(faint, 0.1).std().item() == pytest.approx(bands.MOST * faint.std().item(), rel=0.05)


@pytest.mark.parametrize("side", [28, 75, 224, 299])
def test_shape_and_type_stay(side):
    out = EvenBands()(torch.rand(2, 3, side, side).to(torch.bfloat16))
    assert out.shape == (2, 3, side, side)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_it_is_the_first_frozen_stage_of_xception_and_no_weight(images):
    plain, even = XceptionLSTM(lstm_hidden=8).eval(), XceptionLSTM(lstm_hidden=8, even_bands=True).eval()
    even.load_state_dict(plain.state_dict())  # the same names
    assert even.backbone.frozen_stages == plain.backbone.frozen_stages + 1
    with torch.no_grad():
        expected = even(images)
        torch.testing.assert_close(plain(EvenBands()(images)), expected)
        assert not torch.allclose(plain(images), expected)
        fast = FastRest(even, torch.float32)(Frozen(even, torch.float32)(images))
    torch.testing.assert_close(fast, expected, atol=1e-3, rtol=1e-3)
