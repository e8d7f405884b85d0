"""HEIC and AVIF as phones write them, and a RAW image (DNG) made byte by byte."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

from tests.support.odd_images import stored_for

MAKE, MODEL, FOCAL_MM, FOCAL_35MM = "Apple", "iPhone 13", 5.1, 26
TYPES = {"H": (3, 2), "I": (4, 4), "B": (1, 1), "s": (2, 1)}  # TIFF's number of the type, bytes


def phone_exif(orientation: int = 1) -> bytes:
    """EXIF of a phone."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = orientation, MAKE, MODEL
    exif.get_ifd(0x8769).update({0x920A: FOCAL_MM, 0xA405: FOCAL_35MM})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 30.0, 0.0)})
    return exif.tobytes()


def save_phone_image(path: Path, picture: NDArray[np.uint8], orientation: int = 1) -> Path:
    """HEIC, AVIF or JPEG, by the name: stored so that the orientation, in EXIF and where the format has one of its own
    in the file, shows the (H, W, 3) picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored, exif = Image.fromarray(stored_for(orientation, picture)), phone_exif(orientation)
    if path.suffix.lower() in (".heic", ".heif"):
        pillow_heif.register_heif_opener()  # of all that it registers only the writer is used
        stored.save(path, "HEIF", quality=95, chroma=444, exif=exif)
    else:
        how = {"subsampling": "4:4:4"} if path.suffix == ".avif" else {"subsampling": 0}
        stored.save(path, quality=95, exif=exif, **how)
    return path


def dng(picture: NDArray[np.uint8], *, preview: NDArray[np.uint8] | None = None, orientation: int = 1) -> bytes:
    """A DNG of 16 bits in Bayer's pattern RGGB whose sensor saw the stored (H, W, 3) picture, linearly.

    preview: a JPEG that lies in it, as it is stored.
    """
    height, width = picture.shape[:2]
    linear = (picture.astype(np.float64) / 255) ** 2.2 * 65535
    bayer = np.empty((height, width), np.uint16)
    bayer[0::2, 0::2], bayer[1::2, 1::2] = linear[0::2, 0::2, 0], linear[1::2, 1::2, 2]
    bayer[0::2, 1::2], bayer[1::2, 0::2] = linear[0::2, 1::2, 1], linear[1::2, 0::2, 1]
    identity = b"".join(struct.pack("<ii", int(i == j), 1) for i in range(3) for j in range(3))
    raw_ifd = {
        254: ("I", 0), 256: ("I", width), 257: ("I", height), 258: ("H", 16), 259: ("H", 1), 262: ("H", 32803),
        274: ("H", orientation), 271: ("s", MAKE), 272: ("s", MODEL), 277: ("H", 1), 278: ("I", height),
        279: ("I", bayer.nbytes), 33421: ("H", (2, 2)), 33422: ("B", (0, 1, 1, 2)), 50706: ("B", (1, 4, 0, 0)),
        50708: ("s", f"{MAKE} {MODEL}"), 50717: ("I", 65535), 50721: (10, identity), 50778: ("H", 21),
    }  # fmt: skip
    jpeg = b""
    if preview is not None:
        stream = io.BytesIO()
        Image.fromarray(preview).save(stream, "JPEG", quality=95, subsampling=0)
        jpeg = stream.getvalue()
    return _tiff(raw_ifd, bayer.tobytes(), jpeg, preview)


def _tiff(raw: dict[int, tuple], pixels: bytes, jpeg: bytes, preview: NDArray[np.uint8] | None) -> bytes:
    """Header, pixels, JPEG and directories: of the RAW image, then one of the camera, and of the JPEG in SubIFDs."""
    at_pixels, at_jpeg = 8, 8 + len(pixels)
    body = pixels + jpeg + bytes(-len(pixels + jpeg) % 2)
    exif = _directory({0x920A: (5, struct.pack("<II", 51, 10)), 0xA405: ("H", FOCAL_35MM)}, 8 + len(body))
    raw = {**raw, 273: ("I", at_pixels), 34665: ("I", 8 + len(body))}
    body += exif
    raw[34853] = ("I", 8 + len(body))
    north, east = (struct.pack("<6I", degrees, 1, 30, 1, 0, 1) for degrees in (47, 8))
    body += _directory({1: ("s", "N"), 2: (5, north), 3: ("s", "E"), 4: (5, east)}, 8 + len(body))
    if preview is not None:
        sub = {
            254: ("I", 1), 256: ("I", preview.shape[1]), 257: ("I", preview.shape[0]), 258: ("H", (8, 8, 8)),
            259: ("H", 7), 262: ("H", 6), 273: ("I", at_jpeg), 277: ("H", 3), 278: ("I", preview.shape[0]),
            279: ("I", len(jpeg)),
        }  # fmt: skip
        raw[330] = ("I", 8 + len(body))
        body += _directory(sub, 8 + len(body))
    at = 8 + len(body)
    return b"II*\0" + struct.pack("<I", at) + body + _directory(raw, at)


def _directory(entries: dict[int, tuple], at: int) -> bytes:
    """A TIFF directory at this offset, with values of over 4 bytes behind it."""
    head, tail, behind = struct.pack("<H", len(entries)), b"", at + 2 + 12 * len(entries) + 4
    for tag, (kind, value) in sorted(entries.items()):
        if isinstance(kind, int):
            number, count, packed = kind, len(value) // 8, value
        elif kind == "s":
            packed = value.encode() + b"\0"
            number, count = 2, len(packed)
        else:
            values = value if isinstance(value, tuple) else (value,)
            number, count, packed = TYPES[kind][0], len(values), struct.pack(f"<{len(values)}{kind}", *values)
        field = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", behind + len(tail))
        head += struct.pack("<HHI", tag, number, count) + field
        tail += packed + bytes(len(packed) % 2) if len(packed) > 4 else b""
    return head + bytes(4) + tail
