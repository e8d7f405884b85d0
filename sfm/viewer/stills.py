"""Screenshots and turntables of models without a display: one panel a model, with its title and its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sfm.drawing.rasterizer import Fragments, draw, image_fragments, line_fragments, point_fragments
from sfm.drawing.scene import Scene
from sfm.drawing.shapes import AXES, Segments, axis_lines, frustum_lines, frustum_size, grid_lines, image_corners
from sfm.drawing.viewpoint import View, named_view, orbit
from sfm.errors import BadFile, BadOption
from sfm.system.progress import progress_bar
from sfm.viewer.image_files import ImageFiles
from sfm.viewer.state import (
    BACKGROUNDS,
    RGB,
    TINTS,
    ViewState,
    colour_range,
    point_colours,
    point_size,
    ramp,
    visible_points,
)
from sfm.wording import counted

UInt8 = NDArray[np.uint8]
MAX_IMAGES = 50  # cameras with their image; more get their outline only
FRAMES, FRAME_SECONDS = 72, 0.08
GIF_BYTES, GIF_COLOURS = 5_000_000, (128, 64, 32)
PICTURES, TURNTABLES = (".png", ".jpg", ".jpeg", ".webp"), (".gif",)
UNITS = {"error": "px", "length": "images", "height": ""}
LABELS = {"error": "reprojection error", "length": "images that see a point", "height": "height"}


@dataclass(frozen=True, slots=True, eq=False)
class Drawer:
    """Draws scenes in one frame (sfm.viewer.state.arranged) by one state. images: reads those of each scene."""

    scenes: tuple[Scene, ...]
    state: ViewState
    images: tuple[ImageFiles, ...] = ()
    captions: bool = True
    _depth: float = field(init=False)
    _thumbnails: tuple[tuple[UInt8 | None, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_depth", max((frustum_size(s) for s in self.scenes), default=0.3))
        object.__setattr__(self, "_thumbnails", tuple(self._read(i) for i in range(len(self.scenes))))

    def _read(self, i: int) -> tuple[UInt8 | None, ...]:
        names, read = self.scenes[i].cameras.names, self.images[i] if self.images else ImageFiles()
        few = self.state.images and self.state.cameras and len(names) <= MAX_IMAGES
        return tuple(read(name, 320) if few else None for name in names)

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Which scenes share a panel."""
        every = tuple(range(len(self.scenes)))
        return (every,) if self.state.layout == "over" else tuple((i,) for i in every)

    def panel_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of one of the panels of a picture."""
        return size[0] // len(self.groups()), size[1]

    def picture(self, view: View, size: tuple[int, int], scale: int = 2) -> Image.Image:
        """All panels from one view, which has the size of one."""
        out = Image.new("RGB", size, BACKGROUNDS[self.state.background])
        for k, group in enumerate(self.groups()):
            panel = Image.fromarray(draw(view.size, self._parts(group, view, scale), self._background, scale))
            if self.captions:
                _caption(panel, [self.scenes[i] for i in group], self.state, self._names_tinted(group))
            out.paste(panel, (k * (size[0] // len(self.groups())), 0))
        return out

    @property
    def _background(self) -> RGB:
        return BACKGROUNDS[self.state.background]

    def _tint(self, i: int) -> RGB:
        return TINTS[self.state.background][i % 2]

    def _names_tinted(self, group: tuple[int, ...]) -> list[RGB]:
        return [self._tint(i) for i in group]

    def _parts(self, group: tuple[int, ...], view: View, scale: int) -> list[Fragments]:
        widest = max(group, key=lambda i: len(self.scenes[i].cameras.names))
        parts = []
        if self.state.grid:
            parts.append(line_fragments(view, grid_lines(self.scenes[widest], faint(self.state.background)), 1.0))
        if self.state.axes:
            parts.append(line_fragments(view, axis_lines(self.scenes[widest]), 2.0))
        for i in group:
            parts += self._model(i, view, scale, tinted=len(group) > 1)
        return parts

    def _model(self, i: int, view: View, scale: int, *, tinted: bool) -> list[Fragments]:
        scene = self.scenes[i]
        shown = visible_points(scene, self.state)
        rgb = point_colours(scene, self.state, self._tint(i) if tinted else None)[shown]
        size = point_size(self.state, len(scene.points.xyz), view.size)
        parts = [point_fragments(view, scene.points.xyz[shown], rgb, size)]
        if not self.state.cameras or not scene.cameras.names:
            return parts
        away = np.linalg.norm(scene.cameras.centres - view.eye, axis=1) > 0.5 * self._depth
        corners = image_corners(scene.cameras, self._depth)
        for row, image in enumerate(self._thumbnails[i]):
            if image is not None and away[row]:
                parts.append(image_fragments(view, corners[row], image, scale))
        outline, eight = frustum_lines(scene.cameras, self._depth, self._tint(i)), np.repeat(away, 8)
        outline = Segments(outline.start[eight], outline.end[eight], outline.rgb[eight])
        return [*parts, line_fragments(view, outline, 1.4 if len(away) <= 200 else 1.0)]


def faint(background: str) -> RGB:
    """A colour little different from a background, for its grid."""
    r, g, b = (round(0.86 * c + 0.14 * (255 - c)) for c in BACKGROUNDS[background])
    return r, g, b


# --- captions -------------------------------------------------------------------------------------


def counts_text(scene: Scene, state: ViewState) -> str:
    """The numbers under a model's title."""
    cameras, num = len(scene.cameras.names), len(scene.points.xyz)
    shown = int(visible_points(scene, state).sum())
    points = counted(num, "point") if shown == num else f"{shown:,} of {num:,} points"
    return f"{counted(cameras, 'camera')}, {points}"


