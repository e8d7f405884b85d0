"""Images of a synthetic courtyard with exact ground truth: cameras, depth and matches.

Cameras are on an arc around a statue and look at it. World coordinates are metres, z up. Pixels are COLMAP's: (x, y)
from the corner, the first pixel's centre at (0.5, 0.5); camera axes x right, y down, z forward; poses are
cam_from_world. `radial` is the k of COLMAP's SIMPLE_RADIAL model; with 0 the camera is a PINHOLE.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.datasets.colmap_model import PosedImage, SparsePoints, write_model
from sfm.datasets.courtyard.rendering import OVERCAST, SUB_PIXELS, SUNNY, Hits, Renderer, develop
from sfm.datasets.courtyard.scene import courtyard, low_materials, rich_materials
from sfm.errors import BadOption
from sfm.types import Float32, Float64

Texture = Literal["rich", "low"]

_FULL_FRAME_DIAGONAL_MM = 43.2666  # of 36 x 24 mm film, what "35 mm equivalent" refers to (CIPA DCG-001)
_STEP_DEG = 11.0
_TARGET = np.array([0.0, 0.4, 1.5])
_EDGE = 0.055  # contrast between neighbouring pixels, in display units, from which on a pixel is supersampled
_OCCLUSION = 0.01  # relative difference of depth that counts as hidden


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticScene:
    """N images with exact ground truth.

    names: N file names. images: (N, H, W, 3) u8 RGB. K: (3, 3) f64 px. radial: SIMPLE_RADIAL's k. cam_from_world:
    (N, 3, 4) f64. depths: (N, H, W) f32, z in the camera at each pixel's centre, m; inf where the sky is.
    focal_35mm: focal length in mm that fits K on 35 mm film.
    """

    names: tuple[str, ...]
    images: NDArray[np.uint8]
    K: Float64
    radial: float
    cam_from_world: Float64
    depths: Float32
    focal_35mm: float

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return int(self.images.shape[2]), int(self.images.shape[1])

    def project(self, i: int, xyz: Float64) -> tuple[Float64, Float64]:
        """World points (P, 3) in image i: (P, 2) px and (P,) depth; px mean nothing where the depth is not positive."""
        camera = xyz @ self.cam_from_world[i, :, :3].T + self.cam_from_world[i, :, 3]
        depth = camera[:, 2]
        plane = camera[:, :2] / np.where(depth == 0, 1e-12, depth)[:, None]
        plane = plane * (1 + self.radial * (plane**2).sum(1, keepdims=True))
        return plane * self.K[[0, 1], [0, 1]] + self.K[:2, 2], depth

    def surface(self, i: int, *, step: int = 1) -> tuple[Float64, Float64]:
        """Every step-th pixel of image i that shows a surface: its centre (P, 2) px and the world point (P, 3)."""
        rows, columns = np.mgrid[step // 2 : self.size[1] : step, step // 2 : self.size[0] : step].reshape(2, -1)
        depth = self.depths[i, rows, columns].astype(np.float64)
        met = np.isfinite(depth)
        xy = np.stack([columns[met], rows[met]], 1) + 0.5
        camera = depth[met, None] * _pixel_rays(xy, self.K, self.radial)
        return xy, (camera - self.cam_from_world[i, :, 3]) @ self.cam_from_world[i, :, :3]

    def visible(self, i: int, xyz: Float64) -> tuple[Float64, NDArray[np.bool_]]:
        """World points (P, 3) in image i: (P, 2) px, and whether each is in the image and not occluded."""
        xy, depth = self.project(i, xyz)
        width, height = self.size
        inside = (depth > 0) & (xy >= 0).all(1) & (xy < (width, height)).all(1)
        column, row = np.where(inside[:, None], xy, 0).astype(np.int64).T
        seen = self.depths[i, row, column]
        return xy, inside & (np.abs(depth - np.where(np.isfinite(seen), seen, 0)) < _OCCLUSION * depth)

    def exact_matches(self, i: int, j: int, *, step: int = 8) -> tuple[Float64, Float64]:
        """Exact matches from every step-th pixel centre of image i to image j: (M, 2) and (M, 2) px."""
        xy, xyz = self.surface(i, step=step)
        there, seen = self.visible(j, xyz)
        return xy[seen], there[seen]

    @classmethod
    def render(
        cls,
        *,
        num_images: int = 12,
        size: tuple[int, int] = (640, 480),
        texture: Texture = "rich",
        seed: int = 0,
        focal_35mm: float = 28.0,
        radial: float = 0.0,
    ) -> SyntheticScene:
        """Render the images; equal arguments give equal pixels.

        size: width, height in px. texture: "low" is matt plaster all over. focal_35mm: in mm on 35 mm film, by the
        diagonal. radial: k of SIMPLE_RADIAL. Raises BadOption for values that make no picture.
        """
        _check(num_images, size, texture, focal_35mm)
        renderer = Renderer(
            courtyard(bare=texture == "low"),
            rich_materials() if texture == "rich" else low_materials(),
            SUNNY if texture == "rich" else OVERCAST,
            seed=seed,
        )
        K = camera_matrix(size, focal_35mm)
        poses = arc_of_cameras(num_images, seed=seed)
        rng = np.random.default_rng([seed, 1])
        shots = [photograph(renderer, pose, K, radial, size) for pose in poses]
        return cls(
            names=tuple(f"view_{i:02d}.jpg" for i in range(num_images)),
            images=np.stack(
                [develop(radiance, noise=1.2 if texture == "rich" else 3.0, rng=rng) for radiance, _ in shots]
            ),
            K=K,
            radial=radial,
            cam_from_world=poses,
            depths=np.stack([depth for _, depth in shots]),
            focal_35mm=focal_35mm,
        )


def _check(num_images: int, size: tuple[int, int], texture: str, focal_35mm: float) -> None:
    if num_images < 1:
        raise BadOption(f"num_images is {num_images}: at least one image is needed")
    if min(size) < 16:
        raise BadOption(f"size is {size[0]} x {size[1]}: images must be at least 16 px wide and high")
    if texture not in ("rich", "low"):
        raise BadOption(f"texture is {texture!r}: choose rich or low")
    if not focal_35mm > 0:
        raise BadOption(f"focal_35mm is {focal_35mm}: a focal length is positive")


def arc_of_cameras(num: int, *, seed: int, step_deg: float = _STEP_DEG) -> Float64:
    """(num, 3, 4) cam_from_world of hand-held cameras on an arc around the statue, `step_deg` apart (less for many)."""
    rng = np.random.default_rng([seed, 2])
    step = min(step_deg, 130 / max(num - 1, 1))
    poses = np.zeros((num, 3, 4))
    for i in range(num):
        angle = np.radians((i - (num - 1) / 2) * step + rng.uniform(-1, 1))
        radius = 6.4 + rng.uniform(-0.35, 0.35)
        centre = np.array([radius * np.sin(angle), -radius * np.cos(angle), 1.65 + rng.uniform(-0.25, 0.45)])
        target = _TARGET + rng.uniform(-0.2, 0.2, 3)
        poses[i] = look_at(centre, target, roll_deg=rng.uniform(-2, 2))
    return poses


def look_at(centre: Float64, target: Float64, *, roll_deg: float = 0.0) -> Float64:
    """(3, 4) cam_from_world of a camera at `centre` that looks at `target`, upright but for the roll."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    upright = np.stack([right, np.cross(forward, right), forward])
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ upright
    return np.column_stack([rotation, -rotation @ centre])


