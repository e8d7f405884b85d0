"""What is known of the images' cameras before mapping: EXIF, focal length, and who shares intrinsics.

The focal length is read from EXIF as COLMAP reads it (src/colmap/sensor/bitmap.cc, ExifFocalLength):
the 35 mm equivalent over the 43.27 mm diagonal, else millimetres times the resolution of the focal
plane, else millimetres over the sensor width in COLMAP's camera database; without any of them it is
1.2 times the longer side, and only a guess. All sizes here are of the image as displayed, after its
EXIF rotation.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycolmap
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from sfm.errors import BadOption
from sfm.geometry.fisheye import fisheye_camera, is_fisheye
from sfm.images.exif import Exif
from sfm.images.given_intrinsics import camera_from_numbers, cameras_from_file, is_file_of_intrinsics
from sfm.options import AUTO, ImageOptions
from sfm.types import CameraPrior

GUESSED_FOCAL = 1.2  # of the longer side, COLMAP's default_focal_length_factor
FISHEYE, GUESSED_DEG = "OPENCV_FISHEYE", 160.0
UNKNOWN_DEVICE = "unknown device in folder"  # begins the group of images that name none
FOCAL_RANGE = (0.1, 50.0)  # of the longer side; a focal length outside is a faulty EXIF entry


def focal_prior(exif: Exif, width: int, height: int) -> float | None:
    """Focal length in px from EXIF, or None: the first of COLMAP's three ways that gives a possible value."""
    candidates = [exif.focal_35mm / 43.27 * math.hypot(width, height), exif.focal_mm * exif.pixels_per_mm]
    if exif.focal_mm and exif.make and exif.model and (sensor := _sensor_width_mm(exif.make, exif.model)):
        candidates.append(exif.focal_mm / sensor * max(width, height))
    low, high = (factor * max(width, height) for factor in FOCAL_RANGE)
    return next((focal for focal in candidates if low <= focal <= high), None)


@lru_cache(maxsize=1024)
def _sensor_width_mm(make: str, model: str) -> float | None:
    """Sensor width by COLMAP's camera database. pycolmap looks it up only for files of the formats that it
    reads, so it is asked about a small JPEG that bears the names and a focal length of 1 mm."""
    side = 16
    tags = Image.Exif()
    tags[0x010F], tags[0x0110] = make, model
    tags.get_ifd(0x8769)[0x920A] = IFDRational(1, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.jpg")
        Image.new("L", (side, side)).save(path, exif=tags)
        bitmap = pycolmap.Bitmap.read(path, as_rgb=False)
    focal = None if bitmap is None else bitmap.exif_focal_length()
    return side / focal if focal else None


class ImageHeader(NamedTuple):
    """An image whose camera is wanted. size: (width, height) px as displayed."""

    name: str
    size: tuple[int, int]
    exif: Exif


def _group_of(image: ImageHeader, how: str) -> str:
    """Readable name of the camera that the image was taken with.

    `auto`: device, lens, focal length (to 0.1 mm) and size. Images that name no device are taken as one
    camera's if they are of one size in one folder: that is how frames of a video and published data
    sets come; images from the internet seldom share a size, and `per-image` is there for those that do.
    """
    folder = image.name.rpartition("/")[0] or "."
    if how == "per-image":
        return image.name
    if how == "per-folder":
        return f"folder {folder}"
    if how == "single":
        return "single"
    exif = image.exif
    device = " ".join(part for part in (exif.make, exif.model) if part) or f"{UNKNOWN_DEVICE} {folder}"
    focal = exif.focal_mm or exif.focal_35mm
    parts = (device, exif.lens, f"{focal:.1f} mm" if focal else "", f"{image.size[0]}x{image.size[1]}")
    return ", ".join(part for part in parts if part)


def cameras_of(images: Sequence[ImageHeader], options: ImageOptions) -> dict[str, CameraPrior]:
    """The camera of each image by its name.

    Raises BadOption where one camera would have two sizes, or where `--intrinsics` is of no camera, and BadFile where
    it names a file that cannot be read.
    """
    model = _camera_model(options.camera_model)
    auto = options.camera_model.lower() == AUTO and options.intrinsics is None
    if options.intrinsics is not None and is_file_of_intrinsics(options.intrinsics):
        given = cameras_from_file(options.intrinsics, [(image.name, image.size) for image in images])
        return {name: CameraPrior(c.model_name, c.params, True, group) for name, (group, c) in given.items()}
    if options.intrinsics is not None:
        _require_one_size(
            images,
            "--intrinsics P1,P2,... holds for images of one size",
            "give a cameras.txt or a JSON with a camera for each (docs/cameras.md)",
        )
    groups: dict[str, list[ImageHeader]] = defaultdict(list)
    for image in images:
        groups[_group_of(image, options.camera)].append(image)
    cameras: dict[str, CameraPrior] = {}
    for group, members in groups.items():
        _require_one_size(
            members, f"--camera {options.camera} needs images of one size for one camera", "use --camera auto"
        )
        own = FISHEYE if auto and _is_fisheye_lens(members[0].exif) else model
        camera = _camera_of(group, members, own, options.intrinsics)
        cameras.update({image.name: camera for image in members})
    return cameras


def _require_one_size(images: Sequence[ImageHeader], rule: str, remedy: str) -> None:
    first = images[0]
    for image in images:
        if image.size != first.size:
            sizes = " but ".join(f"{p.name} is {p.size[0]}x{p.size[1]}" for p in (first, image))
            raise BadOption(f"{rule}: {sizes}; {remedy}")


def _camera_of(group: str, members: Sequence[ImageHeader], model: str, intrinsics: str | None) -> CameraPrior:
    """Known intrinsics, or the median of the members' EXIF focal lengths, or the guess."""
    width, height = members[0].size
    priors = [f for image in members if (f := focal_prior(image.exif, width, height)) is not None]
    focal = float(np.median(priors)) if priors else _guess(model, width, height)
    camera = pycolmap.Camera.create_from_model_name(1, model, focal, width, height)
    if intrinsics is None:
        return CameraPrior(model, camera.params, bool(priors), group)
    return CameraPrior(model, camera_from_numbers(intrinsics, model, (width, height)).params, True, group)


def _is_fisheye_lens(exif: Exif) -> bool:
    """Whether EXIF names a fisheye lens. Action cameras name none, and may straighten the image: matches tell."""
    return re.search(r"fish[- ]?eye", f"{exif.model} {exif.lens}", re.IGNORECASE) is not None


def _guess(model: str, width: int, height: int) -> float:
    """Focal length px where nothing is known: COLMAP's, or of a fisheye lens of 160 degrees over the diagonal."""
    return (
        fisheye_camera(GUESSED_DEG, width, height).mean_focal_length()
        if is_fisheye(model)
        else GUESSED_FOCAL * max(width, height)
    )


def _camera_model(name: str) -> str:
    if name.lower() == AUTO:
        return "SIMPLE_RADIAL"
    models = [model for model in pycolmap.CameraModelId.__members__ if model != "INVALID"]
    if name.upper() not in models:
        raise BadOption(f"--camera-model {name}: unknown; COLMAP has {', '.join(models)}")
    return name.upper()
