"""What a user should know of a folder of images besides the images: files and folders that are left out, masks, and a
range of values that is stretched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sfm.images.discovery import FoundImages, find_images
from sfm.images.files.value_range import Range, is_stretched
from sfm.wording import counted, some


def index_notes(
    found: FoundImages,
    ranges: Mapping[str, Range],
    kinds: Sequence[str],
    folder: Path | None,
    masks: Sequence[Path],
    num_images: int,
) -> tuple[str, ...]:
    """A line for each matter. ranges: by kind of values. kinds: of the images of more than 8 bits. folder, masks: of
    the masks, and those that belong to an image."""
    notes = [_left_out("folders of results of earlier runs", found.results)] if found.results else []
    if found.videos:
        notes.append(_left_out("videos", found.videos, "give a video by itself"))
    by_kind: dict[tuple[str, str], list[str]] = {}
    for name, what_and_advice in found.others:
        by_kind.setdefault(what_and_advice, []).append(name)
    notes += [_left_out(what, names, advice) for (what, advice), names in sorted(by_kind.items())]
    notes += [range_note(kinds.count(kind), own) for kind, own in sorted(ranges.items()) if is_stretched(own)]
    if folder is not None:
        used = f"masks: {len(masks):,} of {counted(num_images, 'image')} have one, each of its image's size"
        notes.append(used + masks_of_nothing(folder, masks))
    return tuple(notes)


def range_note(num_images: int, value_range: Range) -> str:
    """What is said of images of more than 8 bits whose used range is stretched."""
    low, high = (f"{value:,.6g}" for value in value_range)
    return (
        f"{counted(num_images, 'image')} of more than 8 bits: the values {low} to {high}, which they use, are "
        "stretched to black to white, the same for all of them"
    )


def _left_out(what: str, names: Sequence[str], advice: str = "") -> str:
    return f"{what} ({some(names)}) are left out{f': {advice}' if advice else ''}"


def masks_of_nothing(folder: Path, used: Sequence[Path]) -> str:
    """Images in the folder of masks that are no image's mask, for the end of a sentence; "" where there is none."""
    known = {path.resolve() for path in used}
    unused = [name for name in find_images(folder).names if (folder / name).resolve() not in known]
    belong = f"{counted(len(unused), 'file')} in {folder} {'belongs' if len(unused) == 1 else 'belong'}"
    return f"; {belong} to no image: {some(unused)}" if unused else ""
