"""Two-view geometry of every pair (sfm.geometry.two_view), with the error that its matcher allows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sfm.colmap.camera import prior_camera
from sfm.geometry.fisheye import is_fisheye, verify_fisheye_pair
from sfm.geometry.pixels import allowed_error
from sfm.geometry.two_view import verify_pair
from sfm.options import VerificationOptions
from sfm.system.hashing import json_digest
from sfm.system.parallel import Workers
from sfm.system.progress import progress_bar
from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord, MatcherTraits, Matches, StageSummary, TwoViewGeometry
from sfm.verification.lens_evidence import chosen_pairs, fisheye_prior, fisheye_widths, lens_evidence

if TYPE_CHECKING:
    from sfm.storage.database import FeatureDatabase

BLOCK = 256  # pairs whose matches are in memory at once; a run that is killed does at most so many again


def verify(
    items: Sequence[tuple[ImagePair, Matches]],
    records: Mapping[str, ImageRecord],
    grids: Mapping[str, Grid | None],
    options: VerificationOptions,
    *,
    traits: MatcherTraits,
    seed: int = 0,
    on_pair: Callable[[], object] = lambda: None,
) -> list[TwoViewGeometry]:
    """Geometry of every pair, in order, in threads (pycolmap gives up the interpreter's lock while it works).

    grids, traits: of the matcher. on_pair: called when a pair is done.
    """

    def one(item: tuple[ImagePair, Matches]) -> TwoViewGeometry:
        pair, matches = item
        cameras = prior_camera(records[pair.name0]), prior_camera(records[pair.name1])
        own = grids.get(pair.name0), grids.get(pair.name1)
        max_error = allowed_error(own, traits, options.max_error)
        min_ratio = options.min_inlier_ratio if traits.dense else 0.0
        fisheye = any(is_fisheye(camera.model_name) for camera in cameras)
        how = verify_fisheye_pair if fisheye else verify_pair
        return how(pair, matches, cameras, options, max_error=max_error, min_ratio=min_ratio, seed=seed)

    result = []
    with Workers(os.cpu_count() or 1) as pool:
        for geometry in pool.map(one, items):
            result.append(geometry)
            on_pair()
    return result


def run(db: FeatureDatabase, options: VerificationOptions, *, seed: int = 0, lenses: str = "keep") -> StageSummary:
    """The stage: reads images, grids and matches, writes one geometry for every matched pair.

    lenses: "keep" takes cameras as they are, "width" finds the width of fisheye lenses, "find" also which lenses are
    fisheyes (sfm.verification.lens_evidence). What was found is kept with the geometries.
    """
    started = time.perf_counter()
    records = {record.name: record for record in db.read_images()}
    grids, traits = db.read_grids(), db.read_traits()
    pairs, key = db.read_pairs(), _key(db, options, seed)
    found_lenses = found_cameras(db, records, options, seed=seed, how=lenses)
    records = {
        name: replace(record, camera=found_lenses.get(record.camera.group, record.camera))
        for name, record in records.items()
    }
    done = {geometry.pair: geometry for geometry in db.verified_so_far(key)}
    todo = [pair for pair in pairs if pair not in done]
    with progress_bar(len(pairs), desc="verifying", unit="pair", initial=len(pairs) - len(todo)) as bar:
        for begin in range(0, len(todo), BLOCK):
            items = [(pair, db.read_matches(pair)) for pair in todo[begin : begin + BLOCK]]
            found = verify(items, records, grids, options, traits=traits, seed=seed, on_pair=bar.update)
            done |= {geometry.pair: geometry for geometry in found}
            if begin + BLOCK < len(todo):  # the last are written with all
                db.keep_verified(found, key=key)
    geometries = [done[pair] for pair in pairs]
    db.write_two_view(geometries, lenses=tuple(found_lenses.values()))
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "verified": sum(len(g.inliers) > 0 for g in geometries),
        "inliers": sum(len(g.inliers) for g in geometries),
    }
    if found_lenses:
        counts["fisheye_lenses"] = len(found_lenses)
    return StageSummary("verification", counts, time.perf_counter() - started)


def found_cameras(
    db: FeatureDatabase, records: Mapping[str, ImageRecord], options: VerificationOptions, *, seed: int, how: str
) -> dict[str, CameraPrior]:
    """The fisheye cameras that the matches show, by group."""
    groups: dict[str, list[ImageRecord]] = {}
    for record in records.values() if how != "keep" else ():
        groups.setdefault(record.camera.group, []).append(record)
    counts, grids, traits = db.match_counts(), db.read_grids(), db.read_traits()
    found = {}
    for group, members in groups.items():
        pairs = chosen_pairs(counts, frozenset(record.name for record in members))
        known = is_fisheye(members[0].camera.model)
        if not pairs or not (known or (how == "find" and members[0].camera.model == "SIMPLE_RADIAL")):
            continue
        items = [(pair, db.read_matches(pair)) for pair in pairs]
        error = allowed_error((grids.get(pairs[0].name0), grids.get(pairs[0].name1)), traits, options.max_error)
        size = members[0].width, members[0].height
        if known:
            widths = fisheye_widths(items, size, error, seed=seed)
            found[group] = fisheye_prior(members[0], max(widths, key=lambda deg: widths[deg]))
        elif (evidence := lens_evidence(items, size, error, seed=seed)).is_fisheye:
            found[group] = fisheye_prior(members[0], evidence.diagonal_deg)
    return found


def _key(db: FeatureDatabase, options: VerificationOptions, seed: int) -> str:
    """Digest of all that the geometries depend on."""
    read = [db.fingerprint(stage) for stage in ("images", "matching")]
    return json_digest([read, asdict(options), seed], sort_keys=False)
