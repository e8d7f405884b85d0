"""Output folders of runs without running: an exact synthetic model, its images, pairs and figures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from sfm.drawing.scene import Cameras, Observations, Points, Scene
from sfm.evaluation.model import model_statistics
from sfm.options import MatchingOptions, Options
from sfm.report.parts import PageImages
from sfm.results.files import DATABASE
from sfm.results.run_json import write_run_json
from sfm.storage.database import FeatureDatabase
from sfm.types import (
    CameraPrior,
    ImagePair,
    ImageRecord,
    Matches,
    ReconstructionSummary,
    StageSummary,
    TwoViewGeometry,
)

WIDTH, HEIGHT = 320, 240
NASTY = (
    "<img src=x onerror=alert(1)>\"'.jpg",
    "</script><script>alert(2)</script>.jpg",
    "line\nbreak \u2028 &amp; 写真.jpg",
    "${alert(3)}`.jpg",
    "plain 1.jpg",
    "plain 2.jpg",
    "plain 3.jpg",
    "plain 4.jpg",
)
LOST = ("lost <b>here</b>.jpg", "why <i>not</i>: matched nothing")


def random_image(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Something with edges at several scales."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize(size), float) for n in (4, 16, 64)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def synthetic_model(names: tuple[str, ...], num_points: int = 300, seed: int = 1) -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = len(names), 1, 1
    options.num_points3D, options.camera_width, options.camera_height = num_points, WIDTH, HEIGHT
    options.camera_params = [1.2 * WIDTH, WIDTH / 2, HEIGHT / 2, 0.0]
    model = pycolmap.synthesize_dataset(options)
    for name, image_id in zip(names, sorted(model.images), strict=True):
        model.images[image_id].name = name
    rng = np.random.default_rng(seed)
    for point in model.points3D.values():
        point.xyz = point.xyz + rng.normal(0, 0.005, 3)
        point.color = rng.integers(40, 255, 3).astype(np.uint8)
    return model


def some_matches(seed: int, num: int) -> Matches:
    rng = np.random.default_rng(seed)
    points = rng.uniform((0, 0), (WIDTH, HEIGHT), (2, num, 2))
    cells = np.full(num, -1)
    return Matches(points[0], points[1], rng.uniform(0, 1, num), cells, cells)


def write_database(out: Path, names: list[str]) -> None:
    """Every image matched with every other; of each three pairs one is rejected."""
    camera = CameraPrior("SIMPLE_RADIAL", np.array([1.2 * WIDTH, WIDTH / 2, HEIGHT / 2, 0]), False, "one")
    pairs = [ImagePair(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    counts = [40 + 10 * k for k in range(len(pairs))]
    inliers = [0 if k % 3 == 2 else count // 2 for k, count in enumerate(counts)]
    geometries = [
        TwoViewGeometry(pair, np.arange(num), "calibrated" if num else "degenerate")
        for pair, num in zip(pairs, inliers, strict=True)
    ]
    with FeatureDatabase.open(out / DATABASE) as db:
        db.write_images([ImageRecord(name, WIDTH, HEIGHT, camera, f"digest {name!r}") for name in names])
        db.write_pairs(pairs)
        matches = [(pair, some_matches(k, num)) for k, (pair, num) in enumerate(zip(pairs, counts, strict=True))]
        db.write_matches(matches, matcher_key="test")
        db.write_two_view(geometries)
        for stage in ("images", "pairs", "matching", "verification"):
            db.commit(stage, fingerprint="f", provenance={}, summary=StageSummary(stage, {}, 0.1))


def write_run(
    out: Path, images: Path, *, names: tuple[str, ...] = NASTY, matcher: str = "loftr-compact", error: str | None = None
) -> Path:
    """A run's output folder: run.json, features.h5 and, without an error, sparse/0. Writes the images where absent."""
    out.mkdir(parents=True)
    images.mkdir(parents=True, exist_ok=True)
    everyone = sorted([*names, LOST[0]])
    for k, name in enumerate(everyone):
        if not (images / name).exists():
            (images / name).parent.mkdir(parents=True, exist_ok=True)
            random_image(k).save(images / name, "JPEG")
    write_database(out, everyone)
    lost = (LOST,)
    if error is None:
        model = synthetic_model(tuple(sorted(names)))
        (out / "sparse" / "0").mkdir(parents=True)
        model.write(str(out / "sparse" / "0"))
        figures = model_statistics(model)
        numbers = (figures.points3D, figures.observations, figures.track_length, figures.reprojection_error)
    else:
        lost, numbers = tuple((name, "matched nothing") for name in everyone), (0, 0, 0.0, 0.0)
    stages = tuple(
        StageSummary(stage, {"things": 3, "share": 0.5}, k + 0.5, notes=(f"<b>note</b> of {stage}",), peak_mb=100.0 + k)
        for k, stage in enumerate(("images", "pairs", "matching", "verification", "tracks", "mapping", "refinement"))
    )
    models = ((out / "sparse" / "0", len(names)),) if error is None else ()
    registered = len(names) if error is None else 0
    summary = ReconstructionSummary(len(everyone), registered, *numbers, lost, stages, models, out / "sparse" / "0")
    options = Options(matching=MatchingOptions(resize=320))
    write_run_json(summary, images, out, options, {"matcher": matcher, "weights_sha256": "ab" * 32}, error=error)
    return out


def large_scene(num_cameras: int, num_points: int, per_camera: int) -> Scene:
    """Columns of a large model: cameras on a circle, each sees some points of a cloud."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, num_cameras, endpoint=False)
    zero, one = np.zeros(num_cameras), np.ones(num_cameras)
    right = np.stack([-np.sin(angle), np.cos(angle), zero], axis=1)
    forward = np.stack([-np.cos(angle), -np.sin(angle), zero], axis=1)
    down = np.stack([zero, zero, -one], axis=1)
    rotation = np.stack([right, down, forward], axis=1)
    poses = np.concatenate([rotation, np.tile([[[0.0], [0.0], [3.0]]], (num_cameras, 1, 1))], axis=2)
    camera = np.repeat(np.arange(num_cameras), per_camera)
    point = rng.integers(0, num_points, len(camera))
    return Scene(
        "large",
        Points(
            rng.normal(0, 0.5, (num_points, 3)).astype(np.float32),
            rng.integers(0, 256, (num_points, 3)).astype(np.uint8),
            rng.gamma(2, 0.3, num_points).astype(np.float32),
            np.maximum(np.bincount(point, minlength=num_points), 2),
        ),
        Cameras(
            tuple(f"IMG_{k:05d}.jpg" for k in range(num_cameras)),
            poses,
            np.tile([640, 480], (num_cameras, 1)),
            np.full((num_cameras, 2), 700.0),
            np.tile([320.0, 240.0], (num_cameras, 1)),
        ),
        Observations(
            camera,
            point,
            rng.uniform((0, 0), (640, 480), (len(camera), 2)).astype(np.float32),
            rng.gamma(2, 0.3, len(camera)).astype(np.float32),
        ),
    )


def images_of(scene: Scene, folder: Path, num_files: int) -> PageImages:
    """The scene's images: `num_files` different ones, the rest are the same over again."""
    folder.mkdir(parents=True)
    for k, name in enumerate(scene.cameras.names):
        if k < num_files:
            random_image(k, (640, 480)).save(folder / name, "JPEG", quality=90)
        else:
            shutil.copyfile(folder / scene.cameras.names[k % num_files], folder / name)
    return PageImages(scene.cameras.names, dict.fromkeys(scene.cameras.names, (640, 480)), folder)
