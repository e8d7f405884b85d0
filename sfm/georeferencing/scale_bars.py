"""Known distances: between camera centres, or between points that were marked in images and are triangulated.

--scale-bar A,B,METRES names two images. --scale-bar FILE names a text file whose lines are, in any order,

    POINT,IMAGE,X,Y     a point as marked in an image: px, the first pixel's centre at (0.5, 0.5)
    A,B,METRES          a known distance between two points, or two images' camera centres

Empty lines and lines that begin with # do not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pycolmap
from scipy.optimize import least_squares

from sfm.errors import BadFile, BadOption
from sfm.system.untrusted_files import bounded_lines
from sfm.types import Float64

MAX_MARKS = 100_000
WHAT = "lines POINT,IMAGE,X,Y and A,B,METRES"
MAX_REPROJECTION = 20.0  # px, root mean square: a mark that is further off marks another point
MIN_ANGLE = 1.0  # degrees, between the outermost rays of a marked point


@dataclass(frozen=True, slots=True)
class Bar:
    """A known distance between two ends, m: points or images."""

    end0: str
    end1: str
    metres: float


@dataclass(frozen=True, slots=True)
class ScaleBars:
    """Known distances, and where each point is marked: (image, x, y) px."""

    bars: tuple[Bar, ...]
    marks: Mapping[str, tuple[tuple[str, float, float], ...]]

    def images(self) -> set[str]:
        """Names of the images that are meant."""
        marked = {image for marks in self.marks.values() for image, _, _ in marks}
        return marked | {end for bar in self.bars for end in (bar.end0, bar.end1) if end not in self.marks}


@dataclass(frozen=True, slots=True)
class MeasuredBar:
    """A bar and its length in the model's units; its length in metres is `scale` times that."""

    bar: Bar
    length: float


def read_scale_bars(text: str, folder: Path) -> ScaleBars:
    """Of the value of --scale-bar. folder: of the images. BadOption or BadFile, naming what is wrong."""
    if Path(text).is_file():
        found = _of_file(Path(text))
        where = text
    else:
        where = f"--scale-bar {text}"
        parts = [part.strip() for part in text.rsplit(",", 2)]
        if len(parts) != 3:
            raise BadOption(f"{where}: no such file; give IMAGE,IMAGE,METRES, or a file with {WHAT}")
        found = ScaleBars((_bar(parts, where),), {})
    if not found.bars:
        raise BadFile(f"{where}: no known distance in it; give {WHAT}")
    for name in sorted(found.images()):
        if not (folder / name).is_file():
            raise BadOption(f"{where}: {name} is neither an image in {folder} nor a marked point")
    for bar in found.bars:
        for end in (bar.end0, bar.end1):
            if end in found.marks and len({image for image, _, _ in found.marks[end]}) < 2:
                raise BadFile(f"{where}: the point {end} is marked in one image only; mark it in two or more")
    return found


def _of_file(path: Path) -> ScaleBars:
    bars: list[Bar] = []
    marks: dict[str, list[tuple[str, float, float]]] = {}
    for number, line in enumerate(bounded_lines(path, f"a text file with {WHAT}"), start=1):
        parts = [part.strip() for part in line.split(",")]
        where = f"{path}, line {number}"
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if number > MAX_MARKS:
            raise BadFile(f"{where}: more than {MAX_MARKS:,} lines")
        if len(parts) == 3:
            bars.append(_bar(parts, where))
        elif len(parts) == 4:
            marks.setdefault(parts[0], []).append((parts[1], _pixel(parts[2], where), _pixel(parts[3], where)))
        else:
            _refuse(where, line)
    return ScaleBars(tuple(bars), {point: tuple(own) for point, own in marks.items()})


def _refuse(where: str, text: str) -> NoReturn:
    raise BadFile(f"{where}: {text.strip()[:80]!r} is no such line; give {WHAT}")


