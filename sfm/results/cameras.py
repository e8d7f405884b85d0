"""The cameras of a model, in the words of photographers."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

from sfm.wording import counted

DIAGONAL_35MM = 43.27  # mm, of the frame that "35 mm equivalent" means
_HEAD = struct.Struct("<iiQQ")  # id, model, width, height


class CameraFigure(NamedTuple):
    """focal_px: mean of both directions. size: px. fisheye: an angle of view has no 35 mm equivalent then."""

    focal_px: float
    size: tuple[int, int]
    fisheye: bool

    @property
    def focal_35mm(self) -> float:
        """Millimetres of the focal length of equal diagonal view on 35 mm film."""
        return self.focal_px / math.hypot(*self.size) * DIAGONAL_35MM


def read_figures(model: Path) -> list[CameraFigure]:
    """Of the cameras in cameras.bin of a model that we wrote; [] where that cannot be read."""
    import pycolmap

    try:
        data = (model / "cameras.bin").read_bytes()
        (num,), at, found = struct.unpack_from("<Q", data), 8, []
        for _ in range(min(num, len(data) // _HEAD.size)):
            _, kind, width, height = _HEAD.unpack_from(data, at)
            camera = pycolmap.Camera.create_from_model_id(1, pycolmap.CameraModelId(kind), 1.0, width, height)
            params = struct.unpack_from(f"<{len(camera.params)}d", data, at + _HEAD.size)
            at += _HEAD.size + 8 * len(params)
            focals = [params[i] for i in camera.focal_length_idxs()]
            if focals and width and height:
                fisheye = "FISHEYE" in camera.model_name or camera.model_name == "FOV"
                found.append(CameraFigure(sum(focals) / len(focals), (width, height), fisheye))
    except (OSError, ValueError, struct.error, RuntimeError, TypeError):
        return []
    return found


def cameras_line(cameras: list[CameraFigure]) -> str:
    """Their focal lengths, in a line: px and, of lenses that are no fisheyes, millimetres; "" for none."""
    if not cameras:
        return ""
    px, mm = ([getattr(c, name) for c in cameras] for name in ("focal_px", "focal_35mm"))
    kind = "fisheye, " if all(c.fisheye for c in cameras) else ""
    text = f"{kind}focal length {_span(px)} px"
    if not any(c.fisheye for c in cameras):
        text += f" (about {_span(mm)} mm on full frame)"
    return text if len(cameras) == 1 else f"{counted(len(cameras), 'camera')}, {text}"


def _span(values: list[float]) -> str:
    low, high = (f"{value:,.0f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
