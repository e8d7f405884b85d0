"""Two images: their matches, fundamental and essential matrix, relative pose, and how reliable they are.

    result = match_images("a.jpg", "b.jpg", weights="outdoor")
    result.F, result.cam1_from_cam0, result.matches

Image A has suffix 0 and image B suffix 1. Pixels are COLMAP's (sfm.types), of the images at full
size after their EXIF rotation; p1ᵀ F p0 = 0 for pixels, x1ᵀ E x0 = 0 for undistorted image plane
coordinates. Two views do not determine the scale: the translation is of unit length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.colmap.camera import prior_camera, with_focal
from sfm.errors import BadOption
from sfm.evaluation.aligned_matches import align_pair
from sfm.evaluation.image_rotation import matched
from sfm.evaluation.most_confident import with_choice
from sfm.geometry.epipolar import epipolar_line_distance, essential_matrix
from sfm.geometry.focal_from_F import focal_of_pair
from sfm.geometry.pixels import allowed_error
from sfm.geometry.poses import rotation_angle_deg
from sfm.geometry.two_view import verify_pair
from sfm.images.camera_priors import GUESSED_FOCAL, ImageHeader, cameras_of
from sfm.images.decoding import read_grey
from sfm.images.index import check_images
from sfm.matchers.base import Matcher
from sfm.matchers.registry import make_matcher
from sfm.matchers.rotated import RotatingMatcher
from sfm.options import ImageOptions, VerificationOptions
from sfm.system.parallel import num_cores
from sfm.two_view.options import TwoImageOptions
from sfm.two_view.relative_pose import FLAT_KINDS, Records, estimate_pose, explained, parallax_deg, pose_spread_deg
from sfm.types import CameraPrior, Float64, ImagePair, ImageRecord, Matches, TwoViewGeometry
from sfm.wording import counted

GIVEN, ESTIMATED = "given", "estimated"  # groups of cameras: by the user, from F
A_AND_B = ImagePair("A", "B")
LITTLE_PARALLAX_DEG = 4.0  # median; below it a pixel of systematic error is degrees of the translation's direction
MAX_SPREAD_DEG = 3.0  # standard deviation of a trusted pose: 10 degrees off is more than three of them
MIN_EXPLAINED = 0.7  # of a network's matches by confidence, the lower end; below it a fifth of the poses are wrong
WIDE_PARALLAX_DEG = 75.0  # no images that far apart match: the pose is a wrong one
FEW_INLIERS = 50
LOW_RATIO = 0.4  # of inliers, below which most pairs of a detector-free matcher are wrong
POSE_ERROR = 0.5  # of the allowed error: what the pose of cameras with known focal lengths is estimated with


@dataclass(frozen=True, slots=True, eq=False)
class TwoViewResult:
    """The geometry of two images.

    images: records of A and B, named by their paths, with the cameras that the pose holds for.
    matches: all M of them. image_rotation: quarter turns counterclockwise of B with which they were matched.
    kind: COLMAP's configuration ("calibrated", "uncalibrated", "planar", "panoramic", "degenerate"). inliers: (M,)
    bool. F, E: (3, 3) or None. cam1_from_cam0: (3, 4) with a translation of unit length (zero for a pure rotation), or
    None. parallax_deg: median triangulation angle of the inliers. pose_spread_deg: standard deviation of the pose by
    resampling, None where it is not estimated (a focal length is not known, the scene is flat). epipolar_px: mean
    distance of the inliers to their epipolar lines, px of the images. num_aligned: matches that were moved to
    sub-pixel, None where that was not tried. remarks: warnings about the geometry or the pose, one line each; without
    any the pose is trusted. matcher: its provenance.
    """

    images: Records
    matches: Matches
    kind: str
    inliers: NDArray[np.bool_]
    F: Float64 | None = None
    E: Float64 | None = None
    cam1_from_cam0: Float64 | None = None
    parallax_deg: float | None = None
    pose_spread_deg: float | None = None
    epipolar_px: float | None = None
    num_aligned: int | None = None
    remarks: tuple[str, ...] = ()
    image_rotation: int = 0
    matcher: Mapping[str, str] = field(default_factory=dict)

    @property
    def turn(self) -> int:
        """The image rotation, by its name in 0.1.0."""
        return self.image_rotation

    @property
    def photos(self) -> Records:
        """The images, by their name in 0.1.0."""
        return self.images

    @property
    def focal_sources(self) -> tuple[str, str]:
        """Where the focal lengths of A and B come from: "given", "EXIF", "estimated" (from F) or "guessed"."""
        source0, source1 = (
            camera.group if camera.group in (GIVEN, ESTIMATED) else "EXIF" if camera.has_focal_prior else "guessed"
            for camera in (image.camera for image in self.images)
        )
        return source0, source1

    @property
    def num_inliers(self) -> int:
        """Matches that fit the geometry."""
        return int(np.count_nonzero(self.inliers))

    @property
    def inlier_ratio(self) -> float:
        """Their share, 0 to 1."""
        return self.num_inliers / max(len(self.matches), 1)

    @property
    def rotation_deg(self) -> float | None:
        """Angle of the rotation between camera A and camera B."""
        return None if self.cam1_from_cam0 is None else float(rotation_angle_deg(self.cam1_from_cam0[:, :3]))

    @property
    def centre1_in_cam0(self) -> Float64 | None:
        """(3,) direction from camera A to camera B in A's frame: x right, y down, z forward."""
        pose = self.cam1_from_cam0
        return None if pose is None else np.asarray(-pose[:, :3].T @ pose[:, 3])

    @property
    def trusted(self) -> bool:
        """There is a pose, and no warning about it."""
        return self.cam1_from_cam0 is not None and not self.remarks


