"""Whether a finished model agrees with the verified matches that it is made of.

Two questions, both answered by majority. Of an image: are the 3D points that its matches say it sees
where it sees them? A pose may satisfy every epipolar line of its pairs and still be wrong, above all
under a long lens, but its points then fall out of the tracks of the others. Of a pair: do its matches
lie on the model's epipolar lines? A few false matches of two places that look alike can lead the whole
mapping astray. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pycolmap

from sfm.geometry import epipolar_distance, fundamental_matrix, relative_pose
from sfm.types import Float64, ImagePair, Int64, KeypointMatches, Keypoints


def shares_seen(model: pycolmap.Reconstruction, matches: Sequence[KeypointMatches]) -> dict[str, float]:
    """Of each image in the model the share of points, among those its matches lead to, that it observes.

    Only points that at least two other images observe count; 0 where there is none.
    """
    images = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    points = {name: _point_ids(image) for name, image in images.items()}
    track_length = {point_id: point.track.length() for point_id, point in model.points3D.items()}
    lengths = {
        name: np.array([track_length.get(int(i), 0) for i in own], np.int64).reshape(-1) for name, own in points.items()
    }
    due = {name: np.zeros(len(own), bool) for name, own in points.items()}
    for own in matches:
        name0, name1 = own.pair.name0, own.pair.name1
        if name0 not in images or name1 not in images:
            continue
        rows0, rows1 = own.indices.astype(np.int64).T
        same = (points[name0][rows0] == points[name1][rows1]) & (points[name0][rows0] >= 0)
        least = np.where(same, 3, 2)  # the image itself does not count
        due[name0][rows0[lengths[name1][rows1] >= least]] = True
        due[name1][rows1[lengths[name0][rows0] >= least]] = True
    return {name: float((points[name][rows] >= 0).mean()) if rows.any() else 0.0 for name, rows in due.items()}


def _point_ids(image: pycolmap.Image) -> Int64:
    """3D point of each keypoint (N,), -1 where it has none."""
    return np.array([p.point3D_id if p.has_point3D() else -1 for p in image.points2D], np.int64)


def misplaced(
    model: pycolmap.Reconstruction, matches: Sequence[KeypointMatches], contradicted: frozenset[ImagePair]
) -> frozenset[str]:
    """Names of images in wrong places.

    They do not observe even half of the points that their matches lead to, or no chain of pairs that
    agree with the model connects them with most of its images. Two images alone cannot be judged.
    contradicted: of `contradicted_pairs`.
    """
    if model.num_reg_images() < 3:
        return frozenset()
    shares = shares_seen(model, matches)
    agreeing = [m.pair for m in matches if len(m.indices) and m.pair not in contradicted]
    apart = frozenset(shares) - _largest_group(sorted(shares), agreeing)
    return apart | {name for name, share in shares.items() if share < 0.5}


def _largest_group(names: Sequence[str], pairs: Sequence[ImagePair]) -> frozenset[str]:
    """The most names that pairs connect with each other (ties: the group of the first name)."""
    group = {name: {name} for name in names}
    for pair in pairs:
        if pair.name0 in group and pair.name1 in group and group[pair.name0] is not group[pair.name1]:
            merged = group[pair.name0] | group[pair.name1]
            group.update(dict.fromkeys(merged, merged))
    return frozenset(group[max(names, key=lambda name: len(group[name]))])


def contradicted_pairs(
    model: pycolmap.Reconstruction,
    keypoints: Mapping[str, Keypoints],
    matches: Sequence[KeypointMatches],
    max_error: float,
) -> frozenset[ImagePair]:
    """Pairs in the model of which not even half of the matches are within max_error px of their epipolar lines."""
    images = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    views = {name: _pinhole_px(image, keypoints[name]) for name, image in images.items()}
    result = set()
    for own in matches:
        name0, name1 = own.pair.name0, own.pair.name1
        if name0 not in images or name1 not in images or len(own.indices) == 0:
            continue
        (points0, K0), (points1, K1) = views[name0], views[name1]
        pose0, pose1 = (images[name].cam_from_world().matrix() for name in (name0, name1))
        F = fundamental_matrix(K0, K1, relative_pose(pose0, pose1))
        distance = epipolar_distance(points0[own.indices[:, 0]], points1[own.indices[:, 1]], F)
        if 2 * np.count_nonzero(distance <= max_error) < len(distance):
            result.add(own.pair)
    return frozenset(result)


def _pinhole_px(image: pycolmap.Image, keypoints: Keypoints) -> tuple[Float64, Float64]:
    """Keypoints (N, 2) px of the same camera without distortion, principal point at 0, and its K (3, 3)."""
    camera = image.camera
    assert camera is not None
    focal = camera.mean_focal_length()
    rays = camera.cam_from_img(np.ascontiguousarray(keypoints.xy, np.float64))
    return focal * np.asarray(rays, np.float64).reshape(-1, 2), np.diag([focal, focal, 1.0])
