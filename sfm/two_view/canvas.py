"""A sheet for figures of images, in px: images and maps in boxes, labels, colour bars; saved as PNG or vector PDF.

Drawn by matplotlib's Figure alone, without pyplot and its global state, so no display is needed.
matplotlib is imported when a sheet is made.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UInt8 = NDArray[np.uint8]

DPI = 100  # a figure's px an inch; only text sizes and line widths know of it
WIDTH = 2000  # px of every sheet
GAP = 12  # px between images
MAX_HEIGHT = 2400  # px of an image on a sheet
TEXT = 30  # px, readable where a sheet is shown at 800 px
INK, FAINT = "#222222", "#666666"


class Box(NamedTuple):
    """A rectangle of the sheet, px: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float

    def at(self, xy: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
        """Points (N, 2), px of an image of size (width, height) that fills the box, on the sheet."""
        scale = np.array([self.width / size[0], self.height / size[1]])
        return np.asarray(xy * scale + np.array([self.x, self.y]), np.float64)


def row_of_boxes(sizes: list[tuple[int, int]], top: float, *, left: float = 0, width: float = WIDTH) -> list[Box]:
    """Boxes of one height side by side over the width, each of the shape (width, height) of its image."""
    shapes = [w / h for w, h in sizes]
    room = width - GAP * (len(sizes) - 1)
    height = min(room / sum(shapes), MAX_HEIGHT)
    x = left + (room - height * sum(shapes)) / 2
    boxes = []
    for shape in shapes:
        boxes.append(Box(round(x), top, max(round(height * shape), 1), max(round(height), 1)))
        x += height * shape + GAP
    return boxes


def fitted(pixels: UInt8, box: Box) -> UInt8:
    """Pixels (H, W, 3) u8 in the box's size."""
    size = (round(box.width), round(box.height))
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def dimmed(pixels: UInt8, strength: float = 0.85) -> UInt8:
    """An image (H, W, 3) as grey (H, W, 3) of less contrast, so that colours stand out on it."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32) * strength + 20
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def short_name(name: str, limit: int = 44) -> str:
    """A file's name as one line that the sheet's font can show, shortened in its middle."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font: Any = get_font(findfont(FontProperties()))  # type: ignore[arg-type]
    plain = unicodedata.normalize("NFC", name)
    shown = "".join(
        c if c.isprintable() and font.get_char_index(ord(c)) else "\N{REPLACEMENT CHARACTER}" for c in plain
    )
    return shown if len(shown) <= limit else f"{shown[: limit // 2]}…{shown[-limit // 2 + 1 :]}"


class Sheet:
    """WIDTH x height px, white. Positions are px from the top left corner."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")
        self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set_axis_off()
        self.axes.set_autoscale_on(False)
        self.axes.set_xlim(0, WIDTH)
        self.axes.set_ylim(height, 0)

    def picture(self, pixels: UInt8, box: Box) -> None:
        """Pixels (H, W, 3) u8 over the whole box."""
        extent = (box.x, box.x + box.width, box.y + box.height, box.y)
        self.axes.imshow(fitted(pixels, box), extent=extent, interpolation="none", aspect="auto", zorder=0)

    def text(self, x: float, y: float, text: str, *, size: float = TEXT, align: str = "left", **style: Any) -> None:
        """Lines of text whose box begins (or ends, align "right") at x, with its middle at y."""
        style = {"color": INK, "va": "center", **style}
        self.axes.text(x, y, text, fontsize=points(size), ha=align, parse_math=False, zorder=9, **style)

    def plate(self, x: float, y: float, text: str, *, size: float = TEXT) -> None:
        """Lines of text on a dark plate with its upper left corner at (x, y), readable on any image."""
        plate = {"boxstyle": "round,pad=0.35,rounding_size=0.25", "facecolor": "#000000b8", "edgecolor": "none"}
        pad = 0.35 * size
        self.text(x + pad, y + pad, text, size=size, color="white", va="top", bbox=plate, linespacing=1.25)

    def colour_bar(self, box: Box, colours: str, labels: tuple[str, ...], title: str) -> None:
        """A strip of the colour map with labels evenly below it and a title to its left."""
        strip = np.rint(255 * colour_map(colours, np.linspace(0, 1, 256))[None, :, :3]).astype(np.uint8)
        self.picture(strip, box)
        for i, label in enumerate(labels):
            x = box.x + box.width * i / (len(labels) - 1)
            align = "left" if i == 0 else "right" if i == len(labels) - 1 else "center"
            self.text(x, box.y + box.height + 20, label, size=24, align=align, color=FAINT)
        self.text(box.x - 16, box.y + box.height / 2, title, size=26, align="right")

    def save(self, path: Path) -> None:
        """PNG or PDF, by the path's ending; equal sheets give equal files."""
        dated = {"CreationDate": None} if path.suffix == ".pdf" else {}
        self.figure.savefig(path, metadata=dated)


def points(px: float) -> float:
    """Typographic points of px."""
    return px * 72 / DPI


def colour_map(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """Colours (..., 4) of values in [0, 1]."""
    from matplotlib import colormaps

    return np.asarray(colormaps[name](np.asarray(values, np.float64)))
