"""The images of the arc as noise, so that every stage has its usual work, and a matcher with LoFTR's coarse grid."""

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
from sfm.types import Matches
from tests.support.arc_scene import HEIGHT, NUM, WIDTH, ExactMatcher

CELL = 8  # px
ARGUMENTS = ("--camera-model", "SIMPLE_PINHOLE", "--camera", "single", "--intrinsics", "384,160,120", "--batch", "2")


def write_images(folder: Path, num: int = NUM) -> Path:
    """num images of noise whose first pixel is their number."""
    folder.mkdir(parents=True)
    for i in range(num):
        noise = gaussian_filter(np.random.default_rng(i).normal(size=(HEIGHT, WIDTH)), 2)
        grey = np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)
        grey[0, 0] = i
        Image.fromarray(grey).save(folder / f"{i}.png")
    return folder


def make_matcher(*_: object) -> Matcher:
    """As a registry calls it."""
    return ExactMatcher(cell=CELL, batch_size=2)


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
