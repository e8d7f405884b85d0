"""The README's picture: a photo of each scene beside its sparse models by SIFT and by LoFTR.

    python -m benchmarks.picture OUT.jpg SCENE SIFT_RUN LOFTR_RUN [SCENE SIFT_RUN LOFTR_RUN ...]

SCENE is a folder with images/ and gt/, a RUN is what reconstruct.py wrote of it. Models are aligned to the ground
truth and seen from one of its cameras, moved back and up. Needs no screen: points are drawn with numpy and Pillow.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image, ImageDraw, ImageFont

from sfm.evaluation import fit_similarity

WIDTH, HEIGHT, FOCAL = 640, 480, 430.0


def aligned(run: Path, truth: pycolmap.Reconstruction) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Points (N, 3), colours (N, 3) u8 and camera centres of the largest model in the ground truth's frame."""
    model = pycolmap.Reconstruction(str(run / "sparse" / "0"))
    by_name = {image.name: image.projection_center() for image in truth.images.values()}
    names = [image.name for image in model.images.values() if image.has_pose and image.name in by_name]
    centres = {image.name: image.projection_center() for image in model.images.values() if image.has_pose}
    to_truth = fit_similarity(np.array([centres[n] for n in names]), np.array([by_name[n] for n in names]))
    assert to_truth is not None, "fewer than three cameras in common"
    points = [p for p in model.points3D.values() if p.track.length() >= 2]
    xyz = to_truth(np.array([p.xyz for p in points]))
    return xyz, np.array([p.color for p in points]), list(to_truth(np.array([centres[n] for n in names])))


def viewpoint(truth: pycolmap.Reconstruction) -> np.ndarray:
    """cam_from_world (3, 4) of the middle camera, moved back and up and looking down a little."""
    images = sorted(truth.images.values(), key=lambda image: image.name)
    pose = np.array(images[len(images) // 2].cam_from_world().matrix())
    depth = np.median([(pose[:, :3] @ p.xyz + pose[:, 3])[2] for p in truth.points3D.values()])
    tilt = np.deg2rad(14)
    down = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    moved = np.column_stack([down @ pose[:, :3], down @ (pose[:, 3] + [0, 0.2 * depth, 0.25 * depth])])
    return moved


def drawn(xyz: np.ndarray, rgb: np.ndarray, centres: list[np.ndarray], pose: np.ndarray, caption: str) -> Image.Image:
    """Points as discs, far ones first, and camera centres as red dots."""
    scale = 2
    canvas = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    draw = ImageDraw.Draw(canvas)
    marks = np.concatenate([xyz, np.array(centres)]) @ pose[:, :3].T + pose[:, 3]
    is_camera = np.arange(len(marks)) >= len(xyz)
    for k in np.argsort(-marks[:, 2]):
        x, y, z = marks[k]
        if z <= 0.1:
            continue
        u, v = scale * (FOCAL * x / z + WIDTH / 2), scale * (FOCAL * y / z + HEIGHT / 2)
        radius = scale * (4.0 if is_camera[k] else 1.7)
        colour = (214, 39, 40) if is_camera[k] else tuple(int(c) for c in rgb[k])
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), fill=colour)
    return labelled(canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), caption)


def labelled(image: Image.Image, caption: str) -> Image.Image:
    """The picture with a caption on a white strip below it."""
    out = Image.new("RGB", (WIDTH, HEIGHT + 34), "white")
    out.paste(image.resize((WIDTH, HEIGHT)), (0, 0))
    ImageDraw.Draw(out).text((10, HEIGHT + 6), caption, fill=(40, 40, 40), font=ImageFont.load_default(20))
    return out


def row(scene: Path, runs: tuple[Path, Path]) -> list[Image.Image]:
    """Photo, SIFT's model, LoFTR's model."""
    truth = pycolmap.Reconstruction(str(scene / "gt"))
    photos = sorted((scene / "images").iterdir())
    cells = [labelled(Image.open(photos[len(photos) // 2]).convert("RGB"), f"one of {len(photos)} photos")]
    for name, run in zip(("SIFT", "LoFTR"), runs, strict=True):
        xyz, rgb, centres = aligned(run, truth)
        caption = f"{name}: {len(centres)} of {len(photos)} photos, {len(xyz):,} points"
        cells.append(drawn(xyz, rgb, centres, viewpoint(truth), caption))
    return cells


def main(argv: list[str]) -> None:
    out, rest = Path(argv[0]), [Path(a) for a in argv[1:]]
    rows = [row(rest[k], (rest[k + 1], rest[k + 2])) for k in range(0, len(rest), 3)]
    gap = 8
    picture = Image.new("RGB", (3 * WIDTH + 2 * gap, len(rows) * (HEIGHT + 34)), "white")
    for r, cells in enumerate(rows):
        for c, cell in enumerate(cells):
            picture.paste(cell, (c * (WIDTH + gap), r * (HEIGHT + 34)))
    picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.LANCZOS).save(out, quality=88)


if __name__ == "__main__":
    main(sys.argv[1:])