def _pixel_rays(xy: Float64, K: Float64, radial: float) -> Float64:
    """(P, 3) directions in the camera, z = 1, of the pixels xy (P, 2); distortion undone by Newton's method."""
    distorted = (xy - K[:2, 2]) / K[[0, 1], [0, 1]]
    far = np.linalg.norm(distorted, axis=1, keepdims=True)
    near = far.copy()
    for _ in range(10 if radial else 0):
        near -= (near + radial * near**3 - far) / (1 + 3 * radial * near**2)
    return np.column_stack([distorted * (near / np.maximum(far, 1e-12) if radial else 1.0), np.ones(len(xy))])


def camera_matrix(size: tuple[int, int], focal_35mm: float) -> Float64:
    """K (3, 3), px, of images of (width, height) px. focal_35mm: in mm on 35 mm film, by the diagonal."""
    focal = focal_35mm * float(np.hypot(*size)) / _FULL_FRAME_DIAGONAL_MM
    return np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])


def photograph(
    renderer: Renderer, pose: Float64, K: Float64, radial: float, size: tuple[int, int]
) -> tuple[Float32, Float32]:
    """Radiance (H, W, 3) and depth (H, W): a ray through each pixel's centre, four more where there is an edge.

    pose: (3, 4) cam_from_world. radial: k of SIMPLE_RADIAL. size: width, height in px.
    """
    width, height = size
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    corners = np.stack([columns, rows], 1).astype(np.float64)

    def look(xy: Float64, sun_offset: tuple[float, float]) -> tuple[Float32, Hits]:
        directions = (_pixel_rays(xy, K, radial) @ pose[:, :3]).astype(np.float32)
        origins = np.broadcast_to((-pose[:, :3].T @ pose[:, 3]).astype(np.float32), directions.shape)
        hits = renderer.cast(origins, directions)
        slant = np.maximum(np.abs((directions * hits.normals).sum(1)), 0.2)
        footprint = np.where(np.isfinite(hits.distance), hits.distance, 1) / np.float32(K[0, 0]) / slant
        return renderer.shade(hits, directions, footprint.astype(np.float32), sun_offset=sun_offset), hits

    radiance, hits = look(corners + 0.5, (0.0, 0.0))
    edges = np.flatnonzero(_contrast(radiance.reshape(height, width, 3)) > _EDGE)
    finer = [look(corners[edges] + offset, tuple(4 * offset - 2))[0] for offset in SUB_PIXELS]
    radiance[edges] = sum(finer) / len(SUB_PIXELS)
    return radiance.reshape(height, width, 3), hits.distance.reshape(height, width)


