"""The folder that `loftr-sfm match A B` writes: numbers as JSON, matches as .npz, figures as PNG and PDF."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfm import __version__
from sfm.errors import BadFile, BadOption
from sfm.images.decoding import read_grey, read_rgb
from sfm.images.files.value_range import is_stretched
from sfm.images.notes import range_note
from sfm.matchers.base import Matcher
from sfm.matchers.registry import check_choice, make_matcher
from sfm.two_view.api import TwoViewResult, match_records, read_images
from sfm.two_view.canvas import Sheet, short_name
from sfm.two_view.figures import RgbPair, epipolar_figure, match_figure
from sfm.two_view.network_figures import AttentionMap, attention_figure, feature_figure
from sfm.two_view.options import MatchOptions
from sfm.two_view.relative_pose import Records
from sfm.two_view.result_text import result_dict, result_text
from sfm.types import Float64

if TYPE_CHECKING:
    from sfm.matchers.loftr.introspection import Inside

FILES = (
    "two_view.json",
    "matches.npz",
    "matches.png",
    "matches.pdf",
    "epipolar.png",
    "epipolar.pdf",
    "features.png",
    "attention.png",
)
NEAR_CELLS = 1.0  # a match this close to the pixel, in cells of the grid, gives its position in the other image


def default_folder(a: Path, b: Path) -> Path:
    """`match_A_B` in the current folder, of letters, digits, dots, dashes and underscores only."""
    stems = ("".join(c if c.isalnum() or c in "-_." else "_" for c in path.stem)[:40] for path in (a, b))
    return Path("_".join(("match", *stems)))


def match_to_folder(a: Path, b: Path, out: Path | None, options: MatchOptions) -> str:
    """Matches two images, writes the folder and returns what to print. Raises SfMError for input to correct."""
    out = out if out is not None else default_folder(a, b)
    check_choice(options.matching)
    images = read_images(a, b, options.matching)
    _check(images, options)
    _prepare(out)
    matcher = make_matcher(options.matching)
    result = match_records(images, matcher, options.matching)
    with np.errstate(all="ignore"):
        sheets = _sheets(images, result, matcher, options)
    try:
        _write_numbers(out, result)
        for name, sheet in sheets.items():
            sheet.save(out / name)
    except OSError as error:
        raise BadFile(f"{out}: cannot be written ({error.strerror}); choose another folder") from None
    files = [name for name in FILES if name in sheets or name in FILES[:2]]
    ranges = [image.value_range for image in images if image.value_range and is_stretched(image.value_range)]
    notes = [range_note(ranges.count(own), own) for own in dict.fromkeys(ranges)]
    return "\n".join(
        [result_text(result), *notes, "", f"written to {out}: {', '.join(files)}", *_next(images, result, options)]
    )


def _check(images: Records, options: MatchOptions) -> None:
    """BadOption for figures that cannot be drawn, before anything is computed."""
    pixel = options.figures.pixel()
    if options.matching.matcher != "loftr" and (options.figures.features or pixel):
        raise BadOption(
            f"--features and --attention show LoFTR's inside: not with --matcher {options.matching.matcher}"
        )
    width, height = images[0].width, images[0].height
    if pixel and not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
        raise BadOption(f"--attention {options.figures.attention}: outside {images[0].name}, which is {width}x{height}")


def _prepare(out: Path) -> None:
    """Makes the folder, without the files of an earlier run."""
    if out.exists() and not out.is_dir():
        raise BadFile(f"{out}: is a file; give a folder for the results")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise BadFile(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


def _write_numbers(out: Path, result: TwoViewResult) -> None:
    numbers = {"version": __version__, **result_dict(result)}
    (out / "two_view.json").write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    m = result.matches
    columns = {name: getattr(m, name) for name in ("points0", "points1", "confidence", "cells0", "cells1")}
    np.savez_compressed(out / "matches.npz", allow_pickle=False, inliers=result.inliers, **columns)


def _next(images: Records, result: TwoViewResult, options: MatchOptions) -> list[str]:
    """What to run next."""
    names = (image.name if image.name.isprintable() else letter for letter, image in zip("AB", images, strict=True))
    pair = shlex.join(["loftr-sfm", "match", *names])
    if not result.trusted and options.matching.matcher == "loftr" and result.num_inliers < 100:
        return [f"next: {pair} --at-least 3000 --resize 1600    (more matches, finer)"]
    if options.matching.matcher != "loftr":
        return [f"next: {pair}    (the same by LoFTR)"]
    if not (options.figures.features or options.figures.attention):
        middle = f"{images[0].width // 2},{images[0].height // 2}"
        return [f"next: {pair} --features --attention {middle}    (what the network sees)"]
    return [f"next: {pair} --matcher sift    (the same by SIFT)"]


# --- figures ------------------------------------------------------------------------------------


def _sheets(images: Records, result: TwoViewResult, matcher: Matcher, options: MatchOptions) -> dict[str, Sheet]:
    """Figures by file name."""
    rgb0, rgb1 = (read_rgb(Path(), image) for image in images)
    pair = RgbPair(rgb0, rgb1, (Path(images[0].name).name, Path(images[1].name).name))
    matches = match_figure(pair, result, options.figures, _matcher_name(matcher.name))
    sheets = {"matches.png": matches, "matches.pdf": matches}
    if result.F is not None and result.num_inliers:
        sheets["epipolar.png"] = sheets["epipolar.pdf"] = epipolar_figure(pair, result)
    pixel = options.figures.pixel()
    if options.figures.features or pixel:
        inside = _inside(images, result, matcher)
        if options.figures.features:
            sheets["features.png"] = _features(pair, inside, result.image_rotation)
        if pixel:
            sheets["attention.png"] = _attention(pair, inside, result, matcher, pixel)
    return sheets


def _matcher_name(name: str) -> str:
    if name.startswith("efficient-loftr-"):
        return f"EfficientLoFTR {short_name(name.removeprefix('efficient-loftr-'), 20)}"
    return "SIFT" if name == "sift" else f"LoFTR {short_name(name.removeprefix('loftr-'), 20)}"


def _inside(images: Records, result: TwoViewResult, matcher: Matcher) -> Inside:
    """The network's inside for A as it is and B rotated as it was matched."""
    from sfm.matchers.loftr.introspection import look_inside
    from sfm.matchers.loftr.matcher import LoFTRMatcher

    assert isinstance(matcher, LoFTRMatcher)
    grey0, grey1 = (read_grey(Path(), image) for image in images)
    return look_inside(matcher, grey0, np.ascontiguousarray(np.rot90(grey1, result.image_rotation)))