# --- entry points -----------------------------------------------------------------------------


def match_images(
    a: str | Path, b: str | Path, *, options: TwoImageOptions | None = None, **changes: Any
) -> TwoViewResult:
    """Matches and geometry of two image files. changes: fields of TwoImageOptions, where options are not given.

    Raises BadImage for what is no image, BadOption and BadFile for options and weights that cannot be used.
    """
    options = options if options is not None else TwoImageOptions(**changes)
    images = read_images(Path(a), Path(b), options)
    return match_records(images, make_matcher(options), options)


match_photos = match_images  # its name in 0.1.0


def match_records(images: Records, matcher: Matcher, options: TwoImageOptions) -> TwoViewResult:
    """As `match_images`, with images that are known and a matcher that may serve many pairs.

    Where they hardly match as they are, B is rotated by quarter turns (sfm.evaluation.image_rotation). A network's
    matches are then aligned in the images (--no-align: not). What comes out is in pixels of the images as they are.
    """
    grey0, grey1 = (read_grey(Path(), image) for image in images)
    grids = [matcher.grid(image.width, image.height) for image in images]
    error = allowed_error(grids, matcher.traits, options.max_error)
    matcher, select = with_choice(matcher, options)
    features0, features1 = RotatingMatcher(matcher).encode([(grey0, None, 0), (grey1, None, 0)])
    best, image_rotation = matched((grey0, grey1), (features0, features1), matcher, options, select)
    aligned, num_aligned = align_pair(best, (grey0, grey1), matcher, options, seed=options.seed, cores=num_cores())
    result = two_view(
        aligned,
        images,
        max_error=error,
        seed=options.seed,
        dense=matcher.traits.dense,
        image_rotation=image_rotation,
        matcher=matcher.provenance,
    )
    return replace(result, num_aligned=num_aligned)


def read_images(a: Path, b: Path, options: TwoImageOptions) -> Records:
    """Records of two different images, named by their paths, with the cameras that the options or EXIF give."""
    (image0, digest0, range0), (image1, digest1, range1) = check_images([a, b])
    if digest0 == digest1:
        what = "is the same file as" if a.resolve() == b.resolve() else "is a copy of"
        raise BadOption(f"{b}: {what} {a}; give two different images")
    camera0, camera1 = _cameras(image0, image1, options)
    record0 = ImageRecord(str(a), *image0.size, camera0, digest0, value_range=range0)
    return record0, ImageRecord(str(b), *image1.size, camera1, digest1, value_range=range1)


def _cameras(image0: ImageHeader, image1: ImageHeader, options: TwoImageOptions) -> list[CameraPrior]:
    given = (options.intrinsics, options.intrinsics_b or options.intrinsics)
    if options.intrinsics and not options.intrinsics_b and image0.size != image1.size:
        sizes = " but ".join(f"{p.name} is {p.size[0]}x{p.size[1]}" for p in (image0, image1))
        raise BadOption(f"--intrinsics holds for images of one size: {sizes}; give those of B with --intrinsics-b")
    cameras = []
    for image, intrinsics in zip((image0, image1), given, strict=True):
        image_options = ImageOptions(camera_model=options.camera_model, intrinsics=intrinsics)
        camera = cameras_of([image], image_options)[image.name]
        cameras.append(replace(camera, group=GIVEN) if intrinsics else camera)
    return cameras


# --- the pure core ------------------------------------------------------------------------------


