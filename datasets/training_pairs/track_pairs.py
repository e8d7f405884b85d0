"""Training pairs with real parallax: the tracks of COLMAP models.

A model (of SIFT, say) has many points with their observations in several images. Two images that share points, cropped,
scaled and rotated at random, are a training pair with sparse ground truth: real light, real occlusion, real lenses.
Pixels are COLMAP's: first pixel's centre at (0.5, 0.5).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.datasets.training_pairs.cuts import cut_image, random_cut
from sfm.datasets.training_pairs.textures import Texture, read_grey
from sfm.errors import BadFile, NoModel

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SparseTrainingPair:
    """Two images and N points seen in both. image0, image1: (H, W) u8. points0, points1: (N, 2) f32 net px."""

    image0: UInt8
    image1: UInt8
    points0: Float32
    points1: Float32


@dataclass(frozen=True, slots=True)
class TrackScene:
    """A folder of images and the folders of its COLMAP models (one per connected component).

    held_out: every so manieth image, in the order of their names, is in no pair; 0 for none.
    """

    images: Path
    models: tuple[Path, ...]
    held_out: int = 0

    def without(self, held_out: int) -> TrackScene:
        """The scene without every so manieth image."""
        return replace(self, held_out=held_out)


@dataclass(frozen=True, slots=True)
class TrackDifficulty:
    """How pairs are chosen and cut."""

    min_points: int = 30
    """Pairs that share fewer points are left out; cuts that would hold fewer are drawn again."""
    rotation_deg: tuple[float, float] = (10.0, 60.0)
    """Relative rotations that are drawn four times as often as others."""
    max_error_px: float = 2.0
    """Points whose mean reprojection error is larger are left out, px of the image."""
    max_zoom: float = 2.0
    """A cut shows at least 1 / max_zoom of the image's shorter side."""
    in_plane_deg: float = 8.0
    """Standard deviation of each image's in-plane rotation; one in ten is drawn evenly from five times that."""


@dataclass(frozen=True, slots=True, eq=False)
class CandidatePair:
    """Two images, the points that they share (N, 2) f64 px of the images, and the pair's weight in the draw."""

    path0: Path
    path1: Path
    points0: Float64
    points1: Float64
    weight: float


def reconstruct_scene(images: Path, output: Path, *, max_features: int = 6000, seed: int = 0) -> TrackScene:
    """COLMAP models of a folder of images by SIFT, as dense as possible, in output/0, output/1, ...

    max_features: of an image; the time taken grows with its square. Models that are already in `output` are taken as
    they are. NoModel where the images are not connected.
    """
    found = _models_in(output)
    if not found:
        output.mkdir(parents=True, exist_ok=True)
        _run_sift_mapping(images, output, max_features, seed)
        found = _models_in(output)
    if not found:
        raise NoModel(f"{images}: SIFT finds no model in these images; leave the scene out")
    return TrackScene(images, found)


def _models_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(p.parent for p in folder.glob("*/points3D.bin")))


def _run_sift_mapping(images: Path, output: Path, max_features: int, seed: int) -> None:
    import pycolmap

    pycolmap.set_random_seed(seed)
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.peak_threshold = 0.003
    extraction.sift.max_num_features = max_features
    extraction.sift.estimate_affine_shape = True  # wide baselines: fewer features are lost with the angle
    extraction.sift.domain_size_pooling = True
    matching = pycolmap.FeatureMatchingOptions()
    matching.guided_matching = True
    mapping = pycolmap.IncrementalPipelineOptions()
    mapping.random_seed = seed
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        database, models = Path(scratch) / "database.db", Path(scratch) / "models"
        models.mkdir()
        pycolmap.extract_features(database, images, camera_mode=pycolmap.CameraMode.AUTO, extraction_options=extraction)
        pycolmap.match_exhaustive(database, matching_options=matching)
        pycolmap.incremental_mapping(database, images, models, options=mapping)
        for model in models.iterdir():  # whole models only, whenever the run is cut off
            model.rename(output / model.name)


