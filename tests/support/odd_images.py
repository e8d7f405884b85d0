"""Images as they come from phones, scanners, the web and bad luck: every kind of file, and what must become of it.

KINDS is the list: the file's name, how it is made of a good image, and either the reason for which it is
skipped or the pixels that are used. All are made anew and are the same every time.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]  # (H, W, 3)
ORIENTATION = 0x0112


class Kind(NamedTuple):
    """write(path, picture) makes the file. reason: why it is skipped, or how the reason begins; "" if it is used.
    seen(picture): the (H, W, 3) pixels that are used, within `tolerance` grey levels on average."""

    what: str
    name: str | bytes
    write: Callable[[Path, Picture], object]
    reason: str = ""
    seen: Callable[[Picture], Picture] = lambda picture: picture
    tolerance: float = 0.0


# --- making files


def encoded(picture: Picture | Image.Image, kind: str, **how: Any) -> bytes:
    """The bytes of an image file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    best = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    stream = io.BytesIO()
    image.save(stream, kind, **{**best, **how})
    return stream.getvalue()


def saved(kind: str, mode: str = "RGB", **how: Any) -> Callable[[Path, Picture], object]:
    """Writer of a plain file of the format and colour mode."""
    return lambda path, picture: path.write_bytes(encoded(Image.fromarray(picture).convert(mode), kind, **how))


def changed(change: Callable[[bytes], bytes], kind: str = "JPEG", **how: Any) -> Callable[[Path, Picture], object]:
    """Writer of a file whose bytes are then changed."""
    return lambda path, picture: path.write_bytes(change(encoded(picture, kind, **how)))


def directory(entries: dict[int, tuple[int, bytes]], at: int) -> bytes:
    """A little-endian EXIF directory at this offset: tag -> (type, value), values of over 4 bytes behind it."""
    head, tail = struct.pack("<H", len(entries)), b""
    behind = at + 2 + 12 * len(entries) + 4
    for tag, (kind, value) in sorted(entries.items()):
        count = len(value) // {2: 1, 3: 2, 4: 4, 5: 8, 10: 8, 11: 4}[kind]
        field = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", behind + len(tail))
        head += struct.pack("<HHI", tag, kind, count) + field
        tail += value if len(value) > 4 else b""
    return head + bytes(4) + tail


def exif(main: dict[int, tuple[int, bytes]], image: dict[int, tuple[int, bytes]]) -> bytes:
    """EXIF with any values; Pillow would refuse to write some."""
    room = len(directory({**main, 0x8769: (4, bytes(4))}, 8))
    main = {**main, 0x8769: (4, struct.pack("<I", 8 + room))}
    return b"Exif\0\0II*\0\x08\0\0\0" + directory(main, 8) + directory(image, 8 + room)


def tagged(
    main: dict[int, tuple[int, bytes]], image: dict[int, tuple[int, bytes]] | None = None
) -> Callable[[Path, Picture], object]:
    """Writer of a JPEG with these EXIF tags."""
    return lambda path, picture: path.write_bytes(encoded(picture, "JPEG", exif=exif(main, image or {})))


def short(*values: int) -> tuple[int, bytes]:
    """An EXIF value."""
    return 3, struct.pack(f"<{len(values)}H", *values)


def ratio(numerator: int, denominator: int) -> tuple[int, bytes]:
    """An EXIF value; signed where it must be."""
    return (10 if numerator < 0 else 5), struct.pack("<iI" if numerator < 0 else "<II", numerator, denominator)


def rotated(orientation: int, kind: str, **how: Any) -> Callable[[Path, Picture], object]:
    """Writer of a file that is stored rotated, so that its EXIF orientation shows the picture upright."""

    def write(path: Path, picture: Picture) -> None:
        tags = Image.Exif()
        tags[ORIENTATION] = orientation
        path.write_bytes(encoded(stored_for(orientation, picture), kind, exif=tags, **how))

    return write


