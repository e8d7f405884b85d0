"""The geometry and the materials of the synthetic scene: a walled courtyard with a statue, a portico and still lifes.

The statue is at the origin, the facade with the portico at y = 4 m, side walls at x = -7.5 m and 7.5 m, the
fourth side is open. Metres, z up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sfm.datasets.courtyard.surfaces import (
    Opening,
    Surface,
    box,
    draped_figure,
    join,
    patch,
    slab,
    smooth_profile,
    solid_of_revolution,
    wall,
)

RGB = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Bond:
    """A masonry bond: stones of (width, height) m, joints of `joint` m, each course shifted by `shift` of a width."""

    width: float
    height: float
    joint: float = 0.012
    shift: float = 0.5


@dataclass(frozen=True, slots=True)
class Material:
    """A solid texture. Colours are linear reflectances in [0, 1].

    dark, light: what noise blends between. stain: weight of metre-wide stains. grain: contrast of centimetre-wide
    grain. bump: strength of the relief. bond: stones or planks with joints of colour `joint_rgb`, whose colours
    differ by `spread` from stone to stone. veins: weight of thin dark veins.
    """

    dark: RGB
    light: RGB
    stain: float = 0.5
    grain: float = 0.6
    bump: float = 0.6
    bond: Bond | None = None
    joint_rgb: RGB = (0.33, 0.31, 0.28)
    spread: float = 0.0
    veins: float = 0.0


def rich_materials() -> dict[str, Material]:
    """The materials of a well-textured scene, by name."""
    return _ground_and_walls() | _fittings_and_plants()


def _ground_and_walls() -> dict[str, Material]:
    return {
        "paving": Material(
            (0.15, 0.14, 0.125),
            (0.43, 0.40, 0.345),
            bond=Bond(0.62, 0.44, 0.016),
            joint_rgb=(0.13, 0.12, 0.10),
            spread=0.5,
        ),
        "brick": Material(
            (0.30, 0.10, 0.06),
            (0.58, 0.27, 0.17),
            bond=Bond(0.25, 0.085, 0.011),
            joint_rgb=(0.50, 0.46, 0.40),
            spread=0.6,
        ),
        "ashlar": Material(
            (0.36, 0.30, 0.21),
            (0.70, 0.61, 0.46),
            bond=Bond(0.70, 0.33, 0.012),
            joint_rgb=(0.25, 0.21, 0.16),
            spread=0.3,
        ),
        "plaster": Material((0.52, 0.33, 0.17), (0.80, 0.60, 0.36), stain=0.9, grain=0.45, bump=0.5),
        "trim": Material((0.30, 0.27, 0.22), (0.66, 0.61, 0.52), stain=0.8, grain=0.7, bump=0.8),
        "marble": Material((0.34, 0.32, 0.29), (0.74, 0.71, 0.65), stain=0.8, grain=0.45, bump=0.45, veins=0.5),
        "bronze": Material((0.07, 0.11, 0.09), (0.26, 0.37, 0.30), stain=0.9, grain=0.7, bump=0.4),
        "terracotta": Material((0.30, 0.10, 0.05), (0.62, 0.30, 0.18), stain=0.9, grain=0.7, bump=0.3),
        "mosaic": Material(
            (0.05, 0.16, 0.28), (0.55, 0.62, 0.60), bond=Bond(0.07, 0.06, 0.008), joint_rgb=(0.6, 0.57, 0.5), spread=1.0
        ),
    }


def _fittings_and_plants() -> dict[str, Material]:
    return {
        "wood": Material(
            (0.17, 0.09, 0.04),
            (0.45, 0.28, 0.14),
            bond=Bond(1.7, 0.125, 0.01, 0.3),
            joint_rgb=(0.05, 0.03, 0.02),
            spread=0.5,
        ),
        "door": Material(
            (0.03, 0.12, 0.10),
            (0.09, 0.26, 0.21),
            bond=Bond(0.16, 3.0, 0.01, 0.0),
            joint_rgb=(0.02, 0.05, 0.04),
            spread=0.2,
        ),
        "frame": Material((0.50, 0.48, 0.44), (0.75, 0.72, 0.66), grain=0.3),
        "shutter": Material(
            (0.06, 0.14, 0.15),
            (0.15, 0.30, 0.30),
            bond=Bond(5.0, 0.055, 0.012, 0.0),
            joint_rgb=(0.03, 0.06, 0.06),
            spread=0.2,
        ),
        "glass": Material((0.02, 0.03, 0.04), (0.06, 0.08, 0.10), grain=0.1, bump=0.0),
        "iron": Material((0.03, 0.03, 0.03), (0.10, 0.09, 0.08), grain=0.5),
        "tiles": Material(
            (0.33, 0.13, 0.08), (0.62, 0.31, 0.19), bond=Bond(0.2, 0.3, 0.022), joint_rgb=(0.12, 0.05, 0.03), spread=0.6
        ),
        "leaves": Material((0.01, 0.035, 0.008), (0.09, 0.17, 0.04), stain=0.2, grain=2.0, bump=3.0),
    }


def low_materials() -> dict[str, Material]:
    """The same names, all of nearly uniform matt plaster: only shading shows the form."""
    matt = Material((0.70, 0.69, 0.67), (0.74, 0.73, 0.71), stain=0.5, grain=0.0, bump=0.0)
    return {name: replace(matt) for name in rich_materials()}


def _window(opening: Opening, *, depth: float, shutters: bool) -> list[Surface]:
    """Glass, frame, bars, sill and lintel of an opening in a wall whose front is at y = 0."""
    x0, z0, x1, z1 = opening
    bar, y = 0.035, depth * 0.7
    parts = [patch((x0, y + 0.03, z0), (x1 - x0, 0, 0), (0, 0, z1 - z0), "glass", cell=0.3)]
    for x in (x0 + bar, (x0 + x1) / 2, x1 - bar):
        parts.append(box((x - bar, y - 0.03, z0), (x + bar, y + 0.03, z1), "frame", cell=0.4))
    for z in (z0 + bar, z0 + 0.36 * (z1 - z0), z0 + 0.68 * (z1 - z0), z1 - bar):
        parts.append(box((x0, y - 0.02, z - bar), (x1, y + 0.02, z + bar), "frame", cell=0.4))
    parts.append(box((x0 - 0.14, -0.13, z0 - 0.11), (x1 + 0.14, 0.05, z0), "trim"))
    parts.append(box((x0 - 0.10, -0.07, z1), (x1 + 0.10, 0.05, z1 + 0.2), "trim"))
    parts.append(box((x0 - 0.18, -0.14, z1 + 0.2), (x1 + 0.18, 0.05, z1 + 0.27), "trim"))
    if shutters:
        width = (x1 - x0) / 2
        for left in (x0 - width, x1):
            parts.append(box((left + 0.02, -0.05, z0 + 0.01), (left + width - 0.02, -0.005, z1 - 0.01), "shutter"))
    return parts


def _front(material: str, openings: list[Opening], *, length: float, shutters: bool) -> list[Surface]:
    """A building's front along x with its face at y = 0: wall, plinth, string course, cornice, tiled eaves, windows."""
    half, height = length / 2, 5.2
    parts = [wall(length, height, openings, material)]
    for (x0, x1), tall in (((-half, -0.95), 0.55), ((0.95, half), 0.55)):
        parts.append(box((x0, -0.08, 0), (x1, 0.0, tall), "ashlar"))
    parts.append(box((-half, -0.12, 3.12), (half, 0.0, 3.32), "trim", cell=0.2))
    parts.append(box((-half, -0.10, height - 0.3), (half, 0.3, height - 0.12), "trim", cell=0.2))
    parts.append(box((-half, -0.24, height - 0.12), (half, 0.3, height), "trim", cell=0.2))
    parts.append(patch((-half, -0.42, height), (length, 0, 0), (0, 2.2, 0.95), "tiles", cell=0.25))
    parts.append(patch((half, -0.42, height), (-length, 0, 0), (0, 0.5, 0), "tiles", cell=0.25))
    dentils = int(length / 0.36)
    for k in range(dentils):
        x = -half + (k + 0.5) * length / dentils
        parts.append(box((x - 0.07, -0.2, height - 0.26), (x + 0.07, -0.1, height - 0.12), "trim", cell=0.2))
    for opening in openings:
        parts += _window(opening, depth=0.3, shutters=shutters and opening[1] > 3)
    return parts


