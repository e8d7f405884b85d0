from __future__ import annotations

from pathlib import Path

import pycolmap
import pytest

from sfm.results.cameras import CameraFigure, cameras_line, read_figures


def model_of(folder: Path, *cameras: pycolmap.Camera) -> Path:
    model = pycolmap.Reconstruction()
    for camera in cameras:
        model.add_camera_with_trivial_rig(camera)
    model.write_binary(str(folder))
    return folder


@pytest.mark.parametrize("name", [n for n in pycolmap.CameraModelId.__members__ if n != "INVALID"])
def test_focal_length_and_size_are_those_of_the_model(tmp_path: Path, name: str) -> None:
    camera = pycolmap.Camera.create_from_model_name(1, name, 916.0, 1024, 683)
    found = read_figures(model_of(tmp_path, camera))
    if camera.focal_length_idxs():
        assert found == [CameraFigure(916.0, (1024, 683), "FISHEYE" in name or name == "FOV")]
    else:  # a panorama has none
        assert found == []


def test_one_camera_in_the_words_of_photographers() -> None:
    (camera,) = [CameraFigure(916.31, (1024, 683), False)]
    assert cameras_line([camera]) == "focal length 916 px (about 32 mm on full frame)"


def test_several_cameras_and_fisheyes(tmp_path: Path) -> None:
    cameras = [CameraFigure(916.31, (1024, 683), False), CameraFigure(1400, (1024, 683), False)]
    assert cameras_line(cameras) == "2 cameras, focal length 916 to 1,400 px (about 32 to 49 mm on full frame)"
    assert cameras_line([CameraFigure(300, (1024, 683), True)]) == "fisheye, focal length 300 px"
    assert cameras_line([]) == ""
    assert read_figures(tmp_path) == []


def test_a_damaged_file_gives_no_line(tmp_path: Path) -> None:
    path = model_of(tmp_path, pycolmap.Camera.create_from_model_name(1, "OPENCV", 916.0, 1024, 683)) / "cameras.bin"
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert read_figures(tmp_path) == []
    path.write_bytes(data[:12] + b"\xff\xff\xff\x7f" + data[16:])
    assert read_figures(tmp_path) == []
