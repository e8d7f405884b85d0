"""One video to a folder of frames. A killed call carries on where it was; one that is done is not repeated.

While it is at work a journal beside the frames has a line for each kept frame, with all that the choice of the next
ones depends on.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from sfm.errors import BadFile
from sfm.images.exif import MAX_TEXT
from sfm.images.video.containers import Clip, ClipHeader, Frame, FrameNotThere, opened_clip
from sfm.images.video.keyframes import Chooser, Counts, FrameRule, Seen, thinned
from sfm.images.video.motion import Follower, halved, sharpness
from sfm.images.video.records import RECORD, ClipFrames, KeptFrame, read_record, write_record
from sfm.system.hashing import json_digest, size_and_time
from sfm.system.progress import progress_bar
from sfm.system.untrusted_files import NUMBER, bounded_lines, has_shape, parse_json

log = logging.getLogger(__name__)

REVISION = 1  # raised when other frames would be chosen
QUALITY = 95  # of JPEG
SIDE = 640  # px, of the pictures whose sharpness is measured; motion is measured at half of it
JOURNAL = ".frames.journal"
_STATE = ("little", "blurred", "first_time_s")
_LINE = {**dict.fromkeys(("index", "time_s", "sharpness", "shift", "pts", "done", *_STATE), NUMBER), "recent": [NUMBER]}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A line of the journal. seen: the frame. done: index of the last frame that was looked at when it was kept."""

    seen: Seen
    pts: int | None
    done: int
    chooser: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        shift = min(self.seen.shift, 1e9)  # JSON has no infinity
        return {**asdict(self.seen), "shift": shift, "pts": self.pts, "done": self.done, **self.chooser}

    @classmethod
    def of(cls, value: Any) -> _Kept | None:
        if not has_shape(value, _LINE):
            return None
        seen = Seen(int(value["index"]), float(value["time_s"]), float(value["sharpness"]), float(value["shift"]))
        state = {name: value[name] for name in ("recent", *_STATE)}
        return cls(seen, int(value["pts"]), int(value["done"]), state)


def extract_frames(video: Path, folder: Path, rule: FrameRule, *, name: str) -> ClipFrames:
    """The frames of a video that are kept, as JPEG files in `folder`, with .frames.json; reused where they are there.

    name: of the video, for people. Raises BadFile where it cannot be read, or no frame of it.
    """
    key = json_digest([REVISION, *size_and_time(video), rule.count, rule.per_second])
    found = read_record(folder)
    if found is not None and found.key == key:
        there = tuple(frame for frame in found.frames if (folder / frame.name).is_file())
        if there:  # frames that somebody took out stay out
            _remove_others(folder, {frame.name for frame in there})
            return ClipFrames(**{**_fields(found), "video": name, "frames": there})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = _journal(folder, key)
        try:
            clip = _extract(video, folder, rule, lines, key=key, name=name)
        except FrameNotThere:  # the container does not find its way back: from the beginning
            (folder / JOURNAL).unlink()
            clip = _extract(video, folder, rule, _journal(folder, key), key=key, name=name)
        write_record(folder, clip)
        _remove_others(folder, {frame.name for frame in clip.frames})
    except OSError as error:
        raise BadFile(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); free some space or choose "
            "another folder; the frames so far are kept"
        ) from None
    return clip


def _fields(clip: ClipFrames) -> dict[str, Any]:
    return {name: getattr(clip, name) for name in clip.__dataclass_fields__}


def _remove_others(folder: Path, names: set[str]) -> None:
    """What a killed call, or one with other options, left among the frames."""
    for path in (*folder.glob("frame_*.jpg"), *folder.glob(".frame_*.part"), folder / JOURNAL):
        if path.name not in names and not path.is_dir():
            path.unlink(missing_ok=True)


def _journal(folder: Path, key: str) -> list[_Kept]:
    """What a killed call with the same key has kept, in order; begins a journal where there is none."""
    path, kept = folder / JOURNAL, []
    if path.is_file():
        lines = bounded_lines(path, "remove it")
        with_key, good = next(lines, "").strip() == key, [key]
        for line in lines if with_key else ():
            one = _Kept.of(_parsed(line))
            if one is None or not (folder / _file_name(one.seen.index)).is_file():
                break
            kept.append(one)
            good.append(line.rstrip("\n"))
        if kept:
            path.write_text("\n".join([*good, ""]), encoding="utf-8")  # without a line that was torn
            return kept
    (folder / RECORD).unlink(missing_ok=True)
    path.write_text(f"{key}\n", encoding="utf-8")
    return []


