"""How good camera poses and models are, measured against the ground truth.

Poses are cam_from_world, (3, 4) f64, under their image's name. Angles are in degrees. What cannot be measured (an
image without a pose) is infinitely wrong and stays in every statistic. The protocol is that of ETH3D and of the
Image Matching Challenge as Detector-Free SfM has it (He et al., CVPR 2024, section 4.2): the relative poses of all
pairs of the ground truth's images, one curve of recall over their errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import ArrayLike

from sfm.colmap.model_reader import model_folders, read_reconstruction
from sfm.errors import BadFile
from sfm.geometry.poses import rotation_angle_deg
from sfm.geometry.similarity import Similarity as Similarity
from sfm.geometry.similarity import fit_similarity as fit_similarity
from sfm.system.tables import aligned, write_json
from sfm.system.untrusted_files import read_json
from sfm.types import Float64

THRESHOLDS_DEG = (1.0, 3.0, 5.0)
MAX_NAMES = 8  # in a text
NO_BASELINE = 1e-6  # of the ground truth's extent: two centres this close have no direction between them

Poses = Mapping[str, Float64]


@dataclass(frozen=True, slots=True, eq=False)
class PoseErrors:
    """Relative-pose errors of P pairs in degrees: rotation_deg, translation_deg (P,) f64. Pairs with an
    unregistered image are inf, never dropped."""

    rotation_deg: Float64
    translation_deg: Float64

    def __post_init__(self) -> None:
        for name in ("rotation_deg", "translation_deg"):
            array = np.asarray(getattr(self, name), np.float64)
            if array.ndim != 1 or np.isnan(array).any():
                raise ValueError(f"PoseErrors.{name}: shape {array.shape}, expected (P,) without NaN")
            array = array.view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def max_deg(self) -> Float64:
        """(P,) f64, the larger of the two errors."""
        return np.maximum(self.rotation_deg, self.translation_deg)


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """A model without reference to the ground truth. track_length: mean observations a point. reprojection_error: mean
    over points, px, recomputed from poses and points. Both are nan for a model without points."""

    registered: int
    points3D: int
    observations: int
    track_length: float
    reprojection_error: float


@dataclass(frozen=True, slots=True)
class CentreErrors:
    """Distances of camera centres to the ground truth's after a least-squares similarity, in the ground truth's unit.

    extent: the largest distance between two true centres, what `median_relative` is a part of.
    """

    median: float
    max: float
    extent: float
    worst_image: str

    @property
    def median_relative(self) -> float:
        """The median as a part of the extent."""
        return self.median / self.extent


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model against the ground truth. registered of total: images of the ground truth that the model has. auc:
    threshold in degrees to 0..1. pose_error: degrees over all pairs, inf where more than half of them have no pose.
    centres: None where fewer than three common centres, or all on a line, leave the alignment undetermined."""

    registered: int
    total: int
    unregistered: tuple[str, ...]
    auc: dict[float, float]
    pose_error_median_deg: float
    centres: CentreErrors | None
    statistics: ModelStatistics


# Models on disk


def read_model(path: Path, known: Poses | None = None) -> pycolmap.Reconstruction:
    """The model at a path (see model_folders). Of several, the one with most images, counting only known ones.

    Raises BadFile where there is none or it cannot be read.
    """
    models = [read_reconstruction(folder) for folder in model_folders(path)]
    return max(models, key=lambda model: sum(known is None or name in known for name in camera_poses(model)))


def camera_poses(model: pycolmap.Reconstruction) -> dict[str, Float64]:
    """cam_from_world of every registered image, by name and in the order of names."""
    images = (model.image(image_id) for image_id in model.reg_image_ids())
    return {image.name: image.cam_from_world().matrix() for image in sorted(images, key=lambda image: image.name)}


def model_statistics(model: pycolmap.Reconstruction) -> ModelStatistics:
    """Counts and means of a model. Stores the recomputed errors in its points."""
    model.update_point_3d_errors()
    has_points = model.num_points3D() > 0
    return ModelStatistics(
        registered=model.num_reg_images(),
        points3D=model.num_points3D(),
        observations=model.compute_num_observations(),
        track_length=model.compute_mean_track_length() if has_points else float("nan"),
        reprojection_error=model.compute_mean_reprojection_error() if has_points else float("nan"),
    )


# Poses against the ground truth


