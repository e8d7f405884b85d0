"""Rigs in mapping: those whose poses are known from the start, and those that a finished model determines.

The faces of panoramas are mapped as rigs from the start. Of others nothing is taken for granted: the images are mapped
each with a pose of its own, and where the frames of that model agree on how the cameras are mounted
(sfm.rigs.averaging), the model is made again with one pose a frame. Images that were missing get theirs through the
rig, and all is adjusted. What fits no worse is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.camera import prior_camera
from sfm.colmap.database import camera_ids
from sfm.colmap.log import quiet
from sfm.colmap.rig_models import with_rigs
from sfm.geometry.poses import relative_pose, rotation_angle_deg
from sfm.mapping.colmap_mapper import incremental_options
from sfm.mapping.equal_cameras import cameras_as_mapped
from sfm.mapping.inputs import Attempt, MappingInput, write_database
from sfm.options import MappingOptions
from sfm.rigs.averaging import MAX_OFFSET, MAX_ROTATION_DEG, MeasuredRig, frame_pose, measure_rig, square
from sfm.types import CameraPrior, CameraRig, Float64

# Of the support of the free model that one with the rig must have. Poses that are free fit a little more, and wrong
# matches too; but cameras that are no rig lose most of what one of them sees.
FEWEST_KEPT = 0.75
ROUNDS = 3  # of registration and adjustment


def with_known_rigs(data: MappingInput, rigs: Sequence[CameraRig]) -> MappingInput:
    """The input with the rigs of which mapping needs to know from the start: cameras in one place, whose poses in the
    rig and whose intrinsics are known, as the faces of panoramas are."""
    central = tuple(rig for rig in rigs if rig.fixed and rig.is_central)
    mounted = frozenset[str]().union(*(rig.names for rig in central))
    known = frozenset(record.camera.group for record in data.images if record.name in mounted)
    return replace(data, rigs=central, known_groups=known)


def known_cameras(data: MappingInput, model: pycolmap.Reconstruction) -> frozenset[int]:
    """Ids of a model's cameras whose intrinsics are known."""
    group_of = {record.name: record.camera.group for record in data.images}
    images = (model.images[i] for i in model.reg_image_ids())
    return frozenset(image.camera_id for image in images if group_of[image.name] in data.known_groups)


def fixed_rigs(data: MappingInput, model: pycolmap.Reconstruction) -> frozenset[int]:
    """Ids of a model's rigs in which the cameras' poses are known."""
    mounted = frozenset[str]().union(*(rig.names for rig in data.rigs if rig.fixed))
    images = (model.images[i] for i in model.reg_image_ids())
    return frozenset(model.frames[image.frame_id].rig_id for image in images if image.name in mounted)


def split_cameras(data: MappingInput, rig: CameraRig) -> MappingInput | None:
    """The input in which each camera of the rig has a camera group of its own, as COLMAP needs it; None where the
    images of a camera were taken by several."""
    prefix_of = {name: prefix for frame in rig.frames for name, prefix in zip(frame, rig.prefixes, strict=True) if name}
    groups = {(prefix_of[r.name], r.camera.group) for r in data.images if r.name in prefix_of}
    if len(groups) > len({prefix for prefix, _ in groups}):
        return None

    def own(camera: CameraPrior, name: str) -> CameraPrior:
        return replace(camera, group=f"{camera.group} of {prefix_of[name]}") if name in prefix_of else camera

    return replace(data, images=tuple(replace(r, camera=own(r.camera, r.name)) for r in data.images))


def as_mapped(data: MappingInput, model: pycolmap.Reconstruction, rigs: Sequence[CameraRig]) -> MappingInput:
    """The input with the cameras and the rigs with which a model was made of it, as the model has them now."""
    data = cameras_as_mapped(data, model)
    for rig in rigs:
        if rig.fixed and rig.is_central:
            continue
        split = split_cameras(data, rig)
        poses = {} if split is None else _mounted_poses(split, model, rig)
        if split is not None and len(poses) > 1:
            data = replace(split, rigs=(*split.rigs, _part_of(rig, poses)))
    return data


def _mounted_poses(split: MappingInput, model: pycolmap.Reconstruction, rig: CameraRig) -> dict[int, Float64]:
    """cam_from_rig (3, 4) in a model of each camera of a rig (row of its prefixes) that is mounted there."""
    ids, group_of = camera_ids(split.images), {record.name: record.camera.group for record in split.images}
    result = {}
    for k in range(len(rig.prefixes)):
        name = next((frame[k] for frame in rig.frames if frame[k] in group_of), None)
        sensor = pycolmap.sensor_t(pycolmap.SensorType.CAMERA, ids[group_of[name]]) if name is not None else None
        own = next((r for r in model.rigs.values() if sensor is not None and r.has_sensor(sensor)), None)
        if own is None or own.num_sensors() < 2 or sensor is None:
            continue
        reference = own.is_ref_sensor(sensor)
        result[k] = np.eye(4)[:3] if reference else np.array(own.sensor_from_rig(sensor).matrix())
    first = min(result, key=lambda k: not np.array_equal(result[k], np.eye(4)[:3]), default=None)
    return {} if first is None else {first: result[first], **result}