def of_phone(orientation: int) -> Callable[[Path, Picture], object]:
    """Writer of HEIC and AVIF, stored rotated."""

    def write(path: Path, picture: Picture) -> None:
        from tests.support.phone_images import save_phone_image  # which imports this module

        save_phone_image(path, picture, orientation)

    return write


def stored_for(orientation: int, picture: Picture) -> Picture:
    """The pixels that EXIF's orientation turns into the picture; independent of the product's own table."""
    undo: dict[int, Callable[[Picture], Any]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),  # stored counter-clockwise, shown rotated clockwise
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](picture))


def text(content: str) -> Callable[[Path, Picture], object]:
    """Writer of a file of text."""
    return lambda path, _: path.write_text(content)


def raw(content: bytes) -> Callable[[Path, Picture], object]:
    """Writer of a file of bytes."""
    return lambda path, _: path.write_bytes(content)


def link(target: str) -> Callable[[Path, Picture], object]:
    """Writer of a symbolic link."""
    return lambda path, _: path.symlink_to(target)


def bound_socket(path: Path, _: Picture) -> None:
    """A Unix socket; bound by a relative name, as absolute ones may be too long."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_bomb(side: int) -> bytes:
    """A whole PNG of side x side black pixels, a thousandth of their size."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side)) for _ in range(200)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def with_frame_header(data: bytes, offset: int, value: bytes) -> bytes:
    """A JPEG with bytes of its frame header replaced: 4 precision, 5-6 height, 7-8 width."""
    at = next(i for marker in (b"\xff\xc0", b"\xff\xc2") if (i := data.find(marker)) > 0) + offset
    return data[:at] + value + data[at + len(value) :]


