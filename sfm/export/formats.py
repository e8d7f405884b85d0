"""A COLMAP model and its photos for other tools: nerfstudio, splats and MVS, PLY, text, NVM, Bundler.

Models refer to photos after their EXIF rotation, but few readers apply it: wherever photos are
handed on, those with an EXIF orientation other than 1 are replaced by upright copies. Image names
may come from a stranger's model: one that leads out of a folder is refused.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.log import quiet
from sfm.colmap.model_reader import RIG_STEMS, STEMS, read_reconstruction
from sfm.errors import BadFile, BadImage, BadOption
from sfm.export.upright_copies import is_foreign, place_upright, pycolmap_reads
from sfm.system.untrusted_files import leads_out_anywhere, refuse_links

MAX_NAME = 255  # bytes of a file's name, on any file system
_WRITTEN = (
    *("images", "sparse", "stereo", "transforms.json", "sparse_pc.ply", "points3D.ply"),
    *("model.nvm", "bundle.out", "list.txt", *(f"{stem}.txt" for stem in (*STEMS, *RIG_STEMS))),
)
# nerfstudio's world: x' = x, y' = z, z' = -y, so that a camera's up is roughly the world's z
_APPLIED_TRANSFORM = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])
_GL_FROM_CV = np.diag([1.0, -1, -1, 1])  # OpenGL cameras look along -z, y up

# Names of a COLMAP model's parameters as nerfstudio has them; "f" is both focal lengths.
_PERSPECTIVE = MappingProxyType(
    {
        "SIMPLE_PINHOLE": ("f", "cx", "cy"),
        "PINHOLE": ("fl_x", "fl_y", "cx", "cy"),
        "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
        "RADIAL": ("f", "cx", "cy", "k1", "k2"),
        "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
    }
)
_FISHEYE = MappingProxyType(
    {
        "SIMPLE_FISHEYE": ("f", "cx", "cy"),
        "FISHEYE": ("fl_x", "fl_y", "cx", "cy"),
        "SIMPLE_RADIAL_FISHEYE": ("f", "cx", "cy", "k1"),
        "RADIAL_FISHEYE": ("f", "cx", "cy", "k1", "k2"),
        "OPENCV_FISHEYE": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4"),
    }
)


def export(model_dir: Path, images_dir: Path, out: Path, format: str) -> Path:
    """Writes the model at model_dir (COLMAP binary or text) as `format`, a key of FORMATS, into folder `out`.

    images_dir: the photos that the model was made from. Returns the file or folder to open. Raises
    BadFile for a model, BadImage for a photo that cannot be used, BadOption for an unknown format
    and for an `out` that would overwrite the photos.
    """
    if format not in FORMATS:
        raise BadOption(f"export format {format!r}: must be one of {', '.join(FORMATS)}")
    model = _read_model(model_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
        refuse_links(out, _WRITTEN)
        return FORMATS[format](model, images_dir, out)
    except OSError as error:
        raise BadFile(
            f"{error.filename or out}: {error.strerror or error}; check the path, space and rights"
        ) from error


def _read_model(model_dir: Path) -> pycolmap.Reconstruction:
    """The model; BadFile when it cannot be read, is empty, or names an image outside its folder."""
    model = read_reconstruction(model_dir)
    if not model.reg_image_ids():
        raise BadFile(f"{model_dir}: no registered image in this model; nothing to export")
    for image in _images(model):
        if leads_out_anywhere(image.name):
            raise BadFile(f"{model_dir}: image {image.name!r} leads out of the image folder; this model is not trusted")
    return model


def _images(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    """Registered images by name."""
    return sorted((model.images[i] for i in model.reg_image_ids()), key=lambda image: image.name)


def _camera(image: pycolmap.Image) -> pycolmap.Camera:
    camera = image.camera
    assert camera is not None  # every image of a model that was read has one
    return camera


def _size(image: pycolmap.Image) -> tuple[int, int]:
    return _camera(image).width, _camera(image).height


def _points(model: pycolmap.Reconstruction) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """xyz (P, 3) f64 in the world and rgb (P, 3) u8, in order of the points' ids."""
    points = [model.points3D[i] for i in sorted(model.points3D)]
    xyz = np.array([p.xyz for p in points], np.float64).reshape(-1, 3)
    return xyz, np.array([p.color for p in points], np.uint8).reshape(-1, 3)


# Photos


def _protect(images_dir: Path, written: Path) -> None:
    """BadOption when writing into `written` could overwrite a photo."""
    source, target = images_dir.resolve(), written.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise BadOption(f"{written}: overlaps the photos in {images_dir}; give another output folder")


# nerfstudio


