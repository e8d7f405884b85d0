"""model_columns: the columns say what pycolmap says point by point, and go back into the model."""

from dataclasses import fields

import numpy as np
import pycolmap
import pytest

from sfm.colmap import model_arrays
from sfm.colmap.model_arrays import ModelColumns, delete_observations, move_observations, rows_of


@pytest.fixture
def model():
    """A small model with noise, two cameras, points2D without points, and points that not all images see."""
    pycolmap.set_random_seed(3)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 1, 4
    options.num_points3D, options.num_points2D_without_point3D, options.track_length = 40, 6, 3
    made = pycolmap.synthesize_dataset(options)
    noise = pycolmap.SyntheticNoiseOptions()
    noise.point2D_stddev = 0.7
    pycolmap.synthesize_noise(noise, made)
    made.update_point_3d_errors()
    return made


def test_columns_say_what_the_model_says(model):
    columns = ModelColumns.of(model)
    assert columns.image_ids.tolist() == sorted(model.reg_image_ids())
    assert columns.point_ids.tolist() == sorted(model.point3D_ids())
    assert len(columns.xy) == model.compute_num_observations() == 120
    for row, image_id in enumerate(columns.image_ids):
        image = model.images[int(image_id)]
        assert columns.names[row] == image.name
        np.testing.assert_allclose(columns.centres[row], image.projection_center(), atol=1e-12)
        assert columns.focals[row] == image.camera.mean_focal_length()
    for point, image, j, xy in zip(columns.point, columns.image, columns.point2D, columns.xy, strict=True):
        observed = model.images[int(columns.image_ids[image])].points2D[int(j)]
        assert observed.point3D_id == columns.point_ids[point]
        np.testing.assert_array_equal(observed.xy, xy)
        np.testing.assert_array_equal(model.points3D[observed.point3D_id].xyz, columns.xyz[point])
    lengths = [model.points3D[int(i)].track.length() for i in columns.point_ids]
    np.testing.assert_array_equal(columns.track_lengths, lengths)


def test_observations_are_sorted_by_point_then_image(model):
    columns = ModelColumns.of(model)
    keys = list(zip(columns.point.tolist(), columns.image.tolist(), strict=True))
    assert keys == sorted(set(keys))


def test_residuals_are_colmaps(model):
    columns = ModelColumns.of(model)
    residuals = columns.residuals()
    for row in range(len(columns.xy)):
        image = model.images[int(columns.image_ids[columns.image[row]])]
        np.testing.assert_allclose(
            residuals[row], columns.xy[row] - image.project_point(columns.xyz[columns.point[row]]), atol=1e-9
        )
    lengths = np.linalg.norm(residuals, axis=1)
    errors = [model.points3D[int(i)].error for i in columns.point_ids]
    means = np.bincount(columns.point, weights=lengths) / columns.track_lengths
    np.testing.assert_allclose(means, errors, rtol=1e-9)
    assert 0.5 < np.sqrt(np.mean(residuals**2)) < 0.9


def test_behind_a_camera_is_nan(model):
    columns = ModelColumns.of(model)
    behind = columns.centres[:1] - columns.rotations[0][2]
    assert np.isnan(columns.project(np.zeros(1, np.int64), behind)).all()
    ahead = columns.project(np.zeros(1, np.int64), columns.centres[:1] + columns.rotations[0][2])
    np.testing.assert_allclose(ahead[0], columns.cameras[0].params[1:3])


def test_a_model_without_points_has_empty_columns(model):
    model.delete_all_points2D_and_points3D()
    columns = ModelColumns.of(model)
    assert (len(columns.image_ids), columns.xyz.shape, columns.xy.shape) == (8, (0, 3), (0, 2))
    assert columns.residuals().shape == (0, 2)


def test_moved_observations_are_the_models(model):
    columns = ModelColumns.of(model)
    loose = {
        (i, j): p.xy.copy() for i, m in model.images.items() for j, p in enumerate(m.points2D) if not p.has_point3D()
    }
    target = columns.xy + np.random.default_rng(0).normal(size=columns.xy.shape)
    move_observations(model, columns, target)
    np.testing.assert_array_equal(ModelColumns.of(model).xy, target)
    assert len(loose) > 0
    for (i, j), xy in loose.items():
        np.testing.assert_array_equal(model.images[i].points2D[j].xy, xy)


def test_deleted_observations_are_gone_and_so_are_points_of_one(model):
    columns = ModelColumns.of(model)
    assert (columns.track_lengths == 3).all()
    gone = np.zeros(len(columns.xy), bool)
    gone[0] = gone[3:5] = gone[6:9] = True  # one of the first point's three, two of the second's, all of the third's
    assert delete_observations(model, columns, gone) == 6
    after = ModelColumns.of(model)
    assert after.point_ids.tolist() == [i for i in columns.point_ids.tolist() if i not in columns.point_ids[1:3]]
    assert len(after.xy) == 120 - 1 - 3 - 3
    np.testing.assert_array_equal(after.xy[:2], columns.xy[1:3])
    np.testing.assert_array_equal(after.xy[2:], columns.xy[9:])
    assert sum(p.has_point3D() for m in model.images.values() for p in m.points2D) == 113


def test_rows_of_each_kind_are_found_in_one_sort():
    kind = np.array([2, 0, 2, 1, 0, 4])
    assert [own.tolist() for own in rows_of(kind, 5)] == [[1, 4], [3], [0, 2], [], [5]]
    assert [own.tolist() for own in rows_of(kind[:0], 2)] == [[], []]
    assert rows_of(kind[:0], 0) == ()


def test_rows_of_images_are_their_observations(model):
    columns = ModelColumns.of(model)
    for image, own in enumerate(columns.rows_of_images):
        np.testing.assert_array_equal(own, np.flatnonzero(columns.image == image))


def test_in_bulk_the_columns_are_the_same_to_the_last_bit(model, monkeypatch):
    one_by_one = ModelColumns.of(model)
    monkeypatch.setattr(model_arrays, "MANY", 10)
    in_bulk = ModelColumns.of(model)
    for field in fields(ModelColumns):
        if field.name != "cameras":
            np.testing.assert_array_equal(getattr(in_bulk, field.name), getattr(one_by_one, field.name))
            assert getattr(in_bulk, field.name).__class__ is getattr(one_by_one, field.name).__class__
    assert [camera.camera_id for camera in in_bulk.cameras] == [camera.camera_id for camera in one_by_one.cameras]
