"""COLMAP models written to files: numbered folders that are replaced only when all is written, and colours of points.

COLMAP says nothing when the disk is full: it leaves short files. So what it wrote is measured.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

UNREFINED = "unrefined"  # folder under OUT of the models that mapping leaves to refinement
LEFTOVERS = (".mapping-*", ".models-*", ".faces-*", ".refinement/*/*/.round-*", "run.json.part", "report.html.part")
_PLY_POINT = 15  # bytes: three floats and a colour
ReadRGB = Callable[[str], NDArray[np.uint8]]  # (H, W, 3) of an image name, EXIF rotation applied


def save_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """A model in COLMAP's binary format. Raises OSError where not all of it could be written."""
    model.write_binary(folder)
    registered = [model.images[image_id] for image_id in model.reg_image_ids()]  # others are not written
    images = (64 + len(image.name.encode()) + 1 + 8 + 24 * len(image.points2D) for image in registered)
    expected = {
        "cameras.bin": 8 + sum(24 + 8 * len(camera.params) for camera in model.cameras.values()),
        "images.bin": 8 + sum(images),
        "points3D.bin": 8 + sum(51 + 8 * point.track.length() for point in model.points3D.values()),
        "rigs.bin": 8 + 16 * len(model.rigs),  # and more where a rig has more than one camera
        "frames.bin": 8 + sum(68 + 16 * len(frame.data_ids) for frame in model.frames.values() if frame.has_pose()),
    }
    for name, size in expected.items():
        _check_size(folder / name, size)


def _check_size(path: Path, least: int) -> None:
    if path.stat().st_size < least:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: only {path.stat().st_size} of {least} bytes written")


def remove_leftovers(output: Path) -> None:
    """Takes away what a killed run left half written in its output folder. Nobody else may be writing there."""
    for pattern in LEFTOVERS:
        for path in output.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def write_models(
    models: Sequence[pycolmap.Reconstruction], folder: Path, *, beside: Sequence[Mapping[str, str]] = ()
) -> list[Path]:
    """folder/0, 1, ... in COLMAP's binary format; what the folder held gives way only when all is written.

    The folder's parent exists. beside: for each model text files by name, written with it. Returns the models' folders.
    """
    with tempfile.TemporaryDirectory(prefix=".models-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        for i, model in enumerate(models):
            (fresh / str(i)).mkdir()
            save_model(model, fresh / str(i))
            for name, text in beside[i].items() if beside else ():
                (fresh / str(i) / name).write_text(text, encoding="utf-8")
        if folder.exists():
            os.replace(folder, Path(scratch) / "old")
        os.replace(fresh, folder)
    return [folder / str(i) for i in range(len(models))]


def write_ply(model: pycolmap.Reconstruction, path: Path) -> None:
    """A model's coloured points as PLY; an older file gives way only when all is written."""
    with tempfile.TemporaryDirectory(prefix=".models-", dir=path.parent) as scratch:
        model.export_PLY(Path(scratch) / "points.ply")
        _check_size(Path(scratch) / "points.ply", _PLY_POINT * model.num_points3D())
        os.replace(Path(scratch) / "points.ply", path)


def colour_points(model: pycolmap.Reconstruction, read_rgb: ReadRGB, *, without: Collection[str] = ()) -> None:
    """Gives each 3D point the mean colour of its observations, read one image at a time.

    without: names of images that are not read; a point that only these observe keeps its colour.
    """
    ids = np.array(sorted(model.point3D_ids()), np.int64)
    total, count = np.zeros((len(ids), 3)), np.zeros(len(ids))
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        observed = [(p.point3D_id, *p.xy) for p in image.get_observation_points2D()]
        if not observed or image.name in without:
            continue
        columns = np.array(observed, np.float64)
        rgb = read_rgb(image.name)
        x = np.clip(columns[:, 1].astype(np.int64), 0, rgb.shape[1] - 1)
        y = np.clip(columns[:, 2].astype(np.int64), 0, rgb.shape[0] - 1)
        row = np.searchsorted(ids, columns[:, 0].astype(np.int64))
        np.add.at(total, row, rgb[y, x].astype(np.float64))
        np.add.at(count, row, 1.0)
    mean = np.round(total / np.maximum(count, 1.0)[:, None]).astype(np.uint8)
    for point_id, colour in zip(ids[count > 0], mean[count > 0], strict=True):
        model.points3D[int(point_id)].color = colour
