"""PLY: the coloured points alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfm.export.source import ExportSource
from sfm.system.safe_paths import refuse_links
from sfm.types import Float64

if TYPE_CHECKING:
    import pycolmap


def ply(source: ExportSource, dest: Path) -> Path:
    """points3D.ply, as COLMAP writes it."""
    model = source.model()
    refuse_links(dest, ["points3D.ply"])
    path = dest / "points3D.ply"
    model.export_PLY(str(path))
    return path


def points_of(model: pycolmap.Reconstruction) -> tuple[Float64, NDArray[np.uint8]]:
    """xyz (P, 3) f64 in the world and rgb (P, 3) u8, in order of the points' ids."""
    points = [model.points3D[i] for i in sorted(model.points3D)]
    xyz = np.array([p.xyz for p in points], np.float64).reshape(-1, 3)
    return xyz, np.array([p.color for p in points], np.uint8).reshape(-1, 3)


def write_ply(path: Path, xyz: Float64, rgb: NDArray[np.uint8]) -> None:
    """Binary PLY of coloured points, (P, 3) f64 and (P, 3) u8."""
    columns = [(axis, "<f4") for axis in "xyz"] + [(colour, "u1") for colour in ("red", "green", "blue")]
    rows = np.zeros(len(xyz), columns)
    for i, (name, _) in enumerate(columns):
        rows[name] = (xyz if i < 3 else rgb)[:, i % 3]
    properties = "".join(f"property {'float' if t == '<f4' else 'uchar'} {name}\n" for name, t in columns)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(xyz)}\n{properties}end_header\n"
    path.write_bytes(head.encode() + rows.tobytes())
