"""Exact training pairs from any folder of images.

Three kinds: homographies of one image, reliefs (an image on a wall with depth) and objects (bodies of image
texture or bare plaster, on black or before an image). Pixels are COLMAP's: first pixel's centre at (0.5, 0.5).
The anchor of coarse cell (row r, column c) is (8 c + 0.5, 8 r + 0.5), the centre of pixel (8 c, 8 r), as published
LoFTR has it (Sun et al., LoFTR, CVPR 2021, and its coarse supervision).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.datasets.training_pairs.photometric import Photometric, changed
from sfm.datasets.training_pairs.random_scenes import Camera, Scene
from sfm.datasets.training_pairs.scene_recipes import (
    objects_aims,
    objects_scene,
    random_cameras,
    relief_aims,
    relief_scene,
)
from sfm.datasets.training_pairs.textures import Texture, find_images, grid_xy, read_grey, to_u8
from sfm.errors import BadOption

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

CELL = 8
KINDS = ("homography", "relief", "objects")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPair:
    """Two images and where each coarse cell's anchor is in the other.

    image0, image1: (H, W) u8. warp01, warp10: (H/8, W/8, 2) f32 px of the other image, NaN where not visible there.
    known0, known1: (H/8, W/8) bool, where that is certain; None where it is everywhere.
    """

    image0: UInt8
    image1: UInt8
    warp01: Float32
    warp10: Float32
    known0: NDArray[np.bool_] | None = None
    known1: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What pairs are made and how hard they are."""

    weights: tuple[float, float, float] = (0.2, 0.3, 0.5)
    """Shares of homography, relief and objects pairs."""
    homography_rotation_deg: float = 45.0
    """Largest in-plane rotation of a homography pair."""
    homography_scale: float = 2.0
    """Largest change of scale of a homography pair."""
    homography_tilt: float = 0.35
    """Largest perspective: relative change of depth from the middle of the picture to its border."""
    relief_angle_deg: tuple[float, float] = (5.0, 60.0)
    """Relative rotation of relief pairs; four in five are in the middle (15 to 50 of 5 to 60)."""
    objects_angle_deg: tuple[float, float] = (8.0, 60.0)
    """Orbit between the two views of objects pairs."""
    scale: float = 2.0
    """Largest change of scale of relief and objects pairs."""
    roll_deg: float = 12.0
    """Standard deviation of the in-plane rotation of each view of relief and objects pairs, cut at 45."""
    plaster_share: float = 0.6
    """Share of objects pairs whose bodies are nearly textureless."""
    dark_share: float = 0.55
    """Share of objects pairs before a black or dark background."""
    min_overlap: float = 0.25
    """Cameras are drawn again, a few times, while fewer cells are visible in both."""
    photometric: Photometric | None = field(default_factory=Photometric)
    """Change of each image's light; None leaves it."""

    def __post_init__(self) -> None:
        if len(self.weights) != 3 or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise BadOption(f"weights {self.weights}: three shares, none negative, not all zero")


class SyntheticPairs:
    """An endless stream of training pairs; pair(index) depends on (images, size, seed, difficulty, index) alone."""

    def __init__(
        self,
        images: Path,
        *,
        size: tuple[int, int] = (256, 320),
        seed: int = 0,
        difficulty: Difficulty | None = None,
    ) -> None:
        """images: folder of images, read when first used. size: (H, W) px, multiples of 8. BadFile, BadOption."""
        if any(side <= 0 or side % CELL for side in size):
            raise BadOption(f"size {size}: height and width must be positive multiples of {CELL}")
        self.size = size
        self.seed = seed
        self.difficulty = difficulty or Difficulty()
        self._paths = find_images(images)
        self._images: dict[int, UInt8] = {}

    def kind(self, index: int) -> str:
        """What the pair of that index is: homography, relief or objects."""
        return self._start(index)[0]

    def pair(self, index: int) -> TrainingPair:
        """The pair of that index."""
        kind, rng = self._start(index)
        if kind == "homography":
            grey0, grey1, warp01, warp10 = self._homography_pair(rng)
        else:
            scene, cameras, warps = self._placed_scene(rng, kind)
            (grey0, edges0), (grey1, edges1) = (scene.render(camera) for camera in cameras)
            warp01, warp10 = (w.reshape(*_cells(self.size), 2) for w in warps)
            warp01[edges0[::CELL, ::CELL]] = np.nan
            warp10[edges1[::CELL, ::CELL]] = np.nan
        options = self.difficulty.photometric
        if options is None:
            return TrainingPair(to_u8(grey0), to_u8(grey1), warp01, warp10)
        return TrainingPair(changed(rng, grey0, options), changed(rng, grey1, options), warp01, warp10)

    def _start(self, index: int) -> tuple[str, np.random.Generator]:
        rng = np.random.default_rng([self.seed, index])
        shares = np.array(self.difficulty.weights)
        return str(rng.choice(KINDS, p=shares / shares.sum())), rng

    def _random_image(self, rng: np.random.Generator) -> UInt8:
        """An image, half the time mirrored left to right."""
        index = int(rng.integers(len(self._paths)))
        if index not in self._images:
            self._images[index] = read_grey(self._paths[index])
        image = self._images[index]
        return image[:, ::-1] if rng.random() < 0.5 else image

    def _homography_pair(self, rng: np.random.Generator) -> tuple[Float32, Float32, Float32, Float32]:
        """Both images, before photometric change, and both warps."""
        texture = Texture.of(self._random_image(rng))
        for _ in range(8):
            image_from_0 = random_homography(rng, texture.size, self.size, _TAME)
            image_from_1 = random_homography(rng, texture.size, self.size, self.difficulty)
            warp01 = homography_warp(image_from_0, image_from_1, size=self.size, image_size=texture.size)
            if np.isfinite(warp01[..., 0]).mean() >= self.difficulty.min_overlap:
                break
        warp10 = homography_warp(image_from_1, image_from_0, size=self.size, image_size=texture.size)
        fill = float(rng.choice([0.0, rng.uniform(0, 255)]))
        grey0, grey1 = (image_through(texture, h, size=self.size, fill=fill) for h in (image_from_0, image_from_1))
        return grey0, grey1, warp01, warp10

    def _placed_scene(
        self, rng: np.random.Generator, kind: str
    ) -> tuple[Scene, tuple[Camera, Camera], tuple[Float32, Float32]]:
        """A scene, two cameras and both warps (cells, 2)."""
        options = self.difficulty
        images = [self._random_image(rng) for _ in range(1 if kind == "relief" else 2)]
        if kind == "relief":
            scene, aims, angles = relief_scene(rng, images[0]), relief_aims(rng), options.relief_angle_deg
        else:
            plaster, dark = rng.random() < options.plaster_share, rng.random() < options.dark_share
            scene, aims = objects_scene(rng, images, plaster=plaster, dark=dark), objects_aims(rng)
            angles = options.objects_angle_deg
        anchors = anchor_xy(self.size).reshape(-1, 2)
        best, best_overlap = None, -1.0
        for _ in range(6):
            cameras = random_cameras(
                rng, aims, size=self.size, angles_deg=angles, scale=options.scale, roll_deg=options.roll_deg
            )
            warps = scene.warp(cameras[0], cameras[1], anchors), scene.warp(cameras[1], cameras[0], anchors)
            overlap = min(float(np.isfinite(w[:, 0]).mean()) for w in warps)
            if overlap > best_overlap:
                best, best_overlap = (scene, cameras, warps), overlap
            if overlap >= options.min_overlap:
                break
        assert best is not None
        return best


