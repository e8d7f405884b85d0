"""Images of more than 8 bits: which of their values are used, and those values in 8 bits.

Cameras for heat, microscopes and scanners write 16 bits or floats of which they use a small part; over the whole range
of the format little would be left of it. So the range that the images of a set use together is found, and the same is
stretched in all of them. Where they use most of a format's own range (photos), that range is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.images.files.formats import is_deep

Range = tuple[float, float]
LEFT_OUT = 0.001  # of the values, at either end: defective pixels, reflections of the sun
KEPT = 0.5  # a format's own range is kept where the values use so much of it
STEPS = 64  # a used range is widened to multiples of 1/64 to 1/32 of it: a few images more leave it as it is
MANY = 16  # different values that make an image of what is measured
FILL = 0.01  # share of pixels of one value far from all others, from which on it means "no value"
_NATURAL = {"integers": (65535.0,), "floats": (1.0, 255.0, 65535.0)}
_NUM_QUANTILES = 1000
_SAMPLED = 1 << 20  # pixels of an image that are looked at
_ROWS = 256  # that are scaled at once


class Sketch(NamedTuple):
    """The values of an image: "integers" or "floats", (Q,) f64 of them in order, evenly spaced by rank."""

    kind: str
    values: NDArray[np.float64]


def sketch(image: Image.Image) -> Sketch | None:
    """Of a decoded image; None where it has 8 bits, or no finite value."""
    if not is_deep(image):
        return None
    values = np.asarray(image)
    sampled = values.reshape(-1)[:: max(1, -(-values.size // _SAMPLED))].astype(np.float64)
    sampled = np.sort(sampled[np.isfinite(sampled)])
    if not len(sampled):
        return None
    ranks = ((np.arange(_NUM_QUANTILES) + 0.5) / _NUM_QUANTILES * len(sampled)).astype(int)
    return Sketch("floats" if image.mode == "F" else "integers", sampled[ranks])


def used_ranges(sketches: Iterable[Sketch]) -> dict[str, Range]:
    """What value becomes black and what white, of integers and of floats, for images that belong together.

    Every image counts the same. The result does not depend on their order.
    """
    by_kind: dict[str, list[NDArray[np.float64]]] = {}
    for one in sketches:
        by_kind.setdefault(one.kind, []).append(one.values)
    return {kind: _used_range(kind, np.sort(np.concatenate(values))) for kind, values in by_kind.items()}


def is_stretched(value_range: Range) -> bool:
    """Whether a range is a used one, not a format's own."""
    return value_range[0] != 0 or value_range[1] not in _NATURAL["floats"]


def _used_range(kind: str, values: NDArray[np.float64]) -> Range:
    """values: in order."""
    values = -_without_fill(-_without_fill(values)[::-1])[::-1]
    last = len(values) - 1
    low, high = float(values[int(LEFT_OUT * last)]), float(values[last - int(LEFT_OUT * last)])
    for top in _NATURAL[kind]:
        if values[0] >= 0 and values[-1] <= top and high - low >= KEPT * top:
            return 0.0, top
    if high <= low:
        return low, low + 1.0
    step = 2.0 ** np.floor(np.log2((high - low) / (STEPS / 2)))
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


def _without_fill(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values in order, without the least one where many pixels have it and all others are far from it: the border of
    a rectified image, what a sensor did not see."""
    num = int(np.searchsorted(values, values[0], side="right"))
    rest = values[num:]
    if num < FILL * len(values) or len(np.unique(rest)) < MANY:  # of a drawing in few colours each may be far away
        return values
    return rest if rest[0] - values[0] > 2 * (rest[-1] - rest[0]) else values


def eight_bit(image: Image.Image, mode: str, value_range: Range | None = None) -> Image.Image:
    """The image in mode "L" or "RGB". value_range: of an image of more than 8 bits, what becomes 0 and 255, values
    outside with them; None for the range that the image itself uses. What is not finite becomes 0."""
    if not is_deep(image):
        return image.convert(mode)
    if value_range is None:
        own = sketch(image)
        value_range = (0.0, 1.0) if own is None else used_ranges([own])[own.kind]
    values = np.asarray(image)
    if values.dtype.kind == "u":
        scaled = _scaled(np.arange(65536), value_range)[values]
    else:
        parts = (values[i : i + _ROWS] for i in range(0, len(values), _ROWS))
        scaled = np.concatenate([_scaled(part, value_range) for part in parts])
    return Image.fromarray(scaled).convert(mode)


def _scaled(values: NDArray[np.generic], value_range: Range) -> NDArray[np.uint8]:
    low, high = value_range
    numbers = np.nan_to_num(values.astype(np.float64), nan=low, posinf=low, neginf=low)
    scaled: NDArray[np.uint8] = np.rint((numbers - low) * (255 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
    return scaled
