"""What a viewer shows, as values: which points, in which colours, from where. No window, no pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.drawing.scene import Scene, aligned, moved, upright
from sfm.drawing.shapes import image_corners
from sfm.drawing.viewpoint import View
from sfm.errors import BadOption
from sfm.evaluation.model import Similarity
from sfm.system.untrusted_files import MAX_LINE, NUMBER, has_shape, parse_json
from sfm.types import Float32, Float64, Int64

UInt8 = NDArray[np.uint8]
RGB = tuple[int, int, int]
COLOURS = ("rgb", "error", "length", "height")
LAYOUTS = ("beside", "over")
NAMES_OF_010 = {"images": "photos"}  # fields of remembered states that version 0.1.0 named differently
BACKGROUNDS: dict[str, RGB] = {"dark": (20, 23, 28), "light": (250, 250, 248)}
TINTS: dict[str, tuple[RGB, ...]] = {  # of the first model and the second; Okabe and Ito's colours
    "dark": ((86, 180, 233), (240, 170, 30)),
    "light": ((0, 114, 178), (213, 94, 0)),
}
VIRIDIS = np.array(
    list(bytes.fromhex("440154 472c7a 3b518b 2c718e 21908d 27ad81 5cc863 aadc32 fde725")), np.float64
).reshape(-1, 3)
NEAR_CAMERA_PX = 12.0  # a click this near to a camera's centre means the camera


@dataclass(frozen=True, slots=True)
class ViewState:
    """max_error: px, points above are hidden. min_track: observations a point needs. point_size: px, None by their
    number. colour: rgb, error, length or height. layout of two models: side by side or overlaid. cameras, images,
    grid, axes: whether they are drawn. selected: model and name of a camera. pose: cam_from_world of the view, 12
    numbers row by row. BadOption for values that make no sense."""

    max_error: float = math.inf
    min_track: int = 2
    point_size: float | None = None
    background: str = "dark"
    colour: str = "rgb"
    layout: str = "beside"
    cameras: bool = True
    images: bool = True
    grid: bool = True
    axes: bool = True
    selected: tuple[int, str] | None = None
    pose: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, known in (("background", BACKGROUNDS), ("colour", COLOURS), ("layout", LAYOUTS)):
            if getattr(self, name) not in known:
                raise BadOption(f"--{name} {getattr(self, name)}: choose from {', '.join(known)}")
        if not self.max_error > 0:
            raise BadOption(f"--max-error {self.max_error:g}: give pixels above 0")
        if self.point_size is not None and not 0 < self.point_size <= 50:
            raise BadOption(f"--point-size {self.point_size:g}: give pixels from above 0 to 50")
        if self.min_track < 0:
            raise BadOption(f"--min-track {self.min_track}: give a number of images, 0 or more")


def visible_points(scene: Scene, state: ViewState) -> NDArray[np.bool_]:
    """(N,) the points that pass the filters."""
    points = scene.points
    kept = points.length >= state.min_track
    return np.asarray(kept if math.isinf(state.max_error) else kept & (points.error <= state.max_error))


def point_colours(scene: Scene, state: ViewState, tint: RGB | None = None) -> UInt8:
    """(N, 3) by the state's colouring; with a tint the images' colours are mixed with it."""
    if state.colour != "rgb":
        low, high = colour_range(scene, state.colour)
        return ramp((_measure(scene, state.colour) - low) / max(high - low, 1e-9))
    if tint is None:
        return scene.points.rgb
    brightness = scene.points.rgb.astype(np.float32).mean(axis=1, keepdims=True) / 255
    return np.asarray(np.round((0.45 + 0.55 * brightness) * np.array(tint, np.float32)), np.uint8)


def colour_range(scene: Scene, colour: str) -> tuple[float, float]:
    """What the first and the last colour of the ramp represent: px, images or radii of the scene."""
    measured = _measure(scene, colour)
    finite = measured[np.isfinite(measured)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = np.quantile(finite, [0.02, 0.95])
    if colour == "height":
        return float(low), float(high)
    return (0.0, float(max(high, 0.5))) if colour == "error" else (2.0, float(max(high, 3.0)))


def _measure(scene: Scene, colour: str) -> Float32 | Int64:
    if colour == "length":
        return scene.points.length
    return scene.points.error if colour == "error" else scene.points.xyz[:, 2]


def ramp(part: Float32 | Float64) -> UInt8:
    """(N, 3) colours of viridis, dark blue at 0 to yellow at 1: even in lightness, for all eyes."""
    at = np.clip(np.nan_to_num(part, nan=1.0), 0, 1) * (len(VIRIDIS) - 1)
    steps = np.arange(len(VIRIDIS))
    return np.column_stack([np.interp(at, steps, VIRIDIS[:, k]) for k in range(3)]).round().astype(np.uint8)


def point_size(state: ViewState, num: int, size: tuple[int, int]) -> float:
    """Points' diameter in px: the state's, or what lets this many cover about a quarter of the picture."""
    if state.point_size is not None:
        return state.point_size
    return float(np.clip(np.sqrt(0.25 * size[0] * size[1] / max(num, 1)), 1.25, 5.0))


# --- two models -----------------------------------------------------------------------------------


def arranged(scenes: Sequence[Scene]) -> tuple[tuple[Scene, ...], str | None]:
    """The scenes upright, in the frame of the one with most cameras, and a note where one could not be aligned."""
    main = max(range(len(scenes)), key=lambda i: len(scenes[i].cameras.names))
    target, placed, note = upright(scenes[main]), [], None
    for i, scene in enumerate(scenes):
        found = target if i == main else aligned(scene, target)
        if found is None:
            note = "fewer than three images in common, or in a line: the models are not aligned, each is upright alone"
        placed.append(found or upright(scene))
    return tuple(placed), note


def apart(scenes: Sequence[Scene]) -> tuple[Scene, ...]:
    """Each scene centred on its own points: for side-by-side views of models that are not aligned."""
    return tuple(moved(s, Similarity(1.0, np.eye(3), -_middle(s))) for s in scenes)


def _middle(scene: Scene) -> Float64:
    xyz = scene.points.xyz.astype(np.float64) if len(scene.points.xyz) else scene.cameras.centres
    return np.median(xyz, axis=0) if len(xyz) else np.zeros(3)


# --- cameras --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CameraCard:
    """What is said about a camera. mean_error: px over its observations, nan without. neighbours: (row, points that
    both see), most first."""

    name: str
    observations: int
    mean_error: float
    neighbours: tuple[tuple[int, int], ...]

    @property
    def text(self) -> str:
        """Two lines."""
        error = "no points" if math.isnan(self.mean_error) else f"mean error {self.mean_error:.2f} px"
        return f"{self.name}\n{self.observations:,} observations, {error}"


def camera_card(scene: Scene, row: int, limit: int = 12) -> CameraCard:
    """The card of one camera."""
    seen = scene.observations
    own = seen.of_camera(row)
    error = seen.error[own]
    error = error[np.isfinite(error)]
    also = np.zeros(len(scene.points.xyz), bool)
    also[seen.point[own]] = True
    shared = np.bincount(seen.camera[also[seen.point]], minlength=len(scene.cameras.names))
    shared[row] = 0
    most = np.argsort(-shared, kind="stable")[:limit]
    neighbours = tuple((int(other), int(shared[other])) for other in most if shared[other] > 0)
    mean = float(error.mean()) if len(error) else math.nan
    return CameraCard(scene.cameras.names[row], own.stop - own.start, mean, neighbours)


def pick_camera(scene: Scene, view: View, xy: tuple[float, float], depth: float) -> int | None:
    """Row of the nearest camera whose frustum, `depth` deep, is under a pixel, or whose centre is close to it."""
    if not scene.cameras.names:
        return None
    corners = image_corners(scene.cameras, depth)
    outline = view.local(np.concatenate([scene.cameras.centres[:, None], corners], axis=1).reshape(-1, 3))
    front = (outline[:, 2] > 1e-3).reshape(-1, 5).all(axis=1)
    pixels = view.pixels(np.where(outline[:, 2:] > 1e-3, outline, [0, 0, 1])).reshape(-1, 5, 2)
    faces = np.array([(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (1, 2, 3), (1, 3, 4)])
    under = _in_triangles(pixels[:, faces], np.array(xy)).any(axis=1)
    close = np.linalg.norm(pixels[:, 0] - xy, axis=1) <= NEAR_CAMERA_PX
    away = np.where(front & (under | close), outline.reshape(-1, 5, 3)[:, 0, 2], np.inf)
    return int(away.argmin()) if np.isfinite(away.min()) else None


def _in_triangles(triangles: Float64, xy: Float64) -> NDArray[np.bool_]:
    """Which triangles (..., 3, 2) a place (2,) is in."""
    edge, to = np.roll(triangles, -1, axis=-2) - triangles, xy - triangles
    side = edge[..., 0] * to[..., 1] - edge[..., 1] * to[..., 0]
    return np.asarray((side >= 0).all(axis=-1) | (side <= 0).all(axis=-1))


# --- remembered -----------------------------------------------------------------------------------


def state_json(state: ViewState) -> str:
    """The state as text."""
    value = asdict(state)
    return json.dumps(value | {"max_error": None if math.isinf(state.max_error) else state.max_error})


def state_from_json(text: str) -> ViewState:
    """The state that a text holds; what is missing or damaged is as in a new one."""
    try:
        value = parse_json(text)
    except ValueError:
        return ViewState()
    state = ViewState()
    for field in fields(ViewState) if isinstance(value, dict) else ():
        state = _with(state, field.name, value.get(field.name, value.get(NAMES_OF_010.get(field.name, ""))))
    return state


def _with(state: ViewState, name: str, value: Any) -> ViewState:
    """The state with one value changed, where it has the right kind and makes sense."""
    numbers = has_shape(value, [NUMBER]) and len(value) == 12
    right = {
        "pose": numbers and bool(np.isfinite(value).all()),
        "selected": isinstance(value, list) and [type(v) for v in value] == [int, str],
        "point_size": has_shape(value, NUMBER) and not isinstance(value, bool),
        "max_error": has_shape(value, NUMBER) and not isinstance(value, bool),
    }.get(name, type(value) is type(getattr(state, name)))
    if not right:
        return state
    try:
        changed: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value}
        return replace(state, **changed)
    except BadOption:
        return state


def remembered(path: Path) -> ViewState:
    """The state of a file; a new one where there is none or it is damaged."""
    try:
        with path.open(encoding="utf-8") as file:
            return state_from_json(file.read(MAX_LINE))
    except (OSError, ValueError):
        return ViewState()


def remember(state: ViewState, path: Path) -> None:
    """Writes the state to a file; where that is not possible it is forgotten."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(state_json(state) + "\n", encoding="utf-8")
    except OSError:
        return
