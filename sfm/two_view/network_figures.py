"""Figures of what LoFTR sees inside (sfm.matchers.loftr.introspection): its coarse features as colours, and where a
pixel looks. Everything here is numpy: grids (h, w) of image A and image B in the images' own orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.two_view.canvas import (
    FAINT,
    GAP,
    WIDTH,
    Box,
    Sheet,
    UInt8,
    colour_map,
    dimmed,
    fitted,
    points,
    row_of_boxes,
    short_name,
)
from sfm.two_view.figures import RgbPair
from sfm.types import Float64

HEAT = "inferno"
LEAST_PEAK = 2.0  # times even, the top of the colour range where nothing has more attention
TITLE_ROW = 60  # px above a row of pictures


# --- coarse features ----------------------------------------------------------------------------


def common_colours(features0: NDArray[Any], features1: NDArray[Any]) -> tuple[Float64, Float64]:
    """RGB in [0, 1], (h0, w0, 3) and (h1, w1, 3), of features (h, w, C): their first three principal components.

    Both images share the components, so equal colours are equal features. Each component's range is
    from its 1st to its 99th percentile; its sign makes its largest loading positive.
    """
    rows = np.concatenate([f.reshape(-1, f.shape[-1]) for f in (features0, features1)]).astype(np.float64)
    rows -= rows.mean(axis=0)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    basis = vectors[:, : -min(3, rows.shape[1]) - 1 : -1]  # (C, 3), largest variance first
    largest = np.abs(basis).argmax(axis=0)
    parts = rows @ (basis * np.sign(basis[largest, np.arange(basis.shape[1])]))
    low, high = np.percentile(parts, (1, 99), axis=0)
    colours = np.clip((parts - low) / np.maximum(high - low, 1e-12), 0, 1)
    num0 = features0.shape[0] * features0.shape[1]
    return colours[:num0].reshape(*features0.shape[:2], -1), colours[num0:].reshape(*features1.shape[:2], -1)


def feature_figure(
    images: RgbPair, before: tuple[NDArray[Any], NDArray[Any]], after: tuple[NDArray[Any], NDArray[Any]]
) -> Sheet:
    """Image, features before and features after the transformer, of A above those of B. Features: (h, w, C) of A, B."""
    columns = [common_colours(*before), common_colours(*after)]
    rows = []
    top = float(TITLE_ROW)
    for size in images.sizes:
        rows.append(row_of_boxes([size] * 3, top))
        top += rows[-1][0].height + GAP
    sheet = Sheet(top + 52)
    titles = ("image", "before the transformer", "after the transformer")
    for box, title in zip(rows[0], titles, strict=True):
        sheet.text(box.x + box.width / 2, TITLE_ROW / 2, title, align="center", size=32)
    for i, (boxes, rgb) in enumerate(zip(rows, (images.rgb0, images.rgb1), strict=True)):
        sheet.picture(rgb, boxes[0])
        sheet.plate(boxes[0].x + 10, boxes[0].y + 10, f"{'AB'[i]}  {short_name(images.names[i], 28)}", size=24)
        for box, colours in zip(boxes[1:], columns, strict=True):
            sheet.picture(_enlarged(colours[i], box), box)
    legend = "Coarse features by their first three principal components as red, green, blue; one basis for both images."
    sheet.text(6, top + 18, legend, size=26, color=FAINT)
    return sheet


def _enlarged(colours: Float64, box: Box) -> UInt8:
    """A grid of colours (h, w, 3) in the box's size, cells kept as they are."""
    pixels = Image.fromarray(np.rint(colours * 255).astype(np.uint8))
    return np.asarray(pixels.resize((round(box.width), round(box.height)), Image.Resampling.NEAREST))


# --- attention ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMap:
    """Where a pixel of A looks in one layer. name: "self" (in A) or "cross" (in B). times_uniform: (h, w), the
    weights of that image's cells times their number, so that 1 is what each would have if it looked everywhere."""

    name: str
    times_uniform: Float64


