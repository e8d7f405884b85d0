"""The real window, on a virtual screen with a software driver, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycolmap
import pytest

from tests.support.folders import ROOT

DRIVERS = Path("/usr/share/vulkan/icd.d")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no virtual screen: apt-get install xvfb"),
    pytest.mark.skipif(
        not any(DRIVERS.glob("lvp_icd*")), reason="no software driver: apt-get install libvulkan1 mesa-vulkan-drivers"
    ),
]

DRIVER = """
import json, os, sys, time, traceback
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from open3d.visualization import gui
from sfm.viewer.exhibit import Exhibit
from sfm.viewer.image_files import ImageFiles
from sfm.drawing.scene import read_scene
from sfm.drawing.shapes import image_corners
from sfm.viewer.state import ViewState, arranged
from sfm.viewer.window import open_window

def fail(*error):  # Open3D's own end of the process can hang
    traceback.print_exception(*error)
    os._exit(1)

sys.excepthook = fail
memory, paths = Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]]
scenes, note = arranged([read_scene(path) for path in paths])
app = gui.Application.instance
app.initialize()
window = open_window(Exhibit("test", scenes, (ImageFiles(),) * len(scenes), ViewState(), memory, note=note))

def ticks(seconds=0.25):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        app.run_one_tick()

def press(name):
    window._on_key(SimpleNamespace(type=gui.KeyEvent.Type.DOWN, key=getattr(gui.KeyName, name)))
    ticks()

def picture(k=0):
    found = []
    window.stages[k].widget.scene.scene.render_to_image(lambda image: found.append(np.asarray(image).copy()))
    while not found:
        window.window.post_redraw()
        app.run_one_tick()
    return found[0]

def colours(image):
    return len(np.unique(image.reshape(-1, 3), axis=0))

out = {}
ticks(0.5)
first = picture()
out["colours"] = colours(first)
out["size"] = list(first.shape)
out["poses_agree"] = all(np.allclose(stage.pose, window.stages[0].pose, atol=1e-5) for stage in window.stages)

view, corners = window.stages[-1].view(), image_corners(scenes[-1].cameras, window._depth)
local, depth = view.local(corners.mean(axis=1)), view.local(scenes[-1].cameras.centres)[:, 2]
inside = (local[:, 2] > 0.1) & (depth > 0.1) & (np.abs(view.pixels(local) / view.size - 0.5) < 0.5).all(axis=1)
row = int(np.where(inside, depth, np.inf).argmin())
at = view.pixels(local)[row]
window.click(len(scenes) - 1, *at)
ticks()
out["picked"] = list(window.selected() or ())
out["wanted"] = [len(scenes) - 1, row]
window.look_through()
ticks()
pose = scenes[-1].cameras.cam_from_world[row]
out["looks_through"] = bool(np.allclose(window.stages[0].pose, pose, atol=1e-3))
press("ENTER")
out["back"] = bool(np.allclose(window.stages[0].pose, view.cam_from_world, atol=1e-3))

press("RIGHT")
out["next"] = list(window.selected() or ())
press("ESCAPE")
out["none"] = window.selected() is None
press("T")
out["down"] = window.stages[0].pose[2, :3].round(3).tolist()
press("H")
out["help"] = window.help.visible
before = picture()
press("K")
out["colour"] = window.state.colour
out["recoloured"] = bool(np.abs(picture().astype(int) - before).max() > 60)
window.change(min_track=99, cameras=False, grid=False, axes=False)
ticks()
out["nothing_left"] = colours(picture())
window.change(min_track=2, cameras=True)
press("O")
out["layout"] = window.state.layout
out["over_shown"] = [stage.widget.visible for stage in window.stages]
out["over_points"] = [f"points{i}" in window.stages[0]._shown for i in range(len(scenes))]
press("B")
ticks()
out["light"] = picture()[3, 3].tolist()
window.window.close()
ticks()
out["memory"] = json.loads(memory.read_text())
print("RESULT " + json.dumps(out), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    """A virtual screen's DISPLAY."""
    reading, writing = os.pipe()
    words = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1500x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pycolmap.set_random_seed(8)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 5, 1, 1
    options.num_points3D = 200
    model = pycolmap.synthesize_dataset(options)
    paths = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    model.write(paths[0])
    for point_id in sorted(model.point3D_ids())[::2]:
        model.delete_point3D(point_id)
    model.write(paths[1])
    return paths


def drive(display: str, memory: Path, models: list[Path]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(memory), *map(str, models)],
        cwd=ROOT,
        env=os.environ | {"DISPLAY": display, "XDG_RUNTIME_DIR": str(memory.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    result = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert result, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(result[0][len("RESULT ") :])


@pytest.mark.parametrize("num", [1, 2])
def test_the_window(num: int, screen: str, models: list[Path], tmp_path: Path) -> None:
    out = drive(screen, tmp_path / "view.json", models[:num])
    assert out["colours"] > 20
    assert out["size"][0] > 500
    assert out["poses_agree"]
    assert out["picked"] == out["wanted"]
    assert out["looks_through"]
    assert out["back"]
    assert out["next"] == [out["wanted"][0], (out["wanted"][1] + 1) % 5]
    assert out["none"]
    assert out["down"] == [0.0, 0.0, -1.0]
    assert out["help"]
    assert out["colour"] == "error"
    assert out["recoloured"]
    assert out["nothing_left"] == 1
    assert out["layout"] == "over"
    assert out["over_shown"] == [True, False][:num]
    assert out["over_points"] == [True] * num
    assert out["light"] == pytest.approx([250, 250, 248], abs=2)
    assert (out["memory"]["layout"], out["memory"]["background"], out["memory"]["colour"]) == ("over", "light", "error")
    assert len(out["memory"]["pose"]) == 12
    assert (out["memory"]["point_size"], out["memory"]["max_error"]) == (None, None)  # nobody moved a slider
