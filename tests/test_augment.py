"""Augmentation: seeded, within the gray range, geometry that does what it says."""

import pytest
import torch

from lib import augment as module
from lib.augment import augment


@pytest.fixture
def images() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 33), torch.linspace(-1, 1, 33), indexing="ij")
    return torch.stack([x * 0.8, y * 0.8, 0.5 * x * y, x**2 - 0.5])[:, None]  # (4, 1, 33, 33)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(monkeypatch, *kept: str) -> None:
    """Switch off every kind of variation but those named."""
    for name in ("ROTATION", "SCALE", "SHIFT", "SHARPNESS", "NOISE", "BRIGHTNESS", "CONTRAST", "GAMMA"):
        if name not in kept:
            monkeypatch.setattr(module, name, 0.0)


def test_strength_zero_changes_nothing(images):
    assert augment(images, 0, seeded()) is images


def test_with_every_variation_off_it_is_the_identity(images, monkeypatch):
    only(monkeypatch)
    torch.testing.assert_close(augment(images, 1, seeded()), images, atol=1e-5, rtol=0)


def test_seed_decides_and_the_input_is_not_changed(images):
    given = images.clone()
    torch.testing.assert_close(augment(images, 1, seeded()), augment(images, 1, seeded()), rtol=0, atol=0)
    assert not torch.equal(augment(images, 1, seeded()), augment(images, 1, seeded(1)))
    assert torch.equal(images, given)


def test_values_stay_in_range(images):
    many = images.repeat(50, 1, 1, 1)
    varied = augment(many, 1, seeded())
    assert varied.min() >= -1
    assert varied.max() <= 1
    assert varied.isfinite().all()


def test_every_image_is_varied_on_its_own(images):
    same = images[:1].repeat(6, 1, 1, 1)
    varied = augment(same, 1, seeded())
    assert len({tuple(image.flatten()[::50].tolist()) for image in varied}) == 6


def test_channels_are_varied_alike(images):
    varied = augment(images.expand(-1, 3, -1, -1), 1, seeded())
    assert torch.equal(varied[:, 0], varied[:, 2])


def test_more_strength_changes_more(images):
    little, much = ((augment(images, s, seeded()) - images).abs().mean() for s in (0.1, 1.0))
    assert 0 < little < much


def test_shift_moves_the_picture_by_at_most_its_bound(monkeypatch):
    only(monkeypatch, "SHIFT")
    dot = torch.full((200, 1, 41, 41), -1.0)
    dot[:, :, 20, 20] = 1
    moved = augment(dot, 1, seeded()).add(1).squeeze(1)
    mass = moved.sum((1, 2))
    y, x = (torch.arange(41.0) - 20 for _ in "yx")
    dx, dy = (moved.sum(1) @ x) / mass, (moved.sum(2) @ y) / mass
    bound = module.SHIFT * 20.5
    for shift in (dx, dy):
        assert shift.abs().max() <= bound + 0.1
        assert shift.abs().max() > 0.8 * bound
        assert abs(shift.mean()) < 0.15 * bound


def test_stretch_changes_the_width_alone_up_to_its_bound(images):
    assert augment(images, 0, seeded(), stretch=0) is images
    y, x = torch.meshgrid(torch.linspace(-1, 1, 81), torch.linspace(-1, 1, 81), indexing="ij")
    square = torch.where((x.abs() < 0.5) & (y.abs() < 0.5), 1.0, -1.0).expand(200, 1, 81, 81)
    varied = augment(square, 0, seeded(), stretch=0.3).add(1).squeeze(1) / 2
    width, height = varied.sum(2).amax(1), varied.sum(1).amax(1)
    assert (height - height[0]).abs().max() < 0.01
    ratio = (width / height).log()
    assert ratio.abs().max() <= 0.33
    assert (ratio.min() < -0.25) & (ratio.max() > 0.25)
    assert abs(ratio.mean()) < 0.05
    torch.testing.assert_close(varied, varied.flip(2), atol=1e-4, rtol=0)  # about the middle


def test_no_mirror(monkeypatch):
    """The heart lies on the left: whatever is drawn, left stays left."""
    half = torch.full((300, 1, 40, 40), -0.5)
    half[..., :20] = 0.5
    varied = augment(half, 1, seeded())
    assert (varied[..., 2:12].mean((1, 2, 3)) >= varied[..., -12:-2].mean((1, 2, 3))).all()


def test_rotation_keeps_lengths(monkeypatch):
    only(monkeypatch, "ROTATION")
    y, x = torch.meshgrid(torch.linspace(-1, 1, 65), torch.linspace(-1, 1, 65), indexing="ij")
    disc = torch.where(x**2 + y**2 < 0.4, 0.7, -0.7).expand(20, 1, 65, 65)
    assert ((augment(disc, 1, seeded()) - disc).abs().mean((1, 2, 3)) < 0.04).all()
    bar = torch.where(y.abs() < 0.1, 0.7, -0.7).expand(20, 1, 65, 65)
    assert (augment(bar, 1, seeded()) - bar).abs().mean((1, 2, 3)).max() > 0.1


