"""Photos of a cloud of points, and a matcher that knows where each is: a whole run in half a second, no network.

The matcher reads a photo's number from its first pixel and answers with projections, of a coarse grid of cells as
LoFTR's, so that every stage has its usual work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from sfm.matchers.base import Matcher
from sfm.types import Grid, MatcherTraits, Matches

WIDTH, HEIGHT, FOCAL, NUM = 320, 240, 384.0, 6
CELL = 8
ARGUMENTS = ("--camera-model", "SIMPLE_PINHOLE", "--camera", "single", "--intrinsics", "384,160,120", "--batch", "2")


def _cloud() -> np.ndarray:
    return np.random.default_rng(0).uniform((-2, -1.5, 4), (2, 1.5, 7), (600, 3))


def _pose(i: int) -> tuple[np.ndarray, np.ndarray]:
    angle = np.radians(9 * (i - (NUM - 1) / 2))
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    middle = np.array([0, 0, 5.5])
    return rotation, middle - rotation @ middle


def write_photos(folder: Path, num: int = NUM) -> Path:
    """num photos of noise whose first pixel is their number."""
    folder.mkdir(parents=True)
    for i in range(num):
        noise = gaussian_filter(np.random.default_rng(i).normal(size=(HEIGHT, WIDTH)), 2)
        grey = np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)
        grey[0, 0] = i
        Image.fromarray(grey).save(folder / f"{i}.png")
    return folder


class CellPoints:
    """What photo i shows of the cloud: at most one point a cell."""

    nbytes = 1000

    def __init__(self, i: int) -> None:
        rotation, translation = _pose(i)
        camera = _cloud() @ rotation.T + translation
        xy = FOCAL * camera[:, :2] / camera[:, 2:] + (WIDTH / 2, HEIGHT / 2)
        inside = np.flatnonzero(((xy > 0) & (xy < (WIDTH, HEIGHT))).all(axis=1))
        cells = (xy[inside] // CELL).astype(int) @ (1, WIDTH // CELL)
        self.cells, first = np.unique(cells, return_index=True)
        self.index, self.xy = inside[first], xy[inside[first]]


class CellMatcher:
    """Exact matches between cells."""

    name = "cells"
    batch_size = 2
    rotation_invariant = True
    anchor = 0.5
    traits = MatcherTraits(dense=True)

    def __init__(self, *_: object) -> None:
        pass

    @property
    def provenance(self) -> dict[str, str]:
        return {"matcher": "cells", "version": "1"}

    def grid(self, width: int, height: int) -> Grid:
        return Grid(CELL, CELL, width // CELL, CELL)

    def encode(self, images: Sequence[np.ndarray], masks: object = None) -> list[CellPoints]:
        return [CellPoints(int(image[0, 0])) for image in images]

    def match(self, pairs: Sequence[tuple[CellPoints, CellPoints]]) -> list[Matches]:
        return [self._match(f0, f1) for f0, f1 in pairs]

    def _match(self, f0: CellPoints, f1: CellPoints) -> Matches:
        common, i0, i1 = np.intersect1d(f0.index, f1.index, return_indices=True)
        return Matches(f0.xy[i0], f1.xy[i1], np.ones(len(common)), f0.cells[i0], f1.cells[i1])


def slowed(matcher: Matcher, delay: float, tally: str | None) -> Matcher:
    """The matcher, which takes `delay` seconds more for a batch and adds a byte to the file for each matched pair."""
    match = matcher.match
    file = None if tally is None else os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def tallied(pairs: Sequence[tuple[Any, Any]]) -> list[Matches]:
        time.sleep(delay)
        if file is not None:
            os.write(file, b"." * len(pairs))
        return match(pairs)

    matcher.match = tallied  # type: ignore[method-assign]
    return matcher
