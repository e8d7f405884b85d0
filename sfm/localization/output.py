"""What localization leaves: localized.json, and a COLMAP model of the old images and the new ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm import __version__
from sfm.colmap.model_writer import write_models
from sfm.georeferencing.frame import FRAME_FILE
from sfm.localization.correspondences import Correspondences
from sfm.localization.pose import Pose
from sfm.system.tables import write_json

RECORD = "localized.json"


@dataclass(frozen=True, slots=True)
class Localized:
    """What became of a new image. pose: None where it has none, for the reason. found: its correspondences.
    camera: whose intrinsics it was given, in words."""

    name: str
    reason: str = ""
    pose: Pose | None = None
    found: Correspondences | None = None
    camera: str = ""

    def record(self) -> dict[str, Any]:
        """For localized.json."""
        if self.pose is None or self.found is None:
            return {"image": self.name, "localized": False, "reason": self.reason}
        pose = self.pose
        variances = np.diag(pose.covariance)
        return {
            "image": self.name,
            "localized": True,
            "cam_from_world": {
                "rotation_wxyz": pose.cam_from_world.rotation.quat[[3, 0, 1, 2]].tolist(),
                "translation": pose.translation.tolist(),
            },
            "centre": pose.centre.tolist(),
            "covariance": pose.covariance.tolist(),
            "rotation_sigma_deg": float(np.degrees(np.sqrt(variances[:3].max()))),
            "centre_sigma": float(np.sqrt(variances[3:].max())),
            "inliers": int(pose.inliers.sum()),
            "correspondences": len(self.found),
            "median_error_px": pose.error_px,
            "camera": {
                "model": pose.camera.model.name,
                "width": pose.camera.width,
                "height": pose.camera.height,
                "params": pose.camera.params.tolist(),
                "from": self.camera,
            },
        }


def write_results(
    out: Path, source: Path, model: pycolmap.Reconstruction, results: Sequence[Localized], about: Mapping[str, Any]
) -> None:
    """OUT/sparse/0 and OUT/localized.json. source: the model's folder. about: what was done, for the record. Errors as
    write_json."""
    write_models([extended(model, results)], out / "sparse")
    if (source / FRAME_FILE).is_file():  # the model is in metres, and so is this one
        shutil.copyfile(source / FRAME_FILE, out / "sparse" / "0" / FRAME_FILE)
    frame = "rotation vector in the camera's frame (radians), then the centre (units of the model)"
    record = {"version": __version__, **about, "covariance_of": frame, "images": [one.record() for one in results]}
    write_json(out / RECORD, record)


def extended(model: pycolmap.Reconstruction, results: Sequence[Localized]) -> pycolmap.Reconstruction:
    """A copy of the model with the new images; nothing of the old ones changes but that points are seen by more."""
    result = pycolmap.Reconstruction(model)
    for one in results:
        if one.pose is None or one.found is None:
            continue
        rows = np.flatnonzero(one.pose.inliers)
        camera = pycolmap.Camera(one.pose.camera.todict())
        camera.camera_id = max(*result.cameras, *result.rigs) + 1
        alone = [i for i in sorted(result.cameras) if i in result.rigs and result.rigs[i].num_sensors() == 1]
        same = next((i for i in alone if _equal(result.cameras[i], camera)), None)
        if same is None:
            result.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(
            name=one.name,
            keypoints=np.ascontiguousarray(one.found.xy[rows], np.float64),
            camera_id=same or camera.camera_id,
            image_id=max(*result.images, *result.frames) + 1,
        )
        result.add_image_with_trivial_frame(image, one.pose.cam_from_world)
        for row, point_id in enumerate(one.found.point[rows]):
            result.add_observation(int(point_id), pycolmap.TrackElement(image.image_id, row))
    return result


def _equal(a: pycolmap.Camera, b: pycolmap.Camera) -> bool:
    same = (a.model, a.width, a.height) == (b.model, b.width, b.height)
    return bool(same and np.array_equal(a.params, b.params))
