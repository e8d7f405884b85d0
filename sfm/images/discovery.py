"""Images in a folder: which files may be some, and which are known from the outside not to be.

No file is opened here. One that cannot be used is left out with a reason.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sfm.errors import BadFile
from sfm.images.files import suffixes

MAX_BYTES = 16 << 30  # 500 megapixels at 16 bytes each, and more; a larger file would take minutes to read
RAW_EXTRA = "pip install 'loftr-sfm[raw]'"
_RESULTS = (  # what lies together in a folder of results of ours
    {"features.h5"},
    {"run.json", "sparse"},
    {"refine.json", "sparse"},
    {"two_view.json", "matches.npz"},
)


_HIDDEN = re.compile(r"\..*|__MACOSX", re.DOTALL)
_HIDDEN_OR_OWN = re.compile(  # what a run writes into its output folder
    rf"{_HIDDEN.pattern}|(features\.h5|run\.json|report\.html)(\..*)?|database\.db.*|points\.ply|sparse|unrefined",
    re.DOTALL,
)


class FoundImages(NamedTuple):
    """names: files that may be images, sorted POSIX paths relative to the folder. skipped: (name, reason)
    of those that are known not to be usable from the outside. videos: names of videos. others: (name, what files of
    its kind are called and what to do) of all other files. results: folders that were not searched, as they hold
    results of ours."""

    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    videos: tuple[str, ...] = ()
    others: tuple[tuple[str, tuple[str, str]], ...] = ()
    results: tuple[str, ...] = ()


def find_images(folder: Path, *, exclude: Sequence[Path] = ()) -> FoundImages:
    """All files below the folder that bear the extension of an image format, without opening them.

    Hidden files and folders (macOS' `._*` among them) and `__MACOSX` do not count, nor do folders of results of ours;
    links are followed, and a folder that is reached twice is searched once, so loops end. exclude: folders below that
    are not searched (the masks, the output). Raises BadFile if the folder is missing or is not one.
    """
    if not folder.is_dir():
        raise BadFile(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; give a folder of images")
    unreadable: list[OSError] = []
    results: list[Path] = []
    paths = {path.relative_to(folder).as_posix(): path for path in _walk(folder, exclude, unreadable, results)}
    names, skipped, videos, others = [], [], [], []
    for name, path in paths.items():
        suffix = path.suffix.lower()
        if suffix in suffixes.VIDEOS:
            videos.append(name)
        elif suffix not in suffixes.IMAGES | suffixes.RAW | suffixes.UNSUPPORTED:
            others.append((_shown(name), suffixes.what_it_is(suffix)))
        elif reason := _unusable_name(name) or unusable_file(path, name):
            skipped.append((_shown(name), reason))
        else:
            names.append(name)
    for error in unreadable:
        name = Path(error.filename).relative_to(folder).as_posix()
        skipped.append((_shown(name), f"the folder cannot be read ({error.strerror})"))
    stems = frozenset(str(PurePosixPath(name).with_suffix("")).lower() for name in names)
    clips = [name for name in videos if suffixes.is_live_clip(name, stems)]
    others += [(_shown(name), ("clips of live photos", "their images are used")) for name in clips]
    return FoundImages(
        tuple(sorted(names)),
        tuple(sorted(skipped)),
        tuple(sorted(set(videos) - set(clips))),
        tuple(sorted(others)),
        tuple(sorted(_shown(path.relative_to(folder).as_posix()) for path in results)),
    )


def _walk(folder: Path, exclude: Sequence[Path], unreadable: list[OSError], results: list[Path]) -> Iterator[Path]:
    """Files, and into the lists the folders that could not be looked into, and those that hold results of ours."""
    seen = {path.resolve() for path in exclude} - {folder.resolve()}
    for root, folders, files in os.walk(folder, onerror=unreadable.append, followlinks=True):
        place = Path(root).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        if Path(root) != folder and _is_results(folder, Path(root), {*folders, *files}):
            results.append(Path(root))
            folders.clear()
            continue
        left_out = _HIDDEN_OR_OWN if "features.h5" in files else _HIDDEN  # an output folder that holds its images
        folders[:] = sorted(name for name in folders if not left_out.fullmatch(name))
        yield from (Path(root, name) for name in sorted(files) if not left_out.fullmatch(name))


def _is_results(folder: Path, place: Path, held: set[str]) -> bool:
    """Whether a folder below `folder` that holds these names is of a run, or an export beside the results of one."""
    if any(results <= held for results in _RESULTS):
        return True
    is_export = "transforms.json" in held or "sparse" in held
    return is_export and place.parent == folder and (folder / "features.h5").is_file()


def _unusable_name(name: str) -> str | None:
    """Control characters and line breaks end a name in files of pairs and in COLMAP's text, and drive terminals."""
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name):
        return "its name has a line break or another control character: rename it"
    return None


def _shown(name: str) -> str:
    """The name in one line of valid UTF-8, what cannot be shown escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text
    )


def unusable_file(path: Path, name: str) -> str | None:
    """Why the file cannot be an image, without opening it; None if it may be one."""
    try:
        name.encode("utf-8")
        status = path.stat()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8: rename it"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if reason := unusable_status(status):
        return reason
    suffix = path.suffix.lower()
    if suffix in suffixes.UNSUPPORTED:
        return f"{suffix[1:].upper()} is not supported: convert to JPEG"
    if suffix in suffixes.RAW and not has_raw_extra():
        return f"RAW images need {RAW_EXTRA}"
    return None


def has_raw_extra() -> bool:
    """Whether RAW images can be read; nothing is imported for it."""
    return find_spec("rawpy") is not None


def unusable_status(status: os.stat_result) -> str | None:
    """Why such a file is not even to be opened: a pipe or a device may never end."""
    if stat.S_ISDIR(status.st_mode):
        return "is a folder; give an image"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_size == 0:
        return "the file is empty"
    if status.st_size > MAX_BYTES:
        return f"{status.st_size / 1e9:.0f} GB is too large for an image"
    return None
