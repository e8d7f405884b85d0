"""The frozen values that packages exchange.

Pixels are COLMAP's: (x, y), origin at the corner of the image, the centre of the first pixel at
(0.5, 0.5), measured in the image at full size after its EXIF rotation. Poses are
target_from_source. Arrays are checked on construction and set read-only, so frozen means frozen.
Counts M, K, N, T, O may all be zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfm.options import STAGE_NAMES as STAGE_NAMES

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]
UInt32 = NDArray[np.uint32]
Int64 = NDArray[np.int64]


class Grid(NamedTuple):
    """A matcher's coarse grid on an image. Cell c has its centre at ((c % columns + 0.5) * cell_width,
    (c // columns + 0.5) * cell_height).

    cell_width, cell_height: px of the image. columns: cells in a row. stride: px of the image that the
    matcher's network sees, a cell.
    """

    cell_width: float
    cell_height: float
    columns: int
    stride: float = 8.0

    @property
    def network_scale(self) -> float:
        """px of the image a network px; the larger one of both directions."""
        return max(self.cell_width, self.cell_height) / self.stride

    def num_rows(self, height: int) -> int:
        """Rows of cells on an image of this height, px."""
        return round(height / self.cell_height)


@dataclass(frozen=True, slots=True)
class MatcherTraits:
    """What the stages after matching need to know of the matcher; the defaults are for matches of unknown origin.

    pixel_sigma: standard deviation of a match's position, px of the image that the matcher sees (Grid.network_scale
    makes them px of the image). refinable: positions may be moved by photometric refinement. dense: matches come in
    hundreds from a grid, so that a wrong geometry fits many of them by chance.
    """

    pixel_sigma: float = 1.0
    refinable: bool = True
    dense: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.pixel_sigma < float("inf")):
            raise ValueError(f"MatcherTraits.pixel_sigma: {self.pixel_sigma}, expected a positive number")


def _frozen(value: Any, dtype: Any, shape: tuple[int | None, ...], what: str) -> NDArray[Any]:
    """Read-only contiguous array of the dtype; ValueError unless the shape fits and all is finite."""
    array = np.ascontiguousarray(value, dtype=dtype)
    if array.ndim != len(shape) or any(s is not None and s != n for s, n in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{what}: shape {array.shape}, expected {shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{what}: not finite")
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def _set(obj: object, name: str, dtype: Any, shape: tuple[int | None, ...]) -> None:
    object.__setattr__(obj, name, _frozen(getattr(obj, name), dtype, shape, f"{type(obj).__name__}.{name}"))


def _set_finder(obj: Any, num: int) -> None:
    object.__setattr__(obj, "finder", obj.finder if len(obj.finder) else np.zeros(num, np.uint8))
    _set(obj, "finder", np.uint8, (num,))


@dataclass(frozen=True, slots=True, eq=False)
class CameraPrior:
    """What is known of a camera before mapping; images of one `group` share intrinsics.

    model: COLMAP camera model name, e.g. "SIMPLE_RADIAL". params: (p,) f64 px, in COLMAP's order.
    has_focal_prior: the focal length comes from EXIF or the user, not from a guess.
    """

    model: str
    params: Float64
    has_focal_prior: bool
    group: str

    def __post_init__(self) -> None:
        _set(self, "params", np.float64, (None,))


@dataclass(frozen=True, slots=True)
class GPSTag:
    """Where an image was taken, as its file says; NaN where it says nothing.

    latitude, longitude: degrees, WGS84. altitude: m, above sea level or the ellipsoid, whichever the device writes.
    horizontal_sigma, vertical_sigma: standard deviations, m. relative_altitude: m above where a drone took off.
    gimbal: yaw from north to the east, pitch and roll of the camera, degrees; pitch is -90 straight down.
    """

    latitude: float
    longitude: float
    altitude: float = math.nan
    horizontal_sigma: float = math.nan
    vertical_sigma: float = math.nan
    relative_altitude: float = math.nan
    gimbal: tuple[float, float, float] = (math.nan, math.nan, math.nan)

    def __post_init__(self) -> None:
        if not (abs(self.latitude) <= 90 and abs(self.longitude) <= 180):
            raise ValueError(f"GPSTag: latitude {self.latitude}, longitude {self.longitude}")


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One usable image. name: POSIX path relative to the image folder. width, height: px after EXIF
    rotation. digest: hex SHA-256 of the file's bytes (and of its mask's, where it has one, and of a stretched range).
    value_range: of an image of more than 8 bits, the values that become 0 and 255; None for others. gps: where it was
    taken. taken_at: when, seconds since 1970 in UTC, or in local time where the file names no time zone."""

    name: str
    width: int
    height: int
    camera: CameraPrior
    digest: str
    gps: GPSTag | None = None
    taken_at: float | None = None
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CameraRig:
    """S cameras that are mounted together, and what they took at the same times.

    prefixes: of the image names of each camera, as in COLMAP's rig_config.json; the first camera is the reference.
    frames: F x S image names, None where a camera took no image. cam_from_rig: of each camera (3, 4), the reference's
    is the identity; None where they are not known. fixed: the poses are known and stay.
    """

    prefixes: tuple[str, ...]
    frames: tuple[tuple[str | None, ...], ...]
    cam_from_rig: tuple[Float64, ...] | None = None
    fixed: bool = False

    def __post_init__(self) -> None:
        num = len(self.prefixes)
        if num < 2 or any(len(frame) != num for frame in self.frames):
            raise ValueError(f"CameraRig.frames: expected names of {num} cameras, at least two")
        if self.cam_from_rig is not None:
            if len(self.cam_from_rig) != num:
                raise ValueError(f"CameraRig.cam_from_rig: {len(self.cam_from_rig)} poses of {num} cameras")
            frozen = (_frozen(pose, np.float64, (3, 4), "CameraRig.cam_from_rig") for pose in self.cam_from_rig)
            object.__setattr__(self, "cam_from_rig", tuple(frozen))

    @staticmethod
    def taken(frame: tuple[str | None, ...]) -> dict[int, str]:
        """The image names of a frame by camera."""
        return {k: name for k, name in enumerate(frame) if name is not None}

    @property
    def names(self) -> frozenset[str]:
        """All its images."""
        return frozenset(name for frame in self.frames for name in frame if name is not None)

    @property
    def is_central(self) -> bool:
        """Whether its cameras are known to be all in one place, as the faces of a panorama are."""
        return self.cam_from_rig is not None and not any(pose[:, 3].any() for pose in self.cam_from_rig)


