"""Exports are checked by reprojecting the model's points with what was written, against pycolmap."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfm.errors import BadFile, BadImage, BadOption
from sfm.export.registry import EXPORTS, export
from sfm.export.source import ExportSource
from tests.support.folders import ROOT
from tests.support.phone_images import save_phone_image

WIDTH, HEIGHT = 64, 48


def scene(folder: Path, model: str, params: list[float], *, cameras: int = 1) -> pycolmap.Reconstruction:
    """A synthetic model at folder/model and its images at folder/images; image names in subfolders."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = cameras, 1, 3
    options.num_points3D, options.num_points2D_without_point3D = 40, 3
    options.camera_width, options.camera_height = WIDTH, HEIGHT
    options.camera_model_id, options.camera_params = pycolmap.CameraModelId.__members__[model], params
    pycolmap.set_random_seed(7)
    ground_truth = pycolmap.synthesize_dataset(options)
    for image in ground_truth.images.values():
        folder_name = "day1" if model in ("SIMPLE_RADIAL", "RADIAL") else "day 1"
        image.name = f"{folder_name}/{image.name}"
    for i, point in enumerate(ground_truth.points3D.values()):
        point.color = np.array([i, 2 * i, 255 - i], np.uint8)
    save(ground_truth, folder)
    for image in ground_truth.images.values():
        path = folder / "photos" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture()).save(path)
    return ground_truth


def save(model: pycolmap.Reconstruction, folder: Path) -> None:
    (folder / "model").mkdir(exist_ok=True)
    model.write(str(folder / "model"))


def picture() -> NDArray[np.uint8]:
    """Red in the upper left quarter, blue in the lower right."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2, 0] = 255
    pixels[HEIGHT // 2 :, WIDTH // 2 :, 2] = 255
    return pixels


def sideways(path: Path) -> None:
    """Rewrites an image rotated by 90 degrees, with the EXIF orientation that turns it back."""
    image = Image.fromarray(picture()).transpose(Image.Transpose.ROTATE_90)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif, format="JPEG" if path.suffix == ".jpg" else None, quality=95)


def run(folder: Path, format: str, out: str = "out") -> Path:
    return export(ExportSource(folder / "model", folder / "photos"), folder / out, format)


def world(ground_truth: pycolmap.Reconstruction) -> NDArray[np.float64]:
    return np.array([ground_truth.points3D[i].xyz for i in sorted(ground_truth.points3D)])


def projected(image: pycolmap.Image, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) by pycolmap."""
    return np.array([image.project_point(p) for p in xyz])


def read_ply(path: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    head, body = path.read_bytes().split(b"end_header\n", 1)
    assert b"format binary_little_endian 1.0" in head
    columns = [(c, "<f4") for c in "xyz"] + [(c, "u1") for c in "rgb"]
    rows = np.frombuffer(body, columns)
    return np.stack([rows[c] for c in "xyz"], 1).astype(float), np.stack([rows[c] for c in "rgb"], 1)


SIMPLE = [60.0, 31.0, 25.0, 0.05]


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("SIMPLE_RADIAL", SIMPLE),
        ("PINHOLE", [60.0, 62.0, 31.0, 25.0]),
        ("OPENCV", [60.0, 62.0, 31.0, 25.0, 0.05, -0.02, 0.001, -0.002]),
        ("OPENCV_FISHEYE", [60.0, 62.0, 31.0, 25.0, 0.05, -0.02, 0.01, -0.003]),
    ],
)
def test_nerfstudio_reprojects(tmp_path: Path, model: str, params: list[float]) -> None:
    ground_truth = scene(tmp_path, model, params)
    path = run(tmp_path, "nerfstudio")
    document = json.loads(path.read_text())
    assert document["camera_model"] == ("OPENCV_FISHEYE" if "FISHEYE" in model else "OPENCV")
    assert len(document["frames"]) == 3
    xyz, rgb = read_ply(path.parent / document["ply_file_path"])
    applied = np.array(document["applied_transform"])
    np.testing.assert_allclose(xyz, world(ground_truth) @ applied[:, :3].T + applied[:, 3], atol=1e-5)
    np.testing.assert_array_equal(rgb, [ground_truth.points3D[i].color for i in sorted(ground_truth.points3D)])
    for frame in document["frames"]:
        assert (path.parent / frame["file_path"]).is_file()
        image = ground_truth.images[frame["colmap_im_id"]]
        assert frame["file_path"] == f"images/{image.name}"
        np.testing.assert_allclose(reproject(document, frame, xyz), projected(image, world(ground_truth)), atol=2e-3)


