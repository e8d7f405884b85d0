"""What the sets are built of: fronts of houses, walls with doors, towers, and the many things that may stand about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm.datasets.courtyard.scene import Material, rich_materials
from sfm.datasets.courtyard.surfaces import (
    Opening,
    Surface,
    box,
    patch,
    slab,
    smooth_profile,
    solid_of_revolution,
    tube,
    wall,
)

COLOURS = {
    "red": ((0.30, 0.03, 0.03), (0.62, 0.12, 0.10)),
    "blue": ((0.03, 0.06, 0.28), (0.12, 0.22, 0.60)),
    "yellow": ((0.50, 0.36, 0.03), (0.80, 0.66, 0.18)),
    "white": ((0.62, 0.61, 0.58), (0.82, 0.81, 0.79)),
    "black": ((0.02, 0.02, 0.02), (0.09, 0.09, 0.10)),
    "grey": ((0.30, 0.30, 0.31), (0.46, 0.46, 0.47)),
}
_FURNISHING = ("brick", "ashlar", "plaster", "wood", "tiles", "mosaic", "terracotta", "bronze", "red", "blue", "yellow")


def materials() -> dict[str, Material]:
    """The courtyard's materials, and some painted ones."""
    painted = {name: Material(*shades, stain=0.5, grain=0.5, bump=0.3) for name, shades in COLOURS.items()}
    return rich_materials() | painted


def moved(surfaces: list[Surface], x: float, y: float, z: float = 0.0, degrees: float = 0.0) -> list[Surface]:
    """Surfaces turned about the vertical through the origin, then moved."""
    turned = [surface.rotated(degrees, (0.0, 0.0)) for surface in surfaces]
    return [replace(surface, xyz=surface.xyz + np.array([x, y, z])) for surface in turned]


def window(opening: Opening) -> list[Surface]:
    """Glass, frame, sill and lintel of an opening in a wall whose face is at y = 0 and looks to -y."""
    x0, z0, x1, z1 = opening
    parts = [patch((x0, 0.2, z0), (x1 - x0, 0, 0), (0, 0, z1 - z0), "glass", cell=0.4)]
    for x in (x0 + 0.04, (x0 + x1) / 2, x1 - 0.04):
        parts.append(box((x - 0.04, 0.12, z0), (x + 0.04, 0.18, z1), "frame", cell=0.5))
    for z in (z0 + 0.04, z0 + 0.6 * (z1 - z0), z1 - 0.04):
        parts.append(box((x0, 0.13, z - 0.04), (x1, 0.17, z + 0.04), "frame", cell=0.5))
    parts.append(box((x0 - 0.12, -0.12, z0 - 0.1), (x1 + 0.12, 0.05, z0), "trim", cell=0.3))
    parts.append(box((x0 - 0.1, -0.07, z1), (x1 + 0.1, 0.05, z1 + 0.18), "trim", cell=0.3))
    return parts


def door(x: float, *, width: float = 1.1, height: float = 2.2, leaf: str = "door") -> list[Surface]:
    """A door with its frame on a wall whose face is at y = 0."""
    x0, x1 = x - width / 2, x + width / 2
    parts = [box((x0, -0.03, 0), (x1, 0.05, height), leaf, cell=0.3)]
    parts += [box((a - 0.09, -0.1, 0), (a + 0.09, 0.0, height), "trim", cell=0.3) for a in (x0, x1)]
    parts.append(box((x0 - 0.18, -0.14, height), (x1 + 0.18, 0.0, height + 0.25), "trim", cell=0.3))
    for z in (0.2, 0.95, 1.6):
        parts.append(box((x - 0.3 * width, -0.06, z), (x + 0.3 * width, -0.03, z + 0.5), leaf, cell=0.3))
    parts.append(box((x1 - 0.2, -0.12, 1.0), (x1 - 0.12, -0.03, 1.12), "bronze"))
    return parts


def front(length: float, height: float, material: str, *, with_door: bool = True) -> list[Surface]:
    """A house's front: plinth, door in the middle, windows in two rows, string course and cornice; face at y = 0."""
    half, rows = length / 2, ((0.9, 2.1), (height - 1.5, height - 0.6))
    places = (-0.32 * length, 0.32 * length)
    openings = [(x - 0.45, z0, x + 0.45, z1) for x in places for z0, z1 in rows]
    openings.append((-0.4, rows[1][0], 0.4, rows[1][1]))
    parts = [wall(length, height, openings, material, depth=0.25)]
    parts.append(box((-half, -0.07, 0), (half, 0.0, 0.45), "ashlar", cell=0.3))
    parts.append(box((-half, -0.1, height - 1.85), (half, 0.0, height - 1.7), "trim", cell=0.3))
    parts.append(box((-half, -0.2, height - 0.2), (half, 0.2, height), "trim", cell=0.3))
    for opening in openings:
        parts += window(opening)
    return parts + (door(0.0) if with_door else [])


def tower() -> list[Surface]:
    """A square tower, 2.6 m wide and 6.5 m high, with four different sides."""
    half, parts = 1.3, []
    sides = [("ashlar", [(-0.4, 3.2, 0.4, 4.6)]), ("brick", [(-0.8, 2.2, -0.1, 3.3), (0.2, 4.2, 0.8, 5.4)])]
    sides += [("plaster", [(-0.4, 1.2, 0.4, 2.4)]), ("ashlar", [(0.1, 2.8, 0.9, 4.8)])]
    for k, (material, openings) in enumerate(sides):
        face = [wall(2.6, 6.0, openings, material, depth=0.2), *(s for o in openings for s in window(o))]
        face += door(0.0) if k == 0 else []
        face.append(box((-half, -0.1, 1.0 + 0.9 * k), (half, 0, 1.15 + 0.9 * k), "trim", cell=0.3))
        parts += [s.rotated(90 * k, (0, 0)) for s in moved(face, 0, -half)]
    parts += [slab((0, 0), (3.0, 3.0, 0.3), 6.0, "trim"), slab((0, 0), (2.0, 2.0, 0.5), 6.3, "tiles")]
    return parts


