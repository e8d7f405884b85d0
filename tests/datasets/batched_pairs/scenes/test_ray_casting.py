"""ray_casting: hits, shadows and distances against what geometry says."""

from __future__ import annotations

import math

import pytest
import torch

from sfm.datasets.batched_pairs.scenes.ray_casting import BALL, BOX, CYLINDER, Bodies, distance, hidden, nearest
from sfm.datasets.batched_pairs.scenes.scene_parts import about_z

ROOM = (torch.tensor([[-5.0, -5, 0]]), torch.tensor([[5.0, 5, 3]]))


def bodies(kind: int, *, half=(0.5, 0.5, 0.5), yaw: float = 0.0) -> Bodies:
    """One body about (0, 2, 1) in a room of 10 x 10 x 3 m."""
    return Bodies(
        torch.tensor([[kind]]),
        about_z(torch.tensor([[yaw]])),
        torch.tensor([[[0.0, 2, 1]]]),
        torch.tensor([[list(half)]]),
        *ROOM,
    )


def cast(scene: Bodies, origin, direction) -> tuple[float, int]:
    t, body = nearest(*scene.tensors(), torch.tensor([[origin]]), torch.tensor([[direction]]))
    return t.item(), int(body)


@pytest.mark.parametrize("kind", [BOX, BALL, CYLINDER])
def test_each_kind_is_hit_in_the_middle(kind):
    assert cast(bodies(kind), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)) == (pytest.approx(1.5, abs=1e-5), 0)


@pytest.mark.parametrize(("kind", "depth"), [(BOX, 1.5), (BALL, 2 - math.sqrt(0.25 - 0.16 - 0.01)), (CYLINDER, 1.7)])
def test_beside_the_middle_the_shape_tells(kind, depth):
    t, body = cast(bodies(kind), (0.4, 0.0, 1.1), (0.0, 2.0, 0.0))  # directions need no unit length
    assert (t, body) == (pytest.approx(depth / 2, abs=1e-5), 0)


def test_a_turned_box_shows_its_edge():
    t, _ = cast(bodies(BOX, yaw=math.pi / 4), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
    assert t == pytest.approx(2 - math.sqrt(0.5), abs=1e-5)


def test_what_misses_meets_the_room():
    assert cast(bodies(BALL), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)) == (pytest.approx(5), 1 + 2)  # y low
    assert cast(bodies(BALL), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0)) == (pytest.approx(2), 1 + 5)  # the ceiling
    assert cast(bodies(BALL), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)) == (pytest.approx(5), 1 + 1)  # x high


def test_a_camera_inside_a_body_looks_through_it():
    assert cast(bodies(BOX), (0.0, 2.0, 1.0), (0.0, 1.0, 0.0)) == (pytest.approx(3), 1 + 3)


def test_shadows_end_at_the_light_and_lamps_throw_none():
    scene = bodies(BOX)
    shape = (scene.kind, scene.turn, scene.centre, scene.half)
    origins = torch.tensor([[[0.0, 0, 1], [0, 0, 1], [2, 0, 1]]])
    towards = torch.tensor([[[0.0, 4, 0], [0, 1, 0], [0, 4, 0]]])
    assert hidden(*shape, torch.tensor([[False]]), origins, towards).tolist() == [[True, False, False]]
    assert not hidden(*shape, torch.tensor([[True]]), origins, towards).any()


@pytest.mark.parametrize("kind", [BOX, BALL, CYLINDER])
def test_distance(kind):
    scene = bodies(kind)
    points = torch.tensor([[[0.0, 1, 1], [0, 1.7, 1], [0, -4.9, 1], [0, 0, 0.2]]])
    found = distance(*scene.tensors(), points)
    assert found[0].tolist() == pytest.approx([0.5, -0.2, 0.1, 0.2], abs=1e-4)
