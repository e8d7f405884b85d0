"""Scenes of meshes under fixed lights: rendering, and where every pixel is in another view.

Pixels are COLMAP's (first pixel's centre at (0.5, 0.5)); poses are cam_from_world, camera z forward, y down.
Light is fixed in the world and baked into the vertices (Lambert, soft shadows, a sky for ambient occlusion), so
that it is the same in every view. Rays are cast by Open3D; a ray's direction has camera depth one, so the
distance that it reports is depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.datasets.training_pairs.meshes import Mesh
from sfm.datasets.training_pairs.textures import Texture, grid_xy

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

DEPTH_TOLERANCE = 2e-3  # relative; a point is hidden if something is nearer by more than this
EDGE_DEPTH = 0.03  # relative; a larger step in depth between neighbouring pixels is an edge
MIN_COSINE = 0.12  # views of a surface at grazing angles give no ground truth
RAYS_AT_ONCE = 16384  # small enough for the processor's cache
SUBPIXELS = np.array([[-0.35, -0.2], [0.35, 0.2]], np.float32)  # beside the pixel's middle, on either side


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole with its principal point in the middle. size: (H, W) px. focal: px."""

    size: tuple[int, int]
    focal: float
    rotation: Float64
    translation: Float64

    @classmethod
    def looking_at(
        cls, position: Float64, target: Float64, *, up: Float64, roll: float, focal: float, size: tuple[int, int]
    ) -> Camera:
        """The camera at `position` that sees `target` in its middle; roll: rotation about the optical axis, rad."""
        z = (target - position) / np.linalg.norm(target - position)
        x = np.cross(z, up)
        x /= np.linalg.norm(x)
        y = np.cross(z, x)
        c, s = np.cos(roll), np.sin(roll)
        rotation = np.stack([c * x + s * y, -s * x + c * y, z])
        return cls(size, focal, rotation, -rotation @ position)

    @property
    def centre(self) -> Float64:
        """(3,) position in the world."""
        return -self.rotation.T @ self.translation

    def rays(self, xy: Float32) -> Float32:
        """(N, 6) f32 origin and direction (of camera depth one) through pixels xy (N, 2)."""
        height, width = self.size
        flat = (xy - np.array([width / 2, height / 2], np.float32)) / np.float32(self.focal)
        rotation = self.rotation.astype(np.float32)
        rays = np.empty((len(xy), 6), np.float32)
        rays[:, :3] = self.centre
        np.matmul(flat, rotation[:2], out=rays[:, 3:])
        rays[:, 3:] += rotation[2]
        return rays

    def project(self, xyz: Float64, *, at_infinity: bool = False) -> tuple[Float64, Float64]:
        """Pixels (N, 2) and depths (N,) of points, or of directions, (N, 3) in the world; NaN behind the camera."""
        local = xyz @ self.rotation.T + (0 if at_infinity else self.translation)
        depth = np.where(local[:, 2] > 1e-6, local[:, 2], np.nan)
        height, width = self.size
        return self.focal * local[:, :2] / depth[:, None] + np.array([width / 2, height / 2]), depth

    def sees(self, xy: Float64) -> Bool:
        """Which pixels xy (N, 2) are inside the image; NaN does not."""
        height, width = self.size
        return np.asarray((xy > 0).all(axis=1) & (xy[:, 0] < width) & (xy[:, 1] < height))


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """An image mapped onto a body along its three axes.

    Albedo = base (1 + contrast (grey / mean grey - 1)): contrast 1 is the image itself, near 0 is plaster.
    density: texels per unit. offsets: (3, 2) texels of the body's origin along x, y and z. The axis is
    that of the face of a box of half sides `extent` (3,) on which the place lies; without one it is the axis nearest
    to the normal, z three times preferred.
    """

    texture: Texture
    base: float
    contrast: float
    density: float
    offsets: Float32
    extent: Float32 | None = None

    def albedo(self, local: Float32, normals: Float32, footprint: Float32) -> Float32:
        """(N,) f32 at places and unit normals (N, 3) in the body's frame; footprint (N,): units between pixels."""
        along_x, along_y, along_z = np.abs(normals.T * _FRONT if self.extent is None else (local / self.extent).T)
        on_z = along_z >= np.maximum(along_x, along_y)
        on_x = ~on_z & (along_x >= along_y)
        axis = np.where(on_z, 2, np.where(on_x, 0, 1))
        xy = self.offsets[axis]
        xy[:, 0] += np.float32(self.density) * np.where(on_x, local[:, 2], local[:, 0])
        xy[:, 1] += np.float32(self.density) * np.where(on_x | on_z, local[:, 1], local[:, 2])
        grey = self.texture.sample(xy, footprint * np.float32(self.density))
        return np.asarray(self.base * (1 + self.contrast * (grey / self.texture.mean - 1)))


