"""The fast way against pycolmap's objects, one by one."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm.colmap.bulk import bulk
from sfm.drawing.scene import scene_of


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(2)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 6, 1, 1
    options.num_points3D, options.num_points2D_without_point3D = 50, 7
    model = pycolmap.synthesize_dataset(options)
    for k, point_id in enumerate(sorted(model.point3D_ids())[::3]):
        if k % 2:
            model.delete_point3D(point_id)
    rng = np.random.default_rng(0)
    for point_id in model.point3D_ids():
        model.points3D[point_id].xyz += rng.normal(scale=0.01, size=3)
        model.points3D[point_id].color = rng.integers(0, 255, 3).astype(np.uint8)
    model.update_point_3d_errors()
    return model


def test_points(model: pycolmap.Reconstruction) -> None:
    points = bulk(model).points
    assert points["id"].tolist() == sorted(model.point3D_ids())
    for point in points:
        own = model.points3D[int(point["id"])]
        np.testing.assert_array_equal(point["xyz"], own.xyz)
        np.testing.assert_array_equal(point["rgb"], own.color)
        assert point["error"] == own.error > 0
        assert point["length"] == own.track.length()


def test_observations(model: pycolmap.Reconstruction) -> None:
    found = bulk(model)
    for image in model.images.values():
        seen = [p for p in image.points2D if p.has_point3D()]
        own = found.observed[image.image_id]
        assert own["point"].tolist() == [p.point3D_id for p in seen]
        np.testing.assert_array_equal(own["xy"], [p.xy for p in seen])
        assert found.points["id"][found.rows(own["point"])].tolist() == own["point"].tolist()


def test_errors_of_a_scene_are_those_of_its_points(model: pycolmap.Reconstruction) -> None:
    scene = scene_of(model, "noisy")
    seen = scene.observations
    total = np.bincount(seen.point, seen.error, minlength=len(scene.points.xyz))
    np.testing.assert_allclose(total / scene.points.length, scene.points.error, rtol=1e-4)
    np.testing.assert_array_equal(np.bincount(seen.point, minlength=len(scene.points.xyz)), scene.points.length)