def pose_errors(poses: Poses, true_poses: Poses) -> PoseErrors:
    """Relative-pose errors of all P = N (N - 1) / 2 pairs of the ground truth's N images, in the order of their names.

    The direction's angle is signed (0..180): a baseline that points backwards is wrong. It is 0 where the true
    centres coincide, 180 where only the estimate's do.
    """
    names = sorted(true_poses)
    posed = np.array([name in poses for name in names], bool)
    true = np.array([true_poses[name] for name in names]).reshape(-1, 3, 4)
    ours = np.array([poses.get(name, true_poses[name]) for name in names]).reshape(-1, 3, 4)
    i, j = np.triu_indices(len(names), k=1)
    true_rotation, true_direction = _relative(true[i], true[j])
    rotation, direction = _relative(ours[i], ours[j])
    rotation_deg = rotation_angle_deg(np.swapaxes(true_rotation, 1, 2) @ rotation)
    direction_deg = _directions_apart_deg(direction, true_direction)
    unmoved = np.linalg.norm(true_direction, axis=1) <= NO_BASELINE * extent(camera_centres(true_poses))
    missing = ~(posed[i] & posed[j])
    return PoseErrors(
        np.where(missing, np.inf, rotation_deg), np.where(missing, np.inf, np.where(unmoved, 0.0, direction_deg))
    )


def _relative(cam0_from_world: Float64, cam1_from_world: Float64) -> tuple[Float64, Float64]:
    """Rotations (P, 3, 3) and translations (P, 3) of cam1_from_cam0, of poses (P, 3, 4)."""
    rotation = cam1_from_world[:, :, :3] @ np.swapaxes(cam0_from_world[:, :, :3], 1, 2)
    return rotation, cam1_from_world[:, :, 3] - np.einsum("prc,pc->pr", rotation, cam0_from_world[:, :, 3])


def _directions_apart_deg(a: Float64, b: Float64) -> Float64:
    """Angles (P,) of vectors (P, 3), 0..180; 180 where one has no length."""
    sine, cosine = np.linalg.norm(np.cross(a, b), axis=1), np.einsum("pi,pi->p", a, b)
    nowhere = ~(a.any(axis=1) & b.any(axis=1))
    return np.where(nowhere, 180.0, np.degrees(np.arctan2(sine, cosine)))


def auc(errors: ArrayLike, threshold: float) -> float:
    """Area under the recall curve from error 0 to the threshold, divided by the threshold: 0..1.

    The curve joins (0, 0) and the points (k-th smallest error, k / number of errors) by straight lines and runs
    level from the last error below the threshold; its area is exact, not binned. errors: (P,), inf allowed. The
    measure of LoFTR (Sun et al., CVPR 2021) and of the benchmarks before it. No errors have an area of 0.
    """
    ordered = np.sort(np.asarray(errors, np.float64))
    if len(ordered) == 0:
        return 0.0
    below = ordered[ordered < threshold]
    recall = np.arange(len(below) + 1) / len(ordered)
    rising = np.diff(below, prepend=0.0) @ (recall[1:] + recall[:-1]) / 2
    level = (threshold - (below[-1] if len(below) else 0.0)) * recall[-1]
    return float((rising + level) / threshold)


# Centres after alignment


def camera_centres(poses: Poses) -> Float64:
    """(N, 3) camera centres in the world, in the order of the mapping."""
    return np.array([-pose[:, :3].T @ pose[:, 3] for pose in poses.values()], np.float64).reshape(-1, 3)


def extent(xyz: Float64) -> float:
    """The largest distance between two of the points (N, 3); 0 for fewer than two."""
    return max((float(np.linalg.norm(xyz[i + 1 :] - xyz[i], axis=1).max()) for i in range(len(xyz) - 1)), default=0.0)


def align(poses: Poses, true_poses: Poses) -> tuple[Similarity, Float64, tuple[str, ...]] | None:
    """Similarity true_from_poses by the common centres, the distances (N,) that it leaves, and the names."""
    names = tuple(sorted(poses.keys() & true_poses.keys()))
    source, target = (camera_centres({name: of[name] for name in names}) for of in (poses, true_poses))
    similarity = fit_similarity(source, target)
    if similarity is None:
        return None
    return similarity, np.linalg.norm(similarity(source) - target, axis=1), names


def centre_errors(poses: Poses, true_poses: Poses) -> CentreErrors | None:
    """Distances of the common camera centres after alignment; None where that is not determined."""
    aligned = align(poses, true_poses)
    if aligned is None:
        return None
    _, distances, names = aligned
    return CentreErrors(
        median=float(np.median(distances)),
        max=float(distances.max()),
        extent=extent(camera_centres(true_poses)),
        worst_image=names[int(distances.argmax())],
    )


# The whole