def _placed(parts: list[Surface], degrees: float, x: float, y: float) -> list[Surface]:
    """Parts rotated about the z axis, then moved."""
    rotated = [part.rotated(degrees, (0, 0)) for part in parts]
    return [replace(part, xyz=part.xyz + np.array([x, y, 0])) for part in rotated]


def _buildings() -> list[Surface]:
    low = [(x - 0.5, 0.95, x + 0.5, 2.6) for x in (-6.0, -4.7, -2.4, 2.4, 4.7, 6.0)]
    high = [(x - 0.45, 3.62, x + 0.45, 4.72) for x in (-6.0, -3.6, -1.2, 1.2, 3.6, 6.0)]
    side_low = [(x - 0.5, 0.95, x + 0.5, 2.5) for x in (-3.6, 0.4, 3.8)]
    side_high = [(x - 0.45, 3.62, x + 0.45, 4.72) for x in (-4.4, -2.2, 0.0, 2.2, 4.4)]
    facade = _front("brick", [*low, *high], length=15.0, shutters=False)
    left = _front("plaster", [*side_low, *side_high], length=11.0, shutters=True)
    right = _front("ashlar", [*side_low[1:], *side_high], length=11.0, shutters=False)
    door = [
        box((-0.7, -0.04, 0.3), (0.7, 0.1, 2.6), "door"),
        box((-0.95, -0.16, 0.3), (-0.7, 0.0, 2.6), "trim"),
        box((0.7, -0.16, 0.3), (0.95, 0.0, 2.6), "trim"),
        box((-1.1, -0.2, 2.6), (1.1, 0.0, 2.95), "trim"),
    ]
    for x in (-0.35, 0.35):
        for z in (0.45, 1.15, 1.85):
            door.append(box((x - 0.24, -0.07, z), (x + 0.24, -0.04, z + 0.55), "door"))
    return _placed(facade + door, 0, 0, 4) + _placed(left, 90, -7.5, -1.5) + _placed(right, -90, 7.5, -1.5)