_FRONT = np.array([[1], [1], [3]], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A mesh in its own frame, its material, and its pose: x_world = rotation x + translation."""

    mesh: Mesh
    material: Material
    rotation: Float64
    translation: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Lights:
    """Directional lights: directions (K, 3) f32 unit, towards the light; weights (K,) f32; relief: 0 leaves the
    albedo as it is, 1 is full shading."""

    directions: Float32
    weights: Float32
    relief: float


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """What is seen where there is no body, infinitely far: an image rotated with the world, or plain grey (None)."""

    texture: Texture | None
    grey: float
    rotation: Float64
    density: float  # texels per radian


class Scene:
    """Bodies, lights and a backdrop, ready to be rendered."""

    def __init__(self, bodies: list[Body], lights: Lights, backdrop: Backdrop) -> None:
        self.bodies = bodies
        self.backdrop = backdrop
        self._mesh = Mesh.joined([b.mesh.moved(b.rotation, b.translation) for b in bodies])
        counts = [len(b.mesh.triangles) for b in bodies]
        self._body_of_triangle = np.append(np.repeat(np.arange(len(bodies)), counts), -1)  # last: nothing hit
        self._lights = lights

    @cached_property
    def caster(self) -> Any:
        """Open3D's RaycastingScene of all triangles."""
        from open3d.t.geometry import RaycastingScene

        caster = RaycastingScene(nthreads=1)
        caster.add_triangles(self._mesh.vertices, self._mesh.triangles)
        return caster

    @cached_property
    def shade(self) -> Float32:
        """(V,) f32 light on each vertex, 1 where it is bright."""
        mesh, lights = self._mesh, self._lights
        cosines = np.maximum(mesh.normals @ lights.directions.T, 0)  # (V, K)
        vertex, light = np.nonzero(cosines > 0)
        rays = np.empty((len(vertex), 6), np.float32)
        rays[:, :3] = (mesh.vertices + 5e-3 * mesh.normals)[vertex]
        rays[:, 3:] = lights.directions[light]
        hidden = self.caster.test_occlusions(rays, nthreads=1).numpy()
        cosines[vertex[hidden], light[hidden]] = 0
        irradiance = cosines @ lights.weights
        bright = max(float(np.quantile(irradiance, 0.9)), 1e-6)
        toned = np.power(np.minimum(irradiance / bright, 1.6), 0.6)  # images are gamma-coded
        return np.asarray(1 + lights.relief * (toned - 1), np.float32)

    @cached_property
    def _shade_planes(self) -> Float32:
        """(T, 3) f32: light at each triangle's first corner, and its change to the second and to the third."""
        corners = self.shade[self._mesh.triangles]
        corners[:, 1:] -= corners[:, :1]
        return np.asarray(corners)

    def render(self, camera: Camera) -> tuple[Float32, Bool]:
        """Grey values (H, W) f32, 0 to about 255, antialiased, and where an edge in depth runs (H, W) bool."""
        xy = grid_xy(*camera.size)
        parts = [self._look(camera, part) for part in np.array_split(xy, 1 + len(xy) // RAYS_AT_ONCE)]
        grey, depth, body = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        edges = _edges(depth.reshape(camera.size), body.reshape(camera.size))
        rows = np.flatnonzero(edges)
        finer = self._look(camera, (xy[rows, None] + SUBPIXELS).reshape(-1, 2))[0]
        grey[rows] = (grey[rows] + finer.reshape(-1, len(SUBPIXELS)).sum(axis=1)) / (1 + len(SUBPIXELS))
        return grey.reshape(camera.size), edges

    def _look(self, camera: Camera, xy: Float32) -> tuple[Float32, Float32, NDArray[np.int64]]:
        """Grey (N,), depth (N,), inf where nothing is hit, and body (N,), -1 likewise, at pixels xy (N, 2)."""
        rays = camera.rays(xy)
        hits = self.caster.cast_rays(rays, nthreads=1)
        depth = hits["t_hit"].numpy()
        primitive = hits["primitive_ids"].numpy()
        primitive = np.where(np.isfinite(depth), primitive, len(self._body_of_triangle) - 1)
        body = self._body_of_triangle[primitive]
        barycentric, normals = hits["primitive_uvs"].numpy(), hits["primitive_normals"].numpy()
        grey = np.empty(len(xy), np.float32)
        for index in range(-1, len(self.bodies)):
            rows = np.flatnonzero(body == index)
            if len(rows) == 0:
                continue
            if index < 0:
                grey[rows] = self._backdrop_grey(rays[rows, 3:], camera.focal)
                continue
            shade = self._interpolated_shade(primitive[rows], barycentric[rows])
            grey[rows] = 255 * shade * self._albedo(index, rays[rows], depth[rows], normals[rows], camera.focal)
        return grey, depth, body

    def _interpolated_shade(self, primitive: NDArray[Any], barycentric: Float32) -> Float32:
        base, along_u, along_v = self._shade_planes[primitive].T
        return np.asarray(base + barycentric[:, 0] * along_u + barycentric[:, 1] * along_v)

    def _albedo(self, index: int, rays: Float32, depth: Float32, normals: Float32, focal: float) -> Float32:
        body = self.bodies[index]
        rotation = body.rotation.astype(np.float32)
        directions = rays[:, 3:]
        local = (rays[:, :3] + depth[:, None] * directions - body.translation.astype(np.float32)) @ rotation
        slant = _dot(normals, directions) ** 2 / _dot(directions, directions)
        footprint = depth * np.maximum(slant, 0.0225) ** np.float32(-0.25) / np.float32(focal)
        return body.material.albedo(local, normals @ rotation, footprint)

    def _backdrop_grey(self, directions: Float32, focal: float) -> Float32 | float:
        drop = self.backdrop
        if drop.texture is None:
            return drop.grey
        local = directions @ drop.rotation.T.astype(np.float32)
        across = np.arctan2(local[:, 0], local[:, 2])
        down = np.arctan2(local[:, 1], np.hypot(local[:, 0], local[:, 2]))
        middle = np.array(drop.texture.size, np.float32) / 2
        xy = (np.stack([across, down], axis=1) * drop.density + middle).astype(np.float32)
        return np.asarray(drop.texture.sample(xy, drop.density / focal))

    def warp(self, camera0: Camera, camera1: Camera, xy: Float32) -> Float32:
        """Where the surface seen at xy (N, 2) px of camera0 is in camera1: (N, 2) f32 px, NaN if not visible.

        A point at infinity has a place of its own where the backdrop has an image.
        """
        rays = camera0.rays(xy)
        hits = self.caster.cast_rays(rays, nthreads=1)
        depth = hits["t_hit"].numpy().astype(np.float64)
        far = ~np.isfinite(depth)
        directions = rays[:, 3:].astype(np.float64)
        xyz = camera0.centre + np.where(far, 0, depth)[:, None] * directions
        there, depth1 = camera1.project(xyz)
        there[far] = camera1.project(directions[far], at_infinity=True)[0]
        seen = np.flatnonzero(camera1.sees(there) & ~(far & (self.backdrop.texture is None)))
        back = self.caster.cast_rays(camera1.rays(there[seen].astype(np.float32)), nthreads=1)["t_hit"].numpy()
        same = np.where(far[seen], ~np.isfinite(back), np.abs(back - depth1[seen]) < DEPTH_TOLERANCE * depth1[seen])
        normals = hits["primitive_normals"].numpy()[seen].astype(np.float64)
        same &= far[seen] | (_cosine(normals, directions[seen]) > MIN_COSINE)
        same &= far[seen] | (_cosine(normals, xyz[seen] - camera1.centre) > MIN_COSINE)
        warp = np.full((len(xy), 2), np.nan, np.float32)
        warp[seen[same]] = there[seen[same]]
        return warp


def _cosine(a: Float64, b: Float64) -> Float64:
    return np.asarray(np.abs(np.sum(a * b, axis=1)) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) + 1e-12))


def _dot(a: Float32, b: Float32) -> Float32:
    """Row by row, (N,); many times faster than einsum for three columns."""
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


def _edges(depth: Float32, body: NDArray[np.int64]) -> Bool:
    """Pixels next to a step in depth or to another body, and those beside them: (H, W) bool."""
    inverse = 1 / depth  # 0 where nothing is hit
    edges = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        near, step = (
            np.maximum(_but_last(inverse, axis), _but_first(inverse, axis)),
            np.abs(np.diff(inverse, axis=axis)),
        )
        jump = (step > EDGE_DEPTH * near) | (np.diff(body, axis=axis) != 0)
        _but_last(edges, axis)[...] |= jump
        _but_first(edges, axis)[...] |= jump
    return edges


def _but_last(array: NDArray[Any], axis: int) -> NDArray[Any]:
    return array[:-1] if axis == 0 else array[:, :-1]


def _but_first(array: NDArray[Any], axis: int) -> NDArray[Any]:
    return array[1:] if axis == 0 else array[:, 1:]
