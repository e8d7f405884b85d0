"""Where and when an image was taken: EXIF's GPS directory, and what DJI's drones add in XMP (namespace drone-dji).

Faulty entries count as absent: a position without a fix (0, 0; status V), out of range or not a number.
"""

from __future__ import annotations

import calendar
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from PIL import Image

from sfm.types import GPSTag

GPS_IFD, EXIF_IFD, XMP = 0x8825, 0x8769, 0x02BC
METRES_PER_DOP = 3.0  # horizontal error of a receiver under an open sky, times its dilution of precision
ALTITUDES = (-500.0, 20_000.0)  # m
MAX_SIGMA = 10_000.0  # m
MAX_XMP = 1 << 17  # bytes; DJI's is of 5 kB

Entries = Mapping[int, Any]


def gps_and_time(image: Image.Image, exif: Image.Exif) -> tuple[GPSTag | None, float | None]:
    """Position, and time in seconds since 1970, of an opened image and its EXIF; None where there is none.

    The time is UTC where EXIF names the time zone, else as the camera's clock showed it. Whatever Pillow raises for
    damaged EXIF is propagated.
    """
    gps, drone = exif.get_ifd(GPS_IFD), _drone(_xmp(image, exif))
    return position(gps, drone), capture_time(exif, exif.get_ifd(EXIF_IFD), gps)


def position(gps: Entries, drone: Mapping[str, float]) -> GPSTag | None:
    """Of EXIF's GPS entries, else of a drone's. drone: numbers of DJI's XMP by name."""
    latitude, longitude = _angle(gps.get(2), gps.get(1), "S"), _angle(gps.get(4), gps.get(3), "W")
    if _text(gps.get(9)).upper() == "V":  # void: no fix
        return None
    if not _is_place(latitude, longitude):
        latitude = drone.get("GpsLatitude", math.nan)
        longitude = drone.get("GpsLongitude", drone.get("GpsLongtitude", math.nan))  # as older firmware spells it
        if not _is_place(latitude, longitude):
            return None
    altitude = _altitude(gps)
    dop = _sigma(gps.get(0x0B)) * METRES_PER_DOP
    horizontal = max(_sigma(drone.get("RtkStdLat")), _sigma(drone.get("RtkStdLon")))
    return GPSTag(
        latitude,
        longitude,
        altitude if math.isfinite(altitude) else drone.get("AbsoluteAltitude", math.nan),
        _first(horizontal, _sigma(gps.get(0x1F)), dop),
        _first(_sigma(drone.get("RtkStdHgt"))),
        drone.get("RelativeAltitude", math.nan),
        (
            drone.get("GimbalYawDegree", math.nan),
            drone.get("GimbalPitchDegree", math.nan),
            drone.get("GimbalRollDegree", math.nan),
        ),
    )


def capture_time(main: Entries, exif_ifd: Entries, gps: Entries) -> float | None:
    """Seconds since 1970: the original's date and time, else the file's, else the satellites'."""
    for date, fraction, zone in (
        (exif_ifd.get(0x9003), exif_ifd.get(0x9291), exif_ifd.get(0x9011)),
        (exif_ifd.get(0x9004), exif_ifd.get(0x9292), exif_ifd.get(0x9012)),
        (main.get(0x0132), exif_ifd.get(0x9290), exif_ifd.get(0x9010)),
    ):
        if (seconds := _seconds(_text(date))) is not None:
            digits = re.match(r"\d+", _text(fraction))
            return seconds + (float(f"0.{digits[0]}") if digits else 0.0) - _offset(_text(zone))
    clock = [_number(part) for part in _parts(gps.get(7))]
    day = _seconds(f"{_text(gps.get(0x1D))} 00:00:00")
    if day is None or len(clock) != 3 or not all(0 <= part <= 60 for part in clock):
        return None
    return day + 3600 * clock[0] + 60 * clock[1] + clock[2]


def _is_place(latitude: float, longitude: float) -> bool:
    """Not NaN, in range, and not the 0, 0 of a receiver without a fix."""
    return abs(latitude) <= 90 and abs(longitude) <= 180 and max(abs(latitude), abs(longitude)) > 1e-6


def _angle(value: Any, ref: Any, negative: str) -> float:
    """Degrees of degrees, minutes and seconds, of which later ones may be missing; NaN where they are none."""
    parts = [_number(part) for part in _parts(value)]
    if not 1 <= len(parts) <= 3:
        return math.nan
    degrees = math.fsum(abs(part) / 60.0**i for i, part in enumerate(parts))
    return -degrees if _text(ref).upper().startswith(negative) or math.copysign(1, parts[0]) < 0 else degrees


def _altitude(gps: Entries) -> float:
    value, ref = _number(gps.get(6)), gps.get(5)
    below = ref in (1, b"\x01", 3, b"\x03")  # below sea level, or below the ellipsoid (EXIF 3.0)
    altitude = -abs(value) if below else value
    return altitude if ALTITUDES[0] <= altitude <= ALTITUDES[1] else math.nan


def _sigma(value: Any) -> float:
    """A standard deviation or dilution that means something, or 0."""
    number = _number(value)
    return number if 0 < number <= MAX_SIGMA else 0.0


def _first(*sigmas: float) -> float:
    return next((sigma for sigma in sigmas if sigma > 0), math.nan)


def _xmp(image: Image.Image, exif: Image.Exif) -> bytes:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or exif.get(XMP) or b""
    text = found.encode("utf-8", "replace") if isinstance(found, str) else found
    return text[:MAX_XMP] if isinstance(text, bytes) else b""


def _drone(xmp: bytes) -> dict[str, float]:
    """Numbers of DJI's names, which are attributes or elements. No parser of XML: what it expands has no bounds."""
    rule = rb'drone-dji:(\w{1,40})\s*(?:=\s*["\']|>)\s*([+-]?\d{1,12}(?:\.\d{1,16})?)\s*["\'<]'
    return {name.decode("ascii", "replace"): float(value) for name, value in re.findall(rule, xmp)}


def _parts(value: Any) -> tuple[Any, ...]:
    """At most four, more than there may be."""
    return tuple(value[:4]) if isinstance(value, (tuple, list)) else () if value is None else (value,)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return text.split("\0")[0].strip()[:40]


def _seconds(text: str) -> float | None:
    """Of "2013:06:04 13:37:29", with either separator of dates."""
    found = re.match(r"(\d{4})[:-](\d{2})[:-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})", text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    return float(calendar.timegm(time.struct_time((year, month, day, hour, minute, second, 0, 0, 0))))


def _offset(text: str) -> float:
    """Seconds of "+02:00"; 0 where there is none."""
    found = re.match(r"([+-])(\d{2}):(\d{2})", text)
    return 0.0 if found is None else (-1 if found[1] == "-" else 1) * (3600.0 * int(found[2]) + 60.0 * int(found[3]))
