""".frames.json, what is known of the frames of a video, beside them in their folder; read as an untrusted file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sfm.system.tables import write_json
from sfm.system.untrusted_files import NUMBER, has_shape, read_json

FEW = 10  # frames of a video, with which there may be no model
RECORD = ".frames.json"  # hidden, so that no search for images names it
_SHAPE = {
    "video": str,
    "key": str,
    "decoded": NUMBER,
    "little": NUMBER,
    "blurred": NUMBER,
    "thinned": NUMBER,
    "damaged": NUMBER,
    "frames": [{"name": str, "index": NUMBER, "time_s": NUMBER, "sharpness": NUMBER}],
}


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """name: of the file in its folder. index: number of the frame in the video, from 0. time_s: from its start."""

    name: str
    index: int
    time_s: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """The frames that were kept of a video, and why others were not.

    folder: their folder's name. video: its name as it was given. key: hash of the file's size and time and of how
    frames were chosen. little, blurred: frames that moved too little since the last one, or were blurred; thinned:
    more than were asked for; damaged: packets and frames that could not be decoded.
    """

    folder: str
    video: str
    key: str
    decoded: int
    little: int
    blurred: int
    thinned: int
    damaged: int
    frames: tuple[KeptFrame, ...]

    @property
    def line(self) -> str:
        """What is said of it: "clip.mp4: 1,240 frames, 118 kept: 1,020 moved too little, 102 blurred"."""
        reasons = {
            "moved too little": self.little,
            "blurred": self.blurred,
            "more than --frames asks for": self.thinned,
            "damaged": self.damaged,
        }
        why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)
        few = "" if len(self.frames) >= FEW or self.decoded <= FEW else "; few to map: --frames 20 keeps more"
        return f"{self.video}: {self.decoded:,} frames, {len(self.frames):,} kept{f': {why}' if why else ''}{few}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def write_record(folder: Path, clip: ClipFrames) -> None:
    """Writes .frames.json; it appears whole."""
    write_json(folder / RECORD, clip.as_dict())


def read_record(folder: Path) -> ClipFrames | None:
    """The record of a folder of frames; None where there is none, or it is damaged."""
    try:
        value = read_json(folder / RECORD)
    except (OSError, ValueError):
        return None
    if not has_shape(value, _SHAPE):
        return None
    frames = tuple(
        KeptFrame(one["name"], int(one["index"]), float(one["time_s"]), float(one["sharpness"]))
        for one in value["frames"]
    )
    numbers = {name: int(value[name]) for name in ("decoded", "little", "blurred", "thinned", "damaged")}
    return ClipFrames(folder.name, value["video"], value["key"], **numbers, frames=frames)


def clip_folders(folder: Path, names: Iterable[str]) -> frozenset[str]:
    """Of the folders of images with these names, relative to `folder`, those that hold the frames of a video."""
    parents = {name.rpartition("/")[0] for name in names}
    return frozenset(parent for parent in parents if (folder / parent / RECORD).is_file())
