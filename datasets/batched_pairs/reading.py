"""Photos, sequences with depth and reconstructed sets, read from their files onto the device that makes pairs of them.

What the device keeps is bounded: of photos to warp, of photos with tracks and of frames with depth each at most
MAX_IMAGES, evenly chosen, in grey, reduced to SIDE px on the longer side, with their reductions; depth of half that, in
half precision; MAX_PAIRS pairs with MAX_POINTS points each. That is 2 MB an image, and 10 GB at the most.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sfm.datasets.batched_pairs.made_textures import made_textures
from sfm.datasets.batched_pairs.mixture import Mixture
from sfm.datasets.batched_pairs.rgbd_pairs import RgbdFrames
from sfm.datasets.batched_pairs.scenes.rendering import Kernels
from sfm.datasets.batched_pairs.scenes.scene_parts import Textures
from sfm.datasets.batched_pairs.textures import TextureBank
from sfm.datasets.batched_pairs.track_pairs import SharedTracks
from sfm.datasets.training_pairs.depth_pairs import (
    DepthDifficulty,
    DepthSequence,
    pairs_of_sequences,
    read_depth,
    rotation_deg,
)
from sfm.datasets.training_pairs.textures import find_images, image_size, read_grey
from sfm.datasets.training_pairs.track_pairs import CandidatePair, TrackDifficulty, TrackScene, candidate_pairs

SIDE = 1024  # px
MAX_IMAGES = 2048
MAX_PAIRS = 20000
MAX_POINTS = 256
NUM_MADE = 64  # textures that are made
FRAMES = DepthDifficulty(overlap=(0.08, 0.92))  # as compact-wide was trained
MEDIAN_DEPTH = 10.0  # that scenes without a unit are scaled to, so that what is near in metres is near in them


def read_mixture(
    images: Path | None, scenes: Sequence[TrackScene], sequences: Sequence[DepthSequence], device: torch.device
) -> Mixture:
    """Everything that pairs are made from, on the device. images: a folder of photos, textures of the rendered scenes
    and flat pairs; those of the scenes are textures, too. BadFile where a source gives no pair, BadImage where an image
    cannot be read."""
    candidates = candidate_pairs(scenes, TrackDifficulty()) if scenes else []
    with_tracks = sorted({path for pair in candidates for path in (pair.path0, pair.path1)})
    of_folder = find_images(images) if images else ()
    sets = (of_folder, with_tracks)
    photos = list(dict.fromkeys(path for paths in sets for path in paths[:: _stride(len(paths), MAX_IMAGES)]))
    every = _stride(sum(len(sequence.paths) for sequence in sequences), MAX_IMAGES)
    kept = [sequence.frames(range(0, len(sequence.paths), every)) for sequence in sequences]
    frame_paths = [path for sequence in kept for path in sequence.paths]
    textures = Textures(len(photos), len(photos) + NUM_MADE)
    grey = [*map(_reduced, photos), *made_textures(NUM_MADE), *map(_reduced, frame_paths)]
    bank = TextureBank.of(grey, device)
    return Mixture(
        bank,
        textures,
        Kernels.compiled() if device.type == "cuda" else Kernels.plain(),
        _frames(kept, textures.num_all, device) if kept else None,
        _tracks(candidates, photos, device),
    )


def _stride(num: int, most: int) -> int:
    """Every so manieth of `num` is kept, so that at most so many are."""
    return max(1, -(-num // most))


def _reduced(path: Path) -> NDArray[np.uint8]:
    """(H, W) u8."""
    grey = read_grey(path)
    size = _reduced_size(path)
    if size == (grey.shape[1], grey.shape[0]):
        return grey
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.HAMMING))


def _reduced_size(path: Path) -> tuple[int, int]:
    """(width, height) px that are kept of an image."""
    width, height = image_size(path)
    scale = min(1.0, SIDE / max(width, height))
    return max(1, round(scale * width)), max(1, round(scale * height))


def _scale(path: Path) -> NDArray[np.float64]:
    """(2,) kept px per px of the file."""
    return np.array(_reduced_size(path)) / image_size(path)


def _frames(sequences: Sequence[DepthSequence], first: int, device: torch.device) -> RgbdFrames:
    """The frames of all sequences, one after the other; the bank has their photos from `first` on."""
    pairs, weight = pairs_of_sequences(sequences, FRAMES)
    kept = slice(None, None, _stride(len(pairs), MAX_PAIRS))
    pairs, weight = pairs[kept], weight[kept]
    starts = np.cumsum([0, *(len(sequence.paths) for sequence in sequences)])
    angles = [rotation_deg(*(sequences[n].world_from_cam[k, :3, :3] for k in (i, j))) for n, i, j in pairs]
    read = [_depth_and_poses(sequence) for sequence in sequences]
    scale = np.array([_scale(path) for sequence in sequences for path in sequence.paths])
    steps = np.concatenate([step for _, step, _ in read])
    K = np.concatenate([sequence.K for sequence in sequences])
    K[:, :2] *= scale[:, :, None]

    def on_device(values: object) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(device)

    return RgbdFrames(
        first=first,
        size=on_device([_reduced_size(path) for sequence in sequences for path in sequence.paths]),
        depth=torch.from_numpy(_padded([depth for maps, _, _ in read for depth in maps])).to(device),
        depth_origin=on_device(0.5 * scale),  # the centre of the file's first pixel
        depth_step=on_device(steps * scale),
        cam_from_world=on_device(np.concatenate([poses for _, _, poses in read])),
        K=on_device(K),
        pairs=torch.tensor([(starts[n] + i, starts[n] + j) for n, i, j in pairs], device=device),
        angle_deg=on_device(angles),
        weight=on_device(weight),
    )


def _depth_and_poses(
    sequence: DepthSequence,
) -> tuple[list[NDArray[np.float16]], NDArray[np.float64], NDArray[np.float64]]:
    """Depth of each frame, every n-th pixel of it; the file's px from one of those to the next (N, 2); cam_from_world
    (N, 3, 4), about the middle of the cameras, in metres or, where there is no unit, scaled to MEDIAN_DEPTH."""
    maps, steps = [], []
    for path, depth_path in zip(sequence.paths, sequence.depth_paths, strict=True):
        depth = read_depth(depth_path)
        every = _stride(2 * max(depth.shape), SIDE)
        maps.append(depth[::every, ::every])
        steps.append([every * image_size(path)[0] / depth.shape[1]] * 2)
    unit = 1.0
    if not sequence.metric:
        medians = [np.median(depth[depth > 0]) for depth in maps if (depth > 0).any()]
        unit = MEDIAN_DEPTH / float(np.median(medians)) if medians else 1.0
    poses = sequence.world_from_cam.copy()
    poses[:, :3, 3] = unit * (poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0))
    half = [(unit * depth).astype(np.float16) for depth in maps]
    return half, np.array(steps), np.asarray(np.linalg.inv(poses)[:, :3], np.float64)


def _padded(maps: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """(N, h, w) of maps of different sizes, 0 beyond them."""
    out = np.zeros((len(maps), *np.max([depth.shape for depth in maps], axis=0)), np.float16)
    for row, depth in zip(out, maps, strict=True):
        row[: depth.shape[0], : depth.shape[1]] = depth
    return out


def _tracks(candidates: Sequence[CandidatePair], photos: Sequence[Path], device: torch.device) -> SharedTracks | None:
    """Pairs of photos of the bank with their points; None where there are none."""
    rows = {path: row for row, path in enumerate(photos)}
    chosen = [pair for pair in candidates if pair.path0 in rows and pair.path1 in rows]
    chosen = chosen[:: _stride(len(chosen), MAX_PAIRS)]
    if not chosen:
        return None
    points = np.full((len(chosen), MAX_POINTS, 4), np.nan, np.float32)
    rng = np.random.default_rng(0)
    for row, pair in zip(points, chosen, strict=True):
        some = rng.permutation(len(pair.points0))[:MAX_POINTS]
        row[: len(some), :2] = pair.points0[some] * _scale(pair.path0)
        row[: len(some), 2:] = pair.points1[some] * _scale(pair.path1)
    return SharedTracks(
        torch.tensor([(rows[pair.path0], rows[pair.path1]) for pair in chosen], device=device),
        torch.from_numpy(points).to(device),
        torch.tensor([pair.weight for pair in chosen], dtype=torch.float32, device=device),
    )
