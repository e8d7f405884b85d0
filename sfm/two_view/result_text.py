"""The geometry of two images as numbers for JSON and as a few lines for the console."""

from __future__ import annotations

from typing import Any

import numpy as np

from sfm.colmap.camera import prior_camera
from sfm.two_view.api import TwoViewResult
from sfm.types import Float64, ImageRecord


def result_dict(result: TwoViewResult) -> dict[str, Any]:
    """The numbers as plain finite values for JSON; arrays of matches are not among them."""
    pose = result.cam1_from_cam0
    return {
        "photos": [_image_dict(*both) for both in zip(result.images, result.focal_sources, strict=True)],
        "matcher": dict(result.matcher),
        "turned_deg": 90 * result.image_rotation,
        "matches": len(result.matches),
        "inliers": result.num_inliers,
        "inlier_ratio": result.inlier_ratio,
        "aligned": result.num_aligned,
        "geometry": result.kind,
        "F": _rows(result.F),
        "E": _rows(result.E),
        "cam1_from_cam0": _rows(pose),
        "rotation_deg": result.rotation_deg,
        "camera1_seen_from_camera0": None if result.centre1_in_cam0 is None else result.centre1_in_cam0.tolist(),
        "parallax_median_deg": result.parallax_deg,
        "pose_spread_deg": result.pose_spread_deg,
        "epipolar_distance_mean_px": result.epipolar_px,
        "trusted": result.trusted,
        "remarks": list(result.remarks),
    }


def _image_dict(image: ImageRecord, focal_source: str) -> dict[str, Any]:
    return {
        "file": image.name,
        "sha256": image.digest,
        "width": image.width,
        "height": image.height,
        "camera_model": image.camera.model,
        "camera_params": image.camera.params.tolist(),
        "focal_px": focal_px(image),
        "focal_source": focal_source,
    }


def _rows(matrix: Float64 | None) -> list[list[float]] | None:
    return None if matrix is None else [[float(value) for value in row] for row in matrix]


def focal_px(image: ImageRecord) -> float:
    """Focal length of an image's camera, px; the mean where its model has two."""
    return float(prior_camera(image).mean_focal_length())


def result_text(result: TwoViewResult) -> str:
    """A few lines for the console."""
    num, cells = len(result.matches), len(np.unique(np.stack([result.matches.cells0, result.matches.cells1]), axis=1).T)
    both = f" ({cells:,} pairs of cells, refined in both images)" if 0 < cells < num else ""
    lines = [
        f"matches      {num:,}{both}"
        + (f", B rotated by {90 * result.image_rotation}°" if result.image_rotation else ""),
        f"inliers      {result.num_inliers:,} ({result.inlier_ratio:.0%}), geometry: {result.kind}",
    ]
    if result.num_aligned is not None:
        lines.append(f"aligned      {result.num_aligned:,} matches, each patch of A found in B")
    if result.epipolar_px is not None:
        lines.append(f"epipolar     {result.epipolar_px:.2f} px mean distance of the inliers to their lines")
    if result.cam1_from_cam0 is not None and result.rotation_deg is not None:
        lines.append(f"rotation     {result.rotation_deg:.2f}° from A to B")
    if result.centre1_in_cam0 is not None and result.E is not None:
        lines.append(f"translation  camera B as seen from A: {_in_words(result.centre1_in_cam0)} (of length 1)")
    if result.parallax_deg is not None:
        spread = result.pose_spread_deg
        lines.append(
            f"parallax     {result.parallax_deg:.1f}° median" + ("" if spread is None else f"; pose ± {spread:.1f}°")
        )
    described = zip("AB", result.images, result.focal_sources, strict=True)
    focals = (f"{letter} {focal_px(image):.0f} px ({source})" for letter, image, source in described)
    lines.append(f"focal        {', '.join(focals)}")
    return "\n".join([*lines, *(f"warning      {remark}" for remark in result.remarks)])


def _in_words(direction: Float64) -> str:
    words = (("right", "left"), ("down", "up"), ("forward", "back"))
    return ", ".join(f"{abs(v):.2f} {pair[int(v < 0)]}" for v, pair in zip(direction, words, strict=True))
