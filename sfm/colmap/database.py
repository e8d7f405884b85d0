"""COLMAP's database with our keypoints, verified matches and two-view geometries.

Image ids are the images' order from 1, frames have the ids of their images, and each camera is the
only sensor of a rig of its own. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pycolmap

from sfm.colmap.camera import prior_camera
from sfm.types import ImageRecord, KeypointMatches, Keypoints, TwoViewGeometry

NO_CAMERAS: Mapping[int, pycolmap.Camera] = MappingProxyType({})


def write_colmap_database(
    path: Path,
    images: Sequence[ImageRecord],
    keypoints: Sequence[Keypoints],
    geometries: Sequence[TwoViewGeometry],
    matches: Sequence[KeypointMatches],
    cameras: Mapping[int, pycolmap.Camera] = NO_CAMERAS,
) -> None:
    """A new COLMAP database with cameras, rigs, frames, images, keypoints and verified matches.

    keypoints: of each image, in the images' order. geometries: at least of every pair of `matches`. cameras: by id, of
    a finished model; those of the images' priors otherwise. Whether a focal length is a prior, the images say.
    Raises RuntimeError where the disk is full. Without a transaction: pycolmap's ends the process there, as it commits
    in a destructor. It would save 0.08 ms a pair.
    """
    _remove(path)
    database = pycolmap.Database.open(path)
    try:
        camera_ids = _write_cameras(database, images, cameras)
        for i, (record, own) in enumerate(zip(images, keypoints, strict=True)):
            _write_image(database, i + 1, camera_ids[record.camera.group], record.name)
            database.write_keypoints(i + 1, np.ascontiguousarray(own.xy, np.float32))
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


def _write_cameras(
    database: pycolmap.Database, images: Sequence[ImageRecord], final: Mapping[int, pycolmap.Camera]
) -> dict[str, int]:
    """One camera and one rig of it for each group; camera ids by group, from 1 in order of first use."""
    ids: dict[str, int] = {}
    for record in images:
        if record.camera.group in ids:
            continue
        camera_id = len(ids) + 1
        ids[record.camera.group] = camera_id
        camera = prior_camera(record, camera_id)
        if camera_id in final:
            camera = pycolmap.Camera(final[camera_id].todict())
            camera.has_prior_focal_length = record.camera.has_focal_prior
        database.write_camera(camera, use_camera_id=True)
        rig = pycolmap.Rig(rig_id=camera_id)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
    return ids


def _write_image(database: pycolmap.Database, image_id: int, camera_id: int, name: str) -> None:
    image = pycolmap.Image(name=name, camera_id=camera_id, image_id=image_id)
    database.write_image(image, use_image_id=True)
    frame = pycolmap.Frame(frame_id=image_id, rig_id=camera_id)
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