class TrackPairs:
    """An endless stream of sparse training pairs; pair(index) depends on (seed, index) alone."""

    def __init__(
        self,
        scenes: Sequence[TrackScene],
        *,
        size: tuple[int, int] = (256, 320),
        seed: int = 0,
        difficulty: TrackDifficulty | None = None,
    ) -> None:
        """scenes: at least one. size: (H, W) of the images, px. BadFile where no two images share enough points."""
        self.size = size
        self.seed = seed
        self.difficulty = difficulty or TrackDifficulty()
        self._candidates = candidate_pairs(scenes, self.difficulty)
        weights = np.array([c.weight for c in self._candidates])
        self._cumulative = np.cumsum(weights / weights.sum())

    @property
    def num_candidates(self) -> int:
        """The number of different pairs of images."""
        return len(self._candidates)

    def pair(self, index: int) -> SparseTrainingPair:
        """The pair of that index: two cuts (H, W) and at least one shared point, nearly always min_points."""
        rng = np.random.default_rng([self.seed, index])
        row = min(int(np.searchsorted(self._cumulative, rng.random())), len(self._candidates) - 1)
        chosen = self._candidates[row]
        sides = [(chosen.path0, chosen.points0), (chosen.path1, chosen.points1)]
        if rng.random() < 0.5:
            sides.reverse()
        textures = [_texture(path) for path, _ in sides]
        for tameness in np.linspace(0, 1, 9):
            cuts = [
                random_cut(rng, t.size, points, self.size, self.difficulty, float(tameness))
                for t, (_, points) in zip(textures, sides, strict=True)
            ]
            moved = [points @ cut[:, :2].T + cut[:, 2] for cut, (_, points) in zip(cuts, sides, strict=True)]
            keep = _inside(moved[0], self.size) & _inside(moved[1], self.size)
            if np.count_nonzero(keep) >= self.difficulty.min_points:
                break
        images = [cut_image(t, cut, self.size) for t, cut in zip(textures, cuts, strict=True)]
        points0, points1 = (m[keep].astype(np.float32) for m in moved)
        return SparseTrainingPair(images[0], images[1], points0, points1)


def _inside(xy: Float64, size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(((xy > 0) & (xy < (size[1], size[0]))).all(axis=1))


@lru_cache(maxsize=128)
def _texture(path: Path) -> Texture:
    return Texture.of(read_grey(path))


def candidate_pairs(scenes: Sequence[TrackScene], difficulty: TrackDifficulty) -> list[CandidatePair]:
    """All pairs of images of a scene that share enough points. BadFile where there is none."""
    found = [pair for scene in scenes for pair in _candidates_of_scene(scene, difficulty)]
    if not found:
        names = ", ".join(str(scene.images) for scene in scenes) or "no scenes"
        raise BadFile(f"{names}: no two images share {difficulty.min_points} points; give better models")
    return found


def _candidates_of_scene(scene: TrackScene, options: TrackDifficulty) -> list[CandidatePair]:
    """Pairs of images that share enough points, over all models of the scene; their weights sum to one."""
    pairs = [pair for model in scene.models for pair in _candidates_of_model(scene, model, options)]
    total = sum(pair.weight for pair in pairs)
    return [replace(pair, weight=pair.weight / total) for pair in pairs]


def _candidates_of_model(scene: TrackScene, model: Path, options: TrackDifficulty) -> list[CandidatePair]:
    views = _read_views(scene.images, model, options.max_error_px)
    if scene.held_out:
        views = [view for row, view in enumerate(views) if not is_held_out(row, scene.held_out)]
    pairs = []
    for i, view0 in enumerate(views):
        for view1 in views[i + 1 :]:
            _, rows0, rows1 = np.intersect1d(view0.point_ids, view1.point_ids, return_indices=True)
            if len(rows0) < options.min_points:
                continue
            angle = _angle_deg(view0.rotation, view1.rotation)
            weight = 4.0 if options.rotation_deg[0] <= angle <= options.rotation_deg[1] else 1.0
            pairs.append(CandidatePair(view0.path, view1.path, view0.xy[rows0], view1.xy[rows1], weight))
    return pairs


def is_held_out(row: int, every: int) -> bool:
    """Whether the image in that place, by name, among the registered ones is held out."""
    return row % every == every - 1


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A registered image: its points' ids (N,) u64, unique, where it shows them (N, 2) f64 px, its rotation."""

    path: Path
    point_ids: NDArray[np.uint64]
    xy: Float64
    rotation: Float64


def _read_views(images: Path, model: Path, max_error_px: float) -> list[_View]:
    from sfm.colmap.model_reader import read_reconstruction

    reconstruction = read_reconstruction(model, "reconstruct the scene again")
    good = {i for i, point in reconstruction.points3D.items() if point.error <= max_error_px}
    views = []
    for image in sorted(reconstruction.images.values(), key=lambda i: str(i.name)):
        seen = [p for p in image.points2D if p.has_point3D() and p.point3D_id in good]
        if not image.has_pose or not seen:
            continue
        ids, first = np.unique(np.array([p.point3D_id for p in seen], np.uint64), return_index=True)
        xy = np.array([seen[k].xy for k in first], np.float64)
        views.append(_View(images / image.name, ids, xy, image.cam_from_world().rotation.matrix()))
    return views


def _angle_deg(rotation0: Float64, rotation1: Float64) -> float:
    cosine = (np.trace(rotation1 @ rotation0.T) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
