"""What cameras and weather do to an image: exposure, shadow, vignetting, blur, noise, JPEG. Geometry stays."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sfm.datasets.training_pairs.textures import to_u8

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Photometric:
    """How strong the changes are; each image of a pair is changed on its own."""

    bright: tuple[float, float] = (90.0, 170.0)
    """Grey level to which a dark image's brightest twentieth is raised first, drawn between the two."""
    gamma: float = 1.4
    """Gamma is drawn between 1 / gamma and gamma."""
    gain: float = 1.3
    """Gain is drawn between 1 / gain and gain."""
    offset: float = 20.0
    """Largest shift, grey levels."""
    noise: float = 6.0
    """Largest standard deviation of the noise, grey levels."""
    blur_px: float = 1.3
    """Largest standard deviation of the defocus blur."""
    blur_share: float = 0.35
    """Share of images with defocus blur; a third as many have motion blur."""
    jpeg_quality: int = 30
    """Lowest JPEG quality."""
    jpeg_share: float = 0.5
    """Share of images that are compressed."""
    shadow_share: float = 0.2
    """Share of images with a local shadow."""
    vignetting: float = 0.35
    """Largest darkening of the corners."""


def changed(rng: np.random.Generator, grey: Float32, options: Photometric) -> UInt8:
    """The image (H, W), 0 to 255, as a random camera would have taken it: (H, W) u8."""
    bright = float(np.quantile(grey[::4, ::4], 0.95))
    exposure = np.clip(rng.uniform(*options.bright) / max(bright, 1.0), 1.0, 4.0)  # cameras do not leave all dark
    image = np.clip(grey * np.float32(exposure), 0, 255) / np.float32(255)
    image = image ** np.float32(options.gamma ** rng.uniform(-1, 1))
    image = image * (255 * options.gain ** rng.uniform(-1, 1) * _shading(rng, grey.shape, options))
    image = _blurred(rng, image.astype(np.float32), options)
    image = image + np.float32(rng.uniform(-1, 1) * options.offset)
    strength = np.float32(options.noise * rng.random() ** 2)
    image = image + strength * rng.standard_normal(grey.shape, dtype=np.float32)
    result = to_u8(image)
    return _compressed(result, rng, options) if rng.random() < options.jpeg_share else result


def _shading(rng: np.random.Generator, shape: tuple[int, ...], options: Photometric) -> Float32:
    """Factor on every pixel: darker corners, and at times the shadow of something outside the picture."""
    height, width = shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    factor = 1 - np.float32(options.vignetting * rng.random() ** 2 / 2) * (x * x + y * y)
    if rng.random() < options.shadow_share:
        angle, wave, phase = rng.uniform(0, 2 * np.pi), rng.uniform(1, 5), rng.uniform(0, 6)
        side = np.cos(angle) * x + np.sin(angle) * y
        along = np.cos(angle) * y - np.sin(angle) * x
        edge = side - rng.uniform(-0.6, 0.6) + 0.15 * np.sin(wave * along + phase)
        shadow = 1 / (1 + np.exp(np.clip(-edge / rng.uniform(0.01, 0.15), -30, 30)))
        factor = factor * (1 - rng.uniform(0.2, 0.6) * shadow)
    return np.asarray(factor, np.float32)


def _blurred(rng: np.random.Generator, image: Float32, options: Photometric) -> Float32:
    draw = rng.random()
    if draw < options.blur_share:
        return np.asarray(ndimage.gaussian_filter(image, rng.uniform(0.3, 1.0) * options.blur_px, truncate=3.0))
    if draw > options.blur_share * 4 / 3:
        return image
    angle, length = rng.uniform(0, np.pi), rng.uniform(1, 2.5) * options.blur_px
    steps = np.linspace(-length / 2, length / 2, 4)
    return np.asarray(sum(_shifted(image, s * np.cos(angle), s * np.sin(angle)) for s in steps) / len(steps))


def _shifted(image: Float32, x: float, y: float) -> Float32:
    """The image moved by a few px, bilinear, edges repeated."""
    pad = 4
    wide = np.pad(image, pad, mode="edge")
    low_x, low_y = int(np.floor(x)), int(np.floor(y))
    height, width = image.shape
    row, col = pad + low_y, pad + low_x
    part = wide[row : row + height + 1, col : col + width + 1]
    fx, fy = np.float32(x - low_x), np.float32(y - low_y)
    rows = part[:-1] * (1 - fy) + part[1:] * fy
    return np.asarray(rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx)


def _compressed(image: UInt8, rng: np.random.Generator, options: Photometric) -> UInt8:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=int(rng.integers(options.jpeg_quality, 96)))
    stream.seek(0)
    return np.asarray(Image.open(stream))