def _parsed(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return None


def _file_name(index: int) -> str:
    return f"frame_{index:06d}.jpg"


def _extract(video: Path, folder: Path, rule: FrameRule, before: list[_Kept], *, key: str, name: str) -> ClipFrames:
    """Decodes, chooses and writes, from the last frame of `before` on."""
    with opened_clip(video) as clip, (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        work = _Work(clip, folder, rule, list(before))
        total = clip.header.num_frames
        with progress_bar(total, desc=f"frames of {name}", unit="frame") as bar:
            for kept in work.run(lambda: bar.update()):
                journal.write(json.dumps(kept.as_dict()) + "\n")
                journal.flush()
        if not work.kept:
            raise BadFile(f"{video}: no frame of it can be decoded; copy or convert it again")
        seen = [one.seen for one in work.kept]
        chosen = thinned(seen, rule.count) if rule.count is not None else range(len(seen))
        frames = tuple(
            KeptFrame(_file_name(seen[i].index), seen[i].index, seen[i].time_s, seen[i].sharpness) for i in chosen
        )
        counts, num_thinned = work.chooser.counts, len(seen) - len(frames)
        dropped = (counts.little, counts.blurred, num_thinned, clip.num_damaged)
        return ClipFrames(folder.name, name, key, work.num_frames, *dropped, frames)


class _Work:
    """One pass over a clip."""

    def __init__(self, clip: Clip, folder: Path, rule: FrameRule, kept: list[_Kept]) -> None:
        self.kept = kept
        self.num_frames = 0
        self.chooser = Chooser(rule)
        self._clip, self._folder = clip, folder
        self._follower: Follower | None = None
        self._held: tuple[Frame, Any] | None = None  # with its picture, from which the next ones are followed
        self._exif = _exif_of(clip.header)
        if kept:
            state = kept[-1].chooser
            self.chooser = Chooser(
                rule,
                recent=list(map(float, state["recent"])),
                num_kept=len(kept),
                counts=Counts(int(state["little"]), int(state["blurred"])),
                first_time_s=float(state["first_time_s"]),
            )

    def run(self, on_frame: Any) -> Iterator[_Kept]:
        """What is kept, when it is written."""
        last = self.kept[-1] if self.kept else None
        start = None if last is None or last.pts is None else (last.seen.index, last.pts)
        index = -1
        for frame in self._clip.frames(start):
            on_frame()
            index = frame.index
            if last is not None and index <= last.done:
                if index == last.seen.index:
                    self._follower = Follower(halved(frame.luma(SIDE)))
                continue
            yield from self._look(frame)
        if self.chooser.finish():
            yield self._keep(index)
        self.num_frames = index + 1

    def _look(self, frame: Frame) -> Iterator[_Kept]:
        large = frame.luma(SIDE)
        picture = halved(large)
        self._follower = self._follower or Follower(picture)
        seen = Seen(frame.index, frame.time_s, sharpness(large), self._follower.motion(picture).shift)
        if self.chooser.is_complete(seen):
            yield self._keep(frame.index - 1)
            seen = replace(seen, shift=self._follower.motion(picture).shift)
        if self.chooser.add(seen):
            self._held = (frame, picture)

    def _keep(self, done: int) -> _Kept:
        assert self._held is not None
        frame, picture = self._held
        seen = self.chooser.keep()
        self._write(frame)
        counts = self.chooser.counts
        state = {
            "recent": self.chooser.recent,
            "little": counts.little,
            "blurred": counts.blurred,
            "first_time_s": self.chooser.first_time_s,
        }
        self.kept.append(_Kept(seen, frame.pts, done, state))
        self._held, self._follower = None, Follower(picture)
        return self.kept[-1]

    def _write(self, frame: Frame) -> None:
        path = self._folder / _file_name(frame.index)
        part = self._folder / f".{path.stem}.part"
        Image.fromarray(frame.rgb()).save(part, format="JPEG", quality=QUALITY, exif=_at(self._exif, frame.time_s))
        os.replace(part, path)


# --- EXIF -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ClipExif:
    make: str = ""
    model: str = ""
    focal_35mm: int = 0
    start: datetime | None = None


def _exif_of(header: ClipHeader) -> _ClipExif:
    """What the container says of the camera and the time. A device without a focal length is left out: two videos of
    one device need not be of one zoom, and would pass for one camera's."""
    tags = header.tags
    focal = tags.get("com.apple.quicktime.camera.focal_length.35mm_equivalent", "")
    make, model = (
        next((tags[key][:MAX_TEXT] for key in (f"com.apple.quicktime.{n}", f"com.android.{n}", n) if key in tags), "")
        for n in ("make", "model")
    )
    try:
        start = datetime.fromisoformat(tags.get("creation_time", "").replace("Z", "+00:00"))
    except ValueError:
        start = None
    if start is not None and start.year < 1990:  # a camera without a clock
        start = None
    try:
        focal_35mm = round(float(focal))
    except (ValueError, OverflowError):
        focal_35mm = 0
    if not 1 <= focal_35mm <= 2000:
        return _ClipExif(start=start)
    return _ClipExif(make, model, focal_35mm, start)


def _at(clip: _ClipExif, time_s: float) -> Image.Exif:
    """The EXIF entries of the frame at a time."""
    tags = Image.Exif()
    if clip.focal_35mm:
        tags[0x010F], tags[0x0110] = clip.make, clip.model
        tags.get_ifd(0x8769)[0xA405] = clip.focal_35mm
    if clip.start is not None and 0 <= time_s < 1e7:
        moment = clip.start + timedelta(seconds=time_s)
        own = tags.get_ifd(0x8769)
        own[0x9003] = moment.strftime("%Y:%m:%d %H:%M:%S")
        own[0x9291] = f"{moment.microsecond // 1000:03d}"
    return tags
