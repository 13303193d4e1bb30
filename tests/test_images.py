"""Decoding: every mode of one picture gives the same gray pixels; and the three ways to a square."""

import io

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from lib import images


def test_a_file_that_other_programs_would_have_to_read_is_no_image(monkeypatch):
    """For EPS, whatever its name says, Pillow would start Ghostscript."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words, **_: started.append(words))
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"
    assert Image.open(io.BytesIO(data)).format == "EPS"  # it would read it
    with pytest.raises(images.ImageError, match="^not an image$"):
        images.decode(data)
    assert not started


@pytest.fixture(scope="module")
def gray() -> np.ndarray:
    y, x = np.mgrid[0:40, 0:60]
    return ((3 * x + 2 * y) % 256).astype(np.uint8)  # (40, 60)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def palette(gray: np.ndarray) -> Image.Image:
    """A palette in a shuffled order, so that indices are not gray values."""
    order = np.random.default_rng(0).permutation(256)
    picture = Image.fromarray(np.argsort(order)[gray].astype(np.uint8), "L")
    picture.putpalette(np.repeat(order.astype(np.uint8), 3).tobytes())
    return picture


def cmyk(gray: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack([255 - gray] * 3 + [np.zeros_like(gray)], -1), "CMYK")


def rgba(gray: np.ndarray, mode: str) -> Image.Image:
    picture = Image.fromarray(gray).convert(mode)
    picture.putalpha(Image.fromarray((gray // 2 + 100).astype(np.uint8)))  # opacity says nothing about tissue
    return picture


def rotated(gray: np.ndarray, orientation: int) -> bytes:
    """Stored turned, with the EXIF tag that turns it back."""
    turns = {3: 2, 6: 1, 8: 3}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(np.rot90(gray, turns).copy()), "PNG", exif=exif)


MODES = {
    "L": lambda g: encoded(Image.fromarray(g)),
    "RGB": lambda g: encoded(Image.fromarray(g).convert("RGB")),
    "RGBA": lambda g: encoded(rgba(g, "RGB")),
    "LA": lambda g: encoded(rgba(g, "L")),
    "P": lambda g: encoded(palette(g)),
    "PA": lambda g: encoded(palette(g).convert("PA"), "TIFF"),
    "CMYK": lambda g: encoded(cmyk(g), "TIFF"),
    "I;16": lambda g: encoded(Image.fromarray(g.astype(np.uint16) * 257)),
    "I;16 tiff": lambda g: encoded(Image.fromarray(g.astype(np.uint16) * 257), "TIFF"),
    "I": lambda g: encoded(Image.fromarray(g.astype(np.int32) * 257), "TIFF"),
    "bmp": lambda g: encoded(Image.fromarray(g), "BMP"),
    "webp": lambda g: encoded(Image.fromarray(g).convert("RGB"), "WEBP", lossless=True),
    "rotated by 180": lambda g: rotated(g, 3),
    "rotated by 90": lambda g: rotated(g, 6),
    "rotated by 270": lambda g: rotated(g, 8),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_gray_pixels(gray, mode):
    decoded, _, named = images.decode(MODES[mode](gray))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, gray)
    if mode in ("L", "RGB", "RGBA", "LA", "P", "PA", "CMYK", "I;16", "I"):
        assert named == mode


def test_dark_16_bit_copy_is_told_by_its_multiples_of_257(gray):
    dark = gray % 16
    np.testing.assert_array_equal(images.decode(encoded(Image.fromarray(np.uint16(257) * dark)))[0], dark)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 12, 15])
def test_integers_of_unknown_depth_are_refused(kind, bits):
    values = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8)
    with pytest.raises(images.ImageError, match=f"pixels of unknown depth: values 0 to {2**bits - 1}$"):
        images.decode(encoded(Image.fromarray(values), kind))
    values[0, 0] = 1 << 15  # now the file is known to use its 16 bits
    np.testing.assert_array_equal(images.decode(encoded(Image.fromarray(values), kind))[0], values // 257)


@pytest.mark.parametrize("values", [(0, 255), (-1, 65535), (0, 65536), (0, 257 * 300)])
def test_integers_that_are_not_of_16_bits_are_refused(values):
    wide = Image.fromarray(np.array([values], np.int32))
    with pytest.raises(images.ImageError, match=f"unknown depth: values {values[0]} to {values[1]}$"):
        images.decode(encoded(wide, "TIFF"))


@pytest.mark.parametrize("largest", [1, 255, 1e6])
def test_floating_point_pixels_are_refused(largest):
    with pytest.raises(images.ImageError, match="floating-point pixels"):
        images.decode(encoded(Image.fromarray(np.float32([[0, largest]])), "TIFF"))


@pytest.mark.parametrize(
    ("mode", "value"), [("1", 1), ("L", 9), ("RGB", 9), ("P", 9), ("CMYK", 9), ("I;16", 0), ("I;16", 300)]
)
def test_blank_image_is_refused(mode, value):
    with pytest.raises(images.ImageError, match="blank"):
        images.decode(encoded(Image.new(mode, (9, 9), value), "TIFF"))


def test_jpeg_modes_agree(gray):
    plain = images.decode(encoded(Image.fromarray(gray), "JPEG", quality=95))[0].astype(int)
    coloured = encoded(Image.fromarray(gray).convert("RGB"), "JPEG", quality=95)
    inverted = encoded(cmyk(gray), "JPEG", quality=95)
    assert np.abs(images.decode(coloured)[0] - plain).max() <= 3
    assert np.abs(images.decode(inverted)[0] - plain).max() <= 12  # four lossy channels
    assert np.corrcoef(images.decode(inverted)[0].ravel(), plain.ravel())[0, 1] > 0.99


def test_bilevel_image(gray):
    decoded, _, _ = images.decode(encoded(Image.fromarray(gray > 90)))
    np.testing.assert_array_equal(decoded, (gray > 90) * 255)


def test_size_is_the_files_own(gray):
    assert images.decode(MODES["RGB"](gray))[1] == (60, 40)
    assert images.decode(MODES["rotated by 90"](gray))[1] == (40, 60)


@pytest.mark.parametrize(
    ("kind", "cut"), [("JPEG", 1), ("JPEG", 200), ("PNG", 30), ("PNG", 200), ("BMP", 1), ("BMP", 200)]
)
def test_truncated_file_is_refused(gray, kind, cut):
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)), kind)
    with pytest.raises(images.ImageError, match="damaged"):
        images.decode(whole[:-cut])


def test_two_pixels_and_one():
    decoded, size, _ = images.decode(encoded(Image.fromarray(np.array([[7, 9]], np.uint8))))
    assert decoded.tolist() == [[7, 9]]
    assert size == (2, 1)
    assert (images.fit(decoded[:, :1], 28, "squash") == 7).all()


# --- aspect


def test_squash_keeps_everything():
    left = np.zeros((20, 40), np.uint8)
    left[:, :20] = 200
    square = images.fit(left, 20, "squash")
    assert (square[:, :10] == 200).all()
    assert (square[:, 10:] == 0).all()


def test_pad_adds_black_above_and_below():
    padded = images.fit(np.full((20, 40), 200, np.uint8), 40, "pad")
    assert (padded[10:30] == 200).all()
    assert (padded[:10] == 0).all()
    assert (padded[30:] == 0).all()


def test_crop_takes_the_centre_square():
    wide = np.tile(np.arange(40, dtype=np.uint8), (20, 1))
    np.testing.assert_array_equal(images.fit(wide, 20, "crop"), wide[:, 10:30])
    np.testing.assert_array_equal(images.fit(wide.T.copy(), 20, "crop"), wide.T[10:30])


@pytest.mark.parametrize("aspect", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [(28, 28), (50, 31), (1, 90), (7, 3)])
def test_always_a_square_of_bytes(aspect, shape):
    fitted = images.fit(np.full(shape, 50, np.uint8), 28, aspect)
    assert fitted.shape == (28, 28)
    assert fitted.dtype == np.uint8
    assert fitted.max() == (50 if min(shape) > 1 or aspect != "pad" else 16)  # a line melts into the black


def test_image_of_the_right_size_is_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    for aspect in ("squash", "pad", "crop"):
        np.testing.assert_array_equal(images.fit(pixels, 28, aspect), pixels)


def test_image_that_shrinks_along_one_side_is_averaged_and_repeats_pixels_along_the_other():
    tall = np.tile(np.arange(0, 196, 14, dtype=np.uint8), (56, 1))
    for given, fitted in ((tall, images.fit(tall, 28, "squash")), (tall, images.fit(tall.T, 28, "squash").T)):
        np.testing.assert_array_equal(fitted, np.tile(np.repeat(given[0], 2), (28, 1)))


def test_shrinking_averages():
    fine = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (28, 28))
    assert (images.fit(fine, 28, "squash") == 100).all()
