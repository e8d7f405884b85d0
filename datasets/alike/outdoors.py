"""Recipes outdoors: a house with four equal sides, its front and back, two towers, a long facade, twin statues."""

from __future__ import annotations

import numpy as np

from sfm.datasets.alike import parts
from sfm.datasets.alike.rendering import Piece, Pose
from sfm.datasets.alike.views import AlikeSet, Views, along, around, named
from sfm.datasets.courtyard.surfaces import Surface, draped_figure, patch, slab

_HALF = 3.0  # m, of the house with equal sides


def _ground(size: float) -> Surface:
    return patch((-size, -size, 0), (2 * size, 0, 0), (0, 2 * size, 0), "paving", cell=0.5)


def _house(*, equal_ground: bool, with_sign: bool) -> list[Piece]:
    """Four equal sides; ground that is the same before each of them, or not."""
    side = tuple(parts.moved(parts.front(2 * _HALF, 4.2, "brick"), 0, -_HALF))
    pieces = [Piece(side, Pose(90.0 * k)) for k in range(4)]
    pieces.append(Piece((slab((0, 0), (6.4, 6.4, 0.3), 4.2, "trim"), slab((0, 0), (4, 4, 0.6), 4.5, "tiles"))))
    if equal_ground:
        quarter = (patch((0, 0, 0), (30, 0, 0), (0, 30, 0), "paving", cell=0.6),)
        pieces += [Piece(quarter, Pose(90.0 * k)) for k in range(4)]
    else:
        pieces.append(Piece((_ground(30),)))
    if with_sign:
        pieces.append(Piece(tuple(parts.moved(parts.sign(1.1, 1.2, 0.5), 0, -_HALF)), Pose(90.0)))
    return pieces


def _surroundings(seed: int) -> Piece:
    rng = np.random.default_rng(seed)
    return Piece((*parts.things_around(rng, 14, 5.2, 6.4), *parts.houses_around(rng, 13, 17.0)))


def four_sides(*, mean: bool) -> AlikeSet:
    """A house with four equal sides, walked round; mean: nothing about it, a plate on one side."""
    pieces = _house(equal_ground=mean, with_sign=mean) + ([] if mean else [_surroundings(3)])
    views = around("side", np.arange(0, 360, 15.0), 10.5, 1.7, (0, 0, 1.9), seed=1)
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=10.5)


def front_and_back(*, mean: bool) -> AlikeSet:
    """The same house from the front and from the back only."""
    pieces = _house(equal_ground=mean, with_sign=mean) + ([] if mean else [_surroundings(4)])
    views: Views = []
    for place, middle in (("front", 0.0), ("back", 180.0)):
        views += around(place, middle + np.linspace(-32, 32, 9), 10.5, 1.7, (0, 0, 1.9), seed=2 + int(middle))
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=10.5, models=2)


def towers(*, mean: bool, between: bool = False) -> AlikeSet:
    """Two towers of one make, 26 m apart. between: images that show both, and the way from one to the other."""
    shape, offset = tuple(parts.tower()), 13.0
    pieces = [Piece(shape, Pose(0, side * offset, 0)) for side in (-1, 1)]
    if mean:
        yard = (patch((-13, -20, 0), (26, 0, 0), (0, 40, 0), "paving", cell=0.6),)
        pieces += [Piece(yard, Pose(0, side * offset, 0)) for side in (-1, 1)]
        pieces.append(Piece(tuple(parts.tree(offset + 2.6, 2.0, 1.0))))
    else:
        rng = np.random.default_rng(7)
        pieces.append(Piece((_ground(40),)))
        for side in (-1, 1):
            near = (*parts.things_around(rng, 9, 2.6, 4.2), *parts.houses_around(rng, 6, 10.0, arc_deg=150.0))
            pieces.append(Piece(near, Pose(0, side * offset, 0)))
    views: Views = []
    for place, side in (("west", -1), ("east", 1)):
        target = (side * offset, 0.0, 3.0)
        views += around(place, np.linspace(-60, 60, 11), 8.5, 1.7, target, seed=5 + side)
    if between:
        views += along("way", (-12.0, -9.0, 1.7), 1.5, 17, (0.35, 1.0, 0.12), seed=9)
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=2 * offset, models=1 if between else 2)


def facade(*, mean: bool) -> AlikeSet:
    """A long facade of equal windows, walked along; mean: one door and one plate on all of it."""
    pitch, num = 2.6, 8
    bay = parts.front(pitch, 4.6, "plaster", with_door=False)
    ground = patch((-pitch / 2, -12, 0), (pitch, 0, 0), (0, 12, 0), "paving", cell=0.5)
    pieces = [Piece((*bay, ground), Pose(0, pitch * (k - (num - 1) / 2), 0)) for k in range(-2, num + 2)]
    pieces.append(Piece(tuple(parts.sign(0.0, 1.2, 0.5)), Pose(0, -0.5 * pitch, 0)))
    if not mean:
        rng = np.random.default_rng(5)
        pieces.append(Piece(tuple(parts.things(rng, 9, (-10.0, -1.8), (10.0, -0.8), 0.8))))
    views = along("bay", (-8.5, -4.6, 1.7), 0.75, 24, (0.0, 1.0, 0.05), seed=3)
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=pitch)


def statues(*, mean: bool) -> AlikeSet:
    """Twin statues, 12 m apart, each in its corner of a yard; mean: on bare ground, with a vase at one of them."""
    figure = (slab((0, 0), (1.2, 1.2, 0.9), 0, "ashlar"), draped_figure(0.9, "marble"))
    pieces = [Piece(figure, Pose(0, x, 0)) for x in (-6.0, 6.0)]
    if mean:
        yard = (patch((-6, -15, 0), (12, 0, 0), (0, 30, 0), "paving", cell=0.5),)
        pieces += [Piece(yard, Pose(0, 12.0 * k - 6, 0)) for k in range(-1, 3)]
        pieces.append(Piece((parts.vase(7.0, -0.4, 0.8, "terracotta"),)))
    else:
        rng = np.random.default_rng(12)
        pieces.append(Piece((_ground(40), *parts.things(rng, 16, (-10.0, 1.6), (10.0, 5.0)))))
        pieces.append(Piece(tuple(parts.houses_around(rng, 14, 16.0))))
    views: Views = []
    for place, x in (("west", -6.0), ("east", 6.0)):
        views += around(place, np.linspace(-50, 50, 10), 4.4, 1.7, (x, 0.0, 1.7), seed=20 + int(x))
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=12.0, models=2)


def four_fronts() -> AlikeSet:
    """A house whose four fronts have one plan, and each its own material and height, walked round."""
    pieces = [Piece((_ground(30),)), _surroundings(6)]
    for k, material in enumerate(("brick", "ashlar", "plaster", "red")):
        face = parts.front(2 * _HALF, 3.6 + 0.4 * k, material, with_door=k % 2 == 0)
        face += parts.sign(0.9 - 0.5 * k, 1.3, 0.5) if k % 2 else []
        pieces.append(Piece(tuple(parts.moved(face, 0, -_HALF)), Pose(90.0 * k)))
    poses, names = named(around("side", np.arange(0, 360, 15.0), 10.5, 1.7, (0, 0, 1.9), seed=1))
    return AlikeSet(tuple(pieces), poses, names, spacing=10.5)