def reproject(camera: dict[str, Any], frame: dict[str, Any], xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) px by OpenCV from nerfstudio's OpenGL camera-to-world and named intrinsics."""
    gl = (xyz - np.array(frame["transform_matrix"])[:3, 3]) @ np.array(frame["transform_matrix"])[:3, :3]
    points = (gl * [1, -1, -1])[:, None]
    K = np.array([[camera["fl_x"], 0, camera["cx"]], [0, camera["fl_y"], camera["cy"]], [0, 0, 1]])
    if camera["camera_model"] == "OPENCV_FISHEYE":
        distortion = np.array([camera[k] for k in ("k1", "k2", "k3", "k4")])
        return cv2.fisheye.projectPoints(points, np.zeros(3), np.zeros(3), K, distortion)[0][:, 0]
    distortion = np.array([camera[k] for k in ("k1", "k2", "p1", "p2")])
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, distortion)[0][:, 0]


def test_nerfstudio_with_several_cameras(tmp_path: Path) -> None:
    ground_truth = scene(tmp_path, "SIMPLE_RADIAL", SIMPLE, cameras=2)
    ground_truth.cameras[2].params = [50.0, 30.0, 20.0, -0.03]
    save(ground_truth, tmp_path)
    document = json.loads(run(tmp_path, "nerfstudio").read_text())
    assert "fl_x" not in document
    xyz, _ = read_ply(tmp_path / "out" / "sparse_pc.ply")
    for frame in document["frames"]:
        image = ground_truth.images[frame["colmap_im_id"]]
        assert frame["fl_x"] == image.camera.params[0]
        np.testing.assert_allclose(reproject(frame, frame, xyz), projected(image, world(ground_truth)), atol=2e-3)


def test_nerfstudio_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    scene(tmp_path, "FOV", [60.0, 60.0, 32.0, 24.0, 0.1])
    with pytest.raises(BadFile, match=r"FOV.*undistorted"):
        run(tmp_path, "nerfstudio")


