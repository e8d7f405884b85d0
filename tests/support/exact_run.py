"""A whole run in a second: images that are numbers, and a matcher that knows where each camera stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sfm.options import ImageOptions, Options
from sfm.types import MatcherTraits, Matches

WIDTH, HEIGHT, FOCAL, NUM = 320, 240, 384.0, 6
BLIND = 200  # photos of this grey value and above match nothing
OPTIONS = Options(images=ImageOptions(camera_model="SIMPLE_PINHOLE", camera="single", intrinsics="384,160,120"))


def cloud() -> np.ndarray:
    return np.random.default_rng(0).uniform((-2, -1.5, 4), (2, 1.5, 7), (600, 3))


def pose(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Cameras on an arc around the cloud's middle: rotation (3, 3) and translation (3,), cam_from_world."""
    angle = np.radians(9 * (i - (NUM - 1) / 2))
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    middle = np.array([0, 0, 5.5])
    return rotation, middle - rotation @ middle


class SeenPoints:
    """Projections of the cloud in photo i: which points, and where."""

    nbytes = 1000

    def __init__(self, i: int) -> None:
        rotation, translation = pose(i % BLIND)
        camera = cloud() @ rotation.T + translation
        xy = FOCAL * camera[:, :2] / camera[:, 2:] + (WIDTH / 2, HEIGHT / 2)
        inside = ((xy > 0) & (xy < (WIDTH, HEIGHT))).all(axis=1) & (i < BLIND)
        self.index, self.xy = np.flatnonzero(inside), xy[inside]


class ExactMatcher:
    """Knows the truth: reads a photo's number from its pixels and answers with projections of the cloud."""

    name = "exact"
    batch_size = 4
    rotation_invariant = True
    anchor = 0.5
    traits = MatcherTraits()
    version = "1"
    num_matched = 0

    @property
    def provenance(self):
        return {"matcher": "exact", "version": self.version}

    def grid(self, width, height):
        return None

    def encode(self, images, masks=None):
        return [SeenPoints(int(image[0, 0])) for image in images]

    def match(self, pairs):
        ExactMatcher.num_matched += len(pairs)
        return [self._match(f0, f1) for f0, f1 in pairs]

    def _match(self, f0, f1):
        common, i0, i1 = np.intersect1d(f0.index, f1.index, return_indices=True)
        return Matches(f0.xy[i0], f1.xy[i1], np.ones(len(common)), common, common)


def write_photo(path: Path, value: int) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8)).save(path)


def reused(summary) -> list[str]:
    return [stage.stage for stage in summary.stages if stage.reused]
