"""Video files, decoded in one stream by PyAV (FFmpeg).

A file is opened as the container that its first bytes say, never by guessing: FFmpeg would else take a playlist for a
video and open the files and addresses in it. Times are the container's own (pts), so a variable frame rate is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadFile, BadImage, one_line
from sfm.images.discovery import unusable_status

MAX_PIXELS = 150_000_000  # of a frame; 16K has 133 million
MAX_FRAMES = 2_000_000  # 18 hours at 30 a second
MAX_ERRORS = 1000  # packets in a row that cannot be decoded: the rest of the file is damaged
_HEAD = 200  # bytes
_PQ = 16  # transfer characteristic of HDR10 (SMPTE ST 2084)
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0  # of PQ: reference white (ITU-R BT.2408) and what is shown as white


class ClipHeader(NamedTuple):
    """What the container says. num_frames: roughly, 0 where it does not. duration_s: 0 where it does not. tags: its
    text entries, names in lower case."""

    num_frames: int
    duration_s: float
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame. index: from 0, of the frames that could be decoded. time_s: from the start. pts: in the
    container's units, or None. pixels are converted when they are asked for."""

    index: int
    time_s: float
    pts: int | None
    picture: Any
    aspect: float  # width of a pixel over its height

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px as displayed."""
        width, height = max(1, round(self.picture.width * self.aspect)), self.picture.height
        return (height, width) if self._turns % 2 else (width, height)

    @property
    def _turns(self) -> int:
        """Quarter turns counterclockwise from the stored picture to the displayed one."""
        return int(round(self.picture.rotation / 90) % 4)

    def luma(self, side: int) -> NDArray[np.float32]:
        """(h, w) f32 from 0 to 255, as displayed, the longer side `side` px."""
        width, height = max(1, round(self.picture.width * self.aspect)), self.picture.height
        scale = side / max(width, height)
        w, h = max(16, round(width * scale)), max(16, round(height * scale))
        small = self.picture.reformat(width=w, height=h, format="gray", interpolation="AREA").to_ndarray()
        return np.ascontiguousarray(np.rot90(small, self._turns), np.float32)

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 as displayed. HDR10 is mapped to 8 bits; of interlaced frames one field is taken."""
        width, height = max(1, round(self.picture.width * self.aspect)), self.picture.height
        if int(self.picture.color_trc) == _PQ:
            deep = self.picture.reformat(width=width, height=height, format="rgb48le").to_ndarray()
            pixels = _pq_to_8_bits()[deep]
        else:
            how = {"width": width, "height": height} if width != self.picture.width else {}
            pixels = self.picture.reformat(**how, format="rgb24").to_ndarray()
        if self.picture.interlaced_frame:
            pixels = _one_field(pixels)
        return np.ascontiguousarray(np.rot90(pixels, self._turns))


def _pq_to_8_bits() -> NDArray[np.uint8]:
    """(65536,) uint8 by 16-bit value: PQ (SMPTE ST 2084) to light, Reinhard's curve to white (2002, equation 4), and
    gamma 2.2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    code = np.linspace(0, 1, 65536) ** (1 / m2)
    light = 10_000 / _WHITE_NITS * (np.maximum(code - c1, 0) / (c2 - c3 * code)) ** (1 / m1)
    shown = light * (1 + light / (_PEAK_NITS / _WHITE_NITS) ** 2) / (1 + light)
    return np.rint(255 * np.clip(shown, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _one_field(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The upper field at full height: two fields are two moments, and combed edges match nothing."""
    field = pixels[::2].astype(np.uint16)
    below = np.concatenate([field[1:], field[-1:]])
    full = np.repeat(field, 2, axis=0)
    full[1::2] = (field + below) // 2
    return full[: len(pixels)].astype(np.uint8)


