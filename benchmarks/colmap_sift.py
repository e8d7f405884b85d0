"""COLMAP's own SIFT pipeline through pycolmap: what a reconstruction by our matches is measured against.

    python -m benchmarks.colmap_sift IMAGES OUT

Defaults throughout, exhaustive matching, one shared camera where all photos have one size (as our own default
groups them), models into OUT/sparse.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pycolmap
from PIL import Image

SEED = 0


def of_one_size(images: Path) -> bool:
    sizes = set()
    for path in images.rglob("*"):
        if path.is_file():
            with Image.open(path) as image:
                sizes.add(image.size)
    return len(sizes) == 1


def reconstruct(images: Path, out: Path) -> None:
    """Features, matches, models. Starts afresh: what an earlier run left in OUT is removed."""
    shutil.rmtree(out / "sparse", ignore_errors=True)
    (out / "sparse").mkdir(parents=True)
    database = out / "database.db"
    database.unlink(missing_ok=True)
    pycolmap.set_random_seed(SEED)
    mode = pycolmap.CameraMode.SINGLE if of_one_size(images) else pycolmap.CameraMode.AUTO
    pycolmap.extract_features(database, images, camera_mode=mode)
    pycolmap.match_exhaustive(database)
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = SEED
    pycolmap.incremental_mapping(database, images, out / "sparse", options)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.colmap_sift", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    reconstruct(args.images, args.out)


if __name__ == "__main__":
    main()