def _export_nerfstudio(model: pycolmap.Reconstruction, images_dir: Path, out: Path) -> Path:
    """transforms.json, images/ and sparse_pc.ply as nerfstudio's own COLMAP converter lays them out."""
    _protect(images_dir, out / "images")
    images = _images(model)
    intrinsics = {i: _nerfstudio_camera(model.cameras[i], out) for i in {image.camera_id for image in images}}
    kinds = {camera["camera_model"] for camera in intrinsics.values()}
    if len(kinds) > 1:
        raise BadFile(
            f"{out}: nerfstudio knows one kind of lens a scene, this model has two; use the undistorted format"
        )
    for image in images:
        place_upright(images_dir / image.name, out / "images" / image.name, _size(image))
    shared = next(iter(intrinsics.values())) if len(intrinsics) == 1 else {"camera_model": kinds.pop()}
    frames = [
        {
            "file_path": f"images/{image.name}",
            "transform_matrix": _nerfstudio_pose(image).tolist(),
            "colmap_im_id": image.image_id,
            **(intrinsics[image.camera_id] if len(intrinsics) > 1 else {}),
        }
        for image in images
    ]
    xyz, rgb = _points(model)
    _write_ply(out / "sparse_pc.ply", xyz @ _APPLIED_TRANSFORM[:, :3].T, rgb)
    document = {
        **shared,
        "frames": frames,
        "applied_transform": _APPLIED_TRANSFORM.tolist(),
        "ply_file_path": "sparse_pc.ply",
    }
    path = out / "transforms.json"
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


def _nerfstudio_camera(camera: pycolmap.Camera, out: Path) -> dict[str, Any]:
    """Intrinsics in nerfstudio's names, px; pixel origin at the corner in both."""
    fisheye = camera.model_name in _FISHEYE
    names = _FISHEYE.get(camera.model_name) or _PERSPECTIVE.get(camera.model_name)
    if names is None:
        raise BadFile(f"{out}: nerfstudio cannot read cameras of model {camera.model_name}; use the undistorted format")
    values = dict(zip(names, map(float, camera.params), strict=True))
    if "f" in values:
        values["fl_x"] = values["fl_y"] = values.pop("f")
    zeros = dict.fromkeys(("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2"), 0.0)
    kind = "OPENCV_FISHEYE" if fisheye else "OPENCV"
    return {"w": camera.width, "h": camera.height, **zeros, **values, "camera_model": kind}


def _nerfstudio_pose(image: pycolmap.Image) -> NDArray[np.float64]:
    """(4, 4) nerfstudio's world from OpenGL camera."""
    world_from_cv = np.vstack([image.cam_from_world().inverse().matrix(), [0, 0, 0, 1]])
    applied = np.vstack([_APPLIED_TRANSFORM, [0, 0, 0, 1]])
    pose: NDArray[np.float64] = applied @ world_from_cv @ _GL_FROM_CV
    return pose


def _write_ply(path: Path, xyz: NDArray[np.float64], rgb: NDArray[np.uint8]) -> None:
    """Binary PLY of coloured points, (P, 3) f64 and (P, 3) u8."""
    columns = [(axis, "<f4") for axis in "xyz"] + [(colour, "u1") for colour in ("red", "green", "blue")]
    rows = np.zeros(len(xyz), columns)
    for i, (name, _) in enumerate(columns):
        rows[name] = (xyz if i < 3 else rgb)[:, i % 3]
    properties = "".join(f"property {'float' if t == '<f4' else 'uchar'} {name}\n" for name, t in columns)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(xyz)}\n{properties}end_header\n"
    path.write_bytes(head.encode() + rows.tobytes())


# Undistorted COLMAP folder


def _export_undistorted(model: pycolmap.Reconstruction, images_dir: Path, out: Path) -> Path:
    """images/, sparse/ (and sparse/0, where splat trainers look) and stereo/, pinhole cameras only."""
    _protect(images_dir, out / "images")
    images = _images(model)
    with tempfile.TemporaryDirectory(prefix="upright-", dir=out) as folder:
        photos, upright = images_dir, Path(folder)
        if not all(pycolmap_reads(images_dir / image.name, _size(image)) for image in images):
            photos = upright / "photos"
            _upright_copies(images, images_dir, photos)
        model.write(str(upright))
        names = [image.name for image in images]
        for name in names:
            (out / "images" / name).unlink(missing_ok=True)
        threads = 1 if len(names) < 4 else -1
        with quiet(stderr=True):
            pycolmap.undistort_images(str(out), str(upright), str(photos), names, num_threads=threads)
    lost = next((name for name in names if not (out / "images" / name).is_file()), None)
    if lost is not None:
        raise BadImage(f"{images_dir / lost}: could not be undistorted; check that it opens and has the camera's size")
    _copy_model(out / "sparse", out / "sparse" / "0")
    return out


def _upright_copies(images: Sequence[pycolmap.Image], images_dir: Path, photos: Path) -> None:
    """Upright copies that pycolmap reads; an image in another format becomes an 8-bit NAME.png, in the model too."""
    taken = {image.name for image in images}
    for image in images:
        source, name = images_dir / image.name, image.name
        foreign = is_foreign(source, _size(image))
        if foreign and source.suffix.lower() != ".png":
            fits = len(f"{source.name}.png".encode()) <= MAX_NAME
            name = f"{name}.png" if fits else str(PurePosixPath(name).with_suffix(".png"))
            if name in taken:
                raise BadFile(f"{source}: its undistorted copy would overwrite that of {name}; rename one of them")
        place_upright(source, photos / name, _size(image), format="PNG" if foreign else None)
        image.name = name


