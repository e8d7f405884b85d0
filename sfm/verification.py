"""Two-view geometry of every pair (sfm.pair_geometry), with the error that its matcher's grid allows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sfm.geometry import reduction
from sfm.options import VerificationOptions
from sfm.pair_geometry import DETECTOR_ERROR_PX, verify_pair
from sfm.progress import progress_bar
from sfm.types import Grid, ImagePair, ImageRecord, Matches, StageSummary, TwoViewGeometry
from sfm.workers import Workers

if TYPE_CHECKING:
    from sfm.database import FeatureDatabase


def verify(
    items: Sequence[tuple[ImagePair, Matches]],
    records: Mapping[str, ImageRecord],
    grids: Mapping[str, Grid | None],
    options: VerificationOptions,
    *,
    seed: int = 0,
) -> list[TwoViewGeometry]:
    """Geometry of every pair, in order, in threads (pycolmap gives up the interpreter's lock while it works)."""

    def one(item: tuple[ImagePair, Matches]) -> TwoViewGeometry:
        pair, matches = item
        images = (records[pair.name0], records[pair.name1])
        semi_dense = all(grids.get(name) is not None for name in (pair.name0, pair.name1))
        max_error = pair_error(pair, grids, options) if semi_dense else DETECTOR_ERROR_PX
        min_ratio = options.min_inlier_ratio if semi_dense else 0.0
        return verify_pair(pair, matches, images, options, max_error=max_error, min_ratio=min_ratio, seed=seed)

    with (
        Workers(os.cpu_count() or 1) as pool,
        progress_bar(len(items), desc="verifying", unit="pair") as bar,
    ):
        result = []
        for geometry in pool.map(one, items):
            result.append(geometry)
            bar.update()
    return result


def pair_error(pair: ImagePair, grids: Mapping[str, Grid | None], options: VerificationOptions) -> float:
    """Allowed epipolar error in photo px: the option is in network px; of two images the coarser one's."""
    return options.max_error * max(reduction(grids.get(pair.name0)), reduction(grids.get(pair.name1)))


def run(db: FeatureDatabase, options: VerificationOptions, *, seed: int = 0) -> StageSummary:
    """The stage: reads images, grids and matches, writes one geometry for every matched pair."""
    started = time.perf_counter()
    records = {record.name: record for record in db.read_images()}
    grids = db.read_grids()
    geometries: list[TwoViewGeometry] = []
    pairs = db.read_pairs()
    for begin in range(0, len(pairs), 256):  # matches of 256 pairs in memory at once
        items = [(pair, db.read_matches(pair)) for pair in pairs[begin : begin + 256]]
        geometries += verify(items, records, grids, options, seed=seed)
    db.write_two_view(geometries)
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "verified": sum(len(g.inliers) > 0 for g in geometries),
        "inliers": sum(len(g.inliers) for g in geometries),
    }
    return StageSummary("verification", counts, time.perf_counter() - started)
