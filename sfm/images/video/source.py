"""What a run is given: a folder of images, a video, or a folder with videos, and the folder of images it becomes.

Where there are videos, the images of a run are in OUT/frames: a folder of frames for each video, and links to the
images that lay beside them (copies where a file system has no links). Nothing is written where the videos are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sfm.errors import BadFile, BadOption
from sfm.images.discovery import find_images
from sfm.images.files.suffixes import VIDEOS
from sfm.images.video.keyframes import FrameRule
from sfm.images.video.records import RECORD, ClipFrames
from sfm.system.safe_paths import refuse_links
from sfm.system.tables import write_json
from sfm.system.untrusted_files import has_shape, read_json
from sfm.wording import some

FRAMES = "frames"  # folder in OUT
MANIFEST = ".sources.json"  # in it: what is in it
SUFFIXES = VIDEOS - {".360"}  # a spherical camera's two lenses in two streams
IN_FOLDERS = SUFFIXES - {".ts", ".lrv", ".insv"}  # in folders mostly TypeScript, small doubles, two lenses
LIVE_S = 6.0  # seconds; a longer video is no live photo's


@dataclass(frozen=True, slots=True)
class ImageSource:
    """folder: of the images. clips: the videos that frames of it come from. notes: lines for the user."""

    folder: Path
    clips: tuple[ClipFrames, ...] = ()
    notes: tuple[str, ...] = ()


def is_video(path: Path) -> bool:
    """Whether a path is a file that bears the extension of a video."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def prepare(source: Path, out: Path, frames: str | None) -> ImageSource:
    """The images of a source: the folder itself, or OUT/frames with the frames of the videos in it.

    frames: --frames. Raises BadFile where there is nothing of the kind, or no video can be read, BadOption for a bad
    `frames`, or one without a video.
    """
    rule = FrameRule.of(frames)
    if source.is_file():
        if not is_video(source):
            raise BadFile(f"{source}: is a file; give the folder that it is in, or a video (MP4, MOV, ...)")
        return _with_frames({source.name: source}, {}, out / FRAMES, rule)
    if not source.is_dir():
        raise BadFile(f"{source}: no such folder; give the folder of your images, or a video")
    videos = {path.relative_to(source).as_posix(): path for path in _videos(source, out)}
    if not videos:
        if frames is not None:
            raise BadOption(f"--frames {frames}: there is no video in {source}; leave the option out")
        return ImageSource(source)
    found = find_images(source)
    listed = [*found.names, *(name for name, _ in found.skipped)]
    images = {name: source / name for name in listed if not _is_below(source / name, out)}
    videos, live = _without_live(videos, images)
    if not videos:
        return ImageSource(source)  # what else is left out of a folder is said when its images are found
    clips = some([name for name, _ in live])
    notes = (f"clips of live photos ({clips}) are left out: their images are used",) if live else ()
    with_frames = _with_frames(videos, images, out / FRAMES, rule)
    return replace(with_frames, notes=(*notes, *with_frames.notes))


def _videos(folder: Path, out: Path) -> Iterator[Path]:
    seen = {out.resolve()}
    for root, folders, files in os.walk(folder, followlinks=True):
        place = Path(root).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith(".") and path.suffix.lower() in IN_FOLDERS and path.is_file():
                yield path


def _is_below(path: Path, out: Path) -> bool:
    return path.resolve().is_relative_to(out.resolve())


def _with_frames(videos: dict[str, Path], images: dict[str, Path], folder: Path, rule: FrameRule) -> ImageSource:
    from sfm.images.video.extraction import extract_frames  # PyAV is loaded only where there is a video

    if folder.is_symlink():
        raise BadFile(f"{folder}: is a link, nothing is written through it; remove the link")
    folders = _folder_names(list(videos), set(images))
    _begin(folder, folders.values(), images)
    clips: list[ClipFrames] = []
    failed: list[BadFile] = []
    for name, path in videos.items():
        _require_inside(folder, folder / folders[name])
        refuse_links(folder, [folders[name]])
        try:
            clips.append(extract_frames(path, folder / folders[name], rule, name=name))
        except BadFile as error:
            if not path.is_file() or len(videos) + len(images) == 1:
                raise
            failed.append(error)
    if failed and not clips and not images:
        raise failed[0]
    notes = [clip.line for clip in clips] + [f"{error}: left out" for error in failed]
    if images:
        notes.append(f"{len(images):,} images beside {len(clips):,} videos: they are used together")
    return ImageSource(folder, tuple(clips), tuple(notes))


def _without_live(videos: dict[str, Path], images: dict[str, Path]) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Without the short clips that phones write beside an image of the same name, and (clip, image) of those."""
    from sfm.images.video.containers import duration_s

    by_stem = {_stem(name): name for name in images}
    live = [
        (name, by_stem[_stem(name)])
        for name, path in videos.items()
        if _stem(name) in by_stem and duration_s(path) < LIVE_S
    ]
    left_out = {name for name, _ in live}
    return {name: path for name, path in videos.items() if name not in left_out}, live


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")).lower()


def _folder_names(videos: Sequence[str], images: set[str]) -> dict[str, str]:
    """The folder of each video's frames: its name without the extension, or with it where that is another's."""
    taken = {str(parent) for name in images for parent in PurePosixPath(name).parents}
    stems = [str(PurePosixPath(name).with_suffix("")) for name in videos]
    return {
        name: name if stem in taken or [s.lower() for s in stems].count(stem.lower()) > 1 else stem
        for name, stem in zip(videos, stems, strict=True)
    }


def _begin(folder: Path, clips: Iterable[str], images: dict[str, Path]) -> None:
    """Links to the images in `folder`; what an earlier run with other videos or images left there is removed."""
    now = {"videos": sorted(clips), "images": sorted(images)}
    try:
        before = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        before = {}
    if has_shape(before, {"videos": [str], "images": [str]}):
        for name in set(before["videos"]) - set(now["videos"]):
            inside = (folder / name).resolve().is_relative_to(folder.resolve())
            if inside and (folder / name / RECORD).is_file():
                shutil.rmtree(folder / name, ignore_errors=True)
        for name in set(before["images"]) - set(now["images"]):
            _remove(folder, name)
    try:
        write_json(folder / MANIFEST, now)
        for name, path in images.items():
            _require_inside(folder, (folder / name).parent)
            _link(folder / name, path.resolve())
    except OSError as error:
        where = error.filename or folder
        raise BadFile(f"{where}: cannot be written ({error.strerror}); choose another folder") from None


def _remove(folder: Path, name: str) -> None:
    path = folder / name
    if path.parent.resolve().is_relative_to(folder.resolve()) and not path.is_dir():
        path.unlink(missing_ok=True)


def _require_inside(folder: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadFile(f"{path}: leads out of {folder}, nothing is written through it; remove the link")


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target)
    except (OSError, NotImplementedError):
        shutil.copy2(target, link)
