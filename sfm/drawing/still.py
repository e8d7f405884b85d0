"""A picture of models side by side, which a page shows where it cannot draw in 3D: on paper, without WebGL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sfm.drawing.rasterizer import draw, line_fragments, point_fragments
from sfm.drawing.scene import Scene
from sfm.drawing.shapes import frustum_lines, frustum_size
from sfm.drawing.viewpoint import named_view

RGB = tuple[int, int, int]
MAX_POINTS = 200_000  # of more, a fair sample


def still(scenes: Sequence[Scene], size: tuple[int, int], tints: Sequence[RGB], background: RGB) -> Image.Image:
    """The scenes, upright and in one frame, from one overview, a panel each: points in their colours, cameras tinted.

    size: of the picture, px. tints: a colour a scene.
    """
    across = min(len(scenes), 3)
    down = -(-len(scenes) // across)
    panel = (size[0] // across, size[1] // down)
    view = named_view(scenes, "overview", panel)
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
