"""What a window is given to show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfm.drawing.scene import Scene
from sfm.viewer.image_files import ImageFiles
from sfm.viewer.state import ViewState


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """What a window shows. scenes: one or two, in one frame. images: of each. memory: file that keeps the view.
    start: name of the view to begin with where none is kept. note: said below the models' titles."""

    title: str
    scenes: tuple[Scene, ...]
    images: tuple[ImageFiles, ...]
    state: ViewState
    memory: Path | None = None
    start: str = "overview"
    note: str | None = None
