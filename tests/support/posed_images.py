"""Four images with known cameras on an arc around a cloud of points, and a matcher that knows where the points are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sfm.datasets.colmap_model import PosedImage, write_model
from sfm.types import MatcherTraits, Matches

WIDTH, HEIGHT, FOCAL, NUM = 320, 240, 384.0, 4
STEP_DEG = 9.0
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
NAMES = tuple(f"photo_{i}.png" for i in range(NUM))
CLOUD = np.random.default_rng(0).uniform((-2, -1.5, 4), (2, 1.5, 7), (600, 3))


def pose(i: int) -> np.ndarray:
    """cam_from_world (3, 4); rotation is i * STEP_DEG about y, around the cloud's middle."""
    c, s = np.cos(np.radians(STEP_DEG * i)), np.sin(np.radians(STEP_DEG * i))
    rotation, middle = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.array([0, 0, 5.5])
    return np.column_stack([rotation, middle - rotation @ middle])


def project(i: int) -> np.ndarray:
    """(600, 2) px of the cloud in image i."""
    local = CLOUD @ pose(i)[:, :3].T + pose(i)[:, 3]
    return (local[:, :2] / local[:, 2:]) * FOCAL + K[:2, 2]


def write_images(folder: Path) -> Path:
    """folder/images, each image of one grey value by which the matcher knows it, and the true model folder/gt."""
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 20 * i, np.uint8)).save(folder / "images" / name)
    params = np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])
    posed = [PosedImage(name, pose(i), "PINHOLE", (WIDTH, HEIGHT), params) for i, name in enumerate(NAMES)]
    write_model(folder / "gt", posed, shared_camera=True)
    return folder


@dataclass(frozen=True)
class Seen:
    index: int
    nbytes: int = 100


@dataclass
class ExactMatcher:
    """All common points, exactly. blind: images that match nothing. fail_after: pairs until it is interrupted."""

    name: str = "exact"
    batch_size: int = 1
    rotation_invariant: bool = False
    anchor: float = 0.5
    traits: MatcherTraits = MatcherTraits()
    version: str = "1"
    blind: tuple[int, ...] = ()
    fail_after: int = 10**9
    matched: list[tuple[int, int]] = field(default_factory=list)

    @property
    def provenance(self):
        return {"matcher": "exact", "version": self.version}

    def grid(self, width, height):
        return None

    def encode(self, images, masks=None):
        return [Seen(round(float(image[0, 0]) / 20)) for image in images]

    def match(self, pairs):
        if len(self.matched) >= self.fail_after:
            raise KeyboardInterrupt
        self.matched += [(a.index, b.index) for a, b in pairs]
        return [self._match(a.index, b.index) for a, b in pairs]

    def _match(self, i, j):
        if {i, j} & set(self.blind):
            return Matches.empty()
        none = np.full(len(CLOUD), -1)
        return Matches(project(i), project(j), np.ones(len(CLOUD)), none, none)