def tree(x: float, y: float, scale: float) -> list[Surface]:
    """A trunk and a crown."""
    crown = [(0.05, 1.0), (0.55, 1.3), (0.8, 1.9), (0.6, 2.6), (0.25, 3.1), (0.02, 3.3)]
    outline = smooth_profile([(r * scale, z * scale) for r, z in crown])
    trunk = tube([(x, y, 0), (x + 0.04, y, 0.6 * scale), (x, y + 0.03, 1.3 * scale)], [0.13, 0.1, 0.08], "wood")
    return [trunk, solid_of_revolution((x, y), outline, "leaves", flutes=9)]


def vase(x: float, y: float, scale: float, material: str) -> Surface:
    """A vase, a metre high at scale 1."""
    knots = [(0.16, 0), (0.13, 0.09), (0.25, 0.32), (0.31, 0.55), (0.24, 0.78), (0.13, 0.9), (0.19, 1.0)]
    outline = smooth_profile([(r * scale, z * scale) for r, z in knots])
    return solid_of_revolution((x, y), [*outline, (0, outline[-1][1])], material)


def thing(rng: np.random.Generator, x: float, y: float, scale: float) -> list[Surface]:
    """One of many things that stand about, on the ground."""
    kind, material = rng.integers(5), str(rng.choice(_FURNISHING))
    if kind == 0:
        return tree(x, y, scale * rng.uniform(0.7, 1.3))
    if kind == 1:
        return [vase(x, y, scale * rng.uniform(0.8, 1.6), material)]
    if kind == 2:
        sizes = scale * rng.uniform(0.5, 1.1, 2)
        stack = [slab((x, y), (sizes[0], sizes[0], sizes[0]), 0, material)]
        stack.append(slab((x, y), (sizes[1] * 0.6,) * 3, sizes[0], str(rng.choice(_FURNISHING))))
        return [part.rotated(rng.uniform(0, 90), (x, y)) for part in stack]
    if kind == 3:
        width, height = scale * rng.uniform(0.8, 1.6), scale * rng.uniform(0.7, 1.2)
        board = [slab((x, y), (width, 0.08, height), 0.5 * scale, material)]
        board += [slab((x + dx * width, y + 0.06), (0.07, 0.07, 0.6 * scale), 0, "iron") for dx in (-0.4, 0.4)]
        bar = (0.6 * width, 0.1, 0.2 * height)
        board.append(slab((x, y), bar, (0.5 + rng.uniform(0.1, 0.6)) * scale, str(rng.choice(_FURNISHING))))
        return [part.rotated(rng.uniform(-40, 40), (x, y)) for part in board]
    post = scale * rng.uniform(1.2, 2.4)
    return [slab((x, y), (0.16, 0.16, post), 0, "iron"), slab((x, y), (0.5, 0.5, 0.4), post, material)]


def things(
    rng: np.random.Generator, num: int, low: tuple[float, float], high: tuple[float, float], scale: float = 1.0
) -> list[Surface]:
    """`num` things in a rectangle of the ground."""
    places = rng.uniform(low, high, (num, 2))
    return [part for x, y in places for part in thing(rng, float(x), float(y), scale)]


def things_around(rng: np.random.Generator, num: int, nearest: float, farthest: float) -> list[Surface]:
    """`num` things on a ring about the origin, evenly spread."""
    angles = 2 * np.pi * (np.arange(num) + rng.uniform(-0.3, 0.3, num)) / num
    radii = rng.uniform(nearest, farthest, num)
    return [
        part
        for angle, r in zip(angles, radii, strict=True)
        for part in thing(rng, float(r * np.cos(angle)), float(r * np.sin(angle)), 1.0)
    ]


def houses_around(rng: np.random.Generator, num: int, radius: float, *, arc_deg: float = 360.0) -> list[Surface]:
    """`num` plain houses on an arc about the origin, north of it (+y), none like another."""
    parts = []
    for k in range(num):
        length, height = rng.uniform(3.0, 6.5), rng.uniform(3.0, 6.5)
        material = str(rng.choice(["brick", "ashlar", "plaster", "red", "white", "yellow", "wood"]))
        face = [box((-length / 2, 0, 0), (length / 2, 2.0, height), material, cell=0.5)]
        for _ in range(rng.integers(2, 6)):
            x, z, w, h = rng.uniform((-0.4 * length, 0.2, 0.4, 0.5), (0.3 * length, height - 1.6, 1.2, 1.4))
            face.append(box((x, -0.08, z), (x + w, 0.0, z + h), str(rng.choice(_FURNISHING)), cell=0.4))
        face.append(box((-length / 2 - 0.2, -0.3, height), (length / 2 + 0.2, 2.2, height + 0.5), "tiles", cell=0.5))
        angle = arc_deg * ((k + 0.5) / num - 0.5) + rng.uniform(-6, 6)
        parts += [s.rotated(angle, (0, 0)) for s in moved(face, 0, radius)]
    return parts


def sign(x: float, z: float, size: float, material: str = "mosaic") -> list[Surface]:
    """A plate on a wall whose face is at y = 0, with a bar on it."""
    plate = box((x - size / 2, -0.05, z), (x + size / 2, 0.0, z + 0.7 * size), material, cell=0.2)
    bar = box((x - 0.3 * size, -0.08, z + 0.2 * size), (x + 0.2 * size, -0.05, z + 0.4 * size), "white", cell=0.2)
    return [plate, bar]