def test_scale_changes_sizes_by_at_most_its_bound(monkeypatch):
    only(monkeypatch, "SCALE")
    y, x = torch.meshgrid(torch.linspace(-1, 1, 81), torch.linspace(-1, 1, 81), indexing="ij")
    square = torch.where((x.abs() < 0.5) & (y.abs() < 0.5), 1.0, -1.0).expand(200, 1, 81, 81)
    varied = augment(square, 1, seeded()).add(1).squeeze(1) / 2
    for size in (varied.sum(2).amax(1), varied.sum(1).amax(1)):
        ratio = size / 40
        assert ratio.max() < 1 / (1 - module.SCALE) + 0.05 and ratio.min() > 1 / (1 + module.SCALE) - 0.05
        assert ratio.max() > 1 + 0.5 * module.SCALE and ratio.min() < 1 - 0.5 * module.SCALE


@pytest.mark.parametrize(
    "kept", [("BRIGHTNESS",), ("CONTRAST",), ("GAMMA",), ("BRIGHTNESS", "CONTRAST", "GAMMA")]
)
def test_gray_curves_are_monotone(monkeypatch, kept):
    only(monkeypatch, *kept)
    ramp = torch.linspace(-1, 1, 64).expand(50, 1, 64, 64).contiguous()
    varied = augment(ramp, 1, seeded())
    assert (varied.diff(dim=-1) >= -1e-5).all()
    assert (varied - ramp).abs().max() > 0.1


def test_half_precision(images):
    varied = augment(images.bfloat16(), 1, seeded())
    assert varied.dtype == torch.bfloat16
    assert varied.isfinite().all()


def test_sharpness_takes_away_and_adds_fine_structure_and_leaves_the_rest(monkeypatch):
    only(monkeypatch, "SHARPNESS")
    checkered = 0.2 * (torch.arange(40)[:, None] + torch.arange(40)).remainder(2).mul(2).sub(1).float()
    varied = augment(checkered.expand(100, 1, 40, 40), 1, seeded())
    fine = varied[:, 0, 5:-5, 5:-5].std((1, 2)) / 0.2
    assert fine.min() < 0.4
    assert fine.max() > 1.6
    assert varied[:, 0, 5:-5, 5:-5].mean((1, 2)).abs().max() < 0.02


def test_noise_reaches_its_bound_and_no_further(monkeypatch):
    only(monkeypatch, "NOISE")
    spread = augment(torch.zeros(200, 1, 40, 40), 1, seeded()).std((1, 2, 3))
    assert spread.max() == pytest.approx(module.NOISE, rel=0.1)
    assert spread.min() < 0.1 * module.NOISE


def test_mixed_styles_change_mean_and_spread_and_leave_the_arrangement():
    torch.manual_seed(0)
    maps = (
        torch.randn(6, 3, 7, 7) * torch.arange(1, 7)[:, None, None, None]
        + torch.arange(6)[:, None, None, None]
    )
    mixed = module.mix_style(maps, 1.0)
    assert not torch.allclose(mixed.mean((2, 3)), maps.mean((2, 3)))

    def arrangement(x):
        return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)

    torch.testing.assert_close(arrangement(mixed), arrangement(maps), rtol=1e-3, atol=1e-4)
    lowest, highest = maps.mean((2, 3)).amin(0), maps.mean((2, 3)).amax(0)
    means = mixed.mean((2, 3))
    assert (means >= lowest - 1e-4).all()
    assert (means <= highest + 1e-4).all()


def test_the_share_says_how_many_take_on_another_style():
    torch.manual_seed(0)
    maps = torch.randn(400, 1, 5, 5) + torch.arange(400)[:, None, None, None]
    changed = (module.mix_style(maps, 0.25) - maps).abs().amax((1, 2, 3)) > 1e-3
    assert changed.float().mean() == pytest.approx(0.25, abs=0.08)
    torch.testing.assert_close(module.mix_style(maps, 0.0), maps, rtol=1e-4, atol=1e-3)
    assert module.mix_style(maps.bfloat16(), 0.5).dtype == torch.bfloat16


def test_mixed_borders_are_anothers_and_the_middle_stays():
    torch.manual_seed(0)
    maps = torch.arange(200.0)[:, None, None, None].expand(200, 2, 14, 14)
    mixed = module.mix_border(maps, 1.0)
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    widest = int(14 * module.BORDER)
    assert torch.equal(mixed[..., widest:-widest, widest:-widest], maps[..., widest:-widest, widest:-widest])
    changed = mixed[:, 0] != maps[:, 0]
    assert (changed[:, [0, -1]].all(2).float().mean(0) > 0.6).all()  # three widths of four
    assert changed[:, widest - 1].all(1).float().mean() == pytest.approx(0.25, abs=0.1)
    for image, own in zip(mixed[:, 0], maps[:, 0, 0, 0], strict=True):
        assert len(image[image != own].unique()) <= 1  # one other image


def test_the_share_says_how_many_take_another_border():
    torch.manual_seed(0)
    maps = torch.randn(400, 1, 7, 5)
    changed = (module.mix_border(maps, 0.25) != maps).any(3).any(2).any(1)
    assert changed.float().mean() == pytest.approx(0.25, abs=0.08)
    assert torch.equal(module.mix_border(maps, 0.0), maps)
    few = maps[:, :, :3, :3].bfloat16()  # too small to have a border
    assert torch.equal(module.mix_border(few, 1.0), few)
    lasting = maps.expand(-1, 4, -1, -1).contiguous(memory_format=torch.channels_last)
    assert module.mix_border(lasting, 1.0).is_contiguous(memory_format=torch.channels_last)
