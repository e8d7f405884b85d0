"""Models of known cameras survive the way to disk, and broken ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm.datasets.colmap_model import PosedImage, SparsePoints, poses_by_name, read_model, write_model
from sfm.errors import BadFile


def _pose(x: float) -> np.ndarray:
    return np.column_stack([np.eye(3), [x, 0.0, 4.0]])


def _images() -> list[PosedImage]:
    params = np.array([100.0, 110.0, 50.0, 40.0])
    xy = np.array([[50.0, 40.0], [75.0, 40.0]])
    return [PosedImage(f"{i}.png", _pose(float(i)), "PINHOLE", (100, 80), params, xy) for i in range(2)]


def test_round_trip_keeps_poses_cameras_and_tracks(tmp_path: Path) -> None:
    # the origin is seen at x = 50 + 100 * i / 4 by camera i: row 0 in the first image, row 1 in the second
    points = SparsePoints(
        np.zeros((1, 3)), np.array([[9, 8, 7]], np.uint8), np.array([0, 2]), np.array([0, 1]), np.array([0, 1])
    )
    write_model(tmp_path / "gt", _images(), points)
    model = read_model(tmp_path / "gt")
    assert sorted(p.name for p in (tmp_path / "gt").iterdir() if p.stem in ("cameras", "images", "points3D")) == [
        "cameras.txt",
        "images.txt",
        "points3D.txt",
    ]
    assert len(model.cameras) == 2
    assert model.camera(2).params.tolist() == [100, 110, 50, 40]
    poses = poses_by_name(model)
    assert sorted(poses) == ["0.png", "1.png"]
    assert np.allclose(poses["1.png"], _pose(1.0))
    (point,) = model.points3D.values()
    assert point.color.tolist() == [9, 8, 7]
    assert point.track.length() == 2
    assert model.compute_mean_reprojection_error() == pytest.approx(0, abs=1e-9)


def test_images_may_share_one_camera(tmp_path: Path) -> None:
    write_model(tmp_path, _images(), shared_camera=True)
    model = read_model(tmp_path)
    assert len(model.cameras) == 1
    assert [image.camera_id for image in model.images.values()] == [1, 1]


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="nothing: is no COLMAP model"):
        read_model(tmp_path / "nothing")


@pytest.mark.parametrize(("end", "content"), [(".bin", b"\x01"), (".bin", b"\x01" * 12), (".txt", b"nonsense 1 2\n")])
def test_a_broken_model_is_named(tmp_path: Path, end: str, content: bytes) -> None:
    for stem in ("cameras", "images", "points3D"):
        (tmp_path / f"{stem}{end}").write_bytes(content)
    with pytest.raises(BadFile, match=r"write (the COLMAP model|it) again"):
        read_model(tmp_path)
