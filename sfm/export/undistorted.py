"""A COLMAP folder with pinhole cameras only, for splats and MVS."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pycolmap

from sfm.colmap.log import quiet
from sfm.errors import BadImage
from sfm.export.images.masks import has_masks, remove_masks, undistort_masks
from sfm.export.source import ExportSource, protect_images, registered_images, size_of
from sfm.export.upright_copies import format_for_pycolmap, name_of_copy, place_upright, pycolmap_reads
from sfm.images.files.value_range import Range
from sfm.system.safe_paths import refuse_links


def undistorted(source: ExportSource, dest: Path) -> Path:
    """images/, sparse/ (and sparse/0, where splat trainers look) and stereo/, pinhole cameras only; masks/, if any."""
    model, images_dir, masks = source.model(), source.images_dir(), source.masks_dir()
    refuse_links(dest, ["images", "masks", "sparse", "stereo"])
    protect_images(images_dir, dest / "images")
    images = registered_images(model)
    originals, options = [image.name for image in images], pycolmap.UndistortCameraOptions()
    options.max_image_size = source.max_size or -1
    with tempfile.TemporaryDirectory(prefix="upright-", dir=dest) as folder:
        readable, upright = images_dir, Path(folder)
        if not all(pycolmap_reads(images_dir / image.name, size_of(image)) for image in images):
            readable = upright / "photos"
            _upright_copies(images, images_dir, readable, source.value_ranges())
        model.write(str(upright))
        names = [image.name for image in images]
        for name in names:
            (dest / "images" / name).unlink(missing_ok=True)
        threads = 1 if len(names) < 4 else -1
        with quiet(stderr=True):
            pycolmap.undistort_images(
                str(dest), str(upright), str(readable), names, undistort_options=options, num_threads=threads
            )
    lost = next((name for name in names if not (dest / "images" / name).is_file()), None)
    if lost is not None:
        raise BadImage(f"{images_dir / lost}: could not be undistorted; check that it opens and has the camera's size")
    remove_masks(dest, [image.name for image in images])
    if masks is not None and has_masks(masks, originals):
        undistort_masks(masks, originals, images, dest, options)
    _copy_model(dest / "sparse", dest / "sparse" / "0")
    return dest


def _upright_copies(
    images: Sequence[pycolmap.Image], images_dir: Path, readable: Path, ranges: Mapping[str, Range]
) -> None:
    """Upright copies that pycolmap reads; an image in another format becomes NAME.jpg or NAME.png, in the model too."""
    taken = {image.name for image in images}
    for image in images:
        source, size = images_dir / image.name, size_of(image)
        format = format_for_pycolmap(source, size)
        name = name_of_copy(image.name, format, taken)
        place_upright(source, readable / name, size, format=format, value_range=ranges.get(image.name))
        image.name = name


def _copy_model(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for path in source.glob("*.bin"):
        shutil.copyfile(path, target / path.name)