@pytest.mark.parametrize("format", ["nerfstudio", "undistorted"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_rotated_images_are_made_upright(tmp_path: Path, format: str, suffix: str) -> None:
    ground_truth = scene(tmp_path, "PINHOLE", [60.0, 60.0, 32.0, 24.0])
    for image in ground_truth.images.values():
        (tmp_path / "photos" / image.name).unlink()
        image.name = str(Path(image.name).with_suffix(suffix))
        sideways(tmp_path / "photos" / image.name)
    save(ground_truth, tmp_path)
    run(tmp_path, format)
    for image in ground_truth.images.values():
        with Image.open(tmp_path / "out" / "images" / image.name) as written:
            assert written.getexif().get(0x0112, 1) == 1
            assert written.size == (WIDTH, HEIGHT)
            assert np.abs(np.asarray(written.convert("RGB")).astype(int) - picture()).mean() < 4
        assert Image.open(tmp_path / "photos" / image.name).size == (HEIGHT, WIDTH)  # the original is untouched


def test_undistorted(tmp_path: Path) -> None:
    ground_truth = scene(tmp_path, "OPENCV", [60.0, 62.0, 31.0, 25.0, 0.05, -0.02, 0.001, -0.002])
    out = run(tmp_path, "undistorted")
    assert {p.name for p in out.iterdir()} >= {"images", "sparse", "stereo"}
    assert not list(out.glob("upright-*"))
    for folder in ("sparse", "sparse/0"):
        model = pycolmap.Reconstruction(str(out / folder))
        assert {c.model_name for c in model.cameras.values()} == {"PINHOLE"}
        for image in ground_truth.images.values():
            written = model.find_image_with_name(image.name)
            pose = written.cam_from_world().matrix()
            np.testing.assert_allclose(pose, image.cam_from_world().matrix(), atol=1e-9)
            assert Image.open(out / "images" / image.name).size == (written.camera.width, written.camera.height)


def test_undistorted_webp_becomes_png(tmp_path: Path) -> None:
    ground_truth = scene(tmp_path, "PINHOLE", [60.0, 60.0, 32.0, 24.0])
    image = ground_truth.images[1]
    old = tmp_path / "photos" / image.name
    image.name = str(Path(image.name).with_suffix(".webp"))
    Image.open(old).save(tmp_path / "photos" / image.name, lossless=True)
    old.unlink()
    save(ground_truth, tmp_path)
    out = run(tmp_path, "undistorted")
    assert np.abs(np.asarray(Image.open(out / "images" / f"{image.name}.png")).astype(int) - picture()).mean() < 1
    assert pycolmap.Reconstruction(str(out / "sparse")).find_image_with_name(f"{image.name}.png") is not None


@pytest.mark.parametrize("format", ["nerfstudio", "undistorted"])
@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_images_of_phones_become_upright_jpegs(tmp_path: Path, format: str, suffix: str) -> None:
    """Which what trains splats reads; names in the model are those of the files."""
    ground_truth = scene(tmp_path, "SIMPLE_RADIAL", SIMPLE)
    for image in ground_truth.images.values():
        (tmp_path / "photos" / image.name).unlink()
        image.name = str(Path(image.name).with_suffix(suffix))
        save_phone_image(tmp_path / "photos" / image.name, picture(), 6)
    save(ground_truth, tmp_path)
    run(tmp_path, format)
    names = {f"{image.name}.jpg" for image in ground_truth.images.values()}
    for name in names:
        with Image.open(tmp_path / "out/images" / name) as written:
            assert written.format == "JPEG"
            assert written.getexif().get(0x0112, 1) == 1
            assert np.abs(np.asarray(written.resize((WIDTH, HEIGHT))).astype(int) - picture()).mean() < 12
    if format == "nerfstudio":
        document = json.loads((tmp_path / "out/transforms.json").read_text())
        assert {frame["file_path"] for frame in document["frames"]} == {f"images/{name}" for name in names}
    else:
        model = pycolmap.Reconstruction(str(tmp_path / "out/sparse/0"))
        assert {image.name for image in model.images.values()} == names


@pytest.mark.parametrize("format", ["nerfstudio", "undistorted"])
def test_images_of_sixteen_bits_become_eight_bits(tmp_path: Path, format: str) -> None:
    ground_truth = scene(tmp_path, "PINHOLE", [60.0, 60.0, 32.0, 24.0])
    for image in ground_truth.images.values():
        deep = 28_900 + picture()[..., 0].astype(np.uint16) * 4
        Image.fromarray(deep).save(tmp_path / "photos" / image.name)
    run(tmp_path, format)
    for image in ground_truth.images.values():
        with Image.open(tmp_path / "out/images" / image.name) as written:
            values = np.asarray(written.convert("L")).astype(int)
        assert written.mode in ("L", "RGB")
        assert values[:20, :28].mean() > 240
        assert values[28:].mean() < 15


def test_ply_and_text(tmp_path: Path) -> None:
    ground_truth = scene(tmp_path, "SIMPLE_RADIAL", SIMPLE)
    xyz = read_vertices(run(tmp_path, "ply"))
    np.testing.assert_allclose(np.sort(xyz, 0), np.sort(world(ground_truth), 0), atol=1e-5)
    again = pycolmap.Reconstruction(str(run(tmp_path, "text", "text")))
    np.testing.assert_allclose(world(again), world(ground_truth), atol=1e-9)


def read_vertices(path: Path) -> NDArray[np.float64]:
    cloud = pycolmap.Reconstruction()
    cloud.import_PLY(str(path))
    return np.array([p.xyz for p in cloud.points3D.values()])


def test_bundler_reprojects(tmp_path: Path) -> None:
    ground_truth = scene(tmp_path, "RADIAL", [60.0, 31.0, 25.0, 0.05, -0.02])
    path = run(tmp_path, "bundler")
    names = (path.parent / "list.txt").read_text().splitlines()
    words = path.read_text().splitlines()[1:]
    assert words[0] == f"3 {len(ground_truth.points3D)}"
    cameras = [np.array([float(v) for line in words[1 + 5 * i : 6 + 5 * i] for v in line.split()]) for i in range(3)]
    points = words[16:]
    for point_id, first in zip(sorted(ground_truth.points3D), range(0, len(points), 3), strict=True):
        xyz = np.array(points[first].split(), float)
        track = np.array(points[first + 2].split(), float)
        assert track[0] == ground_truth.points3D[point_id].track.length()
        for row, _, x, y in track[1:].reshape(-1, 4):
            f, k1, k2 = cameras[int(row)][:3]
            X = cameras[int(row)][3:12].reshape(3, 3) @ xyz + cameras[int(row)][12:]
            p = -X[:2] / X[2]  # Bundler's cameras look along -z
            expected = f * (1 + k1 * (p @ p) + k2 * (p @ p) ** 2) * p
            np.testing.assert_allclose((x, y), expected, atol=1e-6)
            image = ground_truth.find_image_with_name(names[int(row)])
            np.testing.assert_allclose((x + 31, 25 - y), image.project_point(xyz), atol=1e-6)


def test_nvm_reprojects(tmp_path: Path) -> None:
    ground_truth = scene(tmp_path, "SIMPLE_RADIAL", [600.0, 31.0, 25.0, 0.5])
    lines = run(tmp_path, "nvm").read_text().splitlines()
    assert lines[0] == "NVM_V3"
    assert lines[2] == "3"
    cameras = [line.split() for line in lines[3:6]]
    points = [np.array(line.split(), float) for line in lines[8 : 8 + int(lines[7])]]
    assert len(points) == len(ground_truth.points3D)
    for point in points:
        for row, _, x, y in point[7:].reshape(-1, 4):
            name, f, w, qx, qy, qz, *rest = cameras[int(row)]
            rotation = pycolmap.Rotation3d(np.array([qx, qy, qz, w], float)).matrix()
            X = rotation @ (point[:3] - np.array(rest[:3], float))
            measured = np.array([x, y]) / float(f)
            ideal = measured * (1 + float(rest[3]) * (measured @ measured))
            np.testing.assert_allclose(ideal, X[:2] / X[2], atol=1e-4)
            assert ground_truth.find_image_with_name(name) is not None


@pytest.mark.parametrize("format", ["text", "nvm", "bundler"])
@pytest.mark.parametrize("name", ["in the old town.png", " first.png", "a\u00a0b.png"])
def test_names_that_text_would_cut_are_refused(tmp_path: Path, name: str, format: str) -> None:
    ground_truth = scene(tmp_path, "SIMPLE_RADIAL", SIMPLE)
    ground_truth.images[1].name = name
    save(ground_truth, tmp_path)
    with pytest.raises(BadFile, match="white space; rename it or use another format") as error:
        run(tmp_path, format)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/tmp/evil.png", "a/../../evil.png", "C:\\evil.png", "..\\evil.png"]
)
@pytest.mark.parametrize("format", ["nerfstudio", "undistorted", "nvm"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, format: str) -> None:
    ground_truth = scene(tmp_path, "PINHOLE", [60.0, 60.0, 32.0, 24.0])
    ground_truth.images[1].name = name
    save(ground_truth, tmp_path)
    with pytest.raises(BadFile, match="leads out"):
        run(tmp_path, format, "deep/er/out")
    assert not list(tmp_path.rglob("evil.png"))


def test_bad_input(tmp_path: Path) -> None:
    ground_truth = scene(tmp_path, "PINHOLE", [60.0, 60.0, 32.0, 24.0])
    with pytest.raises(BadOption, match="nerfstudio, undistorted"):
        run(tmp_path, "fbx")
    with pytest.raises(BadOption, match="overlaps"):
        export(ExportSource(tmp_path / "model", tmp_path / "photos"), tmp_path / "photos", "nerfstudio")
    with pytest.raises(BadFile, match="is no COLMAP model"):
        export(ExportSource(tmp_path / "photos", tmp_path / "photos"), tmp_path / "out", "ply")
    first = tmp_path / "photos" / ground_truth.images[1].name
    Image.new("RGB", (20, 20)).save(first)
    for format in ("nerfstudio", "undistorted"):
        with pytest.raises(BadImage, match="20x20 px, but its camera has 64x48"):
            run(tmp_path, format)
    first.unlink()
    with pytest.raises(BadImage, match="no such file"):
        run(tmp_path, "nerfstudio")
    (tmp_path / "file").touch()
    with pytest.raises(BadFile, match="file: is a file; give a folder for the export"):
        run(tmp_path, "ply", "file")
    (tmp_path / "empty").mkdir()
    pycolmap.Reconstruction().write(str(tmp_path / "empty"))
    with pytest.raises(BadFile, match="no registered image"):
        export(ExportSource(tmp_path / "empty", tmp_path / "photos"), tmp_path / "out", "ply")
    assert list(EXPORTS.built_in) == ["nerfstudio", "undistorted", "ply", "text", "nvm", "bundler", "geo", "hloc"]


def test_png_can_be_written_after_pycolmap_is_loaded() -> None:
    """pycolmap's own zlib, loaded before Python's, makes Pillow crash; sfm/__init__.py sees to the order."""
    code = "import sfm, pycolmap, io; from PIL import Image; Image.new('RGB', (64, 64)).save(io.BytesIO(), 'PNG')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0
