"""Videos of a camera that moves along a wall with texture, encoded for a test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter1d

W, H = 320, 192
TKHD_MATRIX = 40  # bytes from the type of a tkhd box of version 0 to its matrix


def wall(width: int = 2000, seed: int = 0) -> NDArray[np.uint8]:
    """(H, width, 3) uint8 with texture at several scales."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(H, width)), sigma) * sigma for sigma in (1, 3, 8)]
    grey = sum(layers)
    grey = (grey - grey.min()) / np.ptp(grey) * 255
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def view(picture: NDArray[np.uint8], x: int) -> NDArray[np.uint8]:
    """(H, W, 3): what the camera sees at x px."""
    return np.ascontiguousarray(picture[:, x : x + W])


def blurred(picture: NDArray[np.uint8], length: int = 25) -> NDArray[np.uint8]:
    """The picture as of a camera that moved sideways by `length` px."""
    return uniform_filter1d(picture.astype(np.float32), length, axis=1).astype(np.uint8)


def write_clip(
    path: Path,
    pictures: Iterable[NDArray[np.unsignedinteger]],
    *,
    rate: int = 30,
    times_ms: Sequence[int] | None = None,
    tags: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    hdr: bool = False,
) -> Path:
    """An H.264 video of the pictures. times_ms: of each, for a variable rate. hdr: 10 bits in PQ, of (H, W, 3) u16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(tags or {})
        stream = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.options = "yuv420p", {"crf": "12", "preset": "veryfast", "g": "12"}
                stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
                if hdr:
                    stream.pix_fmt, stream.codec_context.color_trc = "yuv420p10le", 16
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le" if hdr else "rgb24")
            frame.color_trc = 16 if hdr else frame.color_trc
            frame.pts = times_ms[number] if times_ms is not None else round(1000 * number / rate)
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def rotate_clip(path: Path) -> Path:
    """Has an MP4 say that it is shown a quarter turn clockwise, as a phone that is held upright does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + TKHD_MATRIX + 4
    one, zero = (1 << 16).to_bytes(4, "big", signed=True), bytes(4)
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    data[at : at + 36] = zero + one + zero + minus + zero + zero + zero + zero + (1 << 30).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def pan(xs: Iterable[int], *, blurred_at: Iterable[int] = ()) -> list[NDArray[np.uint8]]:
    """Views of one wall at each x, those of the numbers `blurred_at` blurred."""
    picture, bad = wall(), set(blurred_at)
    return [blurred(view(picture, x)) if i in bad else view(picture, x) for i, x in enumerate(xs)]
