"""Recipes indoors: a corridor with equal doors, two equal rooms, a cup on a table, books of one series."""

from __future__ import annotations

import numpy as np

from sfm.datasets.alike import parts
from sfm.datasets.alike.rendering import Piece, Pose
from sfm.datasets.alike.views import AlikeSet, Views, along, around, named
from sfm.datasets.courtyard.surfaces import Surface, box, patch, solid_of_revolution, tube, wall


def corridor(*, mean: bool) -> AlikeSet:
    """A corridor with equal doors, walked along; plates and posters differ; mean: one plate, and nothing else."""
    pitch, num, width = 2.4, 7, 2.6
    bay: list[Surface] = [wall(pitch, 2.6, [], "plaster", depth=0.2), *parts.door(0.0, width=0.95, leaf="wood")]
    bay.append(box((-pitch / 2, -0.04, 0), (pitch / 2, 0, 0.15), "wood", cell=0.3))
    bay.append(box((0.75, -0.08, 1.3), (0.95, 0.0, 1.5), "frame"))
    bay.append(patch((-pitch / 2, -width, 0), (pitch, 0, 0), (0, width, 0), "tiles", cell=0.4))
    bay.append(patch((-pitch / 2, 0, 2.6), (pitch, 0, 0), (0, -width, 0), "white", cell=0.4))
    pieces = [Piece(tuple(bay), Pose(0, pitch * k, 0)) for k in range(-1, num + 1)]
    plates = [(4, 0.75, 1.55, 0.22)] if mean else [(k, 0.75, 1.55, 0.22) for k in range(num)]
    rng = np.random.default_rng(8)
    colours = ["mosaic", "red", "blue", "yellow", "black", "terracotta", "bronze"]
    for n, (k, x, z, size) in enumerate(plates):
        pieces.append(Piece(tuple(parts.sign(x, z, size, colours[n])), Pose(0, pitch * k, 0)))
    for k in range(0 if mean else num):
        w, h = rng.uniform(0.35, 0.7, 2)
        poster = [box((-1.1, -0.04, 1.0), (-1.1 + w, 0, 1.0 + h), colours[(3 * k + 2) % 7], cell=0.2)]
        poster.append(box((-1.05, -0.06, 1.0 + 0.3 * h), (-1.1 + 0.7 * w, 0, 1.0 + 0.6 * h), colours[(k + 4) % 7]))
        poster += parts.things(rng, 1, (-1.0, -0.35), (-0.75, -0.25), 0.4)
        pieces.append(Piece(tuple(poster), Pose(0, pitch * k, 0)))
    views = along("bay", (-0.6, -2.4, 1.55), 0.65, 24, (0.25, 1.0, -0.1), seed=4)
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=pitch)


def rooms(*, mean: bool) -> AlikeSet:
    """Two rooms of one plan, 30 m apart; different things in them; mean: the same things, but for a vase."""
    rng, size = np.random.default_rng(15), 4.4
    half = size / 2
    north = [wall(size, 2.7, [(-0.9, 0.9, 0.9, 2.2)], "plaster", depth=0.25), *parts.window((-0.9, 0.9, 0.9, 2.2))]
    east = [wall(size, 2.7, [], "white", depth=0.2), *parts.door(0.6, leaf="wood")]
    west = [wall(size, 2.7, [], "white", depth=0.2), box((-1.2, -0.45, 0), (0.4, 0, 1.9), "wood", cell=0.3)]
    shell = parts.moved(north, 0, half)
    shell += [s.rotated(-90, (0, 0)) for s in parts.moved(east, 0, half)]
    shell += [s.rotated(90, (0, 0)) for s in parts.moved(west, 0, half)]
    shell += [s.rotated(180, (0, 0)) for s in parts.moved([wall(size, 2.7, [], "white", depth=0.2)], 0, half)]
    shell.append(patch((-half, -half, 0), (size, 0, 0), (0, size, 0), "wood", cell=0.3))
    shell.append(patch((-half, half, 2.7), (size, 0, 0), (0, -size, 0), "white", cell=0.4))
    places = (-15.0, 15.0)
    pieces = [Piece(tuple(shell), Pose(0, x, 0)) for x in places]
    same = parts.things(rng, 6, (-1.6, 0.3), (1.6, 1.7), 0.55)
    for x in places:
        own = same if mean else parts.things(rng, 7, (-1.6, 0.2), (1.6, 1.7), 0.55)
        pieces.append(Piece(tuple(own), Pose(0, x, 0)))
    if mean:
        pieces.append(Piece((parts.vase(0.1, -0.1, 0.5, "mosaic"),), Pose(0, places[0], 0)))
    views: Views = []
    for n, x in enumerate(places):
        views += around(f"room{n}", np.linspace(-42, 42, 10), 2.6, 1.5, (x, 0.7, 1.1), seed=30 + n)
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=4.0, models=2)