def with_poses_of(data: MappingInput, model: pycolmap.Reconstruction) -> MappingInput:
    """The input with the poses of cameras in rigs as a model has them now."""
    rigs = []
    for rig in data.rigs:
        poses = {} if rig.fixed else _mounted_poses(data, model, rig)
        rigs.append(_part_of(rig, poses) if len(poses) == len(rig.prefixes) else rig)
    return replace(data, rigs=tuple(rigs))


def _part_of(rig: CameraRig, poses: Mapping[int, Float64]) -> CameraRig:
    """The rig of some of its cameras only, in the order of their poses."""
    frames = tuple(own for frame in rig.frames if any(own := tuple(frame[k] for k in poses)))
    return CameraRig(tuple(rig.prefixes[k] for k in poses), frames, tuple(poses.values()), rig.fixed)


# --- a rig that a model determines -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class MountedModel:
    """A model with a rig, the input that it was made of, and a line about the rig. model: None where it is none."""

    model: pycolmap.Reconstruction | None
    data: MappingInput
    note: str


def mount(
    free: pycolmap.Reconstruction,
    data: MappingInput,
    rig: CameraRig,
    attempt: Attempt,
    options: MappingOptions,
    path: Path,
    *,
    equal_cameras: bool,
) -> MountedModel:
    """A model in which the cameras of a rig have one pose a frame, made of one in which each image has its own.

    data: that the free model was made of. attempt: with the thresholds of registration. path: of the new COLMAP
    database. equal_cameras: those of the rig have one calibration.
    """
    what = describe_rig(rig)
    measured = measure_rig(
        rig, {free.image(i).name: free.image(i).cam_from_world().matrix() for i in free.reg_image_ids()}
    )
    if not measured.is_rigid:
        return MountedModel(None, data, f"{what}: {_why_not(measured)}; each image has a pose of its own")
    split = split_cameras(data, rig)
    if split is None:
        reason = "images of one of them were taken by several cameras, or are of several sizes"
        return MountedModel(None, data, f"{what}: {reason}; each image has a pose of its own")
    scale, poses = _poses_of(rig, measured)
    if poses is None:
        reason = "the model contradicts the given poses in the rig"
        return MountedModel(None, data, f"{what}: {reason}; each image has a pose of its own")
    model = pycolmap.Reconstruction(free)
    if scale != 1.0:
        model.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(), np.zeros(3)))
    part = _part_of(rig, poses)
    split = _with_cameras_of(replace(split, rigs=(*split.rigs, part)), free)
    start = _start(model, split, part)
    write_database(path, split)
    attempt = replace(attempt, data=split)
    if equal_cameras:
        _grow_equal(start, attempt, options, path)
    else:
        _grow(start, attempt, options, path)
    of = (
        "given poses"
        if rig.fixed
        else f"mounted within {measured.rotation_deg:.1f} degrees by {measured.num_frames} frames"
    )
    return MountedModel(start, split, f"{what}: {len(poses)} cameras are a rig, {of}")


def describe_rig(rig: CameraRig) -> str:
    """Its folders, in a few words."""
    some = ", ".join(sorted(rig.prefixes)[:6]) + (", ..." if len(rig.prefixes) > 6 else "")
    return f"{some} of equal file names"


def _why_not(measured: MeasuredRig) -> str:
    if measured.num_frames < 2:
        return f"only {measured.num_frames} times show images of two of them in the model, too few to see a rig in it"
    return (
        f"no rig, the cameras move against each other (by {measured.rotation_deg:.1f} degrees, and by "
        f"{measured.offset / max(measured.extent, 1e-12):.0%} of the distance between times)"
    )


def _poses_of(rig: CameraRig, measured: MeasuredRig) -> tuple[float, dict[int, Float64] | None]:
    """Factor from the model's unit to the rig's, and cam_from_rig (3, 4) of the cameras that are measured, the
    reference first. None where poses that are given are not what the model says."""
    own = {measured.reference: measured.cam_from_rig[measured.reference], **measured.cam_from_rig}
    if not rig.fixed or rig.cam_from_rig is None:
        return 1.0, own
    given = {k: relative_pose(rig.cam_from_rig[measured.reference], rig.cam_from_rig[k]) for k in own}
    lengths = [(np.linalg.norm(given[k][:, 3]), np.linalg.norm(own[k][:, 3])) for k in own]
    ratios = [is_long / long for is_long, long in lengths if is_long > 0 and long > 0]
    scale = float(np.median(ratios)) if ratios else 1.0
    turns = [float(rotation_angle_deg(given[k][:, :3] @ own[k][:, :3].T)) for k in own]
    centres = [np.linalg.norm(given[k][:, :3].T @ given[k][:, 3] - scale * own[k][:, :3].T @ own[k][:, 3]) for k in own]
    if np.median(turns) > MAX_ROTATION_DEG or np.median(centres) > MAX_OFFSET * scale * measured.extent:
        return scale, None
    return scale, {k: square(pose)[:3] for k, pose in given.items()}


