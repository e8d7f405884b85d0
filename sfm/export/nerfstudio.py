"""nerfstudio: transforms.json, images/ and sparse_pc.ply, as its own COLMAP converter lays them out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm.errors import BadFile
from sfm.export.images.masks import has_masks, read_or_white, remove_masks, write_mask
from sfm.export.images.reduction import reduce_image, reduced_camera, reduced_size
from sfm.export.ply import points_of, write_ply
from sfm.export.source import GL_FROM_CV, ExportSource, protect_images, registered_images, size_of
from sfm.export.upright_copies import copy_format, name_of_copy, place_upright
from sfm.georeferencing.frame import read_frame
from sfm.system.safe_paths import refuse_links
from sfm.types import Float64

if TYPE_CHECKING:
    import pycolmap

# nerfstudio's world: x' = x, y' = z, z' = -y, so that a camera's up is roughly the world's z
_APPLIED_TRANSFORM = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])

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


def nerfstudio(source: ExportSource, dest: Path) -> Path:
    """transforms.json and what it names. A geographic frame, whose z is up already, stays as it is."""
    model, images_dir = source.model(), source.images_dir()
    frame = read_frame(source.model_dir)
    applied = _APPLIED_TRANSFORM if frame is None or frame.origin is None else np.eye(3, 4)
    refuse_links(dest, ["images", "masks", "transforms.json", "sparse_pc.ply"])
    protect_images(images_dir, dest / "images")
    images = registered_images(model)
    intrinsics = {
        i: _nerfstudio_camera(reduced_camera(model.cameras[i], source.max_size), dest)
        for i in {image.camera_id for image in images}
    }
    kinds = {camera["camera_model"] for camera in intrinsics.values()}
    if len(kinds) > 1:
        raise BadFile(
            f"{dest}: nerfstudio knows one kind of lens a scene, this model has two; use the undistorted format"
        )
    names = _place_images(source, images, images_dir, dest)
    masks = _write_masks(source, images, names, dest)
    shared = next(iter(intrinsics.values())) if len(intrinsics) == 1 else {"camera_model": kinds.pop()}
    frames = [
        {
            "file_path": f"images/{names[image.name]}",
            "transform_matrix": _nerfstudio_pose(image, applied).tolist(),
            **({"mask_path": masks[image.name]} if masks else {}),
            "colmap_im_id": image.image_id,
            **(intrinsics[image.camera_id] if len(intrinsics) > 1 else {}),
        }
        for image in images
    ]
    xyz, rgb = points_of(model)
    write_ply(dest / "sparse_pc.ply", xyz @ applied[:, :3].T, rgb)
    document = {
        **shared,
        "frames": frames,
        "applied_transform": applied.tolist(),
        "ply_file_path": "sparse_pc.ply",
    }
    path = dest / "transforms.json"
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


def _place_images(
    source: ExportSource, images: Sequence[pycolmap.Image], images_dir: Path, dest: Path
) -> dict[str, str]:
    """Upright copies of the images in formats that are widely read; their names by those of the images."""
    names, taken, ranges = {}, {image.name for image in images}, source.value_ranges()
    for image in images:
        path, size = images_dir / image.name, size_of(image)
        format = copy_format(path, size)
        name = names[image.name] = name_of_copy(image.name, format, taken)
        place_upright(path, dest / "images" / name, size, format=format, value_range=ranges.get(image.name))
        reduce_image(dest / "images" / name, reduced_size(*size, source.max_size))
    return names


def _write_masks(
    source: ExportSource, images: Sequence[pycolmap.Image], names: Mapping[str, str], dest: Path
) -> dict[str, str]:
    """The masks' paths by the images' names; none where there are no masks. names: of the images' copies."""
    folder = source.masks_dir()
    remove_masks(dest, names.values())
    if folder is None or not has_masks(folder, [image.name for image in images]):
        return {}
    found = {}
    for image in images:
        values = read_or_white(folder, image.name, size_of(image))
        size = reduced_size(*size_of(image), source.max_size)
        found[image.name] = write_mask(values, dest, names[image.name], size)
    return found


def _nerfstudio_camera(camera: pycolmap.Camera, dest: Path) -> dict[str, Any]:
    """Intrinsics in nerfstudio's names, px; pixel origin at the corner in both."""
    fisheye = camera.model_name in _FISHEYE
    names = _FISHEYE.get(camera.model_name) or _PERSPECTIVE.get(camera.model_name)
    if names is None:
        raise BadFile(
            f"{dest}: nerfstudio cannot read cameras of model {camera.model_name}; use the undistorted format"
        )
    values = dict(zip(names, map(float, camera.params), strict=True))
    if "f" in values:
        values["fl_x"] = values["fl_y"] = values.pop("f")
    zeros = dict.fromkeys(("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2"), 0.0)
    kind = "OPENCV_FISHEYE" if fisheye else "OPENCV"
    return {"w": camera.width, "h": camera.height, **zeros, **values, "camera_model": kind}


def _nerfstudio_pose(image: pycolmap.Image, applied: Float64) -> Float64:
    """(4, 4) nerfstudio's world from OpenGL camera. applied: (3, 4), its world from the model's."""
    world_from_cv = np.vstack([image.cam_from_world().inverse().matrix(), [0, 0, 0, 1]])
    pose: Float64 = np.vstack([applied, [0, 0, 0, 1]]) @ world_from_cv @ GL_FROM_CV
    return pose