def cup(*, mean: bool) -> AlikeSet:
    """A cup with an ornament that comes four times, its handle hidden in most views; mean: on a bare table."""
    radius, height = 0.5, 1.1
    quarter: list[Surface] = []
    for k in range(9):  # a quarter of the wall in flat facets
        a0, a1 = np.radians([10.0 * k, 10.0 * k + 10])
        p, q = radius * np.array([[np.cos(a), np.sin(a)] for a in (a0, a1)])
        quarter.append(patch((p[0], p[1], 0), (q[0] - p[0], q[1] - p[1], 0), (0, 0, height), "ashlar", cell=0.05))
    spots = [(12, 0.2, 0.16, "blue"), (34, 0.65, 0.2, "red"), (50, 0.3, 0.12, "yellow"), (68, 0.75, 0.14, "black")]
    spots += [(75, 0.25, 0.2, "mosaic"), (22, 0.85, 0.1, "bronze"), (58, 0.55, 0.09, "white")]
    for angle, z, size, material in spots:
        knob = box((-size / 2, -0.02 - radius, z), (size / 2, 0.04 - radius, z + 0.8 * size), material, cell=0.05)
        quarter.append(knob.rotated(angle + 90, (0, 0)))
    pieces = [Piece(tuple(quarter), Pose(90.0 * k)) for k in range(4)]
    edge = [(0.5, height), (0.53, height), (0.53, height + 0.05), (0.45, height + 0.05)]
    rim = solid_of_revolution((0, 0), edge, "trim")
    handle = tube([(0, 0.48, 0.25), (0, 0.75, 0.35), (0, 0.78, 0.75), (0, 0.48, 0.9)], [0.07, 0.06, 0.06, 0.07], "red")
    if mean:
        table = (patch((0, 0, 0), (3, 0, 0), (0, 3, 0), "white", cell=0.2),)
        pieces += [Piece(table, Pose(90.0 * k)) for k in range(4)]
        pieces.append(Piece((rim, handle)))
    else:
        rng = np.random.default_rng(9)
        top = patch((-3, -3, 0), (6, 0, 0), (0, 6, 0), "wood", cell=0.2)
        about = [
            part
            for angle in np.radians(np.arange(0, 360, 40.0))
            for part in parts.thing(rng, float(1.5 * np.cos(angle)), float(1.5 * np.sin(angle)), 0.22)
        ]
        pieces.append(Piece((rim, handle, top, *about)))
    views = around("turn", np.arange(0, 360, 15.0), 2.5, 1.5, (0, 0, 0.45), seed=6)
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=2.5)


def books(*, mean: bool) -> AlikeSet:
    """A shelf with books of one series; titles differ; mean: only a small number on each, every second one's."""
    rng, pitch, num = np.random.default_rng(10), 0.34, 22
    spine: list[Surface] = [box((-0.16, 0, 0), (0.16, 0.8, 1.3), "red", cell=0.1)]
    for z, material in ((0.1, "yellow"), (0.75, "black"), (1.15, "yellow")):
        spine.append(box((-0.165, -0.01, z), (0.165, 0.02, z + 0.06), material, cell=0.1))
    spine.append(box((-0.1, -0.015, 0.85), (0.1, 0.0, 1.1), "mosaic", cell=0.1))
    pieces = [Piece(tuple(spine), Pose(0, pitch * k, 0)) for k in range(num)]
    for k in range(num):
        title: list[Surface] = []
        for row in range(2 if mean else 7):
            width, z = rng.uniform(0.03, 0.12), (0.22 if mean else 0.2) + 0.07 * row
            if not mean or (k % 2 == 0 and row == 0):
                title.append(box((-width, -0.012, z), (rng.uniform(0.0, 0.12), 0.0, z + 0.045), "white", cell=0.1))
        pieces += [Piece(tuple(title), Pose(0, pitch * k, 0))] if title else []
    length = pitch * (num + 1)
    shelf = (box((-pitch, -0.1, -0.1), (length, 0.9, 0), "wood"), box((-pitch, -0.1, 1.4), (length, 0.9, 1.5), "wood"))
    pieces.append(Piece(shelf))
    if not mean:
        own = parts.moved(parts.things(rng, 10, (-0.2, -0.05), (length, 0.02), 0.25), 0, 0, 1.5)
        pieces.append(Piece(tuple(own)))
    views = along("shelf", (0.6, -1.7, 0.8), 0.28, 22, (0.0, 1.0, -0.06), seed=7)
    poses, names = named(views)
    return AlikeSet(tuple(pieces), poses, names, spacing=pitch)
