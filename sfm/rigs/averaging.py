"""How cameras are mounted, from a model in which each image has a pose of its own; and whether they are mounted at all.

Each frame in which two of the cameras are registered measures how one is mounted to the other. What most frames say
holds: the measurement that is nearest to all others, then the mean of those that are near to it. Cameras that share no
frame with the reference are reached over others. If cameras are rigid, all frames say the same, but for the errors of
the poses; how far they are from saying so is measured too, and compared with how far apart frames and cameras are.

Rotations are averaged as matrices, projected onto the rotations (Hartley, Trumpf, Dai and Li, Rotation Averaging, IJCV
2013, section 5.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfm.geometry.poses import rotation_angle_deg
from sfm.types import CameraRig, Float64

Poses = Mapping[str, Float64]  # cam_from_world (3, 4) by image name

MIN_FRAMES = 2  # with at least two registered cameras: one says nothing of whether they are rigid
# Of the measurements, those within so many medians of the nearest to all count for the mean.
NEAR = 2.5
# A rig's median deviations: of rotations, degrees, and of centres, of the median distance between frames or cameras.
# Few images and unknown lenses make poses that are off by degrees; folders that are no rig differ by tens of them, or
# where they point the same way, in their centres as much as their frames do. A model with the rig decides in the end.
MAX_ROTATION_DEG, MAX_OFFSET = 10.0, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredRig:
    """What a model says of a rig. cam_from_rig: by camera (row of the rig's prefixes), of those that are measured, the
    reference among them. num_frames: with at least two registered cameras. rotation_deg, offset: median deviations of
    the measurements; of centres in units of the model, and extent what they are compared with, in the same."""

    reference: int
    cam_from_rig: Mapping[int, Float64]
    num_frames: int
    rotation_deg: float
    offset: float
    extent: float

    @property
    def is_rigid(self) -> bool:
        """Whether the frames agree on how the cameras are mounted."""
        enough = self.num_frames >= MIN_FRAMES and len(self.cam_from_rig) >= 2
        return enough and self.rotation_deg <= MAX_ROTATION_DEG and self.offset <= MAX_OFFSET * self.extent


def measure_rig(rig: CameraRig, poses: Poses) -> MeasuredRig:
    """How the cameras of a rig are mounted in a model with these poses."""
    seen = [{k: poses[name] for k, name in rig.taken(frame).items() if name in poses} for frame in rig.frames]
    together = [frame for frame in seen if len(frame) >= 2]
    counts = [sum(k in frame for frame in together) for k in range(len(rig.prefixes))]
    reference = int(np.argmax(counts))
    mounted: dict[int, Float64] = {reference: np.eye(4)}
    rotations: list[float] = []
    offsets: list[float] = []
    while len(mounted) < len(rig.prefixes):
        measured = {k: _measurements(k, together, mounted) for k in range(len(rig.prefixes)) if k not in mounted}
        best = max(measured, key=lambda k: len(measured[k]))
        if not measured[best]:
            break
        mounted[best] = average(measured[best])
        rotations += [_turn(pose, mounted[best]) for pose in measured[best]]
        offsets += [_offset(pose, mounted[best]) for pose in measured[best]]
    bodies = [_body(frame, mounted) for frame in together]
    return MeasuredRig(
        reference,
        {k: pose[:3] for k, pose in mounted.items()},
        len(together),
        float(np.median(rotations)) if rotations else np.inf,
        float(np.median(offsets)) if offsets else np.inf,
        _extent(bodies, list(mounted.values())),
    )


def frame_pose(frame: Mapping[int, Float64], mounted: Mapping[int, Float64]) -> Float64 | None:
    """rig_from_world (3, 4) of a frame: what its registered cameras say, averaged; None where none is mounted.

    frame: cam_from_world by camera. mounted: cam_from_rig by camera. All (3, 4).
    """
    says = [inverse(square(mounted[k])) @ square(pose) for k, pose in frame.items() if k in mounted]
    return average(says)[:3] if says else None


def average(poses: Sequence[Float64]) -> Float64:
    """(4, 4) what most of some poses (4, 4) say: the mean of those that are near to the one nearest to all."""
    rotations = np.array([pose[:3, :3] for pose in poses])
    centres = np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])
    turns = np.array([rotation_angle_deg(rotations @ rotation.T) for rotation in rotations])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    distance = turns / max(float(np.median(turns)), 1e-9) + apart / max(float(np.median(apart)), 1e-12)
    from_middle = distance[np.median(distance, axis=1).argmin()]
    near = from_middle <= NEAR * max(float(np.median(from_middle)), 1e-9)
    U, _, Vt = np.linalg.svd(rotations[near].mean(axis=0))
    result = np.eye(4)
    result[:3, :3] = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    result[:3, 3] = -result[:3, :3] @ centres[near].mean(axis=0)
    return result


def square(pose: Float64) -> Float64:
    """(4, 4) of a pose (3, 4) or (4, 4)."""
    return np.vstack([pose[:3], [0.0, 0.0, 0.0, 1.0]])


def inverse(pose: Float64) -> Float64:
    """(4, 4) of a pose (4, 4)."""
    result = np.eye(4)
    result[:3, :3] = pose[:3, :3].T
    result[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return result


def _measurements(
    camera: int, frames: Sequence[Mapping[int, Float64]], mounted: Mapping[int, Float64]
) -> list[Float64]:
    """cam_from_rig (4, 4) of a camera, by each frame in which it is registered with some that are mounted."""
    found = []
    for frame in frames:
        body = _body({k: pose for k, pose in frame.items() if k in mounted}, mounted)
        if camera in frame and body is not None:
            found.append(square(frame[camera]) @ inverse(body))
    return found


def _body(frame: Mapping[int, Float64], mounted: Mapping[int, Float64]) -> Float64 | None:
    pose = frame_pose(frame, mounted)
    return None if pose is None else square(pose)


def _turn(pose: Float64, other: Float64) -> float:
    return float(rotation_angle_deg(pose[:3, :3] @ other[:3, :3].T))


def _offset(pose: Float64, other: Float64) -> float:
    return float(np.linalg.norm(inverse(pose)[:3, 3] - inverse(other)[:3, 3]))


def _extent(bodies: Sequence[Float64 | None], mounted: Sequence[Float64]) -> float:
    """The larger of the median distances between frames, and between cameras of a frame."""
    sets = [[inverse(pose)[:3, 3] for pose in poses if pose is not None] for poses in (bodies, mounted)]
    medians = [[float(np.linalg.norm(a - b)) for i, a in enumerate(own) for b in own[:i]] for own in sets]
    return max((float(np.median(own)) for own in medians if own), default=0.0)
