"""File names by their extensions: images, RAW images, videos, and what to do with files of other kinds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType

IMAGES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif", ".avif"}
)
RAW = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".raf", ".rw2", ".pef", ".srw", ".3fr"}
)
UNSUPPORTED = frozenset({".gif", ".bmp", ".jp2", ".j2k", ".jxl", ".jxr", ".tga", ".exr", ".hdr", ".ppm", ".pgm"})
VIDEOS = frozenset(
    {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".wmv", ".flv"}
    | {".ogv", ".insv", ".360", ".lrv"}
)

_OTHERS: Mapping[str, tuple[str, str]] = MappingProxyType(  # what they are called, and what to do
    {
        **dict.fromkeys((".pdf", ".djvu"), ("documents", "export their pages as images")),
        **dict.fromkeys((".psd", ".psb", ".xcf", ".kra", ".afphoto"), ("layered images", "export them as PNG or TIFF")),
        **dict.fromkeys((".svg", ".eps", ".ai"), ("vector graphics", "export them as PNG")),
        **dict.fromkeys((".zip", ".rar", ".7z", ".tar", ".gz", ".tgz"), ("archives", "unpack them")),
        **dict.fromkeys(
            (".txt", ".md", ".csv", ".json", ".xml", ".html", ".doc", ".docx", ".log", ".ini", ".yaml", ".yml"),
            ("text files", ""),
        ),
        **dict.fromkeys((".aae", ".xmp", ".thm", ".pp3", ".on1", ".dop"), ("sidecar files of images", "")),
        **dict.fromkeys((".srt", ".vtt", ".ass"), ("subtitles of videos", "")),
    }
)


def what_it_is(suffix: str) -> tuple[str, str]:
    """What files with this extension are called, and what to do with them. suffix: in lower case, with its dot."""
    return _OTHERS.get(suffix, ("files of other kinds", ""))


def is_live_clip(name: str, image_stems: frozenset[str]) -> bool:
    """Whether a video is the moving part of a phone's live photo: an image of its name lies beside it.

    image_stems: the names of the images without extensions, in lower case.
    """
    return str(PurePosixPath(name).with_suffix("")).lower() in image_stems