_TAME = Difficulty(homography_rotation_deg=8.0, homography_scale=1.15, homography_tilt=0.1)


def _cells(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // CELL, size[1] // CELL


def anchor_xy(size: tuple[int, int]) -> Float32:
    """Anchors of all coarse cells of an image of that (H, W): (H/8, W/8, 2) f32 px."""
    rows, cols = _cells(size)
    return np.asarray((grid_xy(rows, cols).reshape(rows, cols, 2) - 0.5) * CELL + 0.5, np.float32)


def random_homography(
    rng: np.random.Generator, image_size: tuple[int, int], size: tuple[int, int], options: Difficulty
) -> Float64:
    """(3, 3) image_from_net. image_size: (width, height); size: (H, W) of the net's image."""
    net = np.array([size[1], size[0]], np.float64)
    image = np.array(image_size, np.float64)
    scale = 0.85 * (image / net).min() * options.homography_scale ** rng.uniform(-1, 0.5)
    rotation = np.deg2rad(options.homography_rotation_deg) * rng.uniform(-1, 1)
    from_middle, to_image, tilt = np.eye(3), np.eye(3), np.eye(3)
    from_middle[:2, 2] = -net / 2
    tilt[2, :2] = options.homography_tilt * rng.uniform(-1, 1, 2) / net
    room = np.maximum(image - scale * net, 0.1 * image) / 2
    to_image[:2, :2] = scale * np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
    to_image[:2, 2] = image / 2 + room * rng.uniform(-0.8, 0.8, 2)
    return np.asarray(to_image @ tilt @ from_middle)


def apply_homography(h: Float64, xy: Float32 | Float64) -> Float64:
    """h (3, 3) on points (..., 2); NaN behind the picture."""
    mapped = np.asarray(xy, np.float64) @ h[:, :2].T + h[:, 2]
    return np.asarray(mapped[..., :2] / np.where(mapped[..., 2:] > 1e-9, mapped[..., 2:], np.nan))


def homography_warp(
    image_from_0: Float64, image_from_1: Float64, *, size: tuple[int, int], image_size: tuple[int, int]
) -> Float32:
    """Where the anchors of image 0 are in image 1: (H/8, W/8, 2) f32 px, NaN outside image 1 or the source image."""
    in_image = apply_homography(image_from_0, anchor_xy(size))
    warp = apply_homography(np.asarray(np.linalg.inv(image_from_1)), in_image)
    ok = np.asarray((in_image > 0).all(-1) & (in_image < image_size).all(-1))
    ok &= (warp > 0).all(-1) & (warp < (size[1], size[0])).all(-1)
    return np.where(ok[..., None], warp, np.nan).astype(np.float32)


def image_through(texture: Texture, image_from_net: Float64, *, size: tuple[int, int], fill: float) -> Float32:
    """The image seen through a homography: (H, W) f32 grey, `fill` where the image ends."""
    xy = apply_homography(image_from_net, grid_xy(*size)).reshape(*size, 2)
    dx, dy = np.asarray(np.gradient(xy, axis=1)), np.asarray(np.gradient(xy, axis=0))
    footprint = np.sqrt(np.abs(dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]))
    ok = ((xy > 0) & (xy < texture.size)).all(-1)
    grey = np.full(size, fill, np.float32)
    grey[ok] = texture.sample(xy[ok].astype(np.float32), footprint[ok].astype(np.float32))
    return grey