class Clip:
    """One open video."""

    def __init__(self, path: Path, container: Any, stream: Any) -> None:
        self.path = path
        self.num_damaged = 0  # packets and frames that could not be decoded, so far
        self._container, self._stream = container, stream
        ratio = stream.sample_aspect_ratio
        self._aspect = float(ratio) if ratio and 0.25 <= ratio <= 4 else 1.0

    @property
    def header(self) -> ClipHeader:
        """What the container says of the clip."""
        stream, container = self._stream, self._container
        duration = float(container.duration / av.time_base) if container.duration else 0.0
        rate = float(stream.average_rate or 0)
        tags = {str(k).lower(): str(v) for k, v in (*container.metadata.items(), *stream.metadata.items())}
        return ClipHeader(stream.frames or round(duration * rate), max(duration, 0.0), tags)

    def frames(self, after: tuple[int, int] | None = None) -> Iterator[Frame]:
        """The frames in the order in which they are shown, damaged ones left out.

        after: (index, pts) of a frame that an earlier call gave: that one comes first again.
        """
        if after is None:
            yield from self._decoded()
            return
        index, pts = after
        try:
            self._container.seek(pts, stream=self._stream)
        except av.FFmpegError:
            raise FrameNotThere from None
        first: int | None = None  # number of the frame that is looked for, counted from where the container begins
        for frame in self._decoded():
            if first is None and frame.pts is not None and frame.pts > pts:
                break
            first = frame.index if frame.pts == pts and first is None else first
            if first is not None:
                yield replace(frame, index=index + frame.index - first)
        if first is None:
            raise FrameNotThere

    def _decoded(self) -> Iterator[Frame]:
        size, index, last_s, errors = None, None, 0.0, 0
        step_s = 1 / float(self._stream.average_rate or 30)
        start_s = float((self._stream.start_time or 0) * self._stream.time_base)
        for picture in self._pictures():
            if picture is None:
                errors += 1
                if errors > MAX_ERRORS:
                    return
                continue
            errors = 0
            size = size or (picture.width, picture.height)
            is_sane = (picture.width, picture.height) == size and picture.width * picture.height <= MAX_PIXELS
            if picture.is_corrupt or not is_sane:
                self.num_damaged += 1
                continue
            index = 0 if index is None else index + 1
            if index >= MAX_FRAMES:
                return
            time_s = picture.time - start_s if picture.time is not None else last_s + step_s
            yield Frame(index, time_s, picture.pts, picture, self._aspect)
            last_s = time_s

    def _pictures(self) -> Iterator[Any]:
        """FFmpeg's frames; None for a packet that cannot be decoded. Ends where the container is damaged or cut off."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                pictures = packet.decode()
            except (av.FFmpegError, ValueError, MemoryError) as error:
                self.num_damaged += 1
                if not isinstance(error, av.error.InvalidDataError):
                    return
                yield None
                continue
            yield from pictures


class FrameNotThere(Exception):
    """A frame that an earlier run saw is not found any more."""


@contextmanager
def opened_clip(path: Path) -> Iterator[Clip]:
    """The video, not yet decoded. Raises BadFile naming the file."""
    kind = container_of(path)
    if kind is None:
        raise BadFile(f"{path}: not a video of a known kind; convert it to MP4")
    try:
        with av.open(str(path), format=kind, metadata_errors="replace") as container:
            if not container.streams.video:
                raise BadFile(f"{path}: there is no video in it")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadFile(f"{path}: its codec is not known, or its index is cut off; copy or convert it again")
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise BadFile(f"{path}: {width}x{height} is over {MAX_PIXELS // 1_000_000} megapixels: reduce it")
            stream.thread_type = "AUTO"
            yield Clip(path, container, stream)
    except av.FFmpegError as error:
        raise BadFile(f"{path}: the video cannot be read ({one_line(error, 100)}); copy or convert it again") from None


def container_of(path: Path) -> str | None:
    """FFmpeg's name of the container by the file's first bytes; None for one that is not known, or unusable."""
    try:
        if unusable_status(path.stat()):
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, BadImage):
        return None
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return None if head[8:11] in (b"hei", b"avi", b"mif") or head[8:12] == b"msf1" else "mov"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF":
        return "avi" if head[8:12] == b"AVI " else None
    is_ts = (head[:1] == b"\x47" and head[188:189] == b"\x47") or (head[4:5] == b"\x47" and head[196:197] == b"\x47")
    return "mpegts" if is_ts else None


_MAGIC = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"\x00\x00\x01\xba": "mpeg",
    b"FLV\x01": "flv",
    b"OggS": "ogg",
    b"\x30\x26\xb2\x75": "asf",
}


def duration_s(path: Path) -> float:
    """Of a video, 0 where it is not known or cannot be read."""
    try:
        with opened_clip(path) as clip:
            return clip.header.duration_s
    except BadFile:
        return 0.0
