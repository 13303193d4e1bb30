"""How does one file become gray pixels? Decoding that treats every image mode alike."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageOps

LARGEST_PIXELS = 50_000_000  # a radiograph has a few million
# Not whatever else Pillow reads: for EPS, under any name, it would start Ghostscript.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")


class ImageError(ValueError):
    """Why a file is no usable image, in a few words."""


def decode(data: bytes) -> tuple[np.ndarray, tuple[int, int], str]:
    """Encoded bytes -> gray pixels uint8 (H, W), the file's own (width, height) and mode.

    RGB, gray, palette, CMYK, 16-bit and EXIF-rotated copies of one picture give the same gray pixels (16-bit values
    are divided by 257). Raises ImageError for an empty, oversized, truncated or foreign file, for an image of one gray
    value, and where nothing tells which value is white: floating-point pixels, or integers that may be of fewer bits
    than 16 (none reaches the upper half of 16 bits, and they are no multiples of 257 either) or of more.
    """
    if not data:
        raise ImageError("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise ImageError(f"oversized: {picture.width} x {picture.height} pixels")
            size, mode = picture.size, picture.mode
            picture.load()
            gray = np.asarray(_gray(ImageOps.exif_transpose(picture)))
        if gray.min() == gray.max():
            raise ImageError("blank")
        return gray, size, mode
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError("not an image") from None
    except Image.DecompressionBombError:
        raise ImageError("oversized") from None
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ImageError(f"damaged: {error}") from None


def fit(gray: np.ndarray, size: int, aspect: str) -> np.ndarray:
    """Gray pixels (H, W) -> (size, size): squashed, padded with black to a square, or cropped to the centre square."""
    height, width = gray.shape
    if aspect == "pad":
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        gray = np.pad(gray, ((top, side - height - top), (left, side - width - left)))
    elif aspect == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        gray = np.ascontiguousarray(gray[top : top + side, left : left + side])
    if gray.shape == (size, size):
        return gray
    shrinks = max(gray.shape) > size  # area averaging is the antialiased way down, bilinear the smooth way up
    return cv2.resize(gray, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _gray(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ImageError("floating-point pixels")
    if picture.mode.startswith("I"):
        wide = np.asarray(picture).astype(np.int64)
        low, high = wide.min(), wide.max()
        if low == high:
            raise ImageError("blank")
        if low < 0 or high >= 1 << 16 or (high < 1 << 15 and (wide % 257).any()):
            raise ImageError(f"pixels of unknown depth: values {low} to {high}")
        return Image.fromarray((wide // 257).astype(np.uint8))
    if picture.mode in ("P", "CMYK", "RGBA", "LA", "PA"):
        picture = picture.convert("RGB")  # straight to gray, Pillow would read CMYK and palettes differently
    return picture.convert("L")
