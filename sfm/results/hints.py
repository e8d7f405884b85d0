"""What to run next."""

from __future__ import annotations

from pathlib import Path

from sfm.results.shell import path_word


def next_steps(folder: Path, out: Path, matcher: str) -> list[tuple[str, str]]:
    """Commands that follow a run of the images in `folder` into `out`, each with what it does."""
    images, here, sift = (path_word(path) for path in (folder, out, f"{out}-sift"))
    beside = [
        (f"loftr-sfm {images} {sift} --matcher sift", "the same images by COLMAP's SIFT, and then"),
        (f"loftr-sfm compare {here} {sift}", "both side by side, as a table and in the browser"),
    ]
    return [
        (f"loftr-sfm view {here}", "the model in a window (--screenshot FILE.png: without one)"),
        *(beside if matcher != "sift" else ()),
        *_splats(here, out),
        (f"loftr-sfm inspect {here}", "what the database holds"),
    ]


def _splats(here: str, out: Path) -> list[tuple[str, str]]:
    """Exports, and what trains a splat of each. They are trained elsewhere, so with absolute paths."""
    nerfstudio, undistorted = (path_word((out / name).resolve()) for name in ("nerfstudio", "undistorted"))
    return [
        (
            f"loftr-sfm export {here} nerfstudio",
            f"for splats and NeRFs with nerfstudio; then: ns-train splatfacto --data {nerfstudio}",
        ),
        (
            f"loftr-sfm export {here} undistorted",
            f"for gsplat, 3DGS, Brush and MVS; then: python train.py -s {undistorted} (others: docs/splats.md)",
        ),
    ]


def next_commands(folder: Path, out: Path, matcher: str) -> list[str]:
    """The same as lines of text."""
    commands = next_steps(folder, out, matcher)
    width = min(max(len(command) for command, _ in commands), 70)
    return ["next:", *(f"  {command:<{width}}  {what}" for command, what in commands)]


def after_export(format: str, dest: Path) -> list[str]:
    """Commands that train a splat or go on from what was exported to a folder, a line each; none for other formats."""
    here = path_word(dest.resolve())  # they are given in another folder
    commands = {
        "nerfstudio": [(f"ns-train splatfacto --data {here}", "# nerfstudio")],
        "undistorted": [
            (f"python train.py -s {here}", "# in a checkout of graphdeco-inria/gaussian-splatting"),
            (
                f"python simple_trainer.py default --data_dir {here} --data_factor 1 --result_dir {here}/gsplat",
                "# in examples/ of a checkout of gsplat",
            ),
        ],
    }.get(format, [])
    width = min(max((len(command) for command, _ in commands), default=0), 70)
    return ["next:", *(f"  {command:<{width}}  {what}" for command, what in commands)] if commands else []
