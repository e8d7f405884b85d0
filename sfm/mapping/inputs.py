"""What mapping reads, and what one run of it is given: an attempt with its thresholds.

Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm.colmap.database import NO_CAMERAS, write_colmap_database
from sfm.errors import BadFile
from sfm.finders import Finder
from sfm.geometry.pixels import reduction
from sfm.types import (
    CameraRig,
    Float64,
    Grid,
    ImagePair,
    ImageRecord,
    KeypointMatches,
    Keypoints,
    MatcherTraits,
    TwoViewGeometry,
)

if TYPE_CHECKING:
    import pycolmap

    from sfm.storage.database import FeatureDatabase

# Standard deviations of a match from which on an observation is wrong: COLMAP's 4 px of SIFT. Of a dense matcher's
# matches there are some to spare, and the least exact of them bend the model.
FILTER, DENSE_FILTER = 4.0, 2.0


@dataclass(frozen=True, slots=True)
class MappingInput:
    """All that mapping reads: images in order, and their keypoints, verified pairs and matches.

    grids, traits: of the matcher; beside: of others, in the order of Keypoints.finder. known_intrinsics: the user gave
    the cameras' parameters; they stay as they are.
    estimated_focals: camera groups whose focal length is not from EXIF, but from the pairs.
    known_groups: camera groups of which this holds, where it does not of all. rigs: of cameras whose poses in it are
    known.
    """

    images: tuple[ImageRecord, ...]
    keypoints: tuple[Keypoints, ...]
    geometries: tuple[TwoViewGeometry, ...]
    matches: tuple[KeypointMatches, ...]
    grids: Mapping[str, Grid | None]
    known_intrinsics: bool = False
    traits: MatcherTraits = MatcherTraits()
    estimated_focals: frozenset[str] = frozenset()
    known_groups: frozenset[str] = frozenset()
    rigs: tuple[CameraRig, ...] = ()
    beside: tuple[Finder, ...] = ()

    @property
    def finders(self) -> tuple[Finder, ...]:
        """All matchers that the keypoints are of."""
        return (Finder(self.grids, self.traits), *self.beside)

    @property
    def dense(self) -> bool:
        """Whether a matcher among them is dense."""
        return any(finder.traits.dense for finder in self.finders)

    @property
    def refinable(self) -> bool:
        """Whether all positions may be moved by photometric refinement."""
        return all(finder.traits.refinable for finder in self.finders)

    @property
    def sigma(self) -> float:
        """Standard deviation of a match's position, px: the median over images. All thresholds are multiples of it.

        Of several matchers the coarsest one's: thresholds are for all observations of a model, and keep all that are
        right. Which are not, as exact as each matcher is, is seen in refinement (`fineness`).
        """
        return max(_median_sigma(finder) for finder in self.finders)

    @property
    def sigmas(self) -> dict[str, float]:
        """The same, by image name."""
        return {r.name: max(_sigma(finder, r.name) for finder in self.finders) for r in self.images}

    @property
    def fineness(self) -> dict[str, Float64]:
        """By image name: the standard deviation of each keypoint's position (N,), times that of its image."""
        by_name = zip(self.images, self.keypoints, self.sigmas.values(), strict=True)
        return {
            r.name: np.array([_sigma(finder, r.name) / sigma for finder in self.finders])[own.finder]
            for r, own, sigma in by_name
        }

    @property
    def filter_error(self) -> float:
        """Reprojection error from which on an observation is wrong, px.

        Of several matchers the largest: none loses what it keeps alone (with the tighter one for all: temple 0.68
        instead of 0.74 at 1 degree, dino 0.34 and 0.33).
        """
        each = ((DENSE_FILTER if f.traits.dense else FILTER) * _median_sigma(f) for f in self.finders)
        return max(each)


def _median_sigma(finder: Finder) -> float:
    return finder.traits.pixel_sigma * float(np.median([reduction(grid) for grid in finder.grids.values()] or [1.0]))


def _sigma(finder: Finder, name: str) -> float:
    return finder.traits.pixel_sigma * reduction(finder.grids.get(name))


def read_input(db: FeatureDatabase, *, known_intrinsics: bool) -> MappingInput:
    """What the stages before mapping left. BadFile where it does not belong together."""
    refused = {each.pair for each in db.read_refused()}
    geometries = tuple(g for g in db.read_two_view() if len(g.inliers) and g.pair not in refused)
    matches = db.read_keypoint_matches()
    pairs = {m.pair for m in matches}
    if len(pairs) < len(matches) or not pairs <= {g.pair for g in geometries}:
        raise BadFile(f"{db.path}: its matches are not of its verified pairs; delete it to start afresh")
    lenses = {} if known_intrinsics else db.read_lenses()
    images = tuple(replace(r, camera=lenses.get(r.camera.group, r.camera)) for r in db.read_images())
    keypoints, (first, *beside) = db.read_keypoints(), db.read_finders()
    if any(len(own) and int(own.finder.max()) > len(beside) for own in keypoints):
        raise BadFile(f"{db.path}: keypoints of a matcher that it does not know; delete it to start afresh")
    return MappingInput(
        images,
        keypoints,
        geometries,
        matches,
        first.grids,
        known_intrinsics,
        first.traits,
        frozenset(lenses),
        beside=tuple(beside),
    )


def without_pairs(data: MappingInput, pairs: Collection[ImagePair]) -> MappingInput:
    """The input without some of its pairs."""
    return replace(
        data,
        geometries=tuple(g for g in data.geometries if g.pair not in pairs),
        matches=tuple(m for m in data.matches if m.pair not in pairs),
    )


def write_database(path: Path, data: MappingInput, cameras: Mapping[int, pycolmap.Camera] = NO_CAMERAS) -> None:
    """A new COLMAP database of all that mapping reads. cameras: by id, those that are better known than by a prior."""
    write_colmap_database(path, data.images, data.keypoints, data.geometries, data.matches, data.rigs, cameras)


@dataclass(frozen=True, slots=True)
class Strategy:
    """Thresholds of one run of incremental mapping.

    Of the hundreds of matches of a dense matcher chance fits a dozen: a pose needs a fifth of them.
    """

    name: str
    init_min_num_inliers: int
    init_min_tri_angle: float  # degrees
    abs_pose_min_num_inliers: int
    abs_pose_min_inlier_ratio: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of COLMAP's mapping. hold_distortion: only focal lengths are refined. hold_focal: nor are these."""

    name: str
    strategy: Strategy
    data: MappingInput
    hold_distortion: bool = False
    hold_focal: bool = False