def _copy_model(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for path in source.glob("*.bin"):
        shutil.copyfile(path, target / path.name)


# PLY and text


def _export_ply(model: pycolmap.Reconstruction, images_dir: Path, out: Path) -> Path:
    path = out / "points3D.ply"
    model.export_PLY(str(path))
    return path


def _export_text(model: pycolmap.Reconstruction, images_dir: Path, out: Path) -> Path:
    _check_white_space(_images(model), "COLMAP's text")
    model.write_text(str(out))
    return out


def _check_white_space(images: Sequence[pycolmap.Image], format: str) -> None:
    """BadFile for a name that readers of the format would end at its first white space."""
    for image in images:
        if any(c.isspace() for c in image.name):
            raise BadFile(
                f"image name {image.name!r}: {format} cannot hold white space; rename it or use another format"
            )


# NVM and Bundler, which pycolmap has no writers for


def _export_nvm(model: pycolmap.Reconstruction, images_dir: Path, out: Path) -> Path:
    """VisualSFM's NVM_V3: focal, quaternion (wxyz), centre, distortion; measurements from the principal point.

    NVM's distortion maps measured to ideal points, COLMAP's ideal to measured: to first order, the sign turns.
    """
    images = _images(model)
    lines = ["NVM_V3", "", str(len(images))]
    _check_white_space(images, "NVM")
    for image in images:
        focal, k1, _ = _one_focal(_camera(image), out, allowed=("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL"))
        x, y, z, w = image.cam_from_world().rotation.quat
        lines.append(f"{image.name} {_row([focal, w, x, y, z, *image.projection_center(), -k1])} 0")
    lines += ["", str(len(model.points3D))]
    lines += [f"{head} {track}" for head, track in _tracks(model, images, separator=" ")]
    return _write_lines(out / "model.nvm", [*lines, "", "0"])


def _export_bundler(model: pycolmap.Reconstruction, images_dir: Path, out: Path) -> Path:
    """bundle.out (Bundler v0.3: OpenGL cameras, pixels from the principal point, y up) and list.txt."""
    images = _images(model)
    lines = ["# Bundle file v0.3", f"{len(images)} {len(model.points3D)}"]
    for image in images:
        focal_and_distortion = _one_focal(
            _camera(image), out, allowed=("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL")
        )
        pose = _GL_FROM_CV[:3, :3] @ image.cam_from_world().matrix()
        lines += [_row(focal_and_distortion), *(_row(row) for row in pose[:, :3]), _row(pose[:, 3])]
    for head, track in _tracks(model, images, separator="\n", y_up=True):
        lines += [head, track]
    _check_white_space(images, "Bundler's list.txt")
    _write_lines(out / "list.txt", [image.name for image in images])
    return _write_lines(out / "bundle.out", lines)


def _one_focal(camera: pycolmap.Camera, out: Path, *, allowed: Sequence[str]) -> tuple[float, float, float]:
    """Focal length (px), k1, k2; BadFile when the format cannot hold the camera."""
    fx, fy = camera.focal_length_x, camera.focal_length_y
    if camera.model_name not in allowed or abs(fx - fy) > 1e-3 * fx:
        raise BadFile(
            f"{out}: this format cannot hold camera {camera.camera_id} ({camera.model_name}); "
            "export it undistorted first"
        )
    distortion = [*(camera.params[i] for i in camera.extra_params_idxs()), 0.0, 0.0]
    return (fx + fy) / 2, distortion[0], distortion[1]


def _tracks(
    model: pycolmap.Reconstruction, images: Sequence[pycolmap.Image], *, separator: str, y_up: bool = False
) -> list[tuple[str, str]]:
    """Of every point: "xyz, separator, rgb", and "length, (image, keypoint, x, y) ..." from the principal point."""
    row_of = {image.image_id: row for row, image in enumerate(images)}
    out = []
    for point_id in sorted(model.points3D):
        point = model.points3D[point_id]
        views = []
        for element in point.track.elements:
            image = model.images[element.image_id]
            camera = _camera(image)
            x, y = image.points2D[element.point2D_idx].xy - np.array(
                [camera.principal_point_x, camera.principal_point_y]
            )
            views.append(f"{row_of[element.image_id]} {element.point2D_idx} {_row([x, -y if y_up else y])}")
        head = _row(point.xyz) + separator + " ".join(str(c) for c in point.color)
        out.append((head, f"{len(views)} {' '.join(views)}"))
    return out


def _row(values: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def _write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


FORMATS: MappingProxyType[str, Callable[[pycolmap.Reconstruction, Path, Path], Path]] = MappingProxyType(
    {
        "nerfstudio": _export_nerfstudio,
        "undistorted": _export_undistorted,
        "ply": _export_ply,
        "text": _export_text,
        "nvm": _export_nvm,
        "bundler": _export_bundler,
    }
)
