"""COLMAP's own SIFT pipeline through pycolmap: what a reconstruction by our matches is measured against.

    python -m benchmarks.colmap_sift IMAGES OUT [--camera-model MODEL --intrinsics P1,P2,...]
                                     [--pairs exhaustive|sequential|spatial]

Defaults throughout, exhaustive matching unless other pairs are asked for, one shared camera where all images have one
size (as our own default groups them), models into OUT/sparse. Given intrinsics are kept.
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


MATCHING = {
    "exhaustive": pycolmap.match_exhaustive,
    "sequential": pycolmap.match_sequential,
    "spatial": pycolmap.match_spatial,
}


def reconstruct(images: Path, out: Path, camera_model: str, intrinsics: str, pairs: str = "exhaustive") -> None:
    """Features, matches, models. intrinsics: COLMAP's parameters, "" to estimate them. Starts afresh: what an earlier
    run left in OUT is removed."""
    shutil.rmtree(out / "sparse", ignore_errors=True)
    (out / "sparse").mkdir(parents=True)
    database = out / "database.db"
    database.unlink(missing_ok=True)
    pycolmap.set_random_seed(SEED)
    mode = pycolmap.CameraMode.SINGLE if of_one_size(images) else pycolmap.CameraMode.AUTO
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model, reader.camera_params = camera_model, intrinsics
    pycolmap.extract_features(database, images, camera_mode=mode, reader_options=reader)
    MATCHING[pairs](database)
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = SEED
    if intrinsics:
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
    pycolmap.incremental_mapping(database, images, out / "sparse", options)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.colmap_sift", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--camera-model", default="SIMPLE_RADIAL", metavar="MODEL")
    parser.add_argument("--intrinsics", default="", metavar="P1,P2,...")
    parser.add_argument("--pairs", choices=tuple(MATCHING), default="exhaustive")
    args = parser.parse_args()
    reconstruct(args.images, args.out, args.camera_model, args.intrinsics, args.pairs)


if __name__ == "__main__":
    main()
