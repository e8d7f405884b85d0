"""Bundler v0.3."""

from __future__ import annotations

from pathlib import Path

from sfm.export.source import GL_FROM_CV, ExportSource, camera_of, refuse_white_space, registered_images
from sfm.export.track_lines import one_focal, row, tracks_of, write_lines
from sfm.system.safe_paths import refuse_links


def bundler(source: ExportSource, dest: Path) -> Path:
    """bundle.out (OpenGL cameras, pixels from the principal point, y up) and list.txt."""
    model = source.model()
    refuse_links(dest, ["bundle.out", "list.txt"])
    images = registered_images(model)
    lines = ["# Bundle file v0.3", f"{len(images)} {len(model.points3D)}"]
    for image in images:
        focal_and_distortion = one_focal(
            camera_of(image), dest, allowed=("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL")
        )
        pose = GL_FROM_CV[:3, :3] @ image.cam_from_world().matrix()
        lines += [row(focal_and_distortion), *map(row, pose[:, :3]), row(pose[:, 3])]
    for head, track in tracks_of(model, images, separator="\n", y_up=True):
        lines += [head, track]
    refuse_white_space(images, "Bundler's list.txt")
    write_lines(dest / "list.txt", [image.name for image in images])
    return write_lines(dest / "bundle.out", lines)