def two_view(
    matches: Matches,
    images: Records,
    *,
    max_error: float,
    seed: int = 0,
    dense: bool = False,
    image_rotation: int = 0,
    matcher: Mapping[str, str] | None = None,
) -> TwoViewResult:
    """Geometry of the matches of two images whose cameras are known or guessed.

    max_error: px of the images. dense: the matches are a network's, whose confidences say how right they are.
    """
    options = VerificationOptions()
    cameras = prior_camera(images[0]), prior_camera(images[1])
    geometry = verify_pair(A_AND_B, matches, cameras, options, max_error=max_error, seed=seed)
    inliers = np.zeros(len(matches), bool)
    inliers[geometry.inliers] = True
    images = _with_focal_of(geometry, images)
    pose = estimate_pose(geometry, matches, images, POSE_ERROR * max_error, seed)
    moved = pose is not None and bool(np.any(pose[:, 3]))
    parallax = parallax_deg(matches, inliers, images, pose) if pose is not None else None
    spread = None
    if pose is not None and geometry.kind not in FLAT_KINDS and all(i.camera.has_focal_prior for i in images):
        spread = pose_spread_deg(matches, inliers, images, pose, POSE_ERROR * max_error, seed=seed)
    error = None
    if geometry.F is not None and inliers.any():
        error = _finite(epipolar_line_distance(matches.points0[inliers], matches.points1[inliers], geometry.F).mean())
    return TwoViewResult(
        images=images,
        matches=matches,
        kind=geometry.kind,
        inliers=inliers,
        F=geometry.F,
        E=essential_matrix(pose) if pose is not None and moved else None,
        cam1_from_cam0=pose,
        parallax_deg=parallax,
        pose_spread_deg=spread,
        epipolar_px=error,
        remarks=_remarks(geometry.kind, inliers, parallax, spread, images, options.min_inliers)
        + (_little_explained(matches, inliers, images) if dense and inliers.any() else ()),
        image_rotation=image_rotation,
        matcher=matcher or {},
    )


def _with_focal_of(geometry: TwoViewGeometry, images: Records) -> Records:
    """The images with the focal length from their F, where nothing else gives it."""
    image0, image1 = images
    one_size = (image0.width, image0.height) == (image1.width, image1.height)
    known = image0.camera.has_focal_prior or image1.camera.has_focal_prior
    if known or not one_size or geometry.F is None or geometry.kind in FLAT_KINDS:
        return images
    focal = focal_of_pair(geometry.F, image0.width, image0.height)
    if focal is None:
        return images
    cameras = [replace(with_focal(p.camera, focal, p.width, p.height), group=ESTIMATED) for p in images]
    return replace(image0, camera=cameras[0]), replace(image1, camera=cameras[1])


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _little_explained(matches: Matches, inliers: NDArray[np.bool_], images: Records) -> tuple[str, ...]:
    """A warning where the geometry leaves much unexplained of what a network is sure of."""
    least = explained(matches, inliers, images)
    warning = f"by their confidence as little as {least:.0%} of the matches may be inliers: the pose may be wrong"
    return () if least > MIN_EXPLAINED else (warning,)


def _remarks(
    kind: str,
    inliers: NDArray[np.bool_],
    parallax: float | None,
    spread: float | None,
    images: Records,
    min_inliers: int,
) -> tuple[str, ...]:
    """Warnings about the geometry or the pose."""
    num, num_inliers = len(inliers), int(inliers.sum())
    if num < min_inliers:
        return (f"too few matches for a geometry: {num}, at least {min_inliers} are needed",)
    if num_inliers == 0:
        return ("no geometry fits more matches than expected by chance: the images may not show the same place",)
    found = []
    if kind in FLAT_KINDS:
        found.append("the matches are on a plane, or the camera only rotated: F is undetermined, the pose may be wrong")
    if num_inliers < FEW_INLIERS:
        found.append(f"only {counted(num_inliers, 'inlier')}")
    if num_inliers < LOW_RATIO * num:
        found.append(f"only {num_inliers / num:.0%} of the matches are inliers")
    if parallax is not None and parallax < LITTLE_PARALLAX_DEG:
        found.append(f"hardly any parallax ({parallax:.1f}°): the direction of the translation is uncertain")
    if parallax is not None and parallax > WIDE_PARALLAX_DEG:
        found.append(f"a parallax of {parallax:.0f}° is more than images that match can have: the pose is likely wrong")
    if spread is not None and spread > MAX_SPREAD_DEG:
        found.append(f"the pose is not determined well: without half of the inliers it differs by {spread:.0f}°")
    if any(image.camera.group == ESTIMATED for image in images):
        found.append("the focal length is estimated from these matches alone: --intrinsics gives a better pose")
    if not all(image.camera.has_focal_prior for image in images):
        found.append(
            f"a focal length is only guessed ({GUESSED_FOCAL:g} x the longer side), and the pose depends on it: "
            "give --intrinsics"
        )
    return tuple(found)