def attention_figure(
    images: RgbPair, maps: tuple[AttentionMap, ...], pixel: tuple[float, float], partner: NDArray[Any] | None
) -> Sheet:
    """Self-attention above, cross-attention below, layer by layer. pixel: (x, y) px of A; partner: its match in B."""
    both = [[(i, m) for i, m in enumerate(maps) if m.name == name] for name in ("self", "cross")]
    num_columns = max(1, *(len(row) for row in both))
    width = (WIDTH - GAP * (num_columns - 1)) / num_columns
    marks = (np.array(pixel), partner)
    place: list[tuple[int, AttentionMap, int, Box]] = []
    top = 0.0
    for image, (row, size) in enumerate(zip(both, images.sizes, strict=True)):
        boxes = [row_of_boxes([size], top + TITLE_ROW, left=k * (width + GAP), width=width)[0] for k in range(len(row))]
        place += [(i, m, image, box) for (i, m), box in zip(row, boxes, strict=True)]
        top += TITLE_ROW + boxes[0].height if boxes else 0.0
    sheet = Sheet(top + 84)
    for i, layer, image, box in place:
        _attention_panel(sheet, (images.rgb0, images.rgb1)[image], layer, box)
        most = f"{layer.times_uniform.max():.1f} × even"
        wide = f"layer {i + 1}, {layer.name}-attention in {'AB'[image]}: up to {most}"
        narrow = f"{i + 1} {layer.name}, in {'AB'[image]}: to {most}"
        sheet.text(box.x + 4, box.y - TITLE_ROW / 2, wide if num_columns < 3 else narrow, size=28)
        mark = marks[image]
        if mark is not None:
            at = box.at(mark[None], images.sizes[image])[0]
            _mark(sheet, at, 18 + 22 * box.width / 1000, is_query=image == 0)
    legend = "Attention of the pixel at the cross, mean of all heads" + (
        "." if partner is None else "; ring: its match in B."
    )
    sheet.text(6, top + 44, legend, size=26, color=FAINT)
    sheet.colour_bar(Box(WIDTH - 420, top + 26, 412, 22), HEAT, ("even or less", "largest"), "attention")
    return sheet


def _attention_panel(sheet: Sheet, rgb: UInt8, layer: AttentionMap, box: Box) -> None:
    """The image in grey where the pixel hardly looks, in the colours of heat where it does."""
    size = (round(box.width), round(box.height))
    grid = Image.fromarray(layer.times_uniform.astype(np.float32))
    times = np.asarray(grid.resize(size, Image.Resampling.BILINEAR))
    heat = np.clip((times - 1) * (255 / max(float(layer.times_uniform.max()) - 1, LEAST_PEAK - 1)), 0, 255).astype(
        np.uint8
    )
    levels = np.linspace(0, 1, 256)
    opacity = 0.1 + 0.75 * np.sqrt(levels)
    over = (opacity[:, None] * colour_map(HEAT, levels)[:, :3] * 255).astype(np.float32)  # (256, 3) by heat
    under = (1 - opacity).astype(np.float32)[heat][..., None] * dimmed(fitted(rgb, box), 0.65)
    sheet.picture((under + over[heat]).astype(np.uint8), box)


def _mark(sheet: Sheet, at: Float64, size: float, *, is_query: bool) -> None:
    """A ring of this size in px, with a cross in it for the pixel that looks, without for its match."""
    style: dict[str, Any] = {"mfc": "none", "zorder": 6}
    for colour, line in (("black", 0.22 * size), ("#00e5ff", 0.11 * size)):
        sheet.axes.plot(*at[:, None], "o", ms=points(size), mec=colour, mew=points(line), **style)
        if is_query:
            sheet.axes.plot(*at[:, None], "+", ms=points(0.6 * size), mec=colour, mew=points(line * 0.8), **style)