def _bar(parts: Sequence[str], where: str) -> Bar:
    try:
        metres = float(parts[2])
    except ValueError:
        metres = math.nan
    if not 0 < metres < 1e7:
        raise BadOption(f"{where}: {parts[2]!r} is no distance in metres")
    if not parts[0] or not parts[1] or parts[0] == parts[1]:
        raise BadOption(f"{where}: a distance has two different ends")
    return Bar(parts[0], parts[1], metres)


def _pixel(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e6:
        _refuse(where, text)
    return value


def measure(bars: ScaleBars, model: pycolmap.Reconstruction) -> tuple[tuple[MeasuredBar, ...], tuple[str, ...]]:
    """The bars whose both ends the model has, and for each other one why not, for the user."""
    images = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    measured, lost = [], []
    for bar in bars.bars:
        try:
            ends = [_place(end, bars, images) for end in (bar.end0, bar.end1)]
        except ValueError as error:
            lost.append(f"{bar.end0} to {bar.end1}: {error}")
            continue
        length = float(np.linalg.norm(ends[0] - ends[1]))
        if length > 0:
            measured.append(MeasuredBar(bar, length))
        else:
            lost.append(f"{bar.end0} to {bar.end1}: both ends are one place in the model")
    return tuple(measured), tuple(lost)


def scale_of(measured: Sequence[MeasuredBar]) -> float:
    """Metres a unit of the model: the median of the bars' ratios."""
    return float(np.exp(np.median([np.log(one.bar.metres / one.length) for one in measured])))


def _place(end: str, bars: ScaleBars, images: Mapping[str, pycolmap.Image]) -> Float64:
    """(3,) of an image's camera centre, or of a marked point. ValueError, for the user, where there is none."""
    if end not in bars.marks:
        if end not in images:
            raise ValueError(f"{end} is not in the model")
        return np.asarray(images[end].projection_center())
    seen = [(images[name], np.array([x, y])) for name, x, y in bars.marks[end] if name in images]
    if len({image.image_id for image, _ in seen}) < 2:
        raise ValueError(f"{end} is marked in {len(seen)} image of the model only")
    return triangulate(seen, end)


def triangulate(seen: Sequence[tuple[pycolmap.Image, Float64]], name: str = "the point") -> Float64:
    """(3,) of a point marked at xy (2,) px in two images or more: least squares of reprojection errors.

    ValueError where the rays are nearly parallel, or the marks do not agree.
    """
    centres = np.array([image.projection_center() for image, _ in seen])
    rays = []
    for image, xy in seen:
        camera, local = image.camera, None
        assert camera is not None
        local = camera.cam_from_img(xy)
        if local is None or not np.isfinite(local).all():
            raise ValueError(f"{name} is marked at the edge of {image.name}, beyond its camera's model")
        ray = image.cam_from_world().rotation.matrix().T @ np.array([*local, 1.0])
        rays.append(ray / np.linalg.norm(ray))
    cosines = np.array(rays) @ np.array(rays).T
    if np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))) < MIN_ANGLE:
        raise ValueError(f"{name} is marked from nearly one direction; mark it in images further apart")
    across = [np.eye(3) - np.outer(ray, ray) for ray in rays]
    start = np.linalg.solve(sum(across), sum(a @ c for a, c in zip(across, centres, strict=True)))

    def errors(point: Float64) -> Float64:
        found = []
        for image, xy in seen:
            projected = image.project_point(point)
            found.append(np.full(2, 1e4) if projected is None else projected - xy)
        return np.concatenate(found)

    solved = least_squares(errors, start, x_scale=max(float(np.linalg.norm(start - centres[0])), 1e-12))
    error = float(np.sqrt(np.mean(errors(solved.x).reshape(-1, 2) ** 2 * 2)))
    if error > MAX_REPROJECTION:
        raise ValueError(f"the marks of {name} do not agree ({error:.0f} px apart)")
    return np.asarray(solved.x)
