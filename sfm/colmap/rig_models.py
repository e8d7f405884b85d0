"""Models with rigs, and the same without: each image with a pose of its own. Pixels are COLMAP's (sfm.types)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pycolmap

from sfm.types import Float64

SAME: Mapping[int, int] = MappingProxyType({})


def has_rigs(model: pycolmap.Reconstruction) -> bool:
    """Whether cameras are mounted together."""
    return any(rig.num_sensors() > 1 for rig in model.rigs.values())


def without_rigs(model: pycolmap.Reconstruction, equal_cameras: Mapping[int, int] = SAME) -> pycolmap.Reconstruction:
    """A copy in which every registered image has a pose of its own; ids of images, cameras and points stay.

    equal_cameras: ids of cameras that are another one, and of that.
    """
    if not has_rigs(model) and not equal_cameras:
        return pycolmap.Reconstruction(model)
    result = pycolmap.Reconstruction()
    for camera_id, camera in model.cameras.items():
        if camera_id not in equal_cameras:
            result.add_camera_with_trivial_rig(camera)
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        own = _copy(image, equal_cameras.get(image.camera_id, image.camera_id))
        result.add_image_with_trivial_frame(own, image.cam_from_world())
    _copy_points(model, result)
    return result


def with_rigs(
    model: pycolmap.Reconstruction,
    cameras: Mapping[int, pycolmap.Camera],
    images: Mapping[int, tuple[str, int]],
    points2D: Mapping[int, Float64],
    rigs: Sequence[tuple[Mapping[int, Float64], Sequence[tuple[Sequence[int], Float64]]]],
) -> pycolmap.Reconstruction:
    """A model in which some cameras are mounted together; ids of images and points stay, all else is new.

    model: with a pose for each image. cameras: by id. images: name and camera id, by image id, of all that shall be in
    the new model; those that are in no rig keep their poses. points2D: (P, 2) px, of images that are not in the model.
    rigs: of each cam_from_rig (3, 4) by camera id, the reference first, and its frames: image ids, rig_from_world.
    """
    result = pycolmap.Reconstruction()
    for camera in cameras.values():
        result.add_camera(camera)
    mounted: set[int] = set()
    for poses, _ in rigs:
        result.add_rig(_rig(poses))
        mounted |= set(poses)
    for camera_id in sorted(set(cameras) - mounted):
        result.add_rig(_rig({camera_id: None}))
    frames = [(list(ids), next(iter(poses)), pose) for poses, own in rigs for ids, pose in own]
    inside = {image_id for ids, _, _ in frames for image_id in ids}
    for image_id in sorted(set(images) - inside):
        pose = model.images[image_id].cam_from_world().matrix()
        frames.append(([image_id], images[image_id][1], pose))
    for ids, rig_id, rig_from_world in frames:
        _add_frame(result, [_image(model, i, images[i], points2D) for i in ids], rig_id, rig_from_world)
    _copy_points(model, result)
    return result


def _rig(poses: Mapping[int, Float64 | None]) -> pycolmap.Rig:
    """A rig by the id of its reference, the first camera."""
    reference, *others = poses
    rig = pycolmap.Rig(rig_id=reference)
    rig.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, reference))
    for camera_id in others:
        sensor, pose = pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera_id), poses[camera_id]
        rig.add_sensor(sensor, pycolmap.Rigid3d(pose) if pose is not None else None)
    return rig


def _add_frame(
    model: pycolmap.Reconstruction, images: Sequence[pycolmap.Image], rig_id: int, rig_from_world: Float64
) -> None:
    """Adds the images of one time; the frame's id is the least of theirs."""
    frame_id = min(image.image_id for image in images)
    frame = pycolmap.Frame(frame_id=frame_id, rig_id=rig_id)
    for image in images:
        frame.add_data_id(image.data_id)
        image.frame_id = frame_id
    frame.rig_from_world = pycolmap.Rigid3d(rig_from_world)
    model.add_frame(frame)
    for image in images:
        model.add_image(image)
    if frame_id not in model.reg_frame_ids():
        model.register_frame(frame_id)


def _image(
    model: pycolmap.Reconstruction, image_id: int, own: tuple[str, int], points2D: Mapping[int, Float64]
) -> pycolmap.Image:
    name, camera_id = own
    if image_id in model.images:
        return _copy(model.images[image_id], camera_id)
    image = pycolmap.Image(name=name, camera_id=camera_id, image_id=image_id)
    image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in points2D[image_id]])
    return image


def _copy(image: pycolmap.Image, camera_id: int) -> pycolmap.Image:
    own = pycolmap.Image(name=image.name, camera_id=camera_id, image_id=image.image_id)
    own.points2D = pycolmap.Point2DList([pycolmap.Point2D(point.xy) for point in image.points2D])
    return own


def _copy_points(source: pycolmap.Reconstruction, target: pycolmap.Reconstruction) -> None:
    """Points of images that both models have."""
    for point_id, point in source.points3D.items():
        target.add_point3D_with_id(point_id, point)
        for element in point.track.elements:
            target.images[element.image_id].set_point3D_for_point2D(element.point2D_idx, point_id)
