"""Copies of a piece look equal wherever they stand."""

from __future__ import annotations

import numpy as np

from sfm.datasets.alike import parts
from sfm.datasets.alike.rendering import CopyRenderer, Piece, Pose
from sfm.datasets.alike.sets import FOCAL_35MM
from sfm.datasets.courtyard.surfaces import box
from sfm.datasets.courtyard.synthetic import camera_matrix, look_at, photograph

SIZE = (64, 48)


def _seen(renderer, pose, centre=(0.6, -3.0, 1.2)):
    """A piece, seen from the same side of it wherever it stands."""
    place = pose.rotation @ np.array(centre) + [pose.x, pose.y, 0]
    target = pose.rotation @ np.array([0.0, 0.0, 0.8]) + [pose.x, pose.y, 0]
    return photograph(renderer, look_at(place, target), camera_matrix(SIZE, FOCAL_35MM), 0.0, SIZE)


def test_copies_look_equal_and_other_pieces_do_not():
    front = (box((-1.0, 0.0, 0.0), (1.0, 0.4, 1.8), "ashlar"), *parts.sign(0.2, 0.8, 0.6))
    other = (box((-1.0, 0.0, 0.0), (1.0, 0.4, 1.8), "brick"),)
    poses = Pose(), Pose(90.0, 20.0, 3.0), Pose(203.0, -15.0, 8.0)
    pieces = [*(Piece(front, pose) for pose in poses), Piece(other, Pose(0.0, 0.0, 40.0))]
    renderer = CopyRenderer(pieces, parts.materials())
    first, depth = _seen(renderer, poses[0])
    assert first[depth < 10].std() > 0.05  # there is something to see
    for pose in poses[1:]:
        radiance, depth_there = _seen(renderer, pose)
        both = (depth < 10) & (depth_there < 10)
        assert both.sum() > 0.99 * (depth < 10).sum()
        np.testing.assert_allclose(depth_there[both], depth[both], rtol=1e-3)
        off = np.abs(radiance - first)[both]
        assert np.quantile(off, 0.95) < 0.03  # single pixels at edges and joints
    unlike, depth_there = _seen(renderer, Pose(0.0, 0.0, 40.0))
    both = (depth < 10) & (depth_there < 10)
    assert np.median(np.abs(unlike - first)[both]) > 0.05