def _contrast(radiance: Float32) -> Float32:
    """(H, W) largest difference to the eight neighbours, in display units from 0 to 1."""
    from scipy.ndimage import maximum_filter, minimum_filter

    grey = np.sqrt(np.clip(radiance.mean(2) / 2, 0, 1))
    contrast: Float32 = maximum_filter(grey, 3) - minimum_filter(grey, 3)
    return contrast


def write_scene(
    scene: SyntheticScene, out: Path, *, quality: int = 95, points_per_image: int = 250, with_exif: bool = True
) -> None:
    """Write out/images/*.jpg, and out/gt: cameras, poses and visible surface points.

    quality: JPEG's; below 90 colours are stored at half the resolution. points_per_image: about how many surface
    points each image adds. with_exif: the images have EXIF focal lengths.
    """
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    exif = _exif(scene.focal_35mm) if with_exif else Image.Exif()
    for name, image in zip(scene.names, scene.images, strict=True):
        Image.fromarray(image).save(
            folder / name, quality=quality, subsampling=0 if quality >= 90 else 2, optimize=True, exif=exif
        )
    (width, height), focal = scene.size, float(scene.K[0, 0])
    centre = scene.K[:2, 2].tolist()
    model, params = (
        ("SIMPLE_RADIAL", [focal, *centre, scene.radial]) if scene.radial else ("PINHOLE", [focal, focal, *centre])
    )
    points, observations = _sparse_points(scene, per_image=points_per_image)
    images = [
        PosedImage(name, pose, model, (width, height), np.array(params), xy)
        for name, pose, xy in zip(scene.names, scene.cam_from_world, observations, strict=True)
    ]
    write_model(out / "gt", images, points, shared_camera=True)


def _exif(focal_35mm: float) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Synthetic", "Courtyard 1"  # make, model
    exif.get_ifd(0x8769)[0xA405] = round(focal_35mm)  # FocalLengthIn35mmFilm
    return exif


def _sparse_points(scene: SyntheticScene, *, per_image: int) -> tuple[SparsePoints, list[Float64]]:
    """Surface points seen in two images or more, with their tracks, and (N_i, 2) px of each image's observations."""
    step = max(4, round(float(np.sqrt(scene.size[0] * scene.size[1] / per_image))))
    found = [scene.surface(i, step=step) for i in range(len(scene))]
    xyz = np.concatenate([points for _, points in found])
    rgb = np.concatenate([scene.images[i][tuple(xy.astype(np.int64).T[::-1])] for i, (xy, _) in enumerate(found)])
    views = [scene.visible(i, xyz) for i in range(len(scene))]
    seen = np.stack([mask for _, mask in views], 1)  # (P, N)
    kept = seen.sum(1) >= 2
    seen = seen[kept]
    ranks = np.cumsum(seen, 0) - 1  # row of the observation in its image
    point, image = np.nonzero(seen)
    offsets = np.concatenate([[0], np.cumsum(seen.sum(1))])
    observations = [xy[kept][seen[:, i]] for i, (xy, _) in enumerate(views)]
    return SparsePoints(xyz[kept], rgb[kept], offsets, image, ranks[point, image]), observations