def evaluate(
    model: pycolmap.Reconstruction, true_poses: Poses, thresholds: Sequence[float] = THRESHOLDS_DEG
) -> Evaluation:
    """A model against true poses."""
    poses = {name: pose for name, pose in camera_poses(model).items() if name in true_poses}
    errors = pose_errors(poses, true_poses).max_deg
    return Evaluation(
        registered=len(poses),
        total=len(true_poses),
        unregistered=tuple(sorted(true_poses.keys() - poses.keys())),
        auc={threshold: auc(errors, threshold) for threshold in thresholds},
        pose_error_median_deg=float(np.median(errors)) if len(errors) else float("inf"),
        centres=centre_errors(poses, true_poses),
        statistics=model_statistics(model),
    )


def read_ground_truth(path: Path) -> dict[str, Float64]:
    """True poses of a COLMAP model. BadFile with fewer than two images, between which nothing can be measured."""
    poses = camera_poses(read_model(path))
    if len(poses) < 2:
        raise BadFile(f"{path}: {len(poses)} posed images; a ground truth needs at least two")
    return poses


def evaluate_folder(path: Path, ground_truth: Path) -> Evaluation:
    """The model at a path against the one at another (see model_folders). BadFile where no image is common."""
    true_poses = read_ground_truth(ground_truth)
    evaluation = evaluate(read_model(path, true_poses), true_poses)
    if evaluation.statistics.registered and not evaluation.registered:
        raise BadFile(f"{path}: none of its images is in {ground_truth}; images are compared by name")
    return evaluation


def report(path: Path, ground_truth: Path, out: Path) -> str:
    """evaluate_folder for people; writes it as JSON as well, into a file of its own for each model and ground truth."""
    evaluation = evaluate_folder(path, ground_truth)
    compared = {"model": str(path), "ground_truth": str(ground_truth)}
    file = _result_file(out, path, compared)
    write_json(file, {**compared, **evaluation_dict(evaluation)})
    return f"{path} against {ground_truth}\n\n{evaluation_text(evaluation)}\n\nwritten: {file}"


def _result_file(out: Path, path: Path, compared: Mapping[str, str]) -> Path:
    """out/model_NAME.json after the model's folder; with a number where that is of another model or ground truth."""
    whole = path.resolve()
    parts = whole.parts[-3:] if whole.parent.name == "sparse" else whole.parts[-1:]
    name = re.sub(r"[^\w.-]+", "_", "_".join(parts))[:100] or "model"
    for number in count(1):
        file = out / (f"model_{name}.json" if number == 1 else f"model_{name}_{number}.json")
        if not file.exists() or _is_of(file, compared):
            return file
    raise AssertionError("count ends")


def _is_of(file: Path, compared: Mapping[str, str]) -> bool:
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and all(found.get(name) == value for name, value in compared.items())


def evaluation_text(evaluation: Evaluation) -> str:
    """The evaluation for people, one line a figure."""
    e, s = evaluation, evaluation.statistics
    rows = [
        ("registered images", f"{e.registered} of {e.total}"),
        *((f"pose AUC @ {threshold:g}°", f"{area:.3f}") for threshold, area in e.auc.items()),
        ("median pose error", f"{e.pose_error_median_deg:.3f}°"),
        ("3D points", f"{s.points3D:,}"),
        ("mean track length", f"{s.track_length:.2f}"),
        ("mean reprojection error", f"{s.reprojection_error:.3f} px"),
    ]
    if e.centres:
        c = e.centres
        centres = f"median {c.median:.4g}, max {c.max:.4g} ({c.worst_image}), ground truth's unit"
        rows.append(("camera centre error", centres))
    if e.unregistered:
        rows.append(("not registered", some_names(e.unregistered)))
    return aligned(rows, "ll", gap=1)


def some_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")


def evaluation_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation for machines: plain values that JSON holds (nan and inf are None)."""
    e, s = evaluation, evaluation.statistics
    plain = {
        "registered": e.registered,
        "total": e.total,
        "unregistered": list(e.unregistered),
        "auc": {f"{threshold:g}": area for threshold, area in e.auc.items()},
        "pose_error_median_deg": _finite(e.pose_error_median_deg),
        "points3D": s.points3D,
        "observations": s.observations,
        "mean_track_length": _finite(s.track_length),
        "mean_reprojection_error_px": _finite(s.reprojection_error),
        "centres": None,
    }
    if e.centres:
        c = e.centres
        plain["centres"] = {"median": c.median, "max": c.max, "extent": c.extent, "worst_image": c.worst_image}
    return plain


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