def _portico() -> list[Surface]:
    shaft = [(0.235, 0.46), (0.235, 0.46), (0.235, 1.2), (0.225, 1.9), (0.205, 2.55)]
    base = [(0.0, 0.3), (0.32, 0.3), (0.33, 0.34), (0.31, 0.38), (0.26, 0.41), (0.27, 0.44), (0.25, 0.47)]
    capital = [(0.21, 2.5), (0.24, 2.53), (0.21, 2.57), (0.22, 2.62), (0.31, 2.72)]
    parts = [
        box((-4.0, 2.2, 0), (4.0, 4, 0.15), "trim"),
        box((-3.7, 2.5, 0.15), (3.7, 4, 0.3), "trim"),
        box((-3.4, 2.62, 2.82), (3.4, 4, 3.1), "trim"),
        box((-3.5, 2.5, 3.1), (3.5, 4, 3.22), "trim"),
        patch((-3.4, 4, 2.82), (6.8, 0, 0), (0, -1.38, 0), "plaster"),
    ]
    for x in (-3.0, -1.25, 1.25, 3.0):
        parts += [solid_of_revolution((x, 2.95), base, "trim"), solid_of_revolution((x, 2.95), capital, "trim")]
        parts.append(solid_of_revolution((x, 2.95), shaft, "marble", flutes=18, segments=144))
        parts.append(slab((x, 2.95), (0.64, 0.64, 0.1), 2.72, "trim"))
    for k in range(32):
        x = -3.25 + k * 6.5 / 31
        parts.append(box((x - 0.05, 2.56, 2.98), (x + 0.05, 2.62, 3.1), "trim"))
    return parts


def _monument() -> list[Surface]:
    parts = [slab((0, 0), (2.0, 2.0, 0.14), 0, "trim"), slab((0, 0), (1.6, 1.6, 0.14), 0.14, "trim")]
    parts += [slab((0, 0), (1.06, 1.06, 0.12), 0.28, "marble"), slab((0, 0), (0.86, 0.86, 0.66), 0.4, "marble")]
    parts += [slab((0, 0), (0.98, 0.98, 0.07), 1.06, "marble"), slab((0, 0), (1.08, 1.08, 0.07), 1.13, "marble")]
    panels = [slab((0, -0.435), (0.5, 0.03, 0.36), 0.54, "bronze"), slab((0, 0.435), (0.5, 0.03, 0.36), 0.54, "bronze")]
    panels += [part.rotated(90, (0, 0)) for part in panels]
    monument = [*parts, *panels, draped_figure(1.2, "marble")]
    return [part.rotated(12, (0, 0)) for part in monument]


def _vase(x: float, y: float, scale: float, material: str) -> Surface:
    knots = [(0.14, 0), (0.16, 0.04), (0.13, 0.09), (0.25, 0.32), (0.31, 0.55), (0.24, 0.78), (0.13, 0.9), (0.14, 0.96)]
    knots += [(0.19, 1.0)]
    outline = smooth_profile([(r * scale, z * scale) for r, z in knots])
    rim, top = outline[-1]
    return solid_of_revolution(
        (x, y), [*outline, (rim, top), (rim * 0.8, top), (rim * 0.7, top - 0.1), (0, top - 0.12)], material
    )


def _shrub(x: float, y: float, base: float) -> list[Surface]:
    """A clipped bush in a square planter."""
    knots = [(0.05, 0), (0.3, 0.1), (0.4, 0.32), (0.33, 0.6), (0.16, 0.85), (0.01, 1.0)]
    bush = solid_of_revolution((x, y), smooth_profile([(r, base + 0.45 + z) for r, z in knots]), "leaves", flutes=12)
    return [slab((x, y), (0.62, 0.62, 0.5), base, "trim"), slab((x, y), (0.7, 0.7, 0.07), base + 0.45, "trim"), bush]


