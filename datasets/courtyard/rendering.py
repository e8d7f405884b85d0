"""Ray casting of the synthetic scene: sun with cast shadows, sky light with ambient occlusion, solid textures.

Surfaces are Lambertian, so a point has one colour from everywhere. Rays come from Open3D's RaycastingScene (Embree, on
the CPU, no display); Open3D is imported when a renderer is built. Pixels have their corner at the origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sfm.datasets.courtyard.scene import Bond, Material
from sfm.datasets.courtyard.surfaces import Surface, join
from sfm.errors import SfMError
from sfm.types import Float32, Float64, Int64

_LIFT = 2e-3  # m, how far secondary rays start above a surface


@dataclass(frozen=True, slots=True)
class Lighting:
    """Sun and sky. sun: azimuth, elevation in degrees; radiances are linear RGB; reach of ambient occlusion in m."""

    azimuth_deg: float
    elevation_deg: float
    sun_rgb: tuple[float, float, float]
    sky_rgb: tuple[float, float, float]
    ground_rgb: tuple[float, float, float]
    occlusion_reach: float = 1.6

    @property
    def towards_sun(self) -> Float32:
        """(3,) unit vector."""
        a, e = np.radians([self.azimuth_deg, self.elevation_deg])
        return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], np.float32)


SUNNY = Lighting(-150, 48, (2.75, 2.38, 1.86), (0.52, 0.65, 0.86), (0.42, 0.36, 0.29))
OVERCAST = Lighting(-150, 48, (0.12, 0.12, 0.116), (0.74, 0.75, 0.77), (0.46, 0.45, 0.44))


class Noise:
    """Tileable solid noise of unit variance with a 1/f spectrum, looked up trilinearly."""

    def __init__(self, rng: np.random.Generator, *, size: int = 64, slope: float = 1.35) -> None:
        frequency = np.fft.fftfreq(size)
        k = np.sqrt(sum(f**2 for f in np.meshgrid(frequency, frequency, frequency, indexing="ij")))
        spectrum = np.fft.fftn(rng.standard_normal((size, size, size)))
        amplitude = np.where(k > 0, np.maximum(k, 1 / size), np.inf) ** -slope * np.exp(-((k / 0.35) ** 2))
        value = np.fft.ifftn(spectrum * amplitude).real
        value /= value.std()
        self._size = size
        self._table = value.astype(np.float32)

    def __call__(self, xyz: Float32) -> Float32:
        """(N, 1) noise at xyz (N, 3), in periods."""
        from scipy.ndimage import map_coordinates

        at = xyz.T * np.float32(self._size)
        value: Float32 = map_coordinates(self._table, at, order=1, mode="grid-wrap", output=np.float32)
        return value[:, None]


def bond_pattern(bond: Bond, uv: Float32, footprint: Float32) -> tuple[Float32, Float32, Float32]:
    """Stones of a bond at uv (N, 2) m, joints softened over `footprint` (N,) m.

    Returns (N,) stone cover 1 inside to 0 in the joints, (N, 2) slope of the bevelled edges, (N, 3) stone's random
    numbers in [-1, 1].
    """
    course = np.floor(uv[:, 1] / bond.height)
    along = uv[:, 0] / bond.width + bond.shift * course
    column = np.floor(along)
    u = (along - column - 0.5) * bond.width
    v = (uv[:, 1] / bond.height - course - 0.5) * bond.height
    inside_u, inside_v = bond.width / 2 - np.abs(u), bond.height / 2 - np.abs(v)
    inside = np.minimum(inside_u, inside_v)
    cover = np.clip((inside - bond.joint / 2) / np.maximum(0.5 * bond.joint, footprint) + 0.5, 0, 1)
    bevel = np.clip(1 - np.abs(inside - bond.joint * 0.6) / (0.6 * bond.joint + footprint), 0, 1)
    bevel *= bond.joint / (bond.joint + footprint)
    slope = np.stack([np.sign(u) * (inside_u < inside_v), np.sign(v) * (inside_v <= inside_u)], 1) * bevel[:, None]
    key = column.astype(np.int64) * 73856093 ^ course.astype(np.int64) * 19349663
    random = np.stack([((key * m + (key >> 7)) % 8191) / np.float32(4095) - 1 for m in (40503, 30011, 12289)], 1)
    return cover.astype(np.float32), slope.astype(np.float32), random.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What N rays met: distance (N,) f32 in units of the ray's direction (inf: sky), and the surface there.

    surface: (N,) i64 which one, -1 for the sky. openness: (N,) ambient occlusion, 1 in the open. stain: (N, 1) noise.
    """

    distance: Float32
    surface: Int64
    xyz: Float32
    normals: Float32
    uv: Float32
    openness: Float32
    stain: Float32

    def at(self, rows: Int64) -> Hits:
        """The hits of some rows."""
        return Hits(*(getattr(self, f.name)[rows] for f in fields(self)))


