"""COLMAP models as files: numbered folders that are replaced only when all is written, and colours of points."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.model_reading import read_reconstruction

UNREFINED = "unrefined"  # folder under OUT of the models that mapping leaves to refinement
ReadRGB = Callable[[str], NDArray[np.uint8]]  # (H, W, 3) of an image name, EXIF rotation applied


def write_models(models: Sequence[pycolmap.Reconstruction], folder: Path) -> list[Path]:
    """folder/0, 1, ... in COLMAP's binary format; what the folder held gives way only when all is written.

    The folder's parent exists. Returns the models' folders.
    """
    with tempfile.TemporaryDirectory(prefix=".models-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        for i, model in enumerate(models):
            (fresh / str(i)).mkdir()
            model.write_binary(fresh / str(i))
        if folder.exists():
            os.replace(folder, Path(scratch) / "old")
        os.replace(fresh, folder)
    return [folder / str(i) for i in range(len(models))]


def read_models(folder: Path) -> list[pycolmap.Reconstruction]:
    """The models folder/0, 1, ... Raises BadFile where one cannot be read."""
    paths = sorted((p for p in folder.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    return [read_reconstruction(path, f"delete {folder} and run again") for path in paths]


def has_foreign(models: Sequence[pycolmap.Reconstruction], names: Collection[str]) -> bool:
    """Whether models have images of other names than these."""
    return not {image.name for model in models for image in model.images.values()} <= set(names)


def write_ply(model: pycolmap.Reconstruction, path: Path) -> None:
    """A model's coloured points as PLY; an older file gives way only when all is written."""
    with tempfile.TemporaryDirectory(prefix=".models-", dir=path.parent) as scratch:
        model.export_PLY(Path(scratch) / "points.ply")
        os.replace(Path(scratch) / "points.ply", path)


def colour_points(model: pycolmap.Reconstruction, read_rgb: ReadRGB) -> None:
    """Gives each 3D point the mean colour of its observations, read one photo at a time."""
    ids = np.array(sorted(model.point3D_ids()), np.int64)
    total, count = np.zeros((len(ids), 3)), np.zeros(len(ids))
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        observed = [(p.point3D_id, *p.xy) for p in image.get_observation_points2D()]
        if not observed:
            continue
        columns = np.array(observed, np.float64)
        rgb = read_rgb(image.name)
        x = np.clip(columns[:, 1].astype(np.int64), 0, rgb.shape[1] - 1)
        y = np.clip(columns[:, 2].astype(np.int64), 0, rgb.shape[0] - 1)
        row = np.searchsorted(ids, columns[:, 0].astype(np.int64))
        np.add.at(total, row, rgb[y, x].astype(np.float64))
        np.add.at(count, row, 1.0)
    mean = np.round(total / np.maximum(count, 1.0)[:, None]).astype(np.uint8)
    for point_id, colour in zip(ids, mean, strict=True):
        model.points3D[int(point_id)].color = colour
