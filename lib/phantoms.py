"""Synthetic chest radiographs whose lesions are known, for the demo, the tests and localisation scores.

They are drawings, not simulations: two dark lungs with ribs, heart and diaphragm on a bright body, in frames of
varying size. A bacterial phantom has one focal opacity in a lung (lobar consolidation), a viral one has several faint
patches in both (interstitial pattern); a normal one has none. Nothing measured on them says anything about people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.files import replacing

FOLDERS = {"normal": "NORMAL", "bacterial": "PNEUMONIA", "viral": "PNEUMONIA"}
SHARES = {"normal": 0.45, "bacterial": 0.30, "viral": 0.25}
TEST_SHARE = 0.3


@dataclass(frozen=True)
class Phantom:
    """One image, uint8 (H, W); its lesion mask, bool (H, W); and the path it has in the data set's own naming."""

    image: np.ndarray
    mask: np.ndarray
    path: str  # below the data set's folder: chest_xray/<split>/<CLASS>/<name>.png


@dataclass(frozen=True)
class Anatomy:
    """What the images of one patient share; lengths as fractions of the frame."""

    lung_width: float
    lung_height: float
    gap: float  # from the midline to a lung's centre
    tilt: float  # radians
    rib_phase: float


def write(folder: Path, *, n: int, seed: int) -> None:
    """Write n phantoms as `folder`/chest_xray/<split>/<CLASS>/*.png and their masks under `folder`/masks.

    The folder appears complete or not at all. Masks are 255 inside a lesion.
    """
    with replacing(Path(folder)) as beside:
        for phantom in draw(n, seed=seed):
            for relative, pixels in (
                (phantom.path, phantom.image),
                (f"masks/{phantom.path}", phantom.mask.astype(np.uint8) * 255),
            ):
                path = beside / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                if not cv2.imwrite(str(path), pixels):  # OpenCV returns, where others raise
                    raise OSError(f"{path} could not be written; is the disk full?")


def draw(n: int, *, seed: int) -> Iterator[Phantom]:
    """n phantoms of patients with one to three images each, a patient being in one split only."""
    for split, count in (("train", n - round(n * TEST_SHARE)), ("test", round(n * TEST_SHARE))):
        counts = {subtype: round(count * share) for subtype, share in SHARES.items()}
        counts["normal"] += count - sum(counts.values())
        for subtype, images in counts.items():
            rng = np.random.default_rng([seed, split == "test", list(SHARES).index(subtype)])
            first = 1 if split == "test" else 10_001  # patient numbers of the two splits never meet
            yield from _patients(split, subtype, images, first, rng)


def render(subtype: str, *, anatomy: Anatomy, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image, uint8 (H, W), and its lesion mask, bool (H, W); about 150 by 180 pixels."""
    height, width = int(rng.integers(136, 165)), int(rng.integers(150, 210))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width - 0.5, y / height - 0.5
    lungs = [_lung(x, y, side, anatomy) for side in (-1, 1)]
    image = _chest(x, y, np.maximum(*lungs), anatomy)
    opacity, mask = _lesions(subtype, x, y, lungs, rng)
    image += opacity
    image = rng.uniform(0.96, 1.04) * image + rng.uniform(-4, 4)
    image += cv2.GaussianBlur(rng.normal(0, 8, image.shape).astype(np.float32), (0, 0), 0.8)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _patients(
    split: str, subtype: str, images: int, first: int, rng: np.random.Generator
) -> Iterator[Phantom]:
    patient, written = first, 0
    while written < images:
        anatomy = Anatomy(
            lung_width=rng.uniform(0.15, 0.17),
            lung_height=rng.uniform(0.31, 0.34),
            gap=rng.uniform(0.19, 0.23),
            tilt=rng.uniform(-0.06, 0.06),
            rib_phase=rng.uniform(0, 2 * np.pi),
        )
        for number in range(1, 1 + min(int(rng.integers(1, 4)), images - written)):
            image, mask = render(subtype, anatomy=anatomy, rng=rng)
            name = _name(subtype, patient, number)
            yield Phantom(image, mask, f"chest_xray/{split}/{FOLDERS[subtype]}/{name}.png")
            written += 1
        patient += 1


def _name(subtype: str, patient: int, number: int) -> str:
    if subtype == "normal":
        return f"{'NORMAL2-' if patient % 2 else ''}IM-{patient:04d}-{number:04d}"
    return f"person{patient}_{'bacteria' if subtype == 'bacterial' else 'virus'}_{number}"


def _lung(x: np.ndarray, y: np.ndarray, side: int, anatomy: Anatomy) -> np.ndarray:
    """Soft membership of one lung, 0 to 1."""
    along = (x - side * anatomy.gap) * np.cos(anatomy.tilt) + y * np.sin(anatomy.tilt)
    radius = np.hypot(along / anatomy.lung_width, (y + 0.04) / anatomy.lung_height)
    return 1 / (1 + np.exp(18 * (radius - 1)))


def _chest(x: np.ndarray, y: np.ndarray, lungs: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    body = 150 * np.exp(-((x / 0.55) ** 4)) * (0.85 + 0.3 * (y + 0.5))
    ribs = 9 * np.sin(2 * np.pi * 8 * (y - 0.35 * x**2) + anatomy.rib_phase)
    heart = 45 * np.exp(-(((x - 0.06) / 0.11) ** 2 + ((y - 0.14) / 0.17) ** 2))
    spine = 25 * np.exp(-((x / 0.035) ** 2))
    return body - 85 * lungs + ribs * lungs + heart + spine


def _lesions(
    subtype: str, x: np.ndarray, y: np.ndarray, lungs: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Added intensity, float (H, W), and the mask where it is at least half of its peak."""
    spots = {"normal": [], "bacterial": [(rng.integers(2), 0.15, 110)], "viral": []}[subtype]
    if subtype == "viral":
        spots = [(side, 0.05, 90) for side in (0, 1) for _ in range(rng.integers(5, 9))]
    opacity, mask = np.zeros_like(x), np.zeros(x.shape, bool)
    for side, size, peak in spots:
        inside = np.argwhere(lungs[side] > 0.9)
        row, column = inside[rng.integers(len(inside))]
        scale = size * rng.uniform(0.8, 1.25)
        squared = ((x - x[row, column]) / scale) ** 2 + ((y - y[row, column]) / (scale * 1.2)) ** 2
        spot = np.exp(-(squared**1.5)) * np.clip(lungs[side] * 1.4, 0, 1)
        opacity += peak * rng.uniform(0.85, 1.15) * spot
        mask |= spot > 0.5
    return opacity, mask
