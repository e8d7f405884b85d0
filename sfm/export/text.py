"""COLMAP's text files."""

from __future__ import annotations

from pathlib import Path

from sfm.colmap.model_reader import RIG_STEMS, STEMS
from sfm.export.source import ExportSource, refuse_white_space, registered_images
from sfm.system.safe_paths import refuse_links


def text(source: ExportSource, dest: Path) -> Path:
    """cameras.txt, images.txt, points3D.txt, rigs.txt, frames.txt."""
    model = source.model()
    refuse_links(dest, [f"{stem}.txt" for stem in (*STEMS, *RIG_STEMS)])
    refuse_white_space(registered_images(model), "COLMAP's text")
    model.write_text(str(dest))
    return dest
