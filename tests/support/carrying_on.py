"""What people do next with an output folder: COLMAP goes on from each of its models, with its database."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.log import quiet


def keypoints_of(database: pycolmap.Database, image_id: int) -> np.ndarray:
    """(N, 2) px of an image of a COLMAP database."""
    found = database.read_keypoints(image_id)
    array = found if isinstance(found, np.ndarray) else np.array([[k.x, k.y] for k in found])
    return np.asarray(array, np.float64).reshape(len(array), -1)[:, :2]


def assert_database_is_of(out: Path, model: pycolmap.Reconstruction, *, positions: bool = True) -> None:
    """The database has the model's images, cameras and keypoints. positions: as well, not only as many."""
    database = pycolmap.Database.open(out / "database.db")
    try:
        names = {image.image_id: (image.name, image.camera_id) for image in database.read_all_images()}
        for image_id in model.reg_image_ids():
            image, own = model.images[image_id], keypoints_of(database, image_id)
            assert names[image_id] == (image.name, image.camera_id)
            assert len(own) == len(image.points2D)
            if positions:
                np.testing.assert_allclose(own, [p.xy for p in image.points2D], atol=1e-3)
            camera, stored = model.cameras[image.camera_id], database.read_camera(image.camera_id)
            assert (stored.model_name, stored.width, stored.height) == (camera.model_name, camera.width, camera.height)
            if positions:
                np.testing.assert_allclose(stored.params, camera.params, rtol=1e-9)
    finally:
        database.close()


def carry_on(out: Path, images: Path) -> None:
    """Triangulation, mapping and bundle adjustment from every model of an output folder; each ends with that model."""
    for folder in sorted((out / "sparse").iterdir()):
        model = pycolmap.Reconstruction(folder)
        assert_database_is_of(out, model, positions=folder.name == "0")
        with tempfile.TemporaryDirectory() as scratch, quiet(stderr=True):
            options = pycolmap.IncrementalPipelineOptions()
            options.extract_colors = False
            options.triangulation.ignore_two_view_tracks = False
            again = pycolmap.triangulate_points(
                pycolmap.Reconstruction(folder), out / "database.db", images, scratch, True, options
            )
            assert again.num_reg_images() == model.num_reg_images()
            assert again.num_points3D() > 0.7 * model.num_points3D()
            (Path(scratch) / "mapped").mkdir()
            mapped = pycolmap.incremental_mapping(
                out / "database.db", images, Path(scratch) / "mapped", options, input_path=folder
            )
            assert max(m.num_reg_images() for m in mapped.values()) >= model.num_reg_images()
            before = model.compute_mean_reprojection_error()
            pycolmap.bundle_adjustment(model)
            assert model.compute_mean_reprojection_error() < before + 0.1
