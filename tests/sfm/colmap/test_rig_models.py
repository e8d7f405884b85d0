"""Models whose cameras are mounted together, and the same with a pose for each image."""

import numpy as np
import pycolmap
import pytest

from sfm.colmap.rig_models import has_rigs, with_rigs, without_rigs
from tests.support.plane_scene import NAMES, make_model, perturbed, surface_points
from tests.support.refinement_scene import assert_same


@pytest.fixture
def noisy():
    xyz = surface_points(60)
    return make_model(xyz, perturbed(xyz))


@pytest.fixture
def rigged(noisy):
    """Images 1 and 2 as one frame of a rig, with twenty points."""
    rigged = pycolmap.Reconstruction()
    camera, other = (pycolmap.Camera(noisy.cameras[1].todict()) for _ in range(2))
    other.camera_id = 2
    rigged.add_camera(camera)
    rigged.add_camera(other)
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(camera.sensor_id)
    poses = {i: noisy.images[i].cam_from_world() for i in (1, 2)}
    rig.add_sensor(other.sensor_id, poses[2] * poses[1].inverse())
    rigged.add_rig(rig)
    frame = pycolmap.Frame(frame_id=1, rig_id=1)
    images = [pycolmap.Image(name=NAMES[i - 1], camera_id=i, image_id=i, frame_id=1) for i in (1, 2)]
    for image in images:
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(p.xy) for p in noisy.images[image.image_id].points2D])
        frame.add_data_id(image.data_id)
    frame.rig_from_world = poses[1]
    rigged.add_frame(frame)
    for image in images:
        rigged.add_image(image)
    rigged.register_frame(1)
    for point_id in sorted(noisy.points3D)[:20]:
        elements = [e for e in noisy.points3D[point_id].track.elements if e.image_id in (1, 2)]
        rigged.add_point3D(noisy.points3D[point_id].xyz, pycolmap.Track(elements))
    return rigged


def test_cameras_in_rigs_get_poses_of_their_own(rigged):
    assert has_rigs(rigged)
    apart = without_rigs(rigged)
    assert not has_rigs(apart)
    assert_same(apart, rigged, rtol=1e-9, atol=1e-9)
    assert apart.num_points3D() == 20
    assert apart.is_valid()


def test_cameras_that_are_one_become_one(rigged):
    apart = without_rigs(rigged, {2: 1})
    assert sorted(apart.cameras) == [1]
    assert {apart.images[i].camera_id for i in (1, 2)} == {1}
    np.testing.assert_allclose(apart.images[2].cam_from_world().matrix(), rigged.images[2].cam_from_world().matrix())


def test_a_free_model_becomes_one_with_a_rig(noisy):
    """Images 1 and 2 are mounted, image 3 is not, and image 4, of which there was no pose, comes with its frame."""
    free = pycolmap.Reconstruction(noisy)
    before = {i: noisy.images[i].cam_from_world().matrix() for i in range(1, 6)}
    cameras = {}
    for camera_id in (1, 2, 3):
        cameras[camera_id] = pycolmap.Camera(noisy.cameras[1].todict())
        cameras[camera_id].camera_id = camera_id
    free.deregister_frame(4)
    free.deregister_frame(5)
    relative = (pycolmap.Rigid3d(before[2]) * pycolmap.Rigid3d(before[1]).inverse()).matrix()
    mounted = {1: np.eye(4)[:3], 2: relative}
    images = {1: (NAMES[0], 1), 2: (NAMES[1], 2), 3: (NAMES[2], 3), 4: (NAMES[3], 1)}
    frames = [([1, 2], before[1]), ([4], before[4])]
    found = with_rigs(free, cameras, images, {4: np.ones((7, 2))}, [(mounted, frames)])
    assert found.num_reg_images() == 4
    assert found.num_frames() == 3
    assert {found.images[1].frame_id, found.images[2].frame_id} == {1}
    for i in (1, 2, 3, 4):
        np.testing.assert_allclose(found.images[i].cam_from_world().matrix(), before[i], atol=1e-9)
    assert [len(found.images[i].points2D) for i in (1, 4)] == [60, 60]
    assert found.num_points3D() == free.num_points3D()
    assert found.is_valid()