class Renderer:
    """Casts and shades rays in a scene of surfaces. Deterministic for a seed."""

    def __init__(
        self, surfaces: Sequence[Surface], materials: Mapping[str, Material], lighting: Lighting, *, seed: int = 0
    ) -> None:
        self._scene, self._o3d = _embree(surfaces)
        rng = np.random.default_rng(seed)
        self._materials = [materials[s.material] for s in surfaces]
        self._lighting = lighting
        self._noise = Noise(rng)
        solid = join(surfaces)
        self._corners = solid.triangles
        self._first_triangle = np.cumsum([0] + [len(s.triangles) for s in surfaces])
        stain = self._noise(solid.xyz.astype(np.float32) * _f32([0.3, 0.3, 0.16]))  # runs down walls
        columns: list[Float32 | Float64] = [solid.normals, solid.uv, self._openness(solid, rng), stain]
        self._attributes = np.column_stack(columns).astype(np.float32)

    def cast(self, origins: Float32, directions: Float32) -> Hits:
        """Nearest surface along N rays: origins, directions (N, 3) f32."""
        answer = self._scene.cast_rays(self._tensor(origins, directions), nthreads=1)
        distance, bary = answer["t_hit"].numpy(), answer["primitive_uvs"].numpy()
        met = np.isfinite(distance)
        surface = np.where(met, answer["geometry_ids"].numpy().astype(np.int64), -1)
        triangle = np.where(met, self._first_triangle[surface] + answer["primitive_ids"].numpy(), 0)
        corners, b1, b2 = self._corners[triangle], bary[:, :1], bary[:, 1:]
        a = self._attributes[corners[:, 0]] * (1 - b1 - b2)
        a += self._attributes[corners[:, 1]] * b1
        a += self._attributes[corners[:, 2]] * b2
        xyz = origins + directions * np.where(met, distance, 0)[:, None]
        return Hits(distance, surface, xyz, _unit(a[:, :3]), a[:, 3:5], a[:, 5], a[:, 6:])

    def shade(self, hits: Hits, directions: Float32, footprint: Float32, *, sun_offset: tuple[float, float]) -> Float32:
        """(N, 3) linear radiance. footprint: (N,) m, a pixel's size on the surface. sun_offset: within its disc."""
        radiance = np.empty_like(hits.xyz)
        sky = np.flatnonzero(hits.surface < 0)
        radiance[sky] = self._sky(directions[sky])
        sun = self._lighting.towards_sun + 0.002 * np.array([sun_offset[0], -sun_offset[0], sun_offset[1]], np.float32)
        for s, material in enumerate(self._materials):
            rows = np.flatnonzero(hits.surface == s)
            if len(rows):
                radiance[rows] = self._shade_surface(material, hits.at(rows), footprint[rows], sun)
        return radiance

    def _shade_surface(self, material: Material, hits: Hits, footprint: Float32, sun: Float32) -> Float32:
        light = self._lighting
        reflectance, tilt = self._texture(material, hits, footprint[:, None])
        normals = _unit(hits.normals - tilt)
        open_sky = hits.openness[:, None]
        direct = (np.maximum(normals @ sun, 0) * self._lit(hits, sun))[:, None] * _f32(light.sun_rgb)
        up = (0.5 + 0.5 * normals[:, 2:]) * open_sky
        bounced = (1 - up) * (0.25 + 0.75 * open_sky) * _f32(light.ground_rgb)
        ambient = (up * _f32(light.sky_rgb) + bounced) * (0.35 + 0.65 * open_sky)
        radiance: Float32 = reflectance * (direct + ambient)
        return radiance

    def _texture(self, material: Material, hits: Hits, footprint: Float32) -> tuple[Float32, Float32]:
        """Reflectance (N, 3), and tilt (N, 3): what the relief takes from the normal. footprint: (N, 1) m."""
        if material.grain == 0 and material.bond is None:
            return _blend(material, 0.5 + 0.25 * material.stain * hits.stain), np.zeros_like(hits.xyz)
        along, upward = _tangents(hits.normals)
        at = (hits.xyz @ _ROTATION) * np.float32(1 / 0.71)
        grain, rough = self._noise(at), self._noise(at + np.float32(0.37))
        near = np.clip(1.6 - footprint / 0.012, 0, 1)  # grain finer than a pixel fades out
        tone = 0.55 + 0.2 * material.stain * hits.stain + 0.17 * material.grain * grain * (0.45 + 0.55 * near)
        tilt = (along * rough + upward * (0.5 * rough + grain)) * (0.13 * material.bump * near)
        if material.veins:
            tone -= material.veins * 0.5 * np.exp(-((hits.stain + 0.35 * grain) ** 2) / 0.012)
        if material.bond is None:
            return _blend(material, tone), tilt
        cover, edges, random = bond_pattern(material.bond, hits.uv, footprint[:, 0])
        stone = _blend(material, tone + material.spread * 0.32 * random[:, :1])
        stone *= 1 + 0.07 * material.spread * random
        joint = _f32(material.joint_rgb) * (1 + 0.15 * grain)
        relief = (edges[:, :1] * along + edges[:, 1:] * upward) * -0.7
        lean = (random[:, :1] * along + random[:, 1:2] * upward) * (0.05 * material.bump)
        cover = cover[:, None]
        return joint + (stone - joint) * cover, (tilt + lean) * cover + relief

    def _lit(self, hits: Hits, sun: Float32) -> Float32:
        """(N,) 1 where the sun reaches the point."""
        lit = (hits.normals @ sun > 0).astype(np.float32)
        rows = np.flatnonzero(lit)
        start = hits.xyz[rows] + _LIFT * hits.normals[rows]
        lit[rows] = 1 - self._hidden(start, np.broadcast_to(sun, start.shape), np.inf)
        return lit

    def _openness(self, surface: Surface, rng: np.random.Generator, *, num: int = 32) -> Float32:
        """(V,) share of cosine-weighted rays from each vertex that meet nothing within the lighting's reach."""
        height = np.sqrt((np.arange(num) + 0.5) / num)
        angle = np.arange(num) * np.pi * (3 - np.sqrt(5)) + rng.uniform(0, 2 * np.pi)
        radius = np.sqrt(1 - height**2)
        along, upward = _tangents(surface.normals.astype(np.float32))
        hidden = np.zeros(len(surface.xyz), np.float32)
        start = (surface.xyz + 4 * _LIFT * surface.normals).astype(np.float32)
        for h, x, y in zip(height, radius * np.cos(angle), radius * np.sin(angle), strict=True):
            direction = x * along + y * upward + h * surface.normals
            hidden += self._hidden(start, direction.astype(np.float32), self._lighting.occlusion_reach)
        return 1 - hidden / np.float32(num)

    def _hidden(self, origins: Float32, directions: Float32, reach: float) -> Float32:
        answer = self._scene.test_occlusions(
            self._tensor(origins, directions), tnear=0.0, tfar=float(reach), nthreads=1
        )
        hidden: Float32 = answer.numpy().astype(np.float32)
        return hidden

    def _tensor(self, origins: Float32, directions: Float32) -> Any:
        return self._o3d.core.Tensor(np.concatenate([origins, directions], 1, dtype=np.float32))

    def _sky(self, directions: Float32) -> Float32:
        unit = _unit(directions)
        height = np.clip(unit[:, 2:], 0, 1)
        haze, zenith = _f32([0.93, 0.97, 1.0]), _f32([0.22, 0.42, 0.85])
        clear = haze + (zenith - haze) * height**0.55
        cloud = self._noise(unit * _f32([0.5, 0.5, 1.1]))
        sky: Float32 = clear + (1 - clear) * np.clip(0.25 + 0.3 * cloud, 0, 0.8)
        return sky * np.float32(self._lighting.sky_rgb[2] * 1.25)


