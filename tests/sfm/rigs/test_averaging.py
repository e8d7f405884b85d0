"""How cameras are mounted, from the poses of single images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.geometry.poses import rotation_angle_deg
from sfm.rigs.averaging import average, frame_pose, measure_rig, square
from sfm.rigs.layout import folder_rigs
from tests.support import rig_scene as scene

THREE = (*scene.CAM_FROM_RIG, scene.moved(-40.0, (-0.4, 0.0, 0.2)))


def disturbed(poses, turn_deg, shift, seed=0):
    """Poses with errors of rotation and of centre."""
    rng, found = np.random.default_rng(seed), {}
    for name, pose in poses.items():
        turn = Rotation.from_rotvec(rng.normal(0, np.radians(turn_deg), 3)).as_matrix()
        centre = -pose[:, :3].T @ pose[:, 3] + rng.normal(0, shift, 3)
        found[name] = np.column_stack([turn @ pose[:, :3], -turn @ pose[:, :3] @ centre])
    return found


def errors(measured, cam_from_rig):
    """Largest errors of rotation, degrees, and of centre, against what is true."""
    turns, shifts = [], []
    for k, pose in measured.cam_from_rig.items():
        own = square(cam_from_rig[k]) @ np.linalg.inv(square(cam_from_rig[measured.reference]))
        turns.append(rotation_angle_deg(pose[:, :3] @ own[:3, :3].T))
        shifts.append(np.linalg.norm(pose[:, :3].T @ pose[:, 3] - own[:3, :3].T @ own[:3, 3]))
    return max(turns), max(shifts)


def test_exact_poses_give_the_exact_rig():
    poses = scene.true_poses(THREE)
    measured = measure_rig(folder_rigs(poses)[0], poses)
    assert measured.is_rigid
    assert measured.num_frames == scene.FRAMES
    assert set(measured.cam_from_rig) == {0, 1, 2}
    assert max(errors(measured, THREE)) < 1e-6
    assert measured.rotation_deg < 1e-6
    assert measured.offset < 1e-6


def test_errors_are_averaged_out_and_wrong_frames_do_not_count():
    poses = disturbed(scene.true_poses(THREE, 20), 0.5, 0.02)
    rig = folder_rigs(poses)[0]
    for i in range(4):  # four frames of which one camera is somewhere else
        poses[f"cam1/{i}.png"] = scene.moved(100.0 * i, (3.0, 1.0 * i, 0.0))
    measured = measure_rig(rig, poses)
    turn, shift = errors(measured, THREE)
    assert measured.is_rigid
    assert turn < 0.5
    assert shift < 0.03


def test_cameras_that_share_no_frame_are_reached_over_others():
    poses = scene.true_poses(THREE)
    rig = folder_rigs(poses)[0]
    kept = {n: p for n, p in poses.items() if n[:4] != "cam2" or n[5] in "34"}
    kept = {n: p for n, p in kept.items() if n[:4] != "cam0" or n[5] in "012"}
    measured = measure_rig(rig, kept)
    assert set(measured.cam_from_rig) == {0, 1, 2}
    assert max(errors(measured, THREE)) < 1e-6


def test_a_camera_that_is_never_there_is_left_out():
    poses = {n: p for n, p in scene.true_poses(THREE).items() if n[:4] != "cam2"}
    names = [*poses, *(f"cam2/{i}.png" for i in range(scene.FRAMES))]
    measured = measure_rig(folder_rigs(names)[0], poses)
    assert measured.is_rigid
    assert len(measured.cam_from_rig) == 2


@pytest.mark.parametrize("loose", [15.0, 4.0])
def test_cameras_that_turn_against_each_other_are_no_rig(loose):
    poses = scene.true_poses(loose=loose)
    assert not measure_rig(folder_rigs(poses)[0], poses).is_rigid


def test_two_walks_that_look_the_same_way_are_no_rig():
    rng = np.random.default_rng(3)
    poses = {}
    for walk in ("monday", "tuesday"):
        for i in range(6):
            poses[f"{walk}/{i}.jpg"] = np.column_stack([np.eye(3), -rng.uniform(-5, 5, 3)])
    measured = measure_rig(folder_rigs(poses)[0], poses)
    assert measured.rotation_deg < 1e-6
    assert not measured.is_rigid


def test_one_frame_proves_no_rig():
    poses = scene.true_poses(num=2)
    names = list(poses)
    kept = {name: pose for name, pose in poses.items() if name.endswith("0.png")}
    assert not measure_rig(folder_rigs(names)[0], kept).is_rigid


def test_the_pose_of_a_frame_is_what_most_of_its_cameras_say():
    mounted = dict(enumerate(THREE))
    body = scene.rig_poses()[3]
    frame = {k: scene.compose(pose, body) for k, pose in mounted.items()}
    np.testing.assert_allclose(frame_pose(frame, mounted), body, atol=1e-9)
    assert frame_pose({7: body}, mounted) is None


def test_the_average_of_one_pose_is_itself():
    pose = square(scene.rig_poses()[1])
    np.testing.assert_allclose(average([pose]), pose, atol=1e-12)
