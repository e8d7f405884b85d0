"""Misplaced cameras and right matches, by arithmetic that is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.alike import Row, table
from benchmarks.alike_truth import Truth, misplaced
from sfm.datasets.courtyard.synthetic import look_at
from sfm.types import ImagePair

K = np.array([[260.0, 0, 160], [0, 260.0, 120], [0, 0, 1]])


def _ring(num):
    return {
        f"a_{k:02d}.jpg": look_at(np.array([8 * np.sin(t), -8 * np.cos(t), 1.5]), np.array([0.0, 0.0, 1.0]))
        for k, t in enumerate(np.linspace(0, 2 * np.pi, num, endpoint=False))
    }


def _truth(poses):
    depths = {name: np.full((240, 320), 6.0, np.float16) for name in poses}
    return Truth(poses, depths, K, 8.0, 1)


def _moved(poses, scale=0.3):
    """The same cameras in another frame."""
    turn = np.linalg.qr(np.array([[1.0, 0.4, -0.3], [-0.2, 1.0, 0.5], [0.6, -0.1, 1.0]]))[0]
    turn *= np.sign(np.linalg.det(turn))
    result = {}
    for name, pose in poses.items():
        rotation = pose[:, :3] @ turn.T
        centre = scale * turn @ (-pose[:, :3].T @ pose[:, 3]) + [3.0, -2.0, 1.0]
        result[name] = np.column_stack([rotation, -rotation @ centre])
    return result


def test_a_model_in_another_frame_has_no_misplaced_camera():
    poses = _ring(12)
    assert misplaced(_moved(poses), _truth(poses)) == ()


def test_cameras_that_were_put_on_the_other_side_are_misplaced():
    poses = _ring(12)
    names = sorted(poses)
    folded = dict(poses) | {names[k]: poses[names[k - 6]] for k in range(8, 12)}
    assert misplaced(_moved(folded), _truth(poses)) == tuple(names[8:])


def test_matches_are_right_where_they_lead_to_the_same_spot():
    poses = _ring(12)
    pair = ImagePair("a_00.jpg", "a_01.jpg")
    rng = np.random.default_rng(0)
    points0 = rng.uniform((60, 60), (260, 180), (50, 2))
    rays = np.column_stack([(points0 - K[:2, 2]) / 260, np.ones(50)])
    pose0, pose1 = poses[pair.name0], poses[pair.name1]
    local = (6.0 * rays - pose0[:, 3]) @ pose0[:, :3] @ pose1[:, :3].T + pose1[:, 3]
    points1 = 260 * local[:, :2] / local[:, 2:] + K[:2, 2]
    points1[:20] += 30
    assert _truth(poses).share_right(pair, points0, points1) == pytest.approx(0.6)


def test_table_counts_folded_sets():
    rows = [Row("one", 20, 20, (20,), (9,), 2, 0, 0, 80), Row("two", 20, 18, (10, 8), (0, 1), 2, 80, 0, 0)]
    text = table(rows)
    assert "| one | **folded** | 20 of 20 | 20 (2) | 9 | 0 | 0 | 80 |" in text
    assert "| two | no | 18 of 20 | 10 + 8 (2) | 0 + 1 | 80 | 0 | 0 |" in text
    assert "1 of 2 folded; 2 images in no model" in text
