"""Matches of two images to sub-pixel: a patch around the point of image 0 is found in image 1.

As in the refinement of models (sfm.alignment.track_alignment), but nothing is known of the scene. How image 1 moves
with image 0 around a match is read off its neighbours: a detector-free matcher has some everywhere, a detector would
have too few. Matches that no epipolar geometry explains stay where they are, and so do those whose patches are unlike
each other. Points of image 0 never move. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sfm.alignment.patch_alignment import (
    MAX_SCALE,
    PRIOR_SIGMA,
    WINDOW_RADIUS,
    Alignment,
    Templates,
    Window,
    cut_patches,
    found_in_stages,
)
from sfm.alignment.pyramids import NUM_LEVELS, AlignmentImages
from sfm.system.parallel import map_on_cores
from sfm.types import Float64, Int64, Matches

NEIGHBOURS = 12  # of a match, itself among them, that its map is fitted to
FITS = 3  # of a map; in each, neighbours that were far off in the last one count less
MIN_CORRELATION = 0.7  # as of tracks (RefinementParams): patches that agree less are of different things
MIN_SHARE = 0.5  # of the matches that fit; where fewer align, the images look different as a whole
MAX_ERROR = 2.0  # standard deviations of a match: epipolar error of one that fits
MAX_MOVE = 3.0 * PRIOR_SIGMA  # standard deviations of a match; one that went further is lost
TRIALS = 2000
CHUNK = 1024  # matches aligned at once


def align_matches(
    matches: Matches, images: AlignmentImages, rows: tuple[int, int] = (0, 1), *, seed: int = 0, cores: int = 0
) -> tuple[Matches, NDArray[np.bool_]]:
    """The matches with points1 where the patches around points0 are, and which of them were aligned (M,).

    rows: image 0 and image 1 of the images. cores: that share the work on a CPU; 0 does it in this thread, which
    should have one of torch's, so that the result is the same for any number.
    """
    aligned = np.zeros(len(matches), bool)
    scale0, scale1 = (images.scale[row] for row in rows)
    fitting = _that_fit(matches, MAX_ERROR * float(images.unit_px[list(rows)].max()), seed)
    if len(fitting) < NEIGHBOURS:
        return matches, aligned
    xy0, xy1 = matches.points0[fitting] * scale0, matches.points1[fitting] * scale1
    unit = float(images.unit[rows[1]])
    pair = _Pair(images, rows, xy0, xy1, local_maps(xy0, xy1, PRIOR_SIGMA * unit))
    parts = pair.parts()
    found = map_on_cores(pair.found, parts, cores=cores if pair.on_cpu else 0)
    kept = np.zeros(len(fitting), bool)
    for part, (xy, correlation) in zip(parts, found, strict=True):
        kept[part] = (correlation >= MIN_CORRELATION) & (_length(xy - xy1[part]) <= MAX_MOVE * unit)
        xy1[part] = xy
    if kept.mean() < MIN_SHARE:
        return matches, aligned
    points1 = matches.points1.copy()
    points1[fitting[kept]] = xy1[kept] / scale1
    aligned[fitting[kept]] = True
    return replace(matches, points1=points1), aligned


def _that_fit(matches: Matches, max_error: float, seed: int) -> Int64:
    """Rows of the matches that one fundamental matrix explains. max_error: px of the images."""
    ransac = pycolmap.RANSACOptions(max_error=max_error, random_seed=seed, max_num_trials=TRIALS)
    points = matches.points0.astype(np.float64), matches.points1.astype(np.float64)
    found = pycolmap.estimate_fundamental_matrix(*points, ransac) if len(matches) >= NEIGHBOURS else None
    return np.flatnonzero(found["inlier_mask"]) if found is not None else np.zeros(0, np.int64)


def local_maps(xy0: Float64, xy1: Float64, scale: float) -> Float64:
    """How image 1 moves with image 0 around each of M matches (M, 2), (M, 2) px: (M, 2, 2) px per px.

    Least squares over the nearest matches with Cauchy's weights. scale: px of image 1 that neighbours may be off.
    """
    _, nearest = cKDTree(xy0).query(xy0, k=min(NEIGHBOURS, len(xy0)))
    weight = np.ones(nearest.shape)
    along_a_line = 1e-3 * np.eye(2)  # across it nothing is known, and nothing is taken to change
    for _ in range(FITS):
        source, target = (_centred(xy[nearest], weight) for xy in (xy0, xy1))
        weighted = source * weight[:, :, None]
        own = np.einsum("mki,mkj->mij", weighted, source) + along_a_line
        transposed = np.linalg.solve(own, np.einsum("mki,mkj->mij", weighted, target) + along_a_line)
        weight = 1 / (1 + (_length(source @ transposed - target) / scale) ** 2)
    return np.swapaxes(transposed, 1, 2)


def _centred(xy: Float64, weight: Float64) -> Float64:
    """xy (M, K, 2) less their means by weights (M, K)."""
    return np.asarray(xy - np.average(xy, axis=1, weights=weight[:, :, None] * np.ones(2))[:, None])


def _length(vectors: Float64) -> Float64:
    return np.asarray(np.linalg.norm(vectors, axis=-1))


class _Pair:
    """Matches xy0, xy1 (M, 2) px of the pyramids of two images, and how image 1 moves with image 0 (M, 2, 2)."""

    def __init__(
        self, images: AlignmentImages, rows: tuple[int, int], xy0: Float64, xy1: Float64, maps: Float64
    ) -> None:
        self._pyramid0, self._pyramid1 = (images.read(row) for row in rows)
        self._xy0, self._xy1, self._maps = (values.astype(np.float32) for values in (xy0, xy1, maps))
        self._prior_sigma = PRIOR_SIGMA * float(images.unit[rows[1]])
        self._stages = range(images.first_level(*rows), -1, -1)

    @property
    def on_cpu(self) -> bool:
        """Where the images are."""
        return self._pyramid0.levels[0].device.type == "cpu"

    def parts(self) -> list[Int64]:
        """Those whose map is not too large or small for patches to be compared, so many at once."""
        determinant = np.linalg.det(self._maps)
        usable = np.flatnonzero((determinant > MAX_SCALE**-2) & (determinant < MAX_SCALE**2))
        return [usable[start : start + CHUNK] for start in range(0, len(usable), CHUNK)]

    @torch.inference_mode()
    def found(self, part: Int64) -> tuple[Float64, Float64]:
        """Where the patches of some matches are in image 1 (N, 2), and how alike they are (N,)."""
        device = self._pyramid0.levels[0].device
        window = Window.of_radius(WINDOW_RADIUS, str(device))
        xy0, xy1, maps = (torch.from_numpy(xy[part]).to(device) for xy in (self._xy0, self._xy1, self._maps))
        octave = torch.round(torch.log2(torch.linalg.det(maps)) / 2).long()  # px of image 1 per px of image 0
        levels = [((-octave).clamp(min=0) + stage, octave.clamp(min=0) + stage) for stage in self._stages]
        patches = (cut_patches(self._pyramid0, xy0, of.clamp(max=NUM_LEVELS - 1), window) for of, _ in levels)
        found = found_in_stages(
            self._pyramid1,
            (Templates.of(patch, window) for patch in patches),
            window,
            start=Alignment(xy1, maps, torch.zeros(len(part), device=device), maps),
            levels=levels,
            prior_sigma=self._prior_sigma,
        )
        return found.xy.cpu().numpy().astype(np.float64), found.correlation.cpu().numpy().astype(np.float64)
