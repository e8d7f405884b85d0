"""Figures of two images: their matches in the colours of their confidence, and epipolar lines.

Images are grey and a little darker, so that colours stand out. What is drawn may be limited; the
numbers on a figure are always those of all matches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.geometry.epipolar import clip_line
from sfm.geometry.pixels import homogeneous
from sfm.two_view.api import TwoViewResult
from sfm.two_view.canvas import (
    FAINT,
    TEXT,
    WIDTH,
    Box,
    Sheet,
    UInt8,
    colour_map,
    dimmed,
    points,
    row_of_boxes,
    short_name,
)
from sfm.two_view.options import FigureOptions
from sfm.types import Float64, Int64

MAX_LINES = 200  # drawn unless the options say otherwise; more hide the images
EPIPOLAR_LINES = 12
BUTT: Any = {"solid_capstyle": "butt", "dash_capstyle": "butt", "zorder": 3}  # lines end at the image's edge
OUTLIER = "#d8d8d8"
# Okabe and Ito's colours for every kind of colour vision; numbers distinguish repeated colours.
TWELVE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#4a9fe0", "#D55E00", "#CC79A7", "#FFFFFF") * 2


@dataclass(frozen=True, slots=True, eq=False)
class RgbPair:
    """What figures draw on: pixels (H, W, 3) u8 of A and B, in the size of their records, and what they are called."""

    rgb0: UInt8
    rgb1: UInt8
    names: tuple[str, str]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of A and of B."""
        return [(rgb.shape[1], rgb.shape[0]) for rgb in (self.rgb0, self.rgb1)]


def spread_rows(xy: NDArray[Any], confidence: NDArray[Any], num: int) -> Int64:
    """Rows of num of the points (M, 2), ascending: evenly over the image, the most confident of each place."""
    if num <= 0 or len(xy) == 0:
        return np.zeros(0, np.int64)
    if num >= len(xy):
        return np.arange(len(xy))
    extent = np.maximum(np.ptp(xy, axis=0), 1.0)
    cell = np.floor((xy - xy.min(axis=0)) / np.sqrt(extent.prod() / num)).astype(np.int64)
    best_first = np.argsort(-confidence, kind="stable")
    rank = np.zeros(len(xy), np.int64)
    seen: dict[tuple[int, int], int] = {}
    for row in best_first:
        place = (int(cell[row, 0]), int(cell[row, 1]))
        rank[row] = seen[place] = seen.get(place, -1) + 1
    return np.sort(np.lexsort((-confidence, rank))[:num])


def drawn_rows(result: TwoViewResult, options: FigureOptions) -> tuple[Int64, Int64]:
    """Rows of the inliers and of the outliers that are drawn, in their true proportion."""
    once = _once_a_match(result)
    inliers, outliers = np.flatnonzero(once & result.inliers), np.flatnonzero(once & ~result.inliers)
    if options.hide_outliers:
        outliers = outliers[:0]
    total = len(inliers) + len(outliers)
    limit = options.max_drawn if options.max_drawn is not None else MAX_LINES if options.draw == "lines" else 0
    if not 0 < limit < total:
        return inliers, outliers
    num_inliers = round(limit * len(inliers) / total)
    rows = []
    for members, num in ((inliers, num_inliers), (outliers, limit - num_inliers)):
        rows.append(members[spread_rows(result.matches.points0[members], result.matches.confidence[members], num)])
    return rows[0], rows[1]


def _once_a_match(result: TwoViewResult) -> NDArray[np.bool_]:
    """(M,) bool: one row of those that match the same two cells (one is refined in A, one in B), an inlier if any."""
    matches = result.matches
    if len(matches) == 0 or matches.cells0.min() < 0 or matches.cells1.min() < 0:
        return np.ones(len(matches), bool)
    order = np.argsort(~result.inliers, kind="stable")
    key = (matches.cells0[order] << 32) | matches.cells1[order]
    once = np.zeros(len(matches), bool)
    once[order[np.unique(key, return_index=True)[1]]] = True
    return once


# --- matches ------------------------------------------------------------------------------------


