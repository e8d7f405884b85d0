"""The synthetic scene: what the images show agrees with the ground truth that is written beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from sfm.datasets.colmap_model import poses_by_name, read_model
from sfm.datasets.courtyard.synthetic import SyntheticScene, arc_of_cameras, look_at, write_scene
from sfm.errors import BadOption


def _grey_at(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Bilinear grey values at px, corner origin."""
    grey = image.astype(np.float64).mean(2)
    return map_coordinates(grey, [xy[:, 1] - 0.5, xy[:, 0] - 0.5], order=1, mode="nearest")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.fixture(scope="module")
def written(synthetic_scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scene")
    write_scene(synthetic_scene, out)
    return out


def test_shapes(synthetic_scene: SyntheticScene) -> None:
    assert len(synthetic_scene) == 6
    assert synthetic_scene.images.shape == (6, 240, 320, 3)
    assert synthetic_scene.images.dtype == np.uint8
    assert synthetic_scene.depths.shape == (6, 240, 320)
    assert synthetic_scene.size == (320, 240)
    assert synthetic_scene.K[0, 0] == pytest.approx(28 * 400 / 43.2666)
    for i in range(6):
        assert np.isfinite(synthetic_scene.depths[i]).mean() > 0.8


def test_warped_colours_agree_between_views(synthetic_scene: SyntheticScene) -> None:
    for i in range(5):
        xy0, xy1 = synthetic_scene.exact_matches(i, i + 1, step=2)
        assert len(xy0) > 4000
        grey0 = _grey_at(synthetic_scene.images[i], xy0)
        grey1 = _grey_at(synthetic_scene.images[i + 1], xy1)
        assert np.median(np.abs(grey0 - grey1)) < 5
        assert _correlation(grey0, grey1) > 0.93


def test_colours_agree_best_where_the_ground_truth_says(synthetic_scene: SyntheticScene) -> None:
    """A warp that is half a pixel off, as by a wrong pixel convention, fits worse in every direction."""
    xy0, xy1 = synthetic_scene.exact_matches(2, 3, step=1)
    grey = _grey_at(synthetic_scene.images[2], xy0)

    def misfit(dx: float, dy: float) -> float:
        return float(np.mean((grey - _grey_at(synthetic_scene.images[3], xy1 + np.array([dx, dy]))) ** 2))

    around = [misfit(0.5, 0), misfit(-0.5, 0), misfit(0, 0.5), misfit(0, -0.5)]
    assert misfit(0, 0) < 0.95 * min(around)


def test_matches_obey_the_epipolar_constraint(synthetic_scene: SyntheticScene) -> None:
    xy0, xy1 = synthetic_scene.exact_matches(1, 4, step=4)
    R0, t0 = synthetic_scene.cam_from_world[1, :, :3], synthetic_scene.cam_from_world[1, :, 3]
    R1, t1 = synthetic_scene.cam_from_world[4, :, :3], synthetic_scene.cam_from_world[4, :, 3]
    R, t = R1 @ R0.T, t1 - R1 @ R0.T @ t0
    inverse = np.linalg.inv(synthetic_scene.K)
    rays0, rays1 = (np.column_stack([xy, np.ones(len(xy))]) @ inverse.T for xy in (xy0, xy1))
    lines = np.cross(t, rays0 @ R.T)
    distance = (rays1 * lines).sum(1) / np.linalg.norm(lines[:, :2], axis=1) * synthetic_scene.K[0, 0]
    assert len(xy0) > 500
    assert np.abs(distance).max() < 1e-3


def test_baselines_are_wide(synthetic_scene: SyntheticScene) -> None:
    R = synthetic_scene.cam_from_world[:, :, :3]
    angles = [np.degrees(np.arccos((np.trace(R[i + 1] @ R[i].T) - 1) / 2)) for i in range(5)]
    assert min(angles) > 7
    assert max(angles) < 17


def test_equal_seeds_give_equal_pixels() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    kwargs = {"num_images": 1, "size": (64, 48), "texture": "low"}
    first, again, other = (SyntheticScene.render(seed=s, **kwargs) for s in (3, 3, 4))  # type: ignore[arg-type]
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.depths, again.depths)
    assert np.array_equal(first.cam_from_world, again.cam_from_world)
    assert not np.array_equal(first.images, other.images)


