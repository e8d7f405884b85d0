"""Two-view geometry of every pair (sfm.geometry.two_view), with the error that its matcher allows.

What stands still in a set of images while the rest moves is looked for first, and left out (sfm.verification.still).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sfm.colmap.camera import prior_camera
from sfm.finders import Finder
from sfm.geometry.evidence import Blocks
from sfm.geometry.fisheye import is_fisheye, verify_fisheye_pair
from sfm.geometry.pixels import allowed_error
from sfm.geometry.two_view import verify_pair
from sfm.options import SMALL_SET, VerificationOptions
from sfm.system.hashing import json_digest
from sfm.system.parallel import Workers, num_cores
from sfm.system.progress import progress_bar
from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord, MatcherTraits, Matches, StageSummary, TwoViewGeometry
from sfm.verification.lens_evidence import chosen_pairs, fisheye_prior, fisheye_widths, lens_evidence
from sfm.verification.side_by_side import agreed
from sfm.verification.still import StillParts, StillVotes

if TYPE_CHECKING:
    from sfm.storage.database import FeatureDatabase

REVISION = 2  # of the stage: raised when the geometries of the same matches change
PROBES, TWO_MOTIONS = 200, 0.02  # pairs that are tried for two motions, and what share of them calls for the others
BLOCK = 256  # pairs whose matches are in memory at once; a run that is killed does at most so many again


def verify(
    items: Sequence[tuple[ImagePair, Matches]],
    records: Mapping[str, ImageRecord],
    grids: Mapping[str, Grid | None],
    options: VerificationOptions,
    *,
    traits: MatcherTraits,
    still: StillParts = StillParts(),  # noqa: B008
    seed: int = 0,
    others: Sequence[Finder] = (),
) -> list[TwoViewGeometry]:
    """Geometry of every pair of a set, in order. grids, traits: of the matcher; others: of those beside it, in the
    order of Matches.finder. still: what is left out."""
    finders = (Finder(grids, traits), *others)
    return settle(verify_each(items, records, finders, options, still=still, seed=seed))


def settle(geometries: Sequence[TwoViewGeometry]) -> list[TwoViewGeometry]:
    """Decides on the pairs in doubt of a set: kept where they connect images that nothing else connects."""
    groups: dict[str, str] = {}

    def group(name: str) -> str:
        while groups.setdefault(name, name) != name:
            name = groups[name]
        return name

    for geometry in geometries:
        if not geometry.reason and len(geometry.inliers):
            groups[group(geometry.pair.name0)] = group(geometry.pair.name1)
    settled = []
    for geometry in geometries:
        if geometry.reason and len(geometry.inliers):
            connects = group(geometry.pair.name0) != group(geometry.pair.name1)
            rejected = TwoViewGeometry(geometry.pair, geometry.inliers[:0], "degenerate", reason=geometry.reason)
            geometry = replace(geometry, reason="") if connects else rejected
        settled.append(geometry)
    return settled


def verify_each(
    items: Sequence[tuple[ImagePair, Matches]],
    records: Mapping[str, ImageRecord],
    finders: Sequence[Finder],
    options: VerificationOptions,
    *,
    still: StillParts,
    seed: int = 0,
    on_pair: Callable[[], object] = lambda: None,
) -> list[TwoViewGeometry]:
    """As `verify`, with pairs in doubt undecided, in threads (pycolmap gives up the interpreter's lock while it works).

    on_pair: called when a pair is done.
    """

    def by_one(pair: ImagePair, matches: Matches, number: int) -> tuple[TwoViewGeometry, float]:
        """Of the matches of one matcher, and the error that it allows, px."""
        cameras, traits = (prior_camera(records[pair.name0]), prior_camera(records[pair.name1])), finders[number].traits
        grid0, grid1 = (finders[number].grids.get(name) for name in (pair.name0, pair.name1))
        max_error = allowed_error((grid0, grid1), traits, options.max_error)
        blocks = (Blocks.of(grid0, grid1) if grid0 and grid1 else Blocks.UNKNOWN) if traits.dense else None
        shown = still.shown_on(pair, matches, (grid0, grid1))
        rows = still.moving_rows(pair, shown, max_error, _diagonal(records[pair.name0]), seed=seed)
        if len(rows) < len(matches):
            matches = matches.rows(rows)
        fisheye = any(is_fisheye(camera.model_name) for camera in cameras)
        how = verify_fisheye_pair if fisheye else partial(verify_pair, of_many=len(records) > SMALL_SET)
        found = how(pair, matches, cameras, options, max_error=max_error, blocks=blocks, seed=seed)
        return replace(found, inliers=rows[found.inliers].astype(np.uint32)), max_error

    def one(item: tuple[ImagePair, Matches]) -> TwoViewGeometry:
        pair, matches = item
        if len(finders) == 1:
            return by_one(pair, matches, 0)[0]
        found, errors = [], []
        for number in range(len(finders)):
            own = np.flatnonzero(matches.finder == number)
            geometry, error = by_one(pair, matches.rows(own), number)
            found.append(replace(geometry, inliers=own[geometry.inliers].astype(np.uint32)))
            errors.append(error)
        return agreed(found, matches, errors)

    result = []
    with Workers(num_cores()) as pool:
        for geometry in pool.map(one, items):
            result.append(geometry)
            on_pair()
    return result


def _diagonal(record: ImageRecord) -> float:
    return float(np.hypot(record.width, record.height))


def still_parts(
    pairs: Sequence[ImagePair],
    read_matches: Callable[[ImagePair], Matches],
    records: Mapping[str, ImageRecord],
    grids: Mapping[str, Grid | None],
    options: VerificationOptions,
    *,
    traits: MatcherTraits,
    seed: int = 0,
) -> StillParts:
    """What stands still in the images while the rest moves, by the matches of their pairs; nothing for a detector's.

    pairs: those with most matches first. Of many, some are tried, and the others only if these speak of two motions.
    """
    if not traits.dense:
        return StillParts()
    votes = StillVotes(records, grids)
    step = max(1, len(pairs) // 2 // PROBES)
    probes = pairs[: len(pairs) // 2 : step] if step > 1 else pairs
    tried = set(probes)
    for part in (probes, [pair for pair in pairs if pair not in tried]):
        for pair in part:
            max_error = allowed_error((grids.get(pair.name0), grids.get(pair.name1)), traits, options.max_error)
            votes.add(pair, read_matches(pair), max_error, seed=seed)
        if votes.num_two < TWO_MOTIONS * len(part):
            break
    return votes.result()


def _still(
    pairs: Sequence[ImagePair],
    read_matches: Callable[[ImagePair], Matches],
    records: Mapping[str, ImageRecord],
    finders: Sequence[Finder],
    options: VerificationOptions,
    *,
    seed: int,
) -> StillParts:
    """What stands still by the first matcher that can tell."""
    number = next((number for number, finder in enumerate(finders) if finder.traits.dense), 0)
    grids, traits = finders[number].grids, finders[number].traits
    read = read_matches if len(finders) == 1 else partial(_found_by, number, read_matches)
    return still_parts(pairs, read, records, grids, options, traits=traits, seed=seed)


def _found_by(number: int, read_matches: Callable[[ImagePair], Matches], pair: ImagePair) -> Matches:
    matches = read_matches(pair)
    return matches.rows(np.flatnonzero(matches.finder == number))


_Items = Sequence[tuple[ImagePair, Matches]]
MapElsewhere = Callable[[Callable[[_Items], list[TwoViewGeometry]], Iterable[_Items]], Iterable[list[TwoViewGeometry]]]


def run(
    db: FeatureDatabase,
    options: VerificationOptions,
    *,
    seed: int = 0,
    lenses: str = "keep",
    map_elsewhere: MapElsewhere | None = None,
) -> StageSummary:
    """The stage: reads images, grids and matches, writes one geometry for every matched pair.

    lenses: "keep" takes cameras as they are, "width" finds the width of fisheye lenses, "find" also which lenses are
    fisheyes (sfm.verification.lens_evidence). What was found is kept with the geometries. map_elsewhere: as the
    built-in map, by other processes, which get pairs with their matches.
    """
    started = time.perf_counter()
    records = {record.name: record for record in db.read_images()}
    finders = db.read_finders()
    pairs, key = [each.pair for each in db.read_tried()], _key(db, options, seed)
    found_lenses = found_cameras(db, records, options, seed=seed, how=lenses)
    records = {
        name: replace(record, camera=found_lenses.get(record.camera.group, record.camera))
        for name, record in records.items()
    }
    done = {geometry.pair: geometry for geometry in db.verified_so_far(key)}
    todo = [pair for pair in pairs if pair not in done]
    counts_of = db.match_counts()
    by_matches = sorted(pairs, key=lambda pair: (-counts_of.get(pair, 0), pair))
    still = _still(by_matches, db.read_matches, records, finders, options, seed=seed)
    with progress_bar(len(pairs), desc="verifying", unit="pair", initial=len(pairs) - len(todo)) as bar:
        verify_block = partial(verify_each, records=records, finders=finders, options=options, still=still, seed=seed)
        blocks = (
            [(pair, db.read_matches(pair)) for pair in todo[begin : begin + BLOCK]]
            for begin in range(0, len(todo), BLOCK)
        )
        here = (verify_block(items, on_pair=bar.update) for items in blocks)
        for found in here if map_elsewhere is None else map_elsewhere(verify_block, blocks):
            done |= {geometry.pair: geometry for geometry in found}
            if map_elsewhere is not None:
                bar.update(len(found))
            if len(done) < len(pairs):  # the last are written with all
                db.keep_verified(found, key=key)
    geometries = settle([done[pair] for pair in pairs])
    db.write_two_view(geometries, lenses=tuple(found_lenses.values()))
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "verified": sum(len(g.inliers) > 0 for g in geometries),
        "inliers": sum(len(g.inliers) for g in geometries),
    }
    if found_lenses:
        counts["fisheye_lenses"] = len(found_lenses)
    note = still.note(len(records))
    return StageSummary("verification", counts, time.perf_counter() - started, notes=(note,) if note else ())


def found_cameras(
    db: FeatureDatabase, records: Mapping[str, ImageRecord], options: VerificationOptions, *, seed: int, how: str
) -> dict[str, CameraPrior]:
    """The fisheye cameras that the matches show, by group."""
    groups: dict[str, list[ImageRecord]] = {}
    for record in records.values() if how != "keep" else ():
        groups.setdefault(record.camera.group, []).append(record)
    counts, first = db.match_counts(), db.read_finders()[0]
    found = {}
    for group, members in groups.items():
        pairs = chosen_pairs(counts, frozenset(record.name for record in members))
        known = is_fisheye(members[0].camera.model)
        if not pairs or not (known or (how == "find" and members[0].camera.model == "SIMPLE_RADIAL")):
            continue
        items = [(pair, _found_by(0, db.read_matches, pair)) for pair in pairs]
        grids = first.grids.get(pairs[0].name0), first.grids.get(pairs[0].name1)
        error = allowed_error(grids, first.traits, options.max_error)
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
    many = ["of many"] if len(db.read_images()) > SMALL_SET else []
    return json_digest([REVISION, read, asdict(options), seed, *many], sort_keys=False)
