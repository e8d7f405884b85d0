"""Equal copies of a thing, rendered equal: textures follow the piece, not the world.

The renderer of the courtyard has solid textures, of which every place in the world has its own. Here each piece is
textured in its own frame, in diffuse light without a sun, so that copies differ only by what surrounds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfm.datasets.courtyard.rendering import Hits, Lighting, Renderer
from sfm.datasets.courtyard.scene import Material
from sfm.datasets.courtyard.surfaces import Surface, join
from sfm.types import Float32, Float64

SOFT = Lighting(0, 60, (0.0, 0.0, 0.0), (0.92, 0.94, 0.97), (0.62, 0.60, 0.57))
"""A bright sky all around: a wall is lit alike whatever it looks to."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a piece stands: turned by `degrees` about the vertical through the origin, then moved by (x, y) m."""

    degrees: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def rotation(self) -> Float64:
        """(3, 3) world_from_piece."""
        c, s = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def placed(self, surface: Surface) -> Surface:
        """The surface in the world."""
        turn = self.rotation
        return replace(surface, xyz=surface.xyz @ turn.T + [self.x, self.y, 0.0], normals=surface.normals @ turn.T)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Surfaces in a frame of their own, and where they stand."""

    surfaces: tuple[Surface, ...]
    pose: Pose = Pose()


class CopyRenderer(Renderer):
    """Renders pieces; those of equal surfaces look equal."""

    def __init__(self, pieces: Sequence[Piece], materials: Mapping[str, Material], *, seed: int = 0) -> None:
        groups: dict[tuple[str, Pose], list[Surface]] = {}
        for piece in pieces:
            for surface in piece.surfaces:
                groups.setdefault((surface.material, piece.pose), []).append(surface)
        local = [join(own) for own in groups.values()]
        self._poses = [pose for _, pose in groups]
        placed = [pose.placed(own) for pose, own in zip(self._poses, local, strict=True)]
        super().__init__(placed, materials, SOFT, seed=seed)
        xyz = np.concatenate([own.xyz for own in local]).astype(np.float32)
        self._attributes[:, 6:] = self._noise(xyz * np.array([0.3, 0.3, 0.16], np.float32))

    def _texture(self, material: Material, hits: Hits, footprint: Float32) -> tuple[Float32, Float32]:
        pose = self._poses[int(hits.surface[0])]
        turn = pose.rotation.astype(np.float32)
        xyz = (hits.xyz - np.array([pose.x, pose.y, 0.0], np.float32)) @ turn
        reflectance, tilt = super()._texture(material, replace(hits, xyz=xyz, normals=hits.normals @ turn), footprint)
        return reflectance, tilt @ turn.T
