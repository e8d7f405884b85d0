"""The frame of a model that is in metres: frame.json beside the model's files, read as an untrusted file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm.errors import BadFile
from sfm.geometry.similarity import Similarity
from sfm.system.untrusted_files import NUMBER, has_shape, read_json
from sfm.types import Float64

FRAME_FILE = "frame.json"
OWN = "own"  # the frame of a model that could not be placed beside others that were
_SHAPE = {
    "frame": str,
    "key": str,
    "scale": NUMBER,
    "rotation": [[NUMBER]],
    "translation": [NUMBER],
    "record": {str: object},
}


@dataclass(frozen=True, slots=True, eq=False)
class WorldFrame:
    """similarity: metres from the frame of mapping. origin: (3,) latitude and longitude, degrees, and altitude, m, of a
    frame with x to the east, y to the north and z up; None where only the scale is known. key: hash of what it was made
    from. record: what run.json says of it.
    """

    similarity: Similarity
    origin: Float64 | None
    key: str
    record: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """ENU, metres, or OWN."""
        return "ENU" if self.origin is not None else str(self.record.get("frame", OWN))

    def text(self) -> str:
        """What the file holds."""
        value = {
            "frame": self.kind,
            **({"origin": origin_dict(self.origin)} if self.origin is not None else {}),
            "scale": self.similarity.scale,
            "rotation": self.similarity.rotation.tolist(),
            "translation": self.similarity.translation.tolist(),
            "key": self.key,
            "record": dict(self.record),
        }
        return json.dumps(value, indent=2) + "\n"


def origin_dict(origin: Float64) -> dict[str, float]:
    """The origin of a frame by names."""
    return dict(zip(("latitude", "longitude", "altitude"), map(float, origin), strict=True))


def read_frame(folder: Path) -> WorldFrame | None:
    """The frame of the model in a folder; None where it is its own. BadFile where the file is damaged."""
    path = folder / FRAME_FILE
    if not path.exists():
        return None
    try:
        value = read_json(path)
        if not has_shape(value, _SHAPE):
            raise ValueError
        rotation, translation = np.array(value["rotation"], np.float64), np.array(value["translation"], np.float64)
        proper = rotation.shape == (3, 3) and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        proper = proper and np.linalg.det(rotation) > 0
        scale = float(value["scale"])
        if not (proper and translation.shape == (3,) and np.isfinite(translation).all() and 0 < scale < np.inf):
            raise ValueError
        return WorldFrame(
            Similarity(scale, rotation, translation), _origin(value.get("origin")), value["key"], value["record"]
        )
    except (OSError, ValueError, TypeError):
        raise BadFile(f"{path}: damaged; delete the models' folder and run again") from None


def _origin(value: Any) -> Float64 | None:
    if value is None:
        return None
    if not has_shape(value, {"latitude": NUMBER, "longitude": NUMBER, "altitude": NUMBER}):
        raise ValueError
    origin = np.array([value["latitude"], value["longitude"], value["altitude"]], np.float64)
    if not (np.isfinite(origin).all() and abs(origin[0]) <= 90 and abs(origin[1]) <= 180):
        raise ValueError
    return origin
