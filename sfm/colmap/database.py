"""COLMAP's database with our keypoints, verified matches and two-view geometries.

Image ids are the images' order from 1, frames have the ids of their (first) images, and each camera is the
only sensor of a rig of its own, but for those of the rigs that are given. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pycolmap

from sfm.colmap.camera import prior_camera
from sfm.colmap.pose_priors import write_pose_priors
from sfm.types import CameraRig, ImageRecord, KeypointMatches, Keypoints, TwoViewGeometry

NO_CAMERAS: Mapping[int, pycolmap.Camera] = MappingProxyType({})


def write_colmap_database(
    path: Path,
    images: Sequence[ImageRecord],
    keypoints: Sequence[Keypoints],
    geometries: Sequence[TwoViewGeometry],
    matches: Sequence[KeypointMatches],
    rigs: Sequence[CameraRig] = (),
    cameras: Mapping[int, pycolmap.Camera] = NO_CAMERAS,
) -> None:
    """A new COLMAP database with cameras, rigs, frames, images, keypoints and verified matches.

    keypoints: of each image, in the images' order. geometries: at least of every pair of `matches`. rigs: of images
    whose camera group is one of a single camera of the rig. cameras: by id, of a finished model; those of the images'
    priors otherwise. Whether a focal length is a prior, the images say.
    Raises RuntimeError where the disk is full. Without a transaction: pycolmap's ends the process there, as it commits
    in a destructor. It would save 0.08 ms a pair.
    """
    _remove(path)
    database = pycolmap.Database.open(path)
    try:
        mounted = frozenset[str]().union(*(rig.names for rig in rigs))
        ids = _write_cameras(database, images, mounted, cameras)
        for i, record in enumerate(images):
            camera_id = ids[record.camera.group]
            image = pycolmap.Image(name=record.name, camera_id=camera_id, image_id=i + 1)
            database.write_image(image, use_image_id=True)
            if record.name not in mounted:
                _write_frame(database, i + 1, camera_id, [image])
            database.write_keypoints(i + 1, np.ascontiguousarray(keypoints[i].xy, np.float32))
        for rig in rigs:
            _write_rig(database, rig, images, ids)
        write_pose_priors(database, images)
        _write_matches(database, {record.name: i + 1 for i, record in enumerate(images)}, geometries, matches)
    finally:
        database.close()


def write_model_database(
    path: Path,
    model: pycolmap.Reconstruction,
    geometries: Sequence[TwoViewGeometry],
    matches: Sequence[KeypointMatches],
) -> None:
    """A new COLMAP database of a model's own cameras, rigs, frames, images and keypoints, with their ids.

    geometries, matches: of pairs of its images, by name. Raises RuntimeError where the disk is full.
    """
    _remove(path)
    database = pycolmap.Database.open(path)
    try:
        for camera in model.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for rig in model.rigs.values():
            database.write_rig(rig, use_rig_id=True)
        for image_id, image in model.images.items():
            named = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image_id)
            database.write_image(named, use_image_id=True)
            xy = np.array([point.xy for point in image.points2D], np.float32).reshape(-1, 2)
            database.write_keypoints(image_id, xy)
        for frame in model.frames.values():
            database.write_frame(frame, use_frame_id=True)
        _write_matches(database, {image.name: i for i, image in model.images.items()}, geometries, matches)
    finally:
        database.close()


def place_database(source: Path, target: Path) -> None:
    """Moves a database to where it belongs, without what another one has left there."""
    _remove(target)
    os.replace(source, target)


def _remove(path: Path) -> None:
    """Removes a database, and the journals that SQLite would carry out on the next one of its name."""
    for end in ("-journal", "-wal", "-shm", ""):
        path.with_name(path.name + end).unlink(missing_ok=True)


def camera_ids(images: Sequence[ImageRecord]) -> dict[str, int]:
    """Camera ids by group, from 1 in order of first use."""
    return {group: i + 1 for i, group in enumerate(dict.fromkeys(record.camera.group for record in images))}


def rig_ids(images: Sequence[ImageRecord], rigs: Sequence[CameraRig]) -> set[int]:
    """Ids of rigs of several cameras: of each the id of its first camera that took any of the images."""
    ids, groups = camera_ids(images), {record.name: record.camera.group for record in images}
    return {ids[groups[_members(rig, groups)[0][1]]] for rig in rigs}


def _members(rig: CameraRig, names: Collection[str]) -> list[tuple[int, str]]:
    """The cameras of a rig that took any of these images, and one image of each."""
    first = (next((f[k] for f in rig.frames if f[k] in names), None) for k in range(len(rig.prefixes)))
    return [(k, name) for k, name in enumerate(first) if name is not None]


def _write_cameras(
    database: pycolmap.Database,
    images: Sequence[ImageRecord],
    mounted: frozenset[str],
    final: Mapping[int, pycolmap.Camera],
) -> dict[str, int]:
    """One camera for each group, and one rig of it unless its images are mounted in another; camera ids by group."""
    ids = camera_ids(images)
    of_group = {record.camera.group: record for record in reversed(images)}  # the first
    for group, camera_id in ids.items():
        record = of_group[group]
        camera = prior_camera(record, camera_id)
        if camera_id in final:
            camera = pycolmap.Camera(final[camera_id].todict())
            camera.has_prior_focal_length = record.camera.has_focal_prior
        database.write_camera(camera, use_camera_id=True)
        if record.name not in mounted:
            rig = pycolmap.Rig(rig_id=camera_id)
            rig.add_ref_sensor(camera.sensor_id)
            database.write_rig(rig, use_rig_id=True)
    return ids


def _write_rig(
    database: pycolmap.Database, own: CameraRig, images: Sequence[ImageRecord], cameras: Mapping[str, int]
) -> None:
    """A rig, by the id of its reference camera, and its frames."""
    image_ids = {record.name: i + 1 for i, record in enumerate(images)}
    assert own.cam_from_rig is not None  # COLMAP registers no others
    used = _members(own, image_ids)
    sensors = [cameras[images[image_ids[name] - 1].camera.group] for _, name in used]
    reference = pycolmap.Rigid3d(own.cam_from_rig[used[0][0]]).inverse()
    rig = pycolmap.Rig(rig_id=sensors[0])
    rig.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, sensors[0]))
    for (k, _), camera_id in zip(used[1:], sensors[1:], strict=True):
        cam_from_reference = pycolmap.Rigid3d(own.cam_from_rig[k]) * reference
        rig.add_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera_id), cam_from_reference)
    database.write_rig(rig, use_rig_id=True)
    for frame in own.frames:
        members = [
            pycolmap.Image(name=name, camera_id=camera_id, image_id=image_ids[name])
            for (k, _), camera_id in zip(used, sensors, strict=True)
            if (name := frame[k]) is not None and name in image_ids
        ]
        if members:
            _write_frame(database, min(image.image_id for image in members), sensors[0], members)


def _write_frame(database: pycolmap.Database, frame_id: int, rig_id: int, images: Sequence[pycolmap.Image]) -> None:
    frame = pycolmap.Frame(frame_id=frame_id, rig_id=rig_id)
    for image in images:
        frame.add_data_id(image.data_id)
    database.write_frame(frame, use_frame_id=True)


def _write_matches(
    database: pycolmap.Database,
    image_id: Mapping[str, int],
    geometries: Sequence[TwoViewGeometry],
    matches: Sequence[KeypointMatches],
) -> None:
    geometry_of = {geometry.pair: geometry for geometry in geometries}
    for own in matches:
        if len(own.indices) == 0:
            continue
        geometry = geometry_of[own.pair]
        ids = image_id[own.pair.name0], image_id[own.pair.name1]
        two_view = pycolmap.TwoViewGeometry()
        two_view.config = int(getattr(pycolmap.TwoViewGeometryConfiguration, geometry.kind.upper()))
        two_view.inlier_matches = own.indices
        if geometry.F is not None:
            two_view.F = geometry.F
        if geometry.cam1_from_cam0 is not None:
            two_view.cam2_from_cam1 = pycolmap.Rigid3d(geometry.cam1_from_cam0)
        database.write_matches(*ids, own.indices)
        database.write_two_view_geometry(*ids, two_view)
