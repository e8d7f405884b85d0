"""The verb view: one model or two in a window, or as pictures that need no display.

The window runs in a process of its own: Open3D ends the whole process where it finds no display or driver.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import multiprocessing
import os
import sys
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from platformdirs import user_state_path

from sfm.drawing.scene import Scene, read_scene
from sfm.drawing.viewpoint import NAMED, camera_row
from sfm.errors import BadFile, SfMError
from sfm.results.model_source import images_of, record_of
from sfm.results.run_json import run_title
from sfm.viewer.exhibit import Exhibit
from sfm.viewer.image_files import ImageFiles
from sfm.viewer.state import ViewState, apart, arranged, remembered
from sfm.viewer.stills import (
    PICTURES,
    TURNTABLES,
    Drawer,
    check_ending,
    parse_size,
    save_picture,
    save_turntable,
    screenshot,
    turntable,
)

LOG = logging.getLogger(__name__)
PICTURE_SIZE, TURNTABLE_SIZE = "1280x960", "640x480"
PACKAGES = "libgl1 libegl1 libgomp1 libusb-1.0-0 libx11-6 libvulkan1 mesa-vulkan-drivers"


@dataclass(frozen=True, slots=True)
class Request:
    """What the verb was asked for. models: one path or two. images: folder of the images, None as the runs say.
    size: WIDTHxHEIGHT, None for each picture's own. options: of the ViewState, those that were given."""

    models: tuple[Path, ...]
    images: Path | None = None
    screenshot: Path | None = None
    turntable: Path | None = None
    view: str | None = None
    size: str | None = None
    options: tuple[tuple[str, object], ...] = ()

    @classmethod
    def of(cls, args: Namespace) -> Request:
        """The request of a parsed command line."""
        known = ("max_error", "min_track", "point_size", "background", "colour")
        given = {name: getattr(args, name) for name in known if getattr(args, name) is not None}
        return cls(
            (args.out,) if args.other is None else (args.out, args.other),
            args.images,
            args.screenshot,
            args.turntable,
            args.view,
            args.size,
            tuple((given | ({"layout": "over"} if args.over else {})).items()),
        )


def view(request: Request) -> list[Path]:
    """Draws the pictures that were asked for and returns their files, or opens the window and waits for its end.

    Raises SfMError: no model, unknown camera, a file that cannot be written, no way to open a window.
    """
    pictures = request.screenshot is not None or request.turntable is not None
    state = ViewState(**dict(request.options))  # type: ignore[arg-type]
    sizes = tuple(parse_size(request.size or usual) for usual in (PICTURE_SIZE, TURNTABLE_SIZE))
    for path, endings in ((request.screenshot, PICTURES), (request.turntable, TURNTABLES)):
        if path is not None:
            check_ending(path, endings)
    if not pictures:
        _check_display(request.models)
    scenes, note = arranged([_scene(path) for path in request.models])
    if note is not None:
        LOG.warning(note)
        scenes = apart(scenes) if state.layout == "beside" else scenes
    image_files = tuple(_image_files(request, path) for path in request.models)
    if request.view is not None and request.view not in NAMED:
        request = replace(request, view=_view_of(scenes, request.view))
    if not pictures:
        _show(request, scenes, image_files, note)
        return []
    drawer = Drawer(scenes, state, image_files)
    if request.screenshot is not None:
        save_picture(screenshot(drawer, request.view or "overview", sizes[0]), request.screenshot)
    if request.turntable is not None:
        save_turntable(turntable(drawer, sizes[1]), request.turntable)
    return [path for path in (request.screenshot, request.turntable) if path is not None]


def _scene(path: Path) -> Scene:
    """The model at a path, called after what made it, where that is known, and its folder."""
    name = path.resolve().name
    try:
        record = record_of(path)
    except BadFile:
        record = {}
    return read_scene(path, f"{run_title(record)} ({name})" if record else name)


def _view_of(scenes: Sequence[Scene], name: str) -> str:
    """An image's name, or a named view in other letters. Raises BadOption for neither."""
    if any(name in scene.cameras.names for scene in scenes):
        return name
    if name.lower() in NAMED:
        return name.lower()
    camera_row(max(scenes, key=lambda scene: len(scene.cameras.names)), name)
    return name


def _image_files(request: Request, path: Path) -> ImageFiles:
    """The images of the model at a path: of --images, of the run's own folder, or none."""
    if request.images is not None:
        if not request.images.is_dir():
            raise BadFile(f"{request.images}: no such folder; give the folder of the images")
        return ImageFiles(request.images)
    try:
        folder = images_of(path)
    except BadFile:
        folder = None
    return ImageFiles(folder) if folder is not None else ImageFiles()


# --- the window -----------------------------------------------------------------------------------


def _instead(models: Sequence[Path]) -> str:
    """What to do where there is no window."""
    report = models[0] / "report.html"
    browser = f", open {report} in a browser" if report.is_file() else ""
    return f"--screenshot FILE.png or --turntable FILE.gif draw without one{browser}"


def _check_display(models: Sequence[Path]) -> None:
    """SfMError on a Linux machine without a screen, where Open3D would run on unseen or abort."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") and _x_display_opens()):
        where = f"the display {os.environ['DISPLAY']} does not open" if os.environ.get("DISPLAY") else "no display"
        raise SfMError(f"{where}, so there is no window: {_instead(models)}; or connect with ssh -X or VNC")


def _x_display_opens() -> bool:
    """Whether the X server that DISPLAY names answers; Open3D's windows are X11's, on Wayland too."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True  # Open3D will say so
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(ctypes.c_void_p(display))
    return bool(display)


def _show(request: Request, scenes: tuple[Scene, ...], image_files: tuple[ImageFiles, ...], note: str | None) -> None:
    memory = memory_path(request.models)
    state = replace(remembered(memory), **dict(request.options))  # type: ignore[arg-type]
    state = state if request.view is None else replace(state, pose=None)
    title = "loftr-sfm: " + " and ".join(scene.title for scene in scenes)
    exhibit = Exhibit(title, scenes, image_files, state, memory, request.view or "overview", note)
    run_window(exhibit, request.models)


def memory_path(models: Sequence[Path]) -> Path:
    """The file in the user's state folder that remembers how these models were looked at."""
    key = hashlib.sha256("\0".join(str(path.resolve()) for path in models).encode(errors="surrogateescape")).hexdigest()
    return Path(user_state_path("loftr-sfm")) / "views" / f"{key[:24]}.json"


def run_window(exhibit: Exhibit, models: Sequence[Path]) -> None:
    """The window in a process of its own, until it is closed. SfMError where it could not be opened."""
    with tempfile.TemporaryDirectory(prefix="loftr-sfm-view-") as folder:
        log = Path(folder) / "log"
        child = multiprocessing.get_context("spawn").Process(target=_window_process, args=(exhibit, log))
        child.start()
        child.join()
        if child.exitcode != 0:
            said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
            reason = next((line for line in reversed(said) if "rror" in line or "reason" in line), "it ended early")
            packages = f"; on a Debian or Ubuntu machine: apt-get install {PACKAGES}" if sys.platform == "linux" else ""
            raise SfMError(f"the window could not be opened ({reason}): {_instead(models)}{packages}")


def _window_process(exhibit: Exhibit, log: Path) -> None:
    """All that Open3D and the graphics driver print goes into the log. Ends without Open3D's tidying up, which can
    hang after an error."""
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    try:
        from sfm.viewer.window import show

        show(exhibit)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