def match_figure(images: RgbPair, result: TwoViewResult, options: FigureOptions, matcher: str) -> Sheet:
    """The matches of two images. matcher: what it is called in the corner."""
    sheet, boxes = _images(images)
    inliers, outliers = drawn_rows(result, options)
    draw = _draw_lines if options.draw == "lines" else _draw_points
    draw(sheet, boxes, images, result, (inliers, outliers), options.colormap)
    sheet.plate(14, 14, _corner(result, matcher, len(inliers) + len(outliers)), size=28)
    bottom = boxes[0].height + 94
    _legend(sheet, bottom, options, (len(inliers), len(outliers)))
    sheet.colour_bar(Box(WIDTH - 420, bottom - 11, 412, 22), options.colormap, ("0", "0.5", "1"), "confidence")
    return sheet


def _images(images: RgbPair, strength: float = 0.8) -> tuple[Sheet, list[Box]]:
    """A sheet with both images side by side and their names below, and room for a line of legend below these."""
    boxes = row_of_boxes(images.sizes, 0)
    bottom = boxes[0].height
    sheet = Sheet(bottom + 136)
    for letter, name, box, rgb in zip("AB", images.names, boxes, (images.rgb0, images.rgb1), strict=True):
        sheet.picture(dimmed(rgb, strength), box)
        sheet.text(box.x + 4, bottom + 34, letter, size=TEXT, weight="bold")
        sheet.text(box.x + 40, bottom + 34, short_name(name, max(8, int(box.width / 18))), size=26, color=FAINT)
    return sheet, boxes


def _corner(result: TwoViewResult, matcher: str, num_drawn: int) -> str:
    lines = [
        matcher,
        f"Matches: {len(result.matches):,}",
        f"Inliers: {result.num_inliers:,} ({result.inlier_ratio:.0%})",
    ]
    if result.image_rotation:
        lines.append(f"B rotated by {90 * result.image_rotation}° to match")
    if num_drawn < np.count_nonzero(_once_a_match(result)):
        lines.append(f"Drawn: {num_drawn:,}")
    return "\n".join(lines)


def _legend(sheet: Sheet, y: float, options: FigureOptions, drawn: tuple[int, int]) -> None:
    """What inliers and outliers look like, of those that are drawn."""
    inlier: Any = colour_map(options.colormap, np.array(0.85))
    entries = [("inlier", inlier, "-", "o"), ("outlier", "#8f8f8f", "--", "x")]
    entries = [entry for entry, num in zip(entries, drawn, strict=True) if num]
    for i, (text, colour, dash, marker) in enumerate(entries):
        x = 6 + 220 * i
        if options.draw == "lines":
            sheet.axes.plot([x, x + 60], [y, y], dash, color=colour, lw=points(4))
        else:
            sheet.axes.plot([x + 30], [y], marker, color=colour, ms=points(14), mew=points(3))
        sheet.text(x + 76, y, text, size=26)


def _draw_lines(
    sheet: Sheet, boxes: list[Box], images: RgbPair, result: TwoViewResult, rows: tuple[Int64, Int64], colours: str
) -> None:
    from matplotlib.collections import LineCollection

    for members, is_inlier in ((rows[1], False), (rows[0], True)):
        members = members[np.argsort(result.matches.confidence[members], kind="stable")]  # the most confident on top
        ends = _ends(boxes, images, result, members)
        colour = colour_map(colours, result.matches.confidence[members]) if is_inlier else OUTLIER
        style: dict[str, Any] = {"linewidths": points(2.2), "alpha": 0.85, "zorder": 3}
        if not is_inlier:
            style = {"linewidths": points(1.5), "alpha": 0.8, "zorder": 2, "linestyles": (0, (5, 4))}
        sheet.axes.add_collection(LineCollection(list(np.stack(ends, axis=1)), colors=colour, **style), autolim=False)
        for end in ends:
            sheet.axes.scatter(end[:, 0], end[:, 1], s=points(7) ** 2, c=colour, linewidths=0, zorder=style["zorder"])


def _draw_points(
    sheet: Sheet, boxes: list[Box], images: RgbPair, result: TwoViewResult, rows: tuple[Int64, Int64], colours: str
) -> None:
    for members, is_inlier in ((rows[1], False), (rows[0], True)):
        members = members[np.argsort(result.matches.confidence[members], kind="stable")]
        colour = colour_map(colours, result.matches.confidence[members]) if is_inlier else OUTLIER
        for end in _ends(boxes, images, result, members):
            if is_inlier:
                sheet.axes.scatter(end[:, 0], end[:, 1], s=points(8) ** 2, c=colour, linewidths=0, zorder=3)
            else:
                sheet.axes.scatter(
                    end[:, 0], end[:, 1], s=points(8) ** 2, c=colour, marker="x", linewidths=points(1.5), zorder=2
                )


