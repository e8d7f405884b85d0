"""The shipped demo: its ground truth fits its images, with and without the renderer that made them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.datasets.colmap_model import poses_by_name, read_model
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.geometry.epipolar import epipolar_distance, fundamental_matrix


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    copy_demo_scene(out)
    return out


def _intrinsics(model: pycolmap.Reconstruction) -> np.ndarray:
    (camera,) = model.cameras.values()
    return camera.calibration_matrix()


def _sift_matches(photo0: Path, photo1: Path) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's SIFT, ratio test 0.75; px from the image's corner."""
    sift = cv2.SIFT_create(1500)
    grey = [cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE) for photo in (photo0, photo1)]
    (kpts0, desc0), (kpts1, desc1) = (sift.detectAndCompute(image, None) for image in grey)
    nearest = cv2.BFMatcher().knnMatch(desc0, desc1, k=2)
    good = [a for a, b in nearest if a.distance < 0.75 * b.distance]
    xy0, xy1 = np.array([[kpts0[m.queryIdx].pt, kpts1[m.trainIdx].pt] for m in good]).swapaxes(0, 1) + 0.5
    return xy0, xy1


def test_twelve_images_that_are_small_to_ship(scene: Path) -> None:
    images = sorted((scene / "images").iterdir())
    assert [image.name for image in images] == [f"view_{i:02d}.jpg" for i in range(12)]
    assert {Image.open(image).size for image in images} == {(640, 480)}
    assert sum(file.stat().st_size for file in scene.glob("*/*")) < 1_250_000


def test_sift_agrees_with_the_true_cameras(scene: Path) -> None:
    model = read_model(scene / "gt")
    K, poses = _intrinsics(model), poses_by_name(model)
    for i in (0, 4, 8):
        names = [f"view_{k:02d}.jpg" for k in (i, i + 1)]
        xy0, xy1 = _sift_matches(*(scene / "images" / name for name in names))
        pose0, pose1 = (np.vstack([poses[name], [0, 0, 0, 1]]) for name in names)
        F = fundamental_matrix(K, K, (pose1 @ np.linalg.inv(pose0))[:3])
        distance = epipolar_distance(xy0, xy1, F)
        assert len(distance) > 60
        assert (distance < 2).mean() > 0.65  # gravel and plaster repeat themselves
        assert np.median(distance) < 0.5
        # and would not with the neighbour's camera
        wrong = poses[f"view_{i + 2:02d}.jpg"]
        F = fundamental_matrix(K, K, (np.vstack([wrong, [0, 0, 0, 1]]) @ np.linalg.inv(pose0))[:3])
        assert np.median(epipolar_distance(xy0, xy1, F)) > 2


@pytest.mark.slow
def test_the_renderer_makes_these_images(scene: Path) -> None:
    pytest.importorskip("open3d", reason="Open3D, which renders the scene, cannot be loaded", exc_type=ImportError)
    from sfm.datasets.courtyard.synthetic import SyntheticScene

    small = SyntheticScene.render(size=(80, 60))
    poses = poses_by_name(read_model(scene / "gt"))
    for i, name in enumerate(small.names):
        np.testing.assert_allclose(poses[name], small.cam_from_world[i], atol=1e-9)
        with Image.open(scene / "images" / name) as image:
            shipped = np.asarray(image.convert("L").resize((80, 60), Image.Resampling.BOX), float)
        assert np.corrcoef(shipped.ravel(), small.images[i].mean(2).ravel())[0, 1] > 0.9