@dataclass(frozen=True, slots=True, order=True)
class ImagePair:
    """Two image names, name0 < name1."""

    name0: str
    name1: str

    def __post_init__(self) -> None:
        if not self.name0 < self.name1:
            raise ValueError(f"ImagePair: {self.name0!r} must sort before {self.name1!r}")

    @classmethod
    def of(cls, a: str, b: str) -> ImagePair:
        """The pair of two different names, in order."""
        return cls(min(a, b), max(a, b))


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Matches of one pair, best first within a matcher's own order.

    points0, points1: (M, 2) f32 px. confidence: (M,) f32 in [0, 1].
    cells0, cells1: (M,) i64, the repeatable keypoint each end belongs to: for a detector-free
    matcher the flat index (row * columns + column) of the cell of its coarse grid (see
    Matcher.grid), for a detector the keypoint's index; all -1 where the matcher has neither (then
    tracks quantise the points themselves). Rows with one cell id in an image are one keypoint.
    A row is a valid match by itself; the same two cells may occur in several rows (one refined in
    image 1, one refined in image 0).
    finder: (M,) u8, which of the run's matchers found each row; the only one where it is not given.
    """

    points0: Float32
    points1: Float32
    confidence: Float32
    cells0: Int64
    cells1: Int64
    finder: UInt8 = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __post_init__(self) -> None:
        _set(self, "points0", np.float32, (None, 2))
        num = len(self.points0)
        _set(self, "points1", np.float32, (num, 2))
        _set(self, "confidence", np.float32, (num,))
        _set(self, "cells0", np.int64, (num,))
        _set(self, "cells1", np.int64, (num,))
        _set_finder(self, num)

    def __len__(self) -> int:
        return len(self.points0)

    def rows(self, rows: NDArray[np.integer]) -> Matches:
        """Some of the rows."""
        return Matches(*(getattr(self, name)[rows] for name in self.__slots__))

    @classmethod
    def empty(cls) -> Matches:
        """No matches."""
        return cls(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0))  # type: ignore[arg-type]


REJECTIONS = {  # why a pair of images is not verified; new ones go to the end, since files hold their numbers
    "": "",
    "few matches": "too few matches for a geometry",
    "chance": "no geometry fits more matches than chance would give",
    "no geometry": "COLMAP finds no geometry",
    "little evidence": "the best geometry explains no more of these matches than of images without a common part",
    "small share": "a smaller share of the matches is verified than --min-inlier-ratio asks for",
    "looks alike": "two places that look alike: by the model one image looks through what the other shows",
}


@dataclass(frozen=True, slots=True, eq=False)
class TwoViewGeometry:
    """Verified geometry of one pair. inliers: (K,) u32 rows of the pair's Matches, ascending.

    kind: COLMAP's configuration name in lower case ("calibrated", "uncalibrated", "planar",
    "panoramic", "planar_or_panoramic", "degenerate", "watermark", "multiple", "undefined").
    cam1_from_cam0: (3, 4) f64, translation of unit length, or None. F: (3, 3) f64, or None. reason: why the pair is
    not verified, a key of REJECTIONS; "" where it is.
    """

    pair: ImagePair
    inliers: UInt32
    kind: str
    cam1_from_cam0: Float64 | None = None
    F: Float64 | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        _set(self, "inliers", np.uint32, (None,))
        if self.reason not in REJECTIONS:
            raise ValueError(f"TwoViewGeometry.reason: {self.reason!r}, expected one of {', '.join(REJECTIONS)}")
        if self.cam1_from_cam0 is not None:
            _set(self, "cam1_from_cam0", np.float64, (3, 4))
        if self.F is not None:
            _set(self, "F", np.float64, (3, 3))


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """Keypoints of one image. xy: (N, 2) f32 px. score: (N,) f32, aggregated confidence. finder: as of Matches."""

    xy: Float32
    score: Float32
    finder: UInt8 = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __post_init__(self) -> None:
        _set(self, "xy", np.float32, (None, 2))
        _set(self, "score", np.float32, (len(self.xy),))
        _set_finder(self, len(self.xy))

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True, slots=True, eq=False)
class KeypointMatches:
    """One-to-one matches of one pair between the two images' Keypoints: indices (K, 2) u32, score (K,) f32."""

    pair: ImagePair
    indices: UInt32
    score: Float32

    def __post_init__(self) -> None:
        _set(self, "indices", np.uint32, (None, 2))
        _set(self, "score", np.float32, (len(self.indices),))


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """T tracks over O observations: track t is the slice offsets[t]:offsets[t + 1] of the columns.

    offsets: (T + 1,) i64. image_idx: (O,) u32, row of the image in the database. keypoint_idx:
    (O,) u32, row in that image's Keypoints. Every track is at least two long and has an image at
    most once.
    """

    offsets: Int64
    image_idx: UInt32
    keypoint_idx: UInt32

    def __post_init__(self) -> None:
        _set(self, "offsets", np.int64, (None,))
        _set(self, "image_idx", np.uint32, (None,))
        _set(self, "keypoint_idx", np.uint32, (len(self.image_idx),))
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.image_idx):
            raise ValueError("Tracks.offsets: must start at 0 and end at the number of observations")
        if (np.diff(self.offsets) < 2).any():
            raise ValueError("Tracks.offsets: a track is at least two observations long")

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class StageSummary:
    """What a stage did: counts by name, wall seconds, what it skipped and why, whether it was reused.

    notes: lines for the user, beyond the counts. peak_mb: peak main memory, MB."""

    stage: str
    counts: dict[str, int | float]
    seconds: float
    skipped: tuple[tuple[str, str], ...] = ()
    reused: bool = False
    notes: tuple[str, ...] = ()
    peak_mb: float | None = None


@dataclass(frozen=True, slots=True)
class ModelWarning:
    """A warning that a model is probably bad. sign: name of the check. text: one line for the user, with the remedy."""

    sign: str
    text: str


@dataclass(frozen=True, slots=True)
class ReconstructionSummary:
    """What the end of a run prints. reprojection_error: mean over points, px. models: (folder, images) of
    every sub-model, largest first; model_dir is the largest, None where there is none. unregistered: (image name,
    reason). warnings: signs that the largest model is probably bad. georeference: how the largest model was brought
    into metres, or why not, with a `text` for the user; None where nothing is known of its scale."""

    images: int
    registered: int
    points3D: int
    observations: int
    track_length: float
    reprojection_error: float
    unregistered: tuple[tuple[str, str], ...]
    stages: tuple[StageSummary, ...]
    models: tuple[tuple[Path, int], ...]
    model_dir: Path | None
    warnings: tuple[ModelWarning, ...] = ()
    georeference: Mapping[str, Any] | None = None