def _crate(x: float, y: float, size: float, base: float, degrees: float) -> list[Surface]:
    half, edge = size / 2, 0.06
    parts = [slab((x, y), (size, size, size), base, "wood")]
    for z in (base, base + size - 2 * edge):
        parts.append(slab((x, y), (size + 0.05, size + 0.05, 2 * edge), z, "wood"))
    for dx, dy in ((-half, -half), (half, -half), (half, half), (-half, half)):
        parts.append(slab((x + dx * 0.96, y + dy * 0.96), (0.1, 0.1, size), base, "wood"))
    return [part.rotated(degrees, (x, y)) for part in parts]


def _barrel(x: float, y: float) -> list[Surface]:
    outline = smooth_profile([(0.27, 0), (0.33, 0.25), (0.35, 0.45), (0.33, 0.65), (0.27, 0.9)])
    parts = [solid_of_revolution((x, y), [*outline, (0.27, 0.9), (0.24, 0.9), (0.24, 0.87), (0, 0.87)], "wood")]
    for z, r in ((0.1, 0.305), (0.27, 0.343), (0.6, 0.345), (0.78, 0.312)):
        parts.append(
            solid_of_revolution((x, y), [(r, z), (r + 0.008, z), (r + 0.008, z + 0.05), (r, z + 0.05)], "iron")
        )
    return parts


def _still_lifes() -> list[Surface]:
    parts = _crate(-2.5, 0.6, 0.8, 0, 22) + _crate(-3.2, 1.35, 0.7, 0, -8) + _crate(-2.62, 0.72, 0.5, 0.8, 47)
    parts += _barrel(-1.75, 1.3) + _barrel(4.6, 2.3) + _barrel(5.2, 1.75)
    parts += [
        _vase(2.3, 0.1, 1.05, "mosaic"),
        _vase(2.95, 0.75, 1.3, "terracotta"),
        _vase(1.85, 0.9, 0.7, "terracotta"),
    ]
    parts += [_vase(-1.3, -1.5, 0.6, "terracotta"), _vase(-4.8, 2.6, 1.2, "mosaic")]
    parts += _shrub(-3.6, 2.0, 0) + _shrub(3.9, 1.7, 0) + _shrub(-5.9, -0.4, 0) + _shrub(6.2, -1.4, 0)
    bench = [slab((3.3, -1.3), (1.7, 0.48, 0.09), 0.42, "trim"), slab((2.75, -1.3), (0.22, 0.4, 0.42), 0, "ashlar")]
    bench.append(slab((3.85, -1.3), (0.22, 0.4, 0.42), 0, "ashlar"))
    return parts + [part.rotated(-38, (3.3, -1.3)) for part in bench]


def _bare() -> list[Surface]:
    """The three walls without openings or mouldings, the monument without panels, plain blocks and vases."""
    facade, side = wall(15.0, 5.2, [], "plaster"), wall(11.0, 5.2, [], "plaster")
    walls = _placed([facade], 0, 0, 4) + _placed([side], 90, -7.5, -1.5) + _placed([side], -90, 7.5, -1.5)
    blocks = [
        slab((0, 0), (1.7, 1.7, 0.3), 0, "trim").rotated(12, (0, 0)),
        slab((-2.5, 0.6), (0.9, 0.9, 0.8), 0, "trim"),
    ]
    blocks.append(
        solid_of_revolution((0, 0), smooth_profile([(0.55, 0.3), (0.42, 0.5), (0.4, 0.9), (0.5, 1.2)]), "trim")
    )
    blocks.append(solid_of_revolution((0, 0), [(0.5, 1.2), (0, 1.2)], "trim"))
    vases = [_vase(2.3, 0.1, 1.05, "trim"), _vase(2.95, 0.9, 1.3, "trim"), _vase(-1.3, -1.5, 0.6, "trim")]
    return [*walls, *blocks, *vases, _barrel(-3.4, 1.6)[0], draped_figure(1.2, "trim").rotated(12, (0, 0))]


def courtyard(*, bare: bool = False) -> tuple[Surface, ...]:
    """The scene, one surface a material. bare: blank walls and a few plain solids around the statue."""
    ground = patch((-9, -9, 0), (18, 0, 0), (0, 13.3, 0), "paving")
    parts = _bare() if bare else [*_buildings(), *_portico(), *_monument(), *_still_lifes()]
    parts.append(ground)
    names = sorted({part.material for part in parts})
    return tuple(join([part for part in parts if part.material == name]) for name in names)