def _features(pair: RgbPair, inside: Inside, image_rotation: int) -> Sheet:
    def grid(tokens: Any, hw: tuple[int, int], rotated: int = 0) -> NDArray[np.float32]:
        return np.rot90(tokens.cpu().numpy().reshape(*hw, -1), -rotated)

    before = grid(inside.before0, inside.hw0), grid(inside.before1, inside.hw1, image_rotation)
    after = grid(inside.after0, inside.hw0), grid(inside.after1, inside.hw1, image_rotation)
    return feature_figure(pair, before, after)


def _attention(
    pair: RgbPair, inside: Inside, result: TwoViewResult, matcher: Matcher, pixel: tuple[float, float]
) -> Sheet:
    from sfm.matchers.loftr.introspection import attention_map

    grid = matcher.grid(result.images[0].width, result.images[0].height)
    assert grid is not None
    h, w = inside.hw0
    column, row = (
        int(np.clip(np.rint(xy / size - matcher.anchor), 0, num - 1))
        for xy, size, num in zip(pixel, grid[:2], (w, h), strict=True)
    )
    maps = []
    for step in inside.layers:
        hw, image_rotation = (inside.hw0, 0) if step.name == "self" else (inside.hw1, result.image_rotation)
        times = attention_map(step, row * w + column, hw).cpu().numpy().astype(np.float64)
        maps.append(AttentionMap(step.name, np.rot90(times, -image_rotation)))
    return attention_figure(pair, tuple(maps), pixel, _partner(result, pixel, max(grid[:2])))


def _partner(result: TwoViewResult, pixel: tuple[float, float], cell: float) -> Float64 | None:
    """Position in B of the inlier that is nearest to the pixel of A; None where there is none near."""
    rows = np.flatnonzero(result.inliers)
    if len(rows) == 0:
        return None
    distance = np.linalg.norm(result.matches.points0[rows] - np.array(pixel), axis=1)
    nearest = int(distance.argmin())
    return result.matches.points1[rows[nearest]].astype(np.float64) if distance[nearest] <= NEAR_CELLS * cell else None
