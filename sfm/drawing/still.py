"""A picture of models side by side, which a page shows where it cannot draw in 3D: on paper, without WebGL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sfm.drawing.rasterizer import draw, line_fragments, point_fragments
from sfm.drawing.scene import Scene
from sfm.drawing.shapes import frustum_lines, frustum_size, image_corners
from sfm.drawing.viewpoint import NAMED, framed, front_azimuth, landmarks, looking
from sfm.types import Float64

RGB = tuple[int, int, int]
MAX_POINTS = 200_000  # of more, a fair sample
FAR_CAMERAS = 6.0  # radii of the points; cameras further away may be out of the picture; framing.js has the same


def panels(num: int) -> tuple[int, int]:
    """How many of a number of panels are side by side and one below the other."""
    across = num if num <= 3 else -(-num // 2)
    return across, -(-num // across)


def still(scenes: Sequence[Scene], size: tuple[int, int], tints: Sequence[RGB], background: RGB) -> Image.Image:
    """The scenes, upright and in one frame, from one overview, a panel each: points in their colours, cameras tinted.

    size: of the picture, px. tints: a colour a scene.
    """
    across, down = panels(len(scenes))
    panel = (size[0] // across, size[1] // down)
    azimuth, elevation = NAMED["overview"]
    seen = np.concatenate([part for scene in scenes for part in (landmarks(scene, FAR_CAMERAS), _frustums(scene))])
    view = framed(looking(front_azimuth(scenes) + azimuth, elevation), seen, panel)
    out = Image.new("RGB", size, background)
    for k, (scene, tint) in enumerate(zip(scenes, tints, strict=True)):
        points = scene.points
        step = max(1, -(-len(points.xyz) // MAX_POINTS))
        width = float(np.clip(min(panel) / 130 * (20_000 / max(len(points.xyz), 1)) ** 0.25, 1.6, 5.0))
        parts = [
            point_fragments(view, points.xyz[::step], points.rgb[::step], width),
            line_fragments(view, frustum_lines(scene.cameras, frustum_size(scene), tint), 1.6),
        ]
        drawn = Image.fromarray(draw(panel, parts, background))
        out.paste(drawn, (k % across * panel[0], k // across * panel[1]))
    return out


def _frustums(scene: Scene) -> Float64:
    """(N, 3) corners of the cameras that are in the picture, so that none is cut off at its edge."""
    away = np.linalg.norm(scene.cameras.centres, axis=1)
    radius = float(np.quantile(np.linalg.norm(scene.points.xyz, axis=1), 0.97)) if len(scene.points.xyz) else np.inf
    corners = image_corners(scene.cameras, frustum_size(scene))
    return np.asarray(corners[away <= FAR_CAMERAS * radius].reshape(-1, 3))
