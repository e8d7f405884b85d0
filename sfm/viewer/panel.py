"""The window's panel: what a model holds, how it is shown, and the camera that was clicked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import open3d as o3d
from numpy.typing import NDArray
from open3d.visualization import gui

from sfm.drawing.scene import Scene
from sfm.viewer.state import BACKGROUNDS, COLOURS, LAYOUTS, TINTS, CameraCard, ViewState, colour_range, point_size
from sfm.viewer.stills import UNITS, counts_text

UInt8 = NDArray[np.uint8]
HELP = (
    ("drag", "rotate", "R  T  F  S", "whole, top, front, side"),
    ("ctrl + drag", "move", "C  P  G  X", "cameras, images, grid, axes"),
    ("wheel", "nearer, further", "K  B", "colouring, background"),
    ("click", "select a camera", "+  -", "point size"),
    ("double click", "look through it", "O", "models side by side or overlaid"),
    ("left, right", "previous, next camera", "Enter", "look through the camera, and back"),
    ("Escape", "select none", "H  Q", "this help, close"),
)
STAGE_SIZE = (900, 700)  # px, about, for which points are given their size
COLOUR_NAMES = ("image", "reprojection error", "track length", "height")


class Panel:
    """Widgets of a ViewState. Whoever owns it sets on_state, on_view, on_camera and on_look."""

    def __init__(self, window: Any, scenes: Sequence[Scene], state: ViewState, note: str | None) -> None:
        self.on_state: Callable[..., None] = lambda **values: None
        self.on_view: Callable[[str], None] = lambda name: None
        self.on_camera: Callable[[int, int | None], None] = lambda model, row: None
        self.on_look: Callable[[], None] = lambda: None
        self._em, self._scenes = window.theme.font_size, scenes
        self.width = int(21 * self._em)
        self.thumbnail_side = int(18 * self._em)
        self._neighbours: tuple[tuple[int, int], ...] = ()
        self._model, self._showing = 0, False
        self._set: dict[str, float] = {}
        gap = round(0.4 * self._em)
        self.widget = gui.ScrollableVert(gap, gui.Margins(2 * gap, 2 * gap, 5 * gap, 2 * gap))
        self._add_models(note, state)
        self._add_filters(state)
        self._add_switches(state)
        self._add_views()
        self._add_camera()
        self.show(state)

    # --- building ---------------------------------------------------------------------------------

    def _add_models(self, note: str | None, state: ViewState) -> None:
        for i, scene in enumerate(self._scenes):
            title = gui.Label(scene.title)
            title.text_color = _colour(i)
            self.widget.add_child(title)
            self.widget.add_child(gui.Label(counts_text(scene, ViewState(min_track=0))))
        for line in _wrapped(note or "", 40):
            self.widget.add_child(gui.Label(line))

    def _add_filters(self, state: ViewState) -> None:
        errors = np.concatenate([s.points.error[np.isfinite(s.points.error)] for s in self._scenes])
        longest = max((int(s.points.length.max(initial=2)) for s in self._scenes), default=2)
        self._most = float(np.ceil(10 * errors.max(initial=1.0)) / 10)
        rows = gui.VGrid(2, round(0.3 * self._em))
        self._error = self._slider(rows, "Error up to, px", gui.Slider.DOUBLE, (0.05, self._most))
        self._error.set_on_value_changed(lambda value: self._slid("max_error", value))
        self._track = self._slider(rows, "Seen in images, min.", gui.Slider.INT, (2, max(longest, 3)))
        self._track.set_on_value_changed(lambda value: self._tell(min_track=int(value)))
        self._size = self._slider(rows, "Point size, px", gui.Slider.DOUBLE, (0.5, 12.0))
        self._size.set_on_value_changed(lambda value: self._slid("point_size", value))
        self.widget.add_child(rows)

    def _slider(self, rows: Any, label: str, kind: Any, limits: tuple[float, float]) -> Any:
        slider = gui.Slider(kind)
        slider.set_limits(*limits)
        rows.add_child(gui.Label(label))
        rows.add_child(slider)
        return slider

    def _add_switches(self, state: ViewState) -> None:
        grid = gui.VGrid(2, round(0.4 * self._em))
        self._colour = self._choice(grid, "Colour", COLOUR_NAMES, lambda k: self._tell(colour=COLOURS[k]))
        backgrounds = tuple(BACKGROUNDS)
        self._background = self._choice(
            grid, "Background", backgrounds, lambda k: self._tell(background=backgrounds[k])
        )
        self._layout = None
        if len(self._scenes) > 1:
            names = ("side by side", "overlaid")
            self._layout = self._choice(grid, "Models", names, lambda k: self._tell(layout=LAYOUTS[k]))
        self.widget.add_child(grid)
        self._legend = gui.Label("")
        self.widget.add_child(self._legend)
        switches = gui.VGrid(4, round(0.4 * self._em))
        self._switches = {}
        for name in ("cameras", "images", "grid", "axes"):
            box = gui.Checkbox(name)
            box.set_on_checked(lambda on, name=name: self._tell(**{name: on}))
            switches.add_child(box)
            self._switches[name] = box
        self.widget.add_child(switches)

    def _choice(self, grid: Any, label: str, names: Sequence[str], chosen: Callable[[int], None]) -> Any:
        box = gui.Combobox()
        for name in names:
            box.add_item(name)
        box.set_on_selection_changed(lambda text, index: chosen(index))
        grid.add_child(gui.Label(label))
        grid.add_child(box)
        return box

    def _add_views(self) -> None:
        row = gui.Horiz(round(0.3 * self._em))
        for text, name in (("Whole", "overview"), ("Top", "top"), ("Front", "front"), ("Side", "side")):
            row.add_child(self._button(text, partial(self._go, name)))
        self.widget.add_child(row)
        self.widget.add_child(gui.Label("H: keys.  Click a camera to see its image."))

    def _go(self, name: str) -> None:
        self.on_view(name)  # whatever it is by now

    def _button(self, text: str, pressed: Callable[[], None]) -> Any:
        button = gui.Button(text)
        button.vertical_padding_em = 0.1
        button.horizontal_padding_em = 0.5
        button.set_on_clicked(pressed)
        return button

    def _add_camera(self) -> None:
        self._camera = gui.Vert(round(0.4 * self._em))
        self._card, self._thumbnail = gui.Label(""), gui.ImageWidget(_image(np.zeros((8, 8, 3), np.uint8)))
        self._camera.add_child(self._card)
        self._camera.add_child(self._thumbnail)
        self._camera.add_child(gui.Label("keypoints: dark 0 px, yellow 2 px error"))
        self._camera.add_child(self._button("Look through it, and back (Enter)", lambda: self.on_look()))
        self._camera.add_child(gui.Label("Shares most points with"))
        self._list = gui.ListView()
        self._list.set_max_visible_items(6)
        self._list.set_on_selection_changed(self._on_neighbour)
        self._camera.add_child(self._list)
        self._camera.visible = False
        self.widget.add_child(self._camera)

    def _on_neighbour(self, text: str, double: bool) -> None:
        k = self._list.selected_index
        if 0 <= k < len(self._neighbours):
            self.on_camera(self._model, self._neighbours[k][0])
            if double:
                self.on_look()

    def _slid(self, name: str, value: float) -> None:
        """Open3D's sliders hold single precision, and report their own rounding as a change."""
        if abs(value - self._set[name]) > 1e-3:
            self._set[name] = value
            open_end = name == "max_error" and value >= self._most - 1e-3
            self._tell(**{name: math.inf if open_end else float(value)})

    def _tell(self, **values: Any) -> None:
        if not self._showing:  # Open3D calls back where a program sets a slider, too
            self.on_state(**values)

    # --- showing ----------------------------------------------------------------------------------

    def show(self, state: ViewState) -> None:
        """Sets the widgets to a state."""
        self._showing = True
        size = point_size(state, max(len(s.points.xyz) for s in self._scenes), STAGE_SIZE)
        self._set = {"max_error": min(state.max_error, self._most), "point_size": size}
        self._error.double_value, self._size.double_value = self._set["max_error"], size
        self._track.int_value = max(2, state.min_track)
        self._colour.selected_index = COLOURS.index(state.colour)
        self._background.selected_index = list(BACKGROUNDS).index(state.background)
        if self._layout is not None:
            self._layout.selected_index = LAYOUTS.index(state.layout)
        for name, box in self._switches.items():
            box.checked = getattr(state, name)
        self._legend.text = legend_text(self._scenes[0], state.colour)
        self._showing = False

    def show_camera(self, model: int, scene: Scene, card: CameraCard, image: UInt8) -> None:
        """Shows what there is to say of a camera."""
        self._model, self._neighbours = model, card.neighbours
        self._card.text = card.text
        self._thumbnail.update_image(_image(image))
        self._list.set_items([f"{scene.cameras.names[row]}   {num:,}" for row, num in card.neighbours])
        self._camera.visible = True

    def show_no_camera(self) -> None:
        """No camera is selected."""
        self._camera.visible = False