_ROTATION = np.linalg.qr(np.array([[1.0, 0.4, -0.3], [-0.2, 1.0, 0.5], [0.6, -0.1, 1.0]]))[0].astype(np.float32)


def _blend(material: Material, tone: Float32) -> Float32:
    dark = _f32(material.dark)
    blended: Float32 = dark + (_f32(material.light) - dark) * np.clip(tone, 0, 1)
    return blended


def _f32(values: Sequence[float]) -> Float32:
    return np.array(values, np.float32)


def _unit(vectors: Float32) -> Float32:
    unit: Float32 = vectors / np.maximum(np.sqrt(np.einsum("nk,nk->n", vectors, vectors)), 1e-9)[:, None]
    return unit


def _tangents(normals: Float32) -> tuple[Float32, Float32]:
    """(N, 3) unit vectors along and up a surface: horizontal and steepest; x and y on level ground."""
    x, y, z = normals.T
    run = np.hypot(x, y)
    level = run < 0.14
    scale = 1 / np.where(level, 1, run)
    a, b = np.where(level, 1, -y * scale), np.where(level, 0, x * scale)
    along, upward = np.stack([a, b, np.zeros_like(a)], 1), np.stack([-z * b, z * a, x * b - y * a], 1)
    return along.astype(np.float32), upward.astype(np.float32)


def _embree(surfaces: Sequence[Surface]) -> tuple[Any, Any]:
    """A ray-casting scene of the surfaces, and the Open3D module."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise SfMError(
            f"Open3D cannot be loaded ({error}); install it and its system libraries (libusb-1.0-0)"
        ) from error
    o3d: Any = open3d
    scene = o3d.t.geometry.RaycastingScene()
    for surface in surfaces:
        scene.add_triangles(
            o3d.core.Tensor(surface.xyz.astype(np.float32)), o3d.core.Tensor(surface.triangles.astype(np.uint32))
        )
    return scene, o3d


def develop(radiance: Float32, *, noise: float, rng: np.random.Generator) -> Any:
    """(H, W, 3) u8 image of linear radiance: filmic curve, sRGB, sensor noise of `noise` grey levels at mid tones."""
    x = radiance * np.float32(0.66)
    film = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    srgb = np.where(film <= 0.0031308, 12.92 * film, 1.055 * np.maximum(film, 1e-6) ** (1 / 2.4) - 0.055)
    grey = srgb * 255 + rng.standard_normal(srgb.shape, np.float32) * noise
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


SUB_PIXELS = np.array([[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]])
"""(4, 2) rotated grid of positions within a pixel, corner origin; their mean is the pixel's centre."""
