"""VisualSFM's NVM_V3."""

from __future__ import annotations

from pathlib import Path

from sfm.export.source import ExportSource, camera_of, registered_images
from sfm.export.track_lines import model_of_one_focal, one_focal, row, tracks_of, write_lines
from sfm.system.safe_paths import refuse_links


def nvm(source: ExportSource, dest: Path) -> Path:
    """model.nvm: focal, quaternion (wxyz), centre, distortion; measurements from the principal point.

    Where NVM cannot hold the cameras it is of undistorted images, in images/.
    NVM's distortion maps measured to ideal points, COLMAP's ideal to measured: to first order, the opposite sign.
    """
    refuse_links(dest, ["model.nvm"])
    model = model_of_one_focal(source, dest, format="NVM", allowed=("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL"))
    images = registered_images(model)
    lines = ["NVM_V3", "", str(len(images))]
    for image in images:
        focal, k1, _ = one_focal(camera_of(image))
        x, y, z, w = image.cam_from_world().rotation.quat
        lines.append(f"{image.name} {row([focal, w, x, y, z, *image.projection_center(), -k1])} 0")
    lines += ["", str(len(model.points3D))]
    lines += [f"{head} {track}" for head, track in tracks_of(model, images, separator=" ")]
    return write_lines(dest / "model.nvm", [*lines, "", "0"])
