"""The interactive window, by Open3D: it maps widgets to a ViewState and a ViewState to what is on the stages.

Two models have a 3D view each, which rotate together, or share the first one. Points are updated at most ten times per
second while a slider moves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from open3d.visualization import gui

from sfm.drawing.shapes import axis_lines, frustum_lines, frustum_size, grid_lines, image_corners
from sfm.drawing.viewpoint import FIELD_OF_VIEW, named_view
from sfm.types import Float64
from sfm.viewer.exhibit import Exhibit
from sfm.viewer.image_files import camera_image
from sfm.viewer.open3d_scene import Stage
from sfm.viewer.panel import STAGE_SIZE, Panel, help_widget, title_widget
from sfm.viewer.state import (
    BACKGROUNDS,
    COLOURS,
    RGB,
    TINTS,
    camera_card,
    pick_camera,
    point_colours,
    point_size,
    remember,
    visible_points,
)
from sfm.viewer.stills import MAX_IMAGES, faint

REBUILD_SECONDS = 0.1
DRAG_PX = 4  # a mouse that moves less between down and up has clicked
DOUBLE_CLICK_SECONDS = 0.4
PICKED: RGB = (255, 80, 160)


class Window:
    """One window, from `open` to its closing."""

    def __init__(self, exhibit: Exhibit) -> None:
        self.exhibit, self.state = exhibit, exhibit.state
        self.window = gui.Application.instance.create_window(exhibit.title, 1440, 860)
        self.stages = [Stage(self.window.renderer) for _ in exhibit.scenes]
        self.panel = Panel(self.window, exhibit.scenes, self.state, exhibit.note)
        self.titles = [title_widget(scene, i) for i, scene in enumerate(exhibit.scenes)]
        self.help = help_widget(self.window.theme.font_size)
        self.inside: tuple[int, int] | None = None  # model and row of the camera that is looked through
        self._before: Float64 | None = None
        self._depth = max((frustum_size(s) for s in exhibit.scenes), default=0.3)
        self._thumbnails = [self._read(i) for i in range(len(exhibit.scenes))]
        self._dirty, self._rebuilt = {"points", "cameras", "ground"}, -math.inf
        self._pressed, self._clicked = (0, 0), (-math.inf, (-1, -1))
        self._poses = [np.zeros((3, 4)) for _ in self.stages]
        self._connect()

    def _read(self, i: int) -> list[Any]:
        names = self.exhibit.scenes[i].cameras.names
        return [self.exhibit.images[i](name, 320) if len(names) <= MAX_IMAGES else None for name in names]

    def _connect(self) -> None:
        for k, stage in enumerate(self.stages):
            self.window.add_child(stage.widget)
            self.window.add_child(self.titles[k])
            stage.widget.set_on_mouse(lambda event, k=k: self._on_mouse(k, event))
        self.window.add_child(self.panel.widget)
        self.window.add_child(self.help)
        self.panel.on_state = self.change
        self.panel.on_view = self.go
        self.panel.on_camera = self.select
        self.panel.on_look = self.look_through
        self.help.visible = False
        self.window.set_on_layout(self._layout)
        self.window.set_on_key(self._on_key)
        self.window.set_on_tick_event(self._on_tick)
        self.window.set_on_close(self._on_close)

    # --- state ------------------------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Changes the state, and updates what depends on it."""
        self.state = replace(self.state, **values)
        redo = {
            "point_size": set(),
            "selected": {"cameras"},
            "cameras": {"cameras"},
            "images": {"cameras"},
            "grid": {"ground"},
            "axes": {"ground"},
            "background": {"cameras", "ground"},
            "layout": {"points", "cameras", "ground"},
        }
        self._dirty |= set().union(*(redo.get(name, {"points"}) for name in values))
        if "point_size" in values:
            for stage in self.stages:
                for i in range(len(self.exhibit.scenes)):
                    stage.resize_points(f"points{i}", self._point_size(i))
        if "layout" in values:
            self.window.set_needs_layout()
        self.panel.show(self.state)

    def select(self, model: int, row: int | None) -> None:
        """Selects a camera of a model, or none."""
        if row is None:
            self.change(selected=None)
            self.panel.show_no_camera()
            return
        scene = self.exhibit.scenes[model]
        self.change(selected=(model, scene.cameras.names[row]))
        image = camera_image(scene, row, self.exhibit.images[model], self.panel.thumbnail_side)
        self.panel.show_camera(model, scene, camera_card(scene, row), image)
        self.window.set_needs_layout()

    def selected(self) -> tuple[int, int] | None:
        """Model and row of the selected camera."""
        if self.state.selected is None:
            return None
        model, name = self.state.selected
        if not 0 <= model < len(self.exhibit.scenes) or name not in self.exhibit.scenes[model].cameras.names:
            return None
        return model, self.exhibit.scenes[model].cameras.names.index(name)

    # --- views ------------------------------------------------------------------------------------

    def go(self, name: str) -> None:
        """Looks from a named view."""
        view = named_view(self.exhibit.scenes, name, self.stages[0].view().size)
        self.look_from(view.cam_from_world, float(np.degrees(2 * np.arctan(view.size[1] / 2 / view.focal[1]))))
        self.inside = None

    def look_through(self) -> None:
        """Looks through the selected camera, or back to where the view was before."""
        found = self.selected()
        if self.inside is not None and (self.inside == found or found is None):
            if self._before is not None:
                self.look_from(self._before)
            self.inside = None
        elif found is not None:
            if self.inside is None:
                self._before = self.stages[0].pose
            self._look_through(*found)
        self._dirty.add("cameras")

    def _look_through(self, model: int, row: int) -> None:
        cameras, frame = self.exhibit.scenes[model].cameras, self.stages[0].view().size
        width, height = cameras.size[row] / cameras.focal[row]
        tall = max(float(height), float(width) * frame[1] / frame[0])
        self.inside = (model, row)
        self.look_from(cameras.cam_from_world[row], float(np.degrees(2 * np.arctan(tall / 2))))

    def look_from(self, pose: Float64, field_deg: float = FIELD_OF_VIEW) -> None:
        """Shows all models from a pose, cam_from_world (3, 4)."""
        for stage in self.stages:
            stage.look(pose, field_deg)
        self._poses = [stage.pose for stage in self.stages]

    # --- drawing ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Draws what has changed."""
        dirty, self._dirty = self._dirty, set()
        for k, stage in enumerate(self.stages):
            stage.background(BACKGROUNDS[self.state.background])
            shown = self._models_on(k)
            for i, _ in enumerate(self.exhibit.scenes):
                if "points" in dirty:
                    self._put_points(stage, i, shown)
                if "cameras" in dirty:
                    self._put_cameras(stage, i, shown)
            if "ground" in dirty:
                self._put_ground(stage)
        self._rebuilt = time.monotonic()

    def _models_on(self, k: int) -> tuple[int, ...]:
        if self.state.layout == "beside":
            return (k,)
        return tuple(range(len(self.exhibit.scenes))) if k == 0 else ()

    def _point_size(self, i: int) -> float:
        num = len(self.exhibit.scenes[i].points.xyz)
        return point_size(self.state, num, STAGE_SIZE) * float(self.window.scaling)

    def _put_points(self, stage: Stage, i: int, shown: tuple[int, ...]) -> None:
        stage.clear(f"points{i}")
        if i in shown:
            scene = self.exhibit.scenes[i]
            own = visible_points(scene, self.state)
            rgb = point_colours(scene, self.state, self._tint(i) if len(shown) > 1 else None)
            stage.points(f"points{i}", scene.points.xyz[own], rgb[own], self._point_size(i))

    def _put_cameras(self, stage: Stage, i: int, shown: tuple[int, ...]) -> None:
        for kind in ("frustums", "images", "picked"):
            stage.clear(f"{kind}{i}")
        scene = self.exhibit.scenes[i]
        if i not in shown or not self.state.cameras or not scene.cameras.names:
            return
        lines = frustum_lines(scene.cameras, self._depth, self._tint(i))
        stage.lines(f"frustums{i}", lines, 1.5 * self.window.scaling)
        if self.state.images:
            corners, images = image_corners(scene.cameras, self._depth), list(self._thumbnails[i])
            if self.inside is not None and self.inside[0] == i:
                images[self.inside[1]] = None
            stage.images(f"images{i}", corners, images)
        found = self.selected()
        if found is not None and found[0] == i:
            eight = slice(8 * found[1], 8 * found[1] + 8)
            picked = type(lines)(lines.start[eight], lines.end[eight], np.full((8, 3), PICKED, np.uint8))
            stage.lines(f"picked{i}", picked, 4.0 * self.window.scaling)

    def _put_ground(self, stage: Stage) -> None:
        stage.clear("grid")
        stage.clear("axes")
        main = max(self.exhibit.scenes, key=lambda s: len(s.cameras.names))
        if self.state.grid:
            stage.lines("grid", grid_lines(main, faint(self.state.background)), 1.0 * self.window.scaling)
        if self.state.axes:
            stage.lines("axes", axis_lines(main), 2.5 * self.window.scaling)

    def _tint(self, i: int) -> RGB:
        return TINTS[self.state.background][i % 2]

    # --- events -----------------------------------------------------------------------------------

    def _layout(self, context: Any) -> None:
        area = self.window.content_rect
        side = self.panel.width
        stages = self.stages if self.state.layout == "beside" else self.stages[:1]
        each = (area.width - side) // len(stages)
        for k, stage in enumerate(self.stages):
            stage.widget.visible = stage in stages
            stage.widget.frame = gui.Rect(area.x + k * each if stage in stages else area.x, area.y, each, area.height)
        self.panel.widget.frame = gui.Rect(area.get_right() - side, area.y, side, area.height)
        for k, title in enumerate(self.titles):
            wanted = title.calc_preferred_size(context, gui.Widget.Constraints())
            right, down = (k * each, 0) if self.state.layout == "beside" else (0, k * wanted.height)
            title.frame = gui.Rect(area.x + 14 + right, area.y + 10 + down, min(wanted.width, each), wanted.height)
        wanted = self.help.calc_preferred_size(context, gui.Widget.Constraints())
        bottom = area.get_bottom() - wanted.height - 12
        self.help.frame = gui.Rect(area.x + 12, bottom, wanted.width, wanted.height)

    def _on_tick(self) -> bool:
        changed = False
        if self._dirty and time.monotonic() - self._rebuilt >= REBUILD_SECONDS:
            self.refresh()
            changed = True
        moved = [k for k, stage in enumerate(self.stages) if np.abs(stage.pose - self._poses[k]).max() > 1e-6]
        if moved and len(self.stages) > 1 and self.state.layout == "beside":
            leader = self.stages[moved[0]]
            for stage in self.stages:
                if stage is not leader:
                    stage.follow(leader)
            changed = True
        if moved:
            self._poses = [stage.pose for stage in self.stages]
        return changed

    def _on_mouse(self, k: int, event: Any) -> Any:
        if event.type == gui.MouseEvent.Type.BUTTON_DOWN:
            self._pressed = (event.x, event.y)
        moved = math.hypot(event.x - self._pressed[0], event.y - self._pressed[1])
        if event.type == gui.MouseEvent.Type.BUTTON_UP and moved < DRAG_PX:
            frame = self.stages[k].widget.frame
            self.click(k, event.x - frame.x, event.y - frame.y)
        return gui.SceneWidget.EventCallbackResult.IGNORED

    def click(self, k: int, x: float, y: float) -> None:
        """A click on a stage, px from its upper left corner: selects a camera, a second one looks through it."""
        for model in self._models_on(k):
            row = pick_camera(self.exhibit.scenes[model], self.stages[k].view(), (x, y), self._depth)
            if row is not None and self.state.cameras:
                last, what = self._clicked
                self._clicked = (time.monotonic(), (model, row))
                self.select(model, row)
                if what == (model, row) and time.monotonic() - last < DOUBLE_CLICK_SECONDS:
                    self.look_through()
                return

    def _on_key(self, event: Any) -> bool:
        if event.type != gui.KeyEvent.Type.DOWN:
            return False
        action = self._keys().get(event.key)
        if action is None:
            return False
        action()
        self.window.post_redraw()
        return True

    def _keys(self) -> dict[Any, Callable[[], Any]]:
        key, state = gui.KeyName, self.state
        after = {name: COLOURS[(k + 1) % len(COLOURS)] for k, name in enumerate(COLOURS)}
        size = state.point_size or point_size(state, max(len(s.points.xyz) for s in self.exhibit.scenes), STAGE_SIZE)
        return {
            key.H: self._toggle_help,
            key.SLASH: self._toggle_help,
            key.R: lambda: self.go("overview"),
            key.T: lambda: self.go("top"),
            key.F: lambda: self.go("front"),
            key.S: lambda: self.go("side"),
            key.C: lambda: self.change(cameras=not state.cameras),
            key.P: lambda: self.change(images=not state.images),
            key.G: lambda: self.change(grid=not state.grid),
            key.X: lambda: self.change(axes=not state.axes),
            key.K: lambda: self.change(colour=after[state.colour]),
            key.B: lambda: self.change(background="light" if state.background == "dark" else "dark"),
            key.O: lambda: self.change(layout="over" if state.layout == "beside" else "beside"),
            key.EQUALS: lambda: self.change(point_size=min(20.0, size * 1.25)),
            key.MINUS: lambda: self.change(point_size=max(0.5, size / 1.25)),
            key.RIGHT: lambda: self._step(1),
            key.LEFT: lambda: self._step(-1),
            key.ENTER: self.look_through,
            key.BACKSPACE: self.look_through,
            key.ESCAPE: lambda: self.select(0, None),
            key.Q: self.window.close,
        }

    def _toggle_help(self) -> None:
        self.help.visible = not self.help.visible
        self.window.set_needs_layout()

    def _step(self, by: int) -> None:
        """Selects the next camera, and looks through it where the view was a camera's."""
        model, row = self.selected() or (0, -1 if by > 0 else 0)
        num = len(self.exhibit.scenes[model].cameras.names)
        if num:
            self.select(model, (row + by) % num)
            if self.inside is not None:
                self.look_through()

    def _on_close(self) -> bool:
        if self.exhibit.memory is not None and self.inside is None:
            remember(replace(self.state, pose=tuple(self.stages[0].pose.ravel().tolist())), self.exhibit.memory)
        return True


def open_window(exhibit: Exhibit) -> Window:
    """The window on the screen, from where it was left. The application must have been initialised."""
    window = Window(exhibit)
    gui.Application.instance.run_one_tick()  # lays the widgets out, which views need
    window.refresh()
    if exhibit.state.pose is not None:
        window.look_from(np.array(exhibit.state.pose).reshape(3, 4))
    else:
        window.go(exhibit.start)
    if (found := window.selected()) is not None:
        window.select(*found)
    return window


def show(exhibit: Exhibit) -> None:
    """Opens the window and returns when it is closed."""
    gui.Application.instance.initialize()
    open_window(exhibit)
    gui.Application.instance.run()
