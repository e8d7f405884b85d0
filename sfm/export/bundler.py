"""Bundler v0.3."""

from __future__ import annotations

from pathlib import Path

from sfm.export.source import GL_FROM_CV, ExportSource, camera_of, registered_images
from sfm.export.track_lines import model_of_one_focal, one_focal, row, tracks_of, write_lines
from sfm.system.safe_paths import refuse_links


def bundler(source: ExportSource, dest: Path) -> Path:
    """bundle.out (OpenGL cameras, pixels from the principal point, y up) and list.txt.

    Where Bundler cannot hold the cameras they are of undistorted images, in images/.
    """
    refuse_links(dest, ["bundle.out", "list.txt"])
    model = model_of_one_focal(
        source, dest, format="Bundler's list.txt", allowed=("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL")
    )
    images = registered_images(model)
    lines = ["# Bundle file v0.3", f"{len(images)} {len(model.points3D)}"]
    for image in images:
        focal_and_distortion = one_focal(camera_of(image))
        pose = GL_FROM_CV[:3, :3] @ image.cam_from_world().matrix()
        lines += [row(focal_and_distortion), *map(row, pose[:, :3]), row(pose[:, 3])]
    for head, track in tracks_of(model, images, separator="\n", y_up=True):
        lines += [head, track]
    write_lines(dest / "list.txt", [image.name for image in images])
    return write_lines(dest / "bundle.out", lines)
