"""The demo's scene, as shipped: twelve images of the synthetic courtyard and their true cameras.

`python -m sfm.datasets.courtyard.demo_scene` made the files in datasets/courtyard/demo/ (it renders them with Open3D,
which wants a few system libraries). Using them takes neither.
"""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

_SCENE = files("sfm.datasets.courtyard") / "demo"
_PARTS = ("images", "gt")


def copy_demo_scene(out: Path) -> None:
    """Copies the images to out/images and the ground truth, a COLMAP text model, to out/gt. Raises OSError."""
    with as_file(_SCENE) as scene:
        for part in _PARTS:
            shutil.copytree(scene / part, out / part, dirs_exist_ok=True, copy_function=shutil.copyfile)


def make_demo_scene(out: Path) -> None:
    """Renders the files that are shipped: 1.2 MB."""
    from sfm.datasets.courtyard.synthetic import SyntheticScene, write_scene  # loads Open3D

    write_scene(SyntheticScene.render(), out, quality=88, points_per_image=30)


if __name__ == "__main__":
    make_demo_scene(Path(__file__).parent / "demo")