def endless_jpeg(path: Path, picture: Picture) -> None:
    """A progressive JPEG whose last scan is there 100,000 times and more: minutes, from a megabyte."""
    large = np.tile(picture[:16, :16], (120, 120, 1))
    data = encoded(large, "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    header = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    path.write_bytes(data[:-2] + header * 100_000 + data[-2:])


def huge_sparse(path: Path, picture: Picture) -> None:
    """An image that a terabyte of nothing follows."""
    path.write_bytes(encoded(picture, "JPEG"))
    os.truncate(path, 1 << 40)


def tiff_entry(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with the value of a short tag replaced."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            return data[: entry + 8] + struct.pack("<I", value) + data[entry + 12 :]
    raise AssertionError(f"no tag {tag}")


def opencv(suffix: str, convert: Callable[[Picture], NDArray[Any]]) -> Callable[[Path, Picture], object]:
    """Writer by OpenCV, for what Pillow cannot write."""
    return lambda path, picture: path.write_bytes(
        cv2.imencode(suffix, cv2.cvtColor(convert(picture), cv2.COLOR_RGB2BGR))[1].tobytes()
    )


def multi_picture(path: Path, picture: Picture) -> None:
    """An MPO, as 3-D cameras and phones write: the picture and a second one."""
    second = Image.fromarray(picture[::-1].copy())
    path.write_bytes(encoded(picture, "MPO", quality=95, subsampling=0, save_all=True, append_images=[second]))


def frames(kind: str) -> Callable[[Path, Picture], object]:
    """Writer of an animation that begins with the picture."""

    def write(path: Path, picture: Picture) -> None:
        rest = [Image.fromarray(np.roll(picture, 9 * i, axis=1)) for i in (1, 2)]
        path.write_bytes(encoded(picture, kind, save_all=True, append_images=rest, duration=50))

    return write


def clear_palette(path: Path, picture: Picture) -> None:
    """64 colours, one of them transparent."""
    few = Image.fromarray(picture).convert("RGB").quantize(64)
    path.write_bytes(encoded(few, "PNG", transparency=3))


def quantized(picture: Picture) -> Picture:
    """What the palette keeps of the picture."""
    return np.asarray(Image.fromarray(picture).quantize(64).convert("RGB"))


def transparent(path: Path, picture: Picture) -> None:
    """The picture's colours below full transparency."""
    clear = np.concatenate([picture, np.zeros_like(picture[..., :1])], axis=2)
    path.write_bytes(encoded(clear, "PNG"))


def grey(picture: Picture) -> Picture:
    """Rec. 601 luma, three times."""
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


def deep(dtype: Any, scale: float, kind: str) -> Callable[[Path, Picture], object]:
    """Writer of a grey picture of more than 8 bits."""
    return lambda path, picture: path.write_bytes(
        encoded(Image.fromarray((grey(picture)[..., 0] * np.float64(scale)).astype(dtype)), kind)
    )


def even(*colour: int) -> dict[str, Any]:
    """Writer of, and what is seen of, a picture of one colour and its own size."""

    def one(picture: Picture) -> Picture:
        return np.full_like(picture, colour)

    return {"write": lambda path, picture: path.write_bytes(encoded(one(picture), "PNG")), "seen": one}


def noise(picture: Picture) -> Picture:
    """Pure noise of the picture's size."""
    return np.random.default_rng(7).integers(0, 256, picture.shape, np.uint8)


def ribbon(picture: Picture) -> Picture:
    """A panorama, 20 px high and 20,000 wide."""
    return np.ascontiguousarray(np.tile(picture[:20], (1, -(-20_000 // picture.shape[1]), 1))[:, :20_000])


# --- the list


def _cuts() -> list[Kind]:
    kinds = [("JPEG", "jpg", {}), ("JPEG", "jpeg", {"progressive": True}), ("PNG", "png", {}), ("TIFF", "tif", {})]
    kinds += [("TIFF", "tiff", {"compression": "tiff_lzw"}), ("WEBP", "webp", {})]
    return [
        Kind(
            f"{suffix.upper()} cut at {tenth} tenths",
            f"cut{tenth}.{suffix}",
            changed(lambda data, tenth=tenth: data[: len(data) * tenth // 10], kind, **how),
            "TIFF cannot be decoded" if kind == "TIFF" else f"{'WebP' if kind == 'WEBP' else kind} cannot be decoded",
        )
        for kind, suffix, how in kinds
        for tenth in range(1, 10)
    ]


NOT_A_IMAGE = "not a JPEG, PNG, TIFF, WebP, HEIC, AVIF or RAW image"
CONTROL = "its name has a line break or another control character: rename it"

BROKEN = [
    *_cuts(),
    Kind("empty", "empty.jpg", raw(b""), "the file is empty"),
    Kind("zero bytes", "zeros.jpg", raw(bytes(5000)), NOT_A_IMAGE),
    Kind("text", "text.jpg", text("hello\n"), NOT_A_IMAGE),
    Kind("web page", "page.jpg", text("<!DOCTYPE html><title>404</title>"), NOT_A_IMAGE),
    Kind("PDF", "scan.png", raw(b"%PDF-1.7\n"), NOT_A_IMAGE),
    Kind("JPEG's first bytes alone", "stub.jpg", raw(b"\xff\xd8\xff"), "JPEG cannot be decoded"),
    Kind("JPEG behind junk", "late.jpg", changed(lambda data: b"junk" + data), NOT_A_IMAGE),
    Kind("JPEG as a text mode download spoils it", "crlf.jpg",
         changed(lambda data: data.replace(b"\xff\xd8\xff", b"\xef\xbf\xbd" * 3)), NOT_A_IMAGE),
    Kind("HEIC", "phone.heic", raw(b"\0\0\0\x18ftypheic" + bytes(99)), "HEIC cannot be decoded"),
    Kind("HEIC named .jpg", "phone.jpg", raw(b"\0\0\0\x18ftypheic" + bytes(99)), "HEIC cannot be decoded"),
    Kind("MP4 named .jpg", "clip.jpg", raw(b"\0\0\0\x18ftypisom" + bytes(99)), "a video, no image"),
    Kind("AVIF cut", "cut.avif", lambda p, a: p.write_bytes(encoded(a, "AVIF")[:-200]), "AVIF cannot be decoded"),
    Kind("animated GIF", "dance.gif", frames("GIF"), "GIF is not supported: convert to JPEG"),
    Kind("animated GIF named .jpg", "dance.jpg", frames("GIF"), NOT_A_IMAGE),
    Kind("BMP named .png", "paint.png", saved("BMP"), NOT_A_IMAGE),
    Kind("JPEG 2000 named .jpg", "sat.jpg", saved("JPEG2000"), NOT_A_IMAGE),
    Kind("1x1", "dot.png", lambda p, a: p.write_bytes(encoded(a[:1, :1], "PNG")), "1x1 is too small"),
    Kind("20,000x10", "line.png", lambda p, a: p.write_bytes(encoded(ribbon(a)[:10], "PNG")), "20000x10 is too small"),
    Kind("PNG bomb", "bomb.png", lambda p, _: p.write_bytes(png_bomb(30_000)), "30000x30000 is over 500 megapixels"),
    Kind("JPEG bomb", "bomb.jpg", changed(lambda data: with_frame_header(data, 5, b"\xff\xff\xff\xff")),
         "65535x65535 is over 500 megapixels"),
    Kind("TIFF bomb", "bomb.tif", changed(lambda data: tiff_entry(tiff_entry(data, 256, 10**6), 257, 10**6), "TIFF"),
         "1000000x1000000 is over 500 megapixels"),
    Kind("endless JPEG", "endless.jpg", endless_jpeg, "JPEG of 1000"),
    Kind("a terabyte", "huge.jpg", huge_sparse, "1100 GB is too large for an image"),
    Kind("JPEG without height", "flat.jpg", changed(lambda data: with_frame_header(data, 5, b"\0\0")),
         "JPEG cannot be decoded"),
    Kind("12-bit JPEG", "deep.jpg", changed(lambda data: with_frame_header(data, 4, b"\x0c")),
         "JPEG cannot be decoded"),
    Kind("PNG with a wrong checksum", "sum.png", changed(lambda data: data[:29] + b"\0\0\0\0" + data[33:], "PNG"),
         "PNG cannot be decoded"),
    Kind("PNG with a byte changed amid its pixels", "bit.png",
         changed(lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
                 "PNG"), "PNG cannot be decoded"),
    Kind("PNG with a byte changed near its end", "tail.png",
         changed(lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:], "PNG"), "PNG cannot be decoded"),
    Kind("PNG without pixels", "hollow.png", changed(lambda data: data[:33] + chunk(b"IEND", b""), "PNG"),
         "PNG cannot be decoded"),
    Kind("TIFF that points behind its end", "far.tif",
         changed(lambda data: data[:4] + b"\xff\xff\xff\x7f" + data[8:], "TIFF"), "TIFF cannot be decoded"),
    Kind("raw sensor data in a TIFF", "sensor.tif",
         changed(lambda data: tiff_entry(data, 262, 32803), "TIFF"), "TIFF cannot be decoded"),
    Kind("TIFF in Lab colours", "lab.tif", lambda p, _: p.write_bytes(encoded(Image.new("LAB", (64, 48)), "TIFF")),
         "colour mode LAB is not supported: convert to RGB"),
    Kind("line break in the name", "two\nlines.png", saved("PNG"), CONTROL),
    Kind("escape sequence in the name", "\x1b[31mred.png", saved("PNG"), CONTROL),
    Kind("name that is no UTF-8", b"caf\xe9.png", saved("PNG"), "its name is not valid UTF-8: rename it"),
    Kind("dangling link", "gone.jpg", link("nothing.jpg"), "cannot be read (No such file or directory)"),
    Kind("link to itself", "self.jpg", link("self.jpg"), "cannot be read (Too many levels of symbolic links)"),
    Kind("endless device", "zero.jpg", link("/dev/zero"), "not a regular file"),
    Kind("terminal", "tty.jpg", link("/dev/tty"), "not a regular file"),
    Kind("pipe", "pipe.jpg", lambda p, _: os.mkfifo(p), "not a regular file"),
    Kind("socket", "socket.jpg", bound_socket, "not a regular file"),
]  # fmt: skip

ORIENTATIONS = {
    "0": short(0), "9": short(9), "65535": short(65535), "negative": (4, b"\xff" * 4), "text": (2, b"up\0"),
    "ratio": ratio(6, 0), "no number": (11, struct.pack("<f", float("nan"))),
}  # fmt: skip
FOCAL_LENGTHS = {  # EXIF tags with values that no camera has
    "zero": {0x920A: ratio(0, 1), 0xA405: short(0)},
    "x by zero": {0x920A: ratio(24, 0)},
    "zero by zero": {0x920A: ratio(0, 0)},
    "negative": {0x920A: ratio(-35, 1)},
    "a billion": {0x920A: ratio(10**9, 1), 0xA405: short(65535)},
    "no number": {0x920A: (11, struct.pack("<f", float("nan")))},
    "infinite": {0x920A: (11, struct.pack("<f", float("inf")))},
    "text": {0x920A: (2, b"wide\0"), 0xA405: (2, b"\xff\xfe\0")},
    "two": {0x920A: (5, struct.pack("<IIII", 24, 1, 70, 1)), 0xA405: short(24, 70)},
    "a focal plane of nothing": {0x920A: ratio(35, 1), 0xA20E: ratio(0, 1), 0xA210: short(2)},
    "a focal plane of a billion": {0x920A: ratio(35, 1), 0xA20E: ratio(10**9, 1), 0xA210: short(4)},
}
NAMES = {
    "spaces": "in the  old town.png", "quotes": "it's \"it\".png", "backslash": "a\\b.png",
    "shell": "$(rm -r x);&|.png", "formula": "a$x_{b.png",
    "page": "<b>&amp;<script>.png", "percent": "%s%d{0}#?.png", "NFC": "caf\u00e9.png", "NFD": "cafe\u0301.png",
    "emoji": "\U0001f3db\ufe0f.png", "right to left": "\u05d0\u05d1.png", "255 bytes": "x" * 251 + ".png",
    "255 bytes of three": "\u6f22" * 83 + "xx.png", "leading dash": "-rf.png", "leading blank": " first.png",
    "capitals": "LOUD.PNG", "two extensions": "a.jpg.png", "comma": "a,b.png", "non-breaking blank": "a\u00a0b.png",
    "folder": "my images/day 1/sea.png",
}  # fmt: skip

USED = [
    *(Kind(f"orientation {o} in {suffix.upper()}", f"phone{o}.{suffix}", of_phone(o), tolerance=2)
      for o in (1, 6) for suffix in ("heic", "avif")),
    *(Kind(f"orientation {o} in {kind}", f"turned{o}.{suffix}", rotated(o, kind), tolerance=2.0 * (kind == "JPEG"))
      for o in range(1, 9) for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("TIFF", "tif"), ("WEBP", "webp"))),
    *(Kind(f"orientation {what}", f"orientation{i}.jpg", tagged({ORIENTATION: value}), tolerance=2)
      for i, (what, value) in enumerate(ORIENTATIONS.items())),
    Kind("orientation of two values", "orientations.jpg", tagged({ORIENTATION: short(6, 6)}), tolerance=2,
         seen=lambda a: np.rot90(a, -1)),
    *(Kind(f"focal length: {what}", f"focal{i}.jpg", tagged({}, tags), tolerance=2)
      for i, (what, tags) in enumerate(FOCAL_LENGTHS.items())),
    *(Kind(f"name: {what}", name, saved("PNG")) for what, name in NAMES.items()),
    Kind("EXIF of garbage", "garbage.jpg",
         saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01garbage"), tolerance=2),
    Kind("EXIF that refers to itself", "cycle.jpg",
         saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"), tolerance=2),
    Kind("EXIF cut", "cutexif.jpg", saved("JPEG", exif=b"Exif\0\0II*\0\x08\0"), tolerance=2),
    Kind("device of 60,000 letters", "maker.jpg", tagged(
        {0x010F: (2, b"A" * 60_000), 0x0110: (2, b"\n<b>\0")}, {0x920A: ratio(35, 1)}), tolerance=2),
    Kind("broken colour profile", "profile.jpg", saved("JPEG", icc_profile=b"not a profile" * 99), tolerance=2),
    Kind("RGBA", "rgba.png", saved("PNG", "RGBA")),
    Kind("all transparent", "clear.png", transparent),
    Kind("grey with alpha", "la.png", saved("PNG", "LA"), seen=grey),
    Kind("palette, one colour transparent", "palette.png", clear_palette, seen=quantized, tolerance=1),
    Kind("CMYK JPEG", "cmyk.jpg", saved("JPEG", "CMYK"), tolerance=3),
    Kind("CMYK TIFF", "cmyk.tif", saved("TIFF", "CMYK")),
    Kind("grey JPEG", "grey.jpg", saved("JPEG", "L"), seen=grey, tolerance=2),
    Kind("16-bit grey PNG", "deep.png", deep(np.uint16, 257, "PNG"), seen=grey),
    Kind("16-bit grey TIFF", "deep.tif", deep(np.uint16, 257, "TIFF"), seen=grey),
    Kind("32-bit float TIFF", "float.tif", deep(np.float32, 1 / 255, "TIFF"), seen=grey),
    Kind("16-bit colour PNG", "rgb48.png", opencv(".png", lambda a: a.astype(np.uint16) * 257)),
    Kind("16-bit colour TIFF", "rgb48.tif", opencv(".tif", lambda a: a.astype(np.uint16) * 257)),
    Kind("progressive JPEG", "progressive.jpg", saved("JPEG", progressive=True), tolerance=2),
    Kind("PNG named .jpg", "really.jpg", saved("PNG")),
    Kind("WebP named .tif", "web.tif", saved("WEBP")),
    Kind("MPO", "stereo.jpg", multi_picture, tolerance=2),
    Kind("JPEG with a video behind it", "motion.jpg",
         changed(lambda data: data + b"\0\0\0\x18ftypmp42" + bytes(500_000)), tolerance=2),
    Kind("JPEG with another behind it", "twice.jpg", changed(lambda data: data + data), tolerance=2),
    Kind("animated PNG", "moving.png", frames("PNG")),
    Kind("animated WebP", "moving.webp", lambda p, a: p.write_bytes(encoded(
        a, "WEBP", save_all=True, append_images=[Image.fromarray(a[::-1].copy())], lossless=True))),
    Kind("TIFF of three pages", "pages.tif", frames("TIFF")),
    Kind("TIFF, LZW", "lzw.tif", saved("TIFF", compression="tiff_lzw")),
    Kind("BigTIFF", "big.tif", saved("TIFF", big_tiff=True)),
    Kind("black", "black.png", **even(0, 0, 0)),
    Kind("white", "white.png", **even(255, 255, 255)),
    Kind("one colour", "blue.png", **even(30, 60, 200)),
    Kind("noise", "noise.png", lambda p, a: p.write_bytes(encoded(noise(a), "PNG")), seen=noise),
    Kind("20,000x20", "ribbon.png", lambda p, a: p.write_bytes(encoded(ribbon(a), "PNG")), seen=ribbon),
]  # fmt: skip

KINDS = [*BROKEN, *USED]


def write(folder: Path, kind: Kind, picture: Picture) -> str:
    """Makes the file below the folder. Returns its name as Python has it."""
    name = os.fsdecode(kind.name)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    kind.write(folder / name, picture)
    return name