def legend_text(scene: Scene, colour: str) -> str:
    """What the colours of the points mean."""
    if colour == "rgb":
        return "colours of the images"
    low, high = colour_range(scene, colour)
    return f"dark blue {low:.2g}, yellow {high:.2g} {UNITS[colour]}"


def help_widget(em: int) -> Any:
    """Keys and mouse, for over the models."""
    columns = gui.Horiz(em, gui.Margins(em, round(0.6 * em), em, round(0.6 * em)))
    columns.background_color = gui.Color(0.1, 0.11, 0.13, 0.92)
    for k, texts in enumerate(zip(*HELP, strict=True)):
        label = gui.Label("\n".join(texts))
        label.text_color = gui.Color(0.95, 0.75, 0.35) if k % 2 == 0 else gui.Color(0.9, 0.9, 0.9)
        columns.add_child(label)
    return columns


def title_widget(scene: Scene, i: int) -> Any:
    """A model's title, for over it."""
    label = gui.Label(scene.title)
    label.text_color = _colour(i)
    return label


def _colour(i: int) -> Any:
    return gui.Color(*(c / 255 for c in TINTS["dark"][i % 2]))


def _image(rgb: UInt8) -> Any:
    return o3d.geometry.Image(np.ascontiguousarray(rgb))


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines
