"""The demo: shipped images of a scene with known cameras, reconstructed, and evaluated against ground truth."""

from __future__ import annotations

from pathlib import Path

from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.errors import BadFile
from sfm.evaluation.model import evaluate_folder, evaluation_text


def prepare(out: Path) -> Path:
    """Copies the demo's images to out/images and their ground truth to out/gt; returns the folder of images.

    Raises BadFile where the folder cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise BadFile(f"{out}: is a file; give a folder for the demo")
    try:
        out.mkdir(parents=True, exist_ok=True)
        copy_demo_scene(out)
    except OSError as error:
        raise BadFile(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None
    return out / "images"


def report(out: Path) -> str:
    """The errors of the reconstruction against ground truth, and what to look at next."""
    lines = [
        "against ground truth:",
        evaluation_text(evaluate_folder(out / "sparse" / "0", out / "gt")),
        "",
        "look at it:",
        f"  {out / 'report.html'}  in a browser: the model in 3D, image by image",
        f"  loftr-sfm view {out}  in a window (--screenshot FILE.png: without one)",
        f"  {out / 'points.ply'}  coloured points, for MeshLab, CloudCompare, Blender",
    ]
    return "\n".join(lines)
