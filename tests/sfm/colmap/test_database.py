"""COLMAP databases: of a model, with its own ids."""

import numpy as np
import pycolmap

from sfm.colmap.database import write_model_database
from sfm.types import ImagePair, KeypointMatches, TwoViewGeometry


def test_a_models_database_has_its_ids_keypoints_and_matches(tmp_path):
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(pycolmap.Camera.create_from_model_name(7, "OPENCV", 500.0, 640, 480))
    for image_id, name in ((30, "b.jpg"), (20, "a.jpg")):
        image = pycolmap.Image(name=name, camera_id=7, image_id=image_id)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D([image_id, j]) for j in range(4)])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    pair, rows = ImagePair("a.jpg", "b.jpg"), np.array([[0, 3], [2, 1]], np.uint32)
    geometry = TwoViewGeometry(pair, np.arange(2), "calibrated")
    path = tmp_path / "database.db"
    for _ in range(2):  # what is there gives way
        write_model_database(path, model, [geometry], [KeypointMatches(pair, rows, np.ones(2))])
    database = pycolmap.Database.open(path)
    try:
        assert {(i.image_id, i.name, i.camera_id) for i in database.read_all_images()} == {
            (20, "a.jpg", 7),
            (30, "b.jpg", 7),
        }
        assert database.read_camera(7).model_name == "OPENCV"
        assert {frame.frame_id for frame in database.read_all_frames()} == set(model.frames)
        np.testing.assert_array_equal(database.read_matches(20, 30), rows)
        np.testing.assert_array_equal(database.read_two_view_geometry(20, 30).inlier_matches, rows)
        keypoints = database.read_keypoints(30)
        xy = keypoints if isinstance(keypoints, np.ndarray) else np.array([[k.x, k.y] for k in keypoints])
        np.testing.assert_array_equal(xy[:, :2], [[30, j] for j in range(4)])
    finally:
        database.close()