def _ends(boxes: list[Box], images: RgbPair, result: TwoViewResult, rows: Int64) -> list[Float64]:
    """Both points of the matches on the sheet: (K, 2) each."""
    both = (result.matches.points0[rows], result.matches.points1[rows])
    return [box.at(xy, size) for box, xy, size in zip(boxes, both, images.sizes, strict=True)]


# --- epipolar lines -----------------------------------------------------------------------------


def epipolar_figure(images: RgbPair, result: TwoViewResult) -> Sheet:
    """A dozen well spread inliers with their epipolar lines in the other image. The result must have an F."""
    assert result.F is not None
    sheet, boxes = _images(images, 0.7)
    rows = _spread_lines(result, images.sizes)
    points0, points1 = result.matches.points0[rows], result.matches.points1[rows]
    lines = (homogeneous(points1) @ result.F, homogeneous(points0) @ result.F.T)  # in A, in B
    for box, size, xy, of_image in zip(boxes, images.sizes, (points0, points1), lines, strict=True):
        for i, (point, line) in enumerate(zip(box.at(xy, size), of_image, strict=True)):
            _epipolar_line(sheet, box, size, line, i)
            _numbered(sheet, point, i)
    legend = f"Each point is on the line of its number: {len(rows)} of {result.num_inliers:,} inliers."
    sheet.text(6, boxes[0].height + 94, legend, size=26)
    if result.epipolar_px is not None:
        legend = f"mean epipolar distance of all inliers: {result.epipolar_px:.2f} px"
        sheet.text(WIDTH - 8, boxes[0].height + 94, legend, size=26, align="right", weight="bold")
    return sheet


def _spread_lines(result: TwoViewResult, sizes: list[tuple[int, int]]) -> Int64:
    """Rows of EPIPOLAR_LINES inliers: of the evenly spread ones those whose points and lines are furthest apart."""
    inliers = np.flatnonzero(result.inliers)
    xy0, xy1 = result.matches.points0[inliers], result.matches.points1[inliers]
    rows = spread_rows(xy0, result.matches.confidence[inliers], 200)
    assert result.F is not None
    places = []
    for row in rows:
        ends = clip_line(result.F @ homogeneous(xy0[row]), *sizes[1])
        line = np.full(4, np.inf) if ends is None else (ends[np.argsort(ends[:, 0])] / sizes[1]).ravel()
        places.append(np.concatenate([line, 0.5 * xy1[row] / sizes[1]]))
    return np.sort(inliers[rows[furthest_apart(np.array(places).reshape(-1, 6), EPIPOLAR_LINES)]])


def furthest_apart(places: Float64, num: int) -> Int64:
    """Rows of at most num places (N, D), each the furthest from those before it; rows that are not finite never."""
    usable = np.flatnonzero(np.isfinite(places).all(axis=1))
    chosen: list[int] = []
    distance = np.full(len(usable), np.inf)
    while len(chosen) < min(num, len(usable)):
        chosen.append(int(usable[distance.argmax()]))
        distance = np.minimum(distance, np.linalg.norm(places[usable] - places[chosen[-1]], axis=1))
    return np.array(chosen, np.int64)


def _epipolar_line(sheet: Sheet, box: Box, size: tuple[int, int], line: Float64, i: int) -> None:
    from matplotlib.patheffects import Normal, Stroke

    ends = clip_line(line, *size)
    if ends is not None:
        casing = [Stroke(linewidth=points(7), foreground="#000000a0"), Normal()]
        x, y = box.at(ends, size).T
        sheet.axes.plot(x, y, "-" if i < 8 else "--", color=TWELVE[i], lw=points(3.5), path_effects=casing, **BUTT)


def _numbered(sheet: Sheet, point: Float64, i: int) -> None:
    """A disc with the number of the match."""
    x, y = point
    sheet.axes.plot([x], [y], "o", ms=points(36), color=TWELVE[i], mec="black", mew=points(2.5), zorder=5)
    sheet.text(x, y + 1, str(i + 1), size=22, align="center", color="black", weight="bold")
