"""Whether a finished model is consistent with the verified matches from which it was built.

Images of one frame of a rig have one pose together, so they are judged together. Two questions, both answered by
majority. Of an image: are the 3D points that its matches say it sees
where it sees them? A pose may satisfy every epipolar line of its pairs and still be wrong, above all
under a long lens, but its points then fall out of the tracks of the others. Of a pair: do its matches
satisfy the model's epipolar geometry? A few false matches on repeated structure can make the whole mapping
fail. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.geometry.epipolar import epipolar_distance, essential_matrix, fundamental_matrix, ray_epipolar_distance
from sfm.geometry.fisheye import is_fisheye, rays_of
from sfm.geometry.poses import relative_pose
from sfm.types import Float64, ImagePair, Int64, KeypointMatches, Keypoints


def shares_seen(model: pycolmap.Reconstruction, matches: Sequence[KeypointMatches]) -> dict[str, float]:
    """Of each image in the model the share of points, among those its matches lead to, that it observes.

    Only points that at least two other images observe count; 0 where there is none. Images of one frame of a rig have
    one share together.
    """
    frame_of = frames_of(model)
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
    seen: dict[str, list[NDArray[np.bool_]]] = {}
    for name, rows in due.items():
        seen.setdefault(frame_of[name], []).append(points[name][rows] >= 0)
    shares = {frame: np.concatenate(own) for frame, own in seen.items()}
    return {name: float(shares[f].mean()) if len(shares[f := frame_of[name]]) else 0.0 for name in due}


def frames_of(model: pycolmap.Reconstruction) -> dict[str, str]:
    """Of each image in the model the first image (by id) of its frame: itself, unless cameras are mounted together."""
    first: dict[int, str] = {}
    images = [model.image(image_id) for image_id in sorted(model.reg_image_ids())]
    return {image.name: first.setdefault(image.frame_id, image.name) for image in images}


def _point_ids(image: pycolmap.Image) -> Int64:
    """3D point of each keypoint (N,), -1 where it has none."""
    return np.array([p.point3D_id if p.has_point3D() else -1 for p in image.points2D], np.int64)


def misregistered(
    model: pycolmap.Reconstruction, matches: Sequence[KeypointMatches], votes: Mapping[ImagePair, int]
) -> frozenset[str]:
    """Names of misregistered images.

    They do not observe even half of the points that their matches lead to, or they are of a group of
    images whose matches with the others contradict the model. With only two images nothing can be concluded.
    votes: of `pair_votes`.
    """
    if model.num_reg_images() < 3:
        return frozenset()
    shares = shares_seen(model, matches)
    apart = groups_apart(sorted(shares), votes, frames_of(model))
    return apart | {name for name, share in shares.items() if share < 0.5}


def point_votes(model: pycolmap.Reconstruction, matches: Sequence[KeypointMatches]) -> dict[ImagePair, int]:
    """Of each pair in the model how many more of its matches lead to one 3D point than to two different ones."""
    points = {model.image(i).name: _point_ids(model.image(i)) for i in model.reg_image_ids()}
    result = {}
    for own in matches:
        name0, name1 = own.pair.name0, own.pair.name1
        if name0 in points and name1 in points:
            rows0, rows1 = own.indices.astype(np.int64).T
            points0, points1 = points[name0][rows0], points[name1][rows1]
            both = (points0 >= 0) & (points1 >= 0)
            result[own.pair] = int(np.where(points0 == points1, 1, -1)[both].sum())
    return result


def groups_apart(names: Sequence[str], votes: Mapping[ImagePair, int], frame_of: Mapping[str, str]) -> frozenset[str]:
    """Images whose votes with the largest group of images that agree with each other contradict it.

    frame_of: of each image the one that stands for its frame (frames_of); images of a frame are in one group.
    """
    if not names:
        return frozenset()
    between: dict[ImagePair, int] = {}
    for pair, net in votes.items():
        frame0, frame1 = frame_of[pair.name0], frame_of[pair.name1]
        if frame0 != frame1:
            own = ImagePair.of(frame0, frame1)
            between[own] = between.get(own, 0) + net
    largest = _largest_group(list(dict.fromkeys(frame_of[name] for name in names)), between)
    return frozenset(name for name in names if frame_of[name] not in largest)


def _largest_group(names: Sequence[str], votes: Mapping[ImagePair, int]) -> frozenset[str]:
    """The most names of one group (ties: the first name's); groups join, strongest pair first, where all their
    pairs together agree."""
    group = {name: frozenset({name}) for name in names}
    label = {name: name for name in names}  # of a group: one of its names
    between: dict[str, dict[str, int]] = {name: {} for name in names}  # votes between groups, by their labels
    for pair, net in votes.items():
        between[pair.name0][pair.name1] = between[pair.name1][pair.name0] = net
    for pair in sorted(votes, key=lambda p: (-votes[p], p)):
        a, b = sorted((label[pair.name0], label[pair.name1]), key=lambda name: (-len(between[name]), name))
        if a == b or votes[pair] < 0 or between[a][b] < 0:
            continue
        for other, net in between.pop(b).items():
            del between[other][b]
            if other != a:
                between[a][other] = between[other][a] = between[a].get(other, 0) + net
        joined = group[a] | group[b]
        label.update(dict.fromkeys(group.pop(b), a))
        group[a] = joined
    return group[label[max(names, key=lambda name: len(group[label[name]]))]]


def pair_votes(
    model: pycolmap.Reconstruction,
    keypoints: Mapping[str, Keypoints],
    matches: Sequence[KeypointMatches],
    max_error: float,
) -> dict[ImagePair, int]:
    """Of each pair in the model how many more of its matches agree with it than contradict it.

    A match agrees where it is within max_error px of its epipolar lines.
    """
    images = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    fisheye = {name for name, image in images.items() if is_fisheye(_camera(image).model_name)}
    views = {name: _pinhole_px(image, keypoints[name]) for name, image in images.items()}
    result = {}
    for own in matches:
        name0, name1 = own.pair.name0, own.pair.name1
        if name0 not in images or name1 not in images or len(own.indices) == 0:
            continue
        pose0, pose1 = (images[name].cam_from_world().matrix() for name in (name0, name1))
        motion = relative_pose(pose0, pose1)
        if name0 in fisheye or name1 in fisheye:
            distance = _angular_px(images[name0], images[name1], keypoints, own, motion)
        else:
            (points0, K0), (points1, K1) = views[name0], views[name1]
            F = fundamental_matrix(K0, K1, motion)
            distance = epipolar_distance(points0[own.indices[:, 0]], points1[own.indices[:, 1]], F)
        result[own.pair] = int(2 * np.count_nonzero(distance <= max_error) - len(distance))
    return result


def _pinhole_px(image: pycolmap.Image, keypoints: Keypoints) -> tuple[Float64, Float64]:
    """Keypoints (N, 2) px of the same camera without distortion, principal point at 0, and its K (3, 3)."""
    camera = _camera(image)
    focal = camera.mean_focal_length()
    rays = camera.cam_from_img(np.ascontiguousarray(keypoints.xy, np.float64))
    return focal * np.asarray(rays, np.float64).reshape(-1, 2), np.diag([focal, focal, 1.0])


def _angular_px(
    image0: pycolmap.Image,
    image1: pycolmap.Image,
    keypoints: Mapping[str, Keypoints],
    matches: KeypointMatches,
    cam1_from_cam0: Float64,
) -> Float64:
    """Distances of matches (M,) to a pose's epipolar planes, px at the middle of the images."""
    cameras = _camera(image0), _camera(image1)
    rays = [
        rays_of(camera, keypoints[image.name].xy[matches.indices[:, side]])
        for side, (image, camera) in enumerate(zip((image0, image1), cameras, strict=True))
    ]
    focal = (cameras[0].mean_focal_length() + cameras[1].mean_focal_length()) / 2
    return np.asarray(focal * ray_epipolar_distance(rays[0], rays[1], essential_matrix(cam1_from_cam0)))


def _camera(image: pycolmap.Image) -> pycolmap.Camera:
    camera = image.camera
    assert camera is not None
    return camera