def _caption(panel: Image.Image, scenes: Sequence[Scene], state: ViewState, tints: Sequence[RGB]) -> None:
    """Titles and numbers into the lower left corner, and what the colours mean into the lower right one."""
    ink = ImageDraw.Draw(panel)
    unit = max(10, round(min(panel.size) / 30))
    title, small = ImageFont.load_default(round(1.25 * unit)), ImageFont.load_default(unit)
    strong, faint = ((235, 235, 235), (170, 175, 182)) if state.background == "dark" else ((25, 25, 25), (90, 90, 90))
    y = panel.height - unit
    for scene, tint in reversed(list(zip(scenes, tints, strict=True))):
        y -= round(3.1 * unit)
        ink.rectangle((unit, y + 0.2 * unit, 1.35 * unit, y + 2.7 * unit), fill=tint)
        ink.text((1.9 * unit, y), scene.title, fill=strong, font=title)
        ink.text((1.9 * unit, y + 1.6 * unit), counts_text(scene, state), fill=faint, font=small)
    if state.colour != "rgb":
        _legend(panel, scenes[0], state, (faint, small, unit))


def _legend(panel: Image.Image, scene: Scene, state: ViewState, style: tuple[RGB, Any, int]) -> None:
    (faint, font, unit), (low, high) = style, colour_range(scene, state.colour)
    width, right, y = 10 * unit, panel.width - unit, panel.height - round(2.6 * unit)
    bar = Image.fromarray(ramp(np.linspace(0, 1, width))[None].repeat(round(0.6 * unit), axis=0))
    panel.paste(bar, (right - width, y))
    ink = ImageDraw.Draw(panel)
    ink.text((right, y - 0.4 * unit), LABELS[state.colour], fill=faint, font=font, anchor="rs")
    ink.text((right - width, y + 0.8 * unit), f"{low:.2g}", fill=faint, font=font, anchor="lt")
    ink.text((right, y + 0.8 * unit), f"{high:.2g} {UNITS[state.colour]}", fill=faint, font=font, anchor="rt")


# --- files ----------------------------------------------------------------------------------------


def screenshot(drawer: Drawer, view: str, size: tuple[int, int]) -> Image.Image:
    """The scenes from a named view (overview, top, front, side) or from one of their cameras. BadOption."""
    return drawer.picture(named_view(drawer.scenes, view, drawer.panel_size(size)), size)


def turntable(drawer: Drawer, size: tuple[int, int], frames: int = FRAMES) -> list[Image.Image]:
    """The scenes from once around them; with a progress bar, as a million points take most of a second a frame."""
    pictures = []
    with progress_bar(frames, desc="turntable", unit="frame") as bar:
        for view in orbit(drawer.scenes, drawer.panel_size(size), frames):
            pictures.append(drawer.picture(view, size))
            bar.update()
    return pictures


def check_ending(path: Path, known: Sequence[str]) -> None:
    """BadFile where a file's name does not end as one of the known formats."""
    if path.suffix.lower() not in known:
        raise BadFile(f"{path}: cannot be drawn as {path.suffix or 'that'}; choose a name in {', '.join(known)}")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a picture in the format of the file's suffix. BadFile where that is unknown or it cannot be written."""
    check_ending(path, PICTURES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=90)
    except OSError as error:
        raise BadFile(f"{path}: cannot be written ({error.strerror or error})") from None


def save_turntable(frames: Sequence[Image.Image], path: Path) -> None:
    """Writes frames as a GIF that runs for ever, in as many colours of one palette as keep it below GIF_BYTES."""
    check_ending(path, TURNTABLES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for colours in GIF_COLOURS:
            palette = _palette(frames, colours)
            flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
            duration = round(1000 * FRAME_SECONDS)
            flat[0].save(path, save_all=True, append_images=flat[1:], duration=duration, loop=0, optimize=False)
            if path.stat().st_size <= GIF_BYTES:
                break
    except OSError as error:
        raise BadFile(f"{path}: cannot be written ({error.strerror or error})") from None


def _palette(frames: Sequence[Image.Image], colours: int) -> Image.Image:
    """One palette for all frames, of a few of them side by side and the thin lines' colours, which would get lost."""
    some = frames[:: max(1, math.ceil(len(frames) / 6))]
    sheet = Image.new("RGB", (sum(f.width for f in some), some[0].height))
    for k, frame in enumerate(some):
        sheet.paste(frame, (k * frame.width, 0))
    accents = [channel for rgb in (*AXES, *(tint for both in TINTS.values() for tint in both)) for channel in rgb]
    usual = colours - len(accents) // 3
    palette = Image.new("P", (1, 1))
    palette.putpalette((sheet.quantize(usual, Image.Quantize.MEDIANCUT).getpalette() or [])[: 3 * usual] + accents)
    return palette


def parse_size(text: str) -> tuple[int, int]:
    """640x480 as (640, 480). BadOption."""
    width, _, height = text.lower().partition("x")
    if (
        width.isdecimal()
        and height.isdecimal()
        and 64 <= min(int(width), int(height)) <= max(int(width), int(height)) <= 8192
    ):
        return int(width), int(height)
    raise BadOption(f"--size {text}: give width and height from 64 to 8192 px, as 1280x960")