def _with_cameras_of(data: MappingInput, model: pycolmap.Reconstruction) -> MappingInput:
    """The input with the intrinsics that a model found, as priors."""
    found = {model.image(i).name: model.cameras[model.image(i).camera_id] for i in model.reg_image_ids()}
    of_group = {r.camera.group: found[r.name] for r in data.images if r.name in found}
    images = []
    for record in data.images:
        camera = of_group.get(record.camera.group)
        if camera is not None:
            prior = CameraPrior(camera.model.name, np.array(camera.params), True, record.camera.group)
            record = replace(record, camera=prior)
        images.append(record)
    return replace(data, images=tuple(images))


def _start(model: pycolmap.Reconstruction, data: MappingInput, rig: CameraRig) -> pycolmap.Reconstruction:
    """The model with one pose for each frame of the rig of which any image is registered."""
    assert rig.cam_from_rig is not None
    ids, row = camera_ids(data.images), {record.name: i for i, record in enumerate(data.images)}
    cameras = {ids[record.camera.group]: prior_camera(record, ids[record.camera.group]) for record in data.images}
    poses = {model.image(i).name: model.image(i).cam_from_world().matrix() for i in model.reg_image_ids()}
    mounted = dict(enumerate(rig.cam_from_rig))
    frames: list[tuple[list[int], Float64]] = []
    for frame in rig.frames:
        pose = frame_pose({k: poses[name] for k, name in rig.taken(frame).items() if name in poses}, mounted)
        members = [row[name] + 1 for name in rig.taken(frame).values() if name in row]
        if pose is not None:
            frames.append((members, pose))
    inside = {image_id for members, _ in frames for image_id in members}
    images = {
        i: (data.images[i - 1].name, ids[data.images[i - 1].camera.group]) for i in inside | set(model.reg_image_ids())
    }
    points2D = {i: np.asarray(data.keypoints[i - 1].xy, np.float64) for i in images}
    first = {k: name for frame in reversed(rig.frames) for k, name in rig.taken(frame).items() if name in row}
    sensors = [ids[data.images[row[first[k]]].camera.group] for k in mounted]
    return with_rigs(model, cameras, images, points2D, [(dict(zip(sensors, rig.cam_from_rig, strict=True)), frames)])


def _grow_equal(model: pycolmap.Reconstruction, attempt: Attempt, options: MappingOptions, path: Path) -> None:
    """As _grow, of cameras that have one calibration: what most of them say, and in the end all.

    In COLMAP cameras of a rig cannot have one. The rig determines it better than single images did, and refinement
    adjusts it as one.
    """
    ids = camera_ids(attempt.data.images)
    mounted = frozenset(r.camera.group for r in attempt.data.images if r.name in attempt.data.rigs[-1].names)
    held = replace(attempt, data=replace(attempt.data, known_groups=attempt.data.known_groups | mounted))
    for _ in range(ROUNDS):
        for each in (attempt, held):
            _grow(model, each, options, path)
            params = np.median([model.cameras[ids[group]].params for group in sorted(mounted)], axis=0)
            for group in mounted:
                model.cameras[ids[group]].params = params.tolist()


def _grow(model: pycolmap.Reconstruction, attempt: Attempt, options: MappingOptions, path: Path) -> None:
    """Adjusts a model with its rigs, and adds all images that can be registered through them, in place."""
    pipeline = incremental_options(attempt, options)
    mapper_options, triangulation = pipeline.get_mapper(), pipeline.get_triangulation()
    adjustment = pipeline.get_global_bundle_adjustment()
    adjustment.print_summary = False
    database = pycolmap.Database.open(path)
    try:
        with quiet():
            mapper = pycolmap.IncrementalMapper(
                pycolmap.DatabaseCache.create(database, pycolmap.DatabaseCacheOptions())
            )
            mapper.begin_reconstruction(model)
            mapper.iterative_global_refinement(2, 5e-4, mapper_options, adjustment, triangulation, False)
            for _ in range(ROUNDS):
                num = _register(mapper, mapper_options, triangulation)
                for image_id in sorted(model.reg_image_ids()):
                    mapper.triangulate_image(triangulation, image_id)
                mapper.iterative_global_refinement(5, 5e-4, mapper_options, adjustment, triangulation, False)
                mapper.filter_frames(mapper_options)
                if not num:
                    break
            mapper.end_reconstruction(False)
    finally:
        database.close()
    model.update_point_3d_errors()


def _register(
    mapper: pycolmap.IncrementalMapper,
    options: pycolmap.IncrementalMapperOptions,
    triangulation: pycolmap.IncrementalTriangulatorOptions,
) -> int:
    """Registers frames until none can be; how many."""
    num = 0
    while True:
        found = (i for i in mapper.find_next_images(options, False) if mapper.register_next_image(options, i))
        image_id = next(found, None)
        if image_id is None:
            return num
        mapper.triangulate_image(triangulation, image_id)
        num += 1