def test_low_texture_has_little_gradient(synthetic_scene: SyntheticScene) -> None:
    low = SyntheticScene.render(num_images=1, size=(320, 240), texture="low")

    def energy(image: np.ndarray) -> float:
        """Mean squared difference over 4 px of the image without its sensor noise."""
        grey = image[: 240 // 4 * 4].reshape(60, 4, 80, 4, 3).mean((1, 3, 4))
        return float((np.diff(grey, axis=0) ** 2).mean() + (np.diff(grey, axis=1) ** 2).mean())

    assert low.images.std() > 10  # form still shows
    assert energy(low.images[0]) < 0.25 * energy(synthetic_scene.images[2])


def test_radial_distortion_is_consistent_with_colmap() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    scene = SyntheticScene.render(num_images=2, size=(96, 72), texture="low", radial=-0.12)
    xy, xyz = scene.surface(0, step=3)
    again, depth = scene.project(0, xyz)
    assert np.abs(again - xy).max() < 1e-4
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=96, height=72, params=[scene.K[0, 0], 48, 36, -0.12])
    points = xyz @ scene.cam_from_world[0, :, :3].T + scene.cam_from_world[0, :, 3]
    assert (depth > 0).all()
    assert np.allclose(camera.img_from_cam(points), xy, atol=1e-4)


def test_written_images_carry_a_focal_prior(written: Path, synthetic_scene: SyntheticScene) -> None:
    files = sorted((written / "images").iterdir())
    assert [f.name for f in files] == list(synthetic_scene.names)
    with Image.open(files[0]) as image:
        assert image.size == (320, 240)
        exif = image.getexif()
        assert exif[0x010F] == "Synthetic"
        assert exif[0x0110] == "Courtyard 1"
        assert exif.get_ifd(0x8769)[0xA405] == 28
        difference = np.asarray(image, np.int16) - synthetic_scene.images[0]
    assert np.abs(difference).mean() < 3


def test_colmap_reads_the_focal_prior(written: Path, synthetic_scene: SyntheticScene) -> None:
    camera = pycolmap.infer_camera_from_image(written / "images" / synthetic_scene.names[0])
    assert camera.has_prior_focal_length
    assert camera.focal_length == pytest.approx(synthetic_scene.K[0, 0], rel=0.05)


def test_written_ground_truth_is_a_colmap_model(written: Path, synthetic_scene: SyntheticScene) -> None:
    model = read_model(written / "gt")
    assert model.num_reg_images() == 6
    assert [c.model.name for c in model.cameras.values()] == ["PINHOLE"]
    assert model.num_points3D() > 300
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 1e-6
    poses = poses_by_name(model)
    for name, pose in zip(synthetic_scene.names, synthetic_scene.cam_from_world, strict=True):
        assert np.allclose(poses[name], pose, atol=1e-9)


def test_written_points_lie_where_the_images_show_them(written: Path, synthetic_scene: SyntheticScene) -> None:
    model = read_model(written / "gt")
    for image in model.images.values():
        photo = synthetic_scene.images[synthetic_scene.names.index(image.name)]
        seen = [p for p in image.points2D if p.has_point3D()]
        points = [model.point3D(p.point3D_id) for p in seen]
        xy = np.array([image.project_point(p.xyz) for p in points])
        assert np.allclose(xy, [p.xy for p in seen], atol=1e-6)
        assert _correlation(_grey_at(photo, xy), np.array([p.color for p in points]).mean(1)) > 0.9


def test_look_at_puts_the_target_on_the_optical_axis() -> None:
    pose = look_at(np.array([3.0, -5.0, 2.0]), np.array([0.0, 1.0, 1.0]), roll_deg=20.0)
    assert np.allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:, :3]) == pytest.approx(1)
    assert np.allclose(pose @ [0, 1, 1, 1], [0, 0, np.sqrt(46)], atol=1e-9)
    upright = look_at(np.array([3.0, -5.0, 2.0]), np.array([0.0, 1.0, 1.0]))
    assert upright[1, 2] < -0.9  # y down
    assert abs(upright[0, 2]) < 1e-12  # x level


def test_many_cameras_stay_in_the_courtyard() -> None:
    for num in (1, 12, 60):
        poses = arc_of_cameras(num, seed=0)
        centres = -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])
        assert poses.shape == (num, 3, 4)
        assert (np.abs(centres[:, 0]) < 7).all()
        assert (centres[:, 1] < 3).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"num_images": 0}, "num_images"),
        ({"size": (8, 8)}, "size"),
        ({"texture": "none"}, "texture"),
        ({"focal_35mm": 0.0}, "focal"),
    ],
)
def test_bad_values_are_refused(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(BadOption, match=word):
        SyntheticScene.render(**arguments)  # type: ignore[arg-type]


def test_images_may_keep_their_focal_length_to_themselves(synthetic_scene: SyntheticScene, tmp_path: Path) -> None:
    write_scene(synthetic_scene, tmp_path, with_exif=False)
    with Image.open(tmp_path / "images" / synthetic_scene.names[0]) as image:
        assert len(image.getexif()) == 0
