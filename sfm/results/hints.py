"""What to run next."""

from __future__ import annotations

import shlex
from pathlib import Path


def next_steps(folder: Path, out: Path, matcher: str) -> list[tuple[str, str]]:
    """Commands that follow a run of the images in `folder` into `out`, each with what it does."""
    images, here, sift = (shlex.quote(str(path)) for path in (folder, out, f"{out}-sift"))
    beside = [
        (f"loftr-sfm {images} {sift} --matcher sift", "the same images by COLMAP's SIFT, and then"),
        (f"loftr-sfm compare {here} {sift}", "both side by side, as a table and in the browser"),
    ]
    return [
        (f"loftr-sfm view {here}", "the model in a window (--screenshot FILE.png: without one)"),
        *(beside if matcher != "sift" else ()),
        (f"loftr-sfm export {here} nerfstudio", "for NeRF and Gaussian splatting (others: export --help)"),
        (f"loftr-sfm inspect {here}", "what the database holds"),
    ]


def next_commands(folder: Path, out: Path, matcher: str) -> list[str]:
    """The same as lines of text."""
    commands = next_steps(folder, out, matcher)
    width = min(max(len(command) for command, _ in commands), 70)
    return ["next:", *(f"  {command:<{width}}  {what}" for command, what in commands)]
