"""Textures that no photo gives: wood, tiles, stripes, print, book spines, marble, noise of all scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 384

UInt8 = NDArray[np.uint8]
Float = NDArray[np.float64]


def made_textures(num: int, seed: int = 0) -> list[UInt8]:
    """`num` grey images (SIDE, SIDE) u8, kind after kind."""
    makers = (_noise, _wood, _tiles, _stripes, _print, _spines, _marble, _grain)
    return [_grey(makers[k % len(makers)](np.random.default_rng([seed, k]))) for k in range(num)]


def _grey(values: Float) -> UInt8:
    low, high = np.quantile(values, [0.01, 0.99])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255, np.uint8)


def _clouds(rng: np.random.Generator, roughness: float, shape: tuple[int, int] = (SIDE, SIDE)) -> Float:
    """Noise whose amplitude falls with the frequency to the power of `roughness`."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    spectrum = np.fft.fft2(rng.standard_normal(shape)) / np.maximum(np.hypot(fx, fy), 1 / max(shape)) ** roughness
    field = np.real(np.fft.ifft2(spectrum))
    return np.asarray((field - field.mean()) / field.std())


def _noise(rng: np.random.Generator) -> Float:
    return _clouds(rng, rng.uniform(0.4, 2.0))


def _grain(rng: np.random.Generator) -> Float:
    blurred = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), rng.uniform(0.7, 3), mode="wrap")
    return np.asarray(blurred / blurred.std() + 0.3 * _clouds(rng, 1.5))


def _wood(rng: np.random.Generator) -> Float:
    x = np.linspace(0, rng.uniform(4, 20), SIDE)[None]
    bend = ndimage.gaussian_filter(_clouds(rng, 2.0), (40, 8), mode="wrap")
    rings = np.sin(2 * np.pi * (x + rng.uniform(1, 4) * bend))
    fibre = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), (25, 0.7), mode="wrap") * 12
    planks = rng.standard_normal(8)[(np.arange(SIDE) * 8 // SIDE)][None] * rng.uniform(0, 1)
    return np.asarray(rings + fibre + planks)


def _tiles(rng: np.random.Generator) -> Float:
    rows, columns = int(rng.integers(3, 14)), int(rng.integers(3, 14))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    row = np.floor(y * rows)
    shift = 0.5 * (row % 2) if rng.random() < 0.6 else 0 * row
    place = (x * columns + shift) % columns
    column = np.floor(place)
    tone = rng.standard_normal((rows, columns + 1))[row.astype(int), column.astype(int)] * rng.uniform(0, 1)
    gap = rng.uniform(0.02, 0.09)
    joint = ((place - column) < gap * columns / rows) | ((y * rows - row) < gap)
    return np.asarray(tone + 0.25 * _clouds(rng, 1.0) + joint * rng.choice([-3.0, 2.0]))


def _stripes(rng: np.random.Generator) -> Float:
    edges = np.sort(rng.random(int(rng.integers(6, 40))))
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    place = (np.cos(angle) * x + np.sin(angle) * y) % 1
    values = rng.standard_normal(len(edges) + 1)
    return np.asarray(values[np.searchsorted(edges, place)] + 0.15 * _clouds(rng, 1.0))


def _print(rng: np.random.Generator) -> Float:
    """Lines of something like words, headings and boxes on paper."""
    page = np.zeros((SIDE, SIDE))
    y = 6
    while y < SIDE - 8:
        height = int(rng.choice([4, 6, 8, 14, 26], p=[0.3, 0.3, 0.2, 0.12, 0.08]))
        if rng.random() < 0.12:
            box = int(rng.integers(20, 110))
            x0, x1 = np.sort(rng.integers(4, SIDE - 4, 2))
            page[y : y + box, x0:x1] = -rng.uniform(0.2, 1.2) + 0.4 * _clouds(rng, 1.2)[y : y + box, x0:x1]
            y += box + 6
            continue
        x = int(rng.integers(4, 30))
        while x < SIDE - 10:
            for _ in range(int(rng.integers(1, 9))):
                width = max(2, int(height * rng.uniform(0.3, 0.8)))
                glyph = rng.random((3, 2)) < 0.6
                rows = np.arange(len(page[y : y + height])) * 3 // height
                columns = np.arange(page[:, x : x + width].shape[1]) * 2 // width
                page[y : y + height, x : x + width] = -1.0 * glyph[rows[:, None], columns[None]]
                x += width + 1
                if x >= SIDE - 10:
                    break
            x += height // 2 + 1
        y += int(height * rng.uniform(1.3, 2.2))
    return np.asarray(page + 0.03 * rng.standard_normal(page.shape))


def _spines(rng: np.random.Generator) -> Float:
    """Books side by side, each with a title."""
    page = np.zeros((SIDE, SIDE))
    x = 0
    while x < SIDE:
        width = int(rng.integers(8, 36))
        tone = rng.standard_normal()
        page[:, x : x + width] = tone
        page[:, x : x + 1] = -2
        start, length = int(rng.integers(20, 120)), int(rng.integers(60, 200))
        letters = np.repeat(rng.random((length + 3) // 4) < 0.55, 4)[:length]
        middle = slice(x + width // 3, x + 2 * width // 3)
        page[start : start + length, middle] += np.where(letters, rng.choice([-2.0, 2.0]), 0)[: SIDE - start, None]
        x += width
    return np.asarray(page + 0.1 * _clouds(rng, 1.0))


def _marble(rng: np.random.Generator) -> Float:
    base = _clouds(rng, 1.6)
    return np.asarray(-(np.abs(base) ** 0.4) + 0.3 * _clouds(rng, 1.0))
