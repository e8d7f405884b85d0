"""Angles and rotations of known scenes: what shows depth, and what a camera that only rotated would show as well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm.colmap.model_arrays import ModelColumns
from sfm.geometry.poses import relative_pose
from sfm.quality import parallax
from tests.support.degenerate_scenes import rotating
from tests.support.mapping_scene import FOCAL, HEIGHT, WIDTH, camera_poses, project


def seen_by(poses, xyz, columns: ModelColumns) -> ModelColumns:
    """Exact columns of points that all images see; cameras and the rest are those of another model."""
    image, point = np.meshgrid(np.arange(len(poses)), np.arange(len(xyz)))
    return replace(
        columns,
        names=tuple(map(str, range(len(poses)))),
        cameras=(columns.cameras[0],) * len(poses),
        rotations=np.array(poses)[:, :, :3],
        translations=np.array(poses)[:, :, 3],
        xyz=xyz,
        point=point.ravel(),
        image=image.ravel(),
        xy=np.array(project(poses, xyz)).transpose(1, 0, 2).reshape(-1, 2),
    )


@pytest.fixture
def columns(mapped) -> ModelColumns:
    return ModelColumns.of(mapped[1].models[0])


def test_angles_are_the_widest_of_each_point(columns):
    middle = seen_by(camera_poses(), np.zeros((1, 3)), columns)  # cameras 12 degrees apart look at it
    assert middle.triangulation_angles() == pytest.approx([60.0], abs=0.5)
    assert columns.triangulation_angles().shape == (len(columns.xyz),)


def test_a_rotation_explains_what_it_made_at_the_right_focal_length_only():
    rng, poses = np.random.default_rng(0), rotating()
    xy = rng.uniform([-300, -200], [300, 200], (400, 2))
    rays = np.column_stack([xy / FOCAL, np.ones(400)]) @ relative_pose(poses[1], poses[3])[:, :3].T
    other = FOCAL * rays[:, :2] / rays[:, 2:]
    focals = np.array([FOCAL, 3 * FOCAL])
    right, wrong = parallax.rotated_matches((xy, focals), (other, focals), max_error=0.01)
    assert right == 400
    assert wrong < 40
    other[:100] += 5  # the best rotation takes up a quarter of it
    assert parallax.rotated_matches((xy, focals), (other, focals), max_error=4.0)[0] == 300


def test_a_slow_video_of_a_moving_camera_is_not_explained_by_rotating(columns):
    """Each image hardly differs from its neighbours; the first and the last do."""
    poses = [np.column_stack([np.eye(3), [-0.01 * i, 0, 0]]) for i in range(60)]
    xyz = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 6], (100, 3))
    video = seen_by(poses, xyz, columns)
    neighbours = np.linalg.norm(np.subtract(*project(poses[:2], xyz)), axis=1)
    assert neighbours.max() < 4
    assert parallax.rotation_share(video, np.full((60, 1), FOCAL), max_error=4.0) < 0.5


def test_rotating_is_explained_by_rotating(columns):
    xyz = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 6], (100, 3))
    rotated = seen_by(rotating(5), xyz, columns)
    assert parallax.rotation_share(rotated, np.full((5, 1), FOCAL), max_error=0.1) == 1.0
    assert (columns.cameras[0].width, columns.cameras[0].height) == (WIDTH, HEIGHT)


def test_few_shared_points_are_no_pair(columns):
    few = seen_by(rotating(5), np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 6], (29, 3)), columns)
    assert list(parallax.widest_pairs(few)) == []
    assert parallax.rotation_share(few, np.full((5, 1), FOCAL), max_error=4.0) == 0.0


def test_faces_of_one_panorama_are_no_sign_that_a_camera_only_rotated(columns):
    """Two places of three faces each, which overlap most with each other: only between places does anything differ."""
    xyz = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 6], (100, 3))
    faces = rotating(3)
    moved = [np.column_stack([pose[:, :3], pose[:, :3] @ [-1.0, 0.0, 0.0] + pose[:, 3]]) for pose in faces]
    panoramas = seen_by([*faces, *moved], xyz, columns)
    pairs = [(a, b) for a, b, _, _ in parallax.widest_pairs(panoramas)]
    assert pairs
    assert all((a < 3) != (b < 3) for a, b in pairs)
    assert parallax.rotation_share(panoramas, np.full((6, 1), FOCAL), max_error=4.0) < 0.5
