"""A cloud of points, cameras on an arc around it, and a matcher that knows where each point is: a whole run in half a
second, without a network.

An image carries its number in its first pixel; the matcher answers with projections. Nothing is hidden by anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sfm.options import ImageOptions, Options
from sfm.types import Grid, MatcherTraits, Matches, ReconstructionSummary

WIDTH, HEIGHT, FOCAL, NUM = 320, 240, 384.0, 6  # px; images of an arc
STEP_DEG = 9.0  # from camera to camera
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
CLOUD = np.random.default_rng(0).uniform((-2, -1.5, 4), (2, 1.5, 7), (600, 3))
ELSEWHERE = 200  # images of this number and above match nothing
OPTIONS = Options(images=ImageOptions(camera_model="SIMPLE_PINHOLE", camera="single", intrinsics="384,160,120"))


def pose(i: int) -> np.ndarray:
    """cam_from_world (3, 4) of image i: rotated about y, around the cloud's middle, by STEP_DEG from image to image."""
    angle = np.radians(STEP_DEG * (i - (NUM - 1) / 2))
    c, s = np.cos(angle), np.sin(angle)
    rotation, middle = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.array([0, 0, 5.5])
    return np.column_stack([rotation, middle - rotation @ middle])


def project(i: int) -> np.ndarray:
    """(600, 2) px of the cloud in image i, also of points beyond its border."""
    local = CLOUD @ pose(i)[:, :3].T + pose(i)[:, 3]
    return (local[:, :2] / local[:, 2:]) * FOCAL + K[:2, 2]


def write_image(path: Path, number: int) -> None:
    """An image of one grey value, by which the matcher knows it."""
    Image.fromarray(np.full((HEIGHT, WIDTH), number, np.uint8)).save(path)


def write_images(folder: Path, num: int = NUM) -> Path:
    """0.png, 1.png, ... in a new folder."""
    folder.mkdir(parents=True)
    for i in range(num):
        write_image(folder / f"{i}.png", i)
    return folder


class SeenPoints:
    """What image `number` shows of the cloud: index (N,) of its points and xy (N, 2) px; of a cell of the grid, where
    there is one, at most one point."""

    nbytes = 1000

    def __init__(self, number: int, cell: int | None = None) -> None:
        self.number = number
        xy = project(number % ELSEWHERE)
        inside = ((xy > 0) & (xy < (WIDTH, HEIGHT))).all(axis=1) & (number < ELSEWHERE)
        self.index = np.flatnonzero(inside)
        self.keypoints = self.index
        if cell is not None:
            cells = (xy[self.index] // cell).astype(int) @ (1, WIDTH // cell)
            self.keypoints, first = np.unique(cells, return_index=True)
            self.index = self.index[first]
        self.xy = xy[self.index]


class ExactMatcher:
    """All common points, exactly. cell: px of the coarse grid that it has as LoFTR does; None is a detector. blind:
    numbers of images that match nothing. fail_after: pairs until it is interrupted. `matched` says which pairs it was
    asked for, by their numbers."""

    name = "exact"
    rotation_invariant = True
    anchor = 0.5

    def __init__(
        self,
        *,
        cell: int | None = None,
        batch_size: int = 1,
        version: str = "1",
        blind: Sequence[int] = (),
        fail_after: int = 10**9,
    ) -> None:
        self.cell, self.batch_size, self.version = cell, batch_size, version
        self.blind, self.fail_after = blind, fail_after
        self.traits = MatcherTraits(dense=cell is not None)
        self.matched: list[tuple[int, int]] = []

    @property
    def provenance(self) -> dict[str, str]:
        return {"matcher": self.name, "version": self.version}

    def grid(self, width: int, height: int) -> Grid | None:
        return self.cell and Grid(self.cell, self.cell, width // self.cell, self.cell)

    def encode(self, images: Sequence[np.ndarray], masks: object = None) -> list[SeenPoints]:
        return [SeenPoints(int(image[0, 0]), self.cell) for image in images]

    def match(self, pairs: Sequence[tuple[SeenPoints, SeenPoints]]) -> list[Matches]:
        if len(self.matched) >= self.fail_after:
            raise KeyboardInterrupt
        self.matched += [(seen0.number, seen1.number) for seen0, seen1 in pairs]
        return [self._match(*pair) for pair in pairs]

    def _match(self, seen0: SeenPoints, seen1: SeenPoints) -> Matches:
        if {seen0.number, seen1.number} & set(self.blind):
            return Matches.empty()
        common, i0, i1 = np.intersect1d(seen0.index, seen1.index, return_indices=True)
        confidence = np.ones(len(common))
        return Matches(seen0.xy[i0], seen1.xy[i1], confidence, seen0.keypoints[i0], seen1.keypoints[i1])


def reused(summary: ReconstructionSummary) -> list[str]:
    """Names of the stages of a run that were not run again."""
    return [stage.stage for stage in summary.stages if stage.reused]
