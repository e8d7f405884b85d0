from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image
from scipy import ndimage

from sfm.datasets.training_pairs.track_pairs import TrackDifficulty, TrackPairs, TrackScene, reconstruct_scene
from sfm.errors import BadFile
from tests.support.folders import SHARED


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> TrackScene:
    """COLMAP's own synthetic scene; each image bears its x in its left half's grey and its y in its right one's."""
    folder = tmp_path_factory.mktemp("scene")
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 6
    options.num_points3D, options.camera_width, options.camera_height = 150, 640, 480
    options.camera_params = [500.0, 320.0, 240.0, 0.0]
    model = pycolmap.synthesize_dataset(options)
    (folder / "model" / "0").mkdir(parents=True)
    (folder / "images").mkdir()
    model.write(folder / "model" / "0")
    for image in model.images.values():
        path = folder / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        spots = np.zeros((480, 640))
        for point in image.points2D:
            x, y = np.floor(point.xy).astype(int)
            if point.has_point3D() and 0 <= x < 640 and 0 <= y < 480:
                spots[y, x] = 1
        grey = 255 * np.clip(ndimage.gaussian_filter(spots, 3) * 40, 0, 1)
        Image.fromarray(grey.astype(np.uint8)).save(path)
    return reconstruct_scene(folder / "images", folder / "model")  # takes what is there


def test_points_lie_on_their_spots_in_both_images(scene: TrackScene) -> None:
    pairs = TrackPairs([scene], size=(256, 320), seed=1)
    assert pairs.num_candidates == 15
    for index in range(6):
        pair = pairs.pair(index)
        assert len(pair.points0) == len(pair.points1) >= 30
        for image, points in ((pair.image0, pair.points0), (pair.image1, pair.points1)):
            assert image.shape == (256, 320)
            assert image.dtype == np.uint8
            assert points.dtype == np.float32
            assert (points > 0).all()
            assert (points < (320, 256)).all()
            here = ndimage.map_coordinates(image.astype(float), points.T[::-1] - 0.5, order=1)
            anywhere = np.median(image)
            assert np.median(here) > anywhere + 80


def test_epipolar_geometry_survives_the_cut(scene: TrackScene) -> None:
    """Shared points of a cut pair obey one fundamental matrix."""
    pair = TrackPairs([scene], seed=2).pair(0)
    result = pycolmap.estimate_fundamental_matrix(pair.points0.astype(float), pair.points1.astype(float))
    assert result["inlier_mask"].mean() > 0.98


def test_pair_depends_on_seed_and_index_alone(scene: TrackScene) -> None:
    first, again, other = TrackPairs([scene], seed=1), TrackPairs([scene], seed=1), TrackPairs([scene], seed=2)
    again.pair(0)
    a, b, c = first.pair(4), again.pair(4), other.pair(4)
    for field in ("image0", "image1", "points0", "points1"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert not np.array_equal(a.image0, c.image0)


def test_bad_input_names_the_remedy(scene: TrackScene, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="share 100000 points"):
        TrackPairs([scene], difficulty=TrackDifficulty(min_points=100000))
    with pytest.raises(BadFile, match="no scenes"):
        TrackPairs([])
    (tmp_path / "points3D.bin").write_bytes(b"no model")
    with pytest.raises(BadFile, match="COLMAP model"):
        TrackPairs([TrackScene(scene.images, (tmp_path,))])


def test_statue_of_images_is_reconstructed(tmp_path: Path) -> None:
    images = SHARED / "train_scenes" / "statue" / "images"
    if not images.is_dir():
        pytest.skip(f"{images} is absent; set LOFTR_SFM_SHARED")
    some = tmp_path / "images"
    some.mkdir()
    for path in sorted(images.iterdir())[:3]:
        (some / path.name).symlink_to(path)
    found = reconstruct_scene(some, tmp_path / "model", max_features=1000)
    assert [p.name for p in found.models] == ["0"]
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["0"]
    assert reconstruct_scene(some, tmp_path / "model") == found
    pair = TrackPairs([found], seed=0).pair(0)
    assert len(pair.points0) >= 30
