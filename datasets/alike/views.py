"""Where the sets' cameras stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm.datasets.alike.rendering import Piece
from sfm.datasets.courtyard.synthetic import look_at
from sfm.types import Float64


@dataclass(frozen=True, slots=True, eq=False)
class AlikeSet:
    """A set before it is rendered.

    pieces: the scene. poses: (N, 3, 4) cam_from_world. names: N file names; what comes before the first "_" is the
    place. spacing: m between two places that look alike: a camera that is a quarter of it off was put elsewhere.
    models: how many models are right: places of which no image shows what is between them cannot be joined.
    """

    pieces: tuple[Piece, ...]
    poses: Float64
    names: tuple[str, ...]
    spacing: float
    models: int = 1


Views = list[tuple[str, Float64]]


def named(views: Views) -> tuple[Float64, tuple[str, ...]]:
    """Poses (N, 3, 4) and file names of views of places, numbered in order."""
    return np.stack([pose for _, pose in views]), tuple(f"{place}_{k:02d}.jpg" for k, (place, _) in enumerate(views))


def around(
    place: str, angles_deg: Float64, radius: float, height: float, target: tuple[float, float, float], *, seed: int
) -> Views:
    """Hand-held cameras on a ring about the target, that look at it; 0 degrees is south of it (-y)."""
    rng, views = np.random.default_rng([seed, 11]), []
    for angle in np.radians(angles_deg):
        r = radius * (1 + rng.uniform(-0.04, 0.04))
        centre = np.array([target[0] + r * np.sin(angle), target[1] - r * np.cos(angle), height])
        centre[2] += rng.uniform(-0.03, 0.03) * radius
        at = np.array(target) + rng.uniform(-0.03, 0.03, 3) * radius
        views.append((place, look_at(centre, at, roll_deg=rng.uniform(-1.5, 1.5))))
    return views


def along(
    place: str, start: tuple[float, float, float], step: float, num: int, look: tuple[float, float, float], *, seed: int
) -> Views:
    """Hand-held cameras that walk along x and look in one direction."""
    rng, views = np.random.default_rng([seed, 12]), []
    for k in range(num):
        off = (step * (k + rng.uniform(-0.1, 0.1)), *rng.uniform(-0.04, 0.04, 2))
        centre = np.array(start) + np.array(off)
        at = centre + np.array(look) + rng.uniform(-0.06, 0.06, 3)
        views.append((place, look_at(centre, at, roll_deg=rng.uniform(-1.5, 1.5))))
    return views
