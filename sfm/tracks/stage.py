"""The stage: verified matches out of the database, keypoints and tracks (sfm.tracks.building) into it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm.errors import BadFile
from sfm.finders import JOIN
from sfm.match_graph import RefusedPair
from sfm.options import TrackOptions
from sfm.tracks.building import TrackSet, build_tracks
from sfm.tracks.thinning import room_for, verified_rows
from sfm.types import Matches, StageSummary, TwoViewGeometry

if TYPE_CHECKING:
    from sfm.storage.database import FeatureDatabase


def _matches(db: FeatureDatabase, geometry: TwoViewGeometry) -> Matches:
    """Matches of a verified pair. BadFile where the geometry is not of these."""
    matches = db.read_matches(geometry.pair)
    if int(geometry.inliers.max()) >= len(matches):
        raise BadFile(f"{db.path}: verified another pair of matches than it holds; delete it to start afresh")
    return matches


class VerifiedPairs(Sequence[tuple[TwoViewGeometry, Matches]]):
    """Verified pairs with their verified matches, read when they are asked for. max_rows: at most of each."""

    def __init__(self, db: FeatureDatabase, geometries: Sequence[TwoViewGeometry], max_rows: int | None) -> None:
        self._db, self._geometries, self._max_rows = db, geometries, max_rows

    def __len__(self) -> int:
        return len(self._geometries)

    def __getitem__(self, number: Any) -> Any:
        geometry = self._geometries[number]
        return verified_rows(geometry, _matches(self._db, geometry), self._max_rows)


def run(
    db: FeatureDatabase, options: TrackOptions, *, memory: int | None = None, without: Sequence[RefusedPair] = ()
) -> StageSummary:
    """The stage: reads verified matches, writes keypoints, tracks and keypoint matches.

    memory: bytes that this stage and those after it may take, None for all that there is. without: pairs that are left
    out, which mapping found to show places that look alike.
    """
    started = time.perf_counter()
    names = [record.name for record in db.read_images()]
    refused = {each.pair for each in without}
    verified = [g for g in db.read_two_view() if len(g.inliers) and g.pair not in refused]
    room = room_for(len(names), memory, options.max_observations)
    max_rows = None if room.rows is None else max(1, room.rows // max(1, len(verified)))
    pairs = VerifiedPairs(db, verified, max_rows)
    grids, *others = (finder.grids for finder in db.read_finders())
    result = build_tracks(names, pairs, grids, options, room=room, other_grids=others)
    db.write_keypoints(result.keypoints)
    db.write_keypoint_matches(result.matches)
    db.write_tracks(result.tracks)
    db.write_refused(without)
    num_matches = sum(len(geometry.inliers) for geometry in verified)
    num_rows = sum(min(len(geometry.inliers), max_rows or len(geometry.inliers)) for geometry in verified)
    num, num_observations = len(result.tracks), len(result.tracks.image_idx)
    counts: dict[str, int | float] = {
        "tracks": num,
        "observations": num_observations,
        "track_length": num_observations / max(num, 1),
    }
    if result.num_left_out:
        counts["left_out"] = result.num_left_out
    possible = num_observations + (result.num_left_out if room.by_memory else 0)
    note = (*_by_matcher(db, result), *_thinned(num_rows, num_matches, num_observations, possible))
    return StageSummary("tracks", counts, time.perf_counter() - started, notes=note)


def _by_matcher(db: FeatureDatabase, result: TrackSet) -> tuple[str, ...]:
    """Of matchers side by side, how many keypoints each found, in a line."""
    provenance = db.provenance("matching")
    names = str(provenance.get("matcher", {}).get("matcher", "")).split(JOIN)
    if len(db.read_finders()) > len(names):
        names.append(str(provenance.get("options", {}).get("fallback", "")))
    if len(names) < 2:
        return ()
    num = sum((np.bincount(own.finder, minlength=len(names)) for own in result.keypoints), np.zeros(len(names), int))
    return (f"keypoints: {', '.join(f'{count:,} by {name}' for name, count in zip(names, num, strict=False))}",)


def _thinned(num_rows: int, num_matches: int, num_observations: int, num_possible: int) -> tuple[str, ...]:
    """What memory did not suffice for, in a line; empty where it did."""
    parts = [
        f"{kept:,} of {all_there_is:,} {what}"
        for kept, all_there_is, what in (
            (num_rows, num_matches, "verified matches"),
            (num_observations, num_possible, "observations"),
        )
        if kept < all_there_is
    ]
    return (f"memory: {' and '.join(parts)} were kept; a larger --memory keeps more",) if parts else ()
