"""How many images are mapped: once, and not anew because some are missing.

What would take several mappings to find out, which focal length to begin at and whether cameras are of one kind, is
found on a well connected part of the images, which is mapped as a small set is (sfm.mapping.retry_strategy). Its model
is then the start of the mapping of all. A group of images that was misregistered is mapped by itself, and that model
grown: what ties it to the others may lead to the right place from there. Images that are missing in the end, or
misregistered, are registered in what is there with lower thresholds, without the pairs that contradict it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pycolmap

from sfm.colmap.camera import replace_focals
from sfm.colmap.model_writer import save_model
from sfm.mapping.colmap_mapper import map_incrementally, register_more
from sfm.mapping.inputs import Attempt, MappingInput, Strategy, without_pairs, write_database
from sfm.mapping.many_images.part import well_connected, within
from sfm.mapping.registry import run_mapper
from sfm.mapping.retry_strategy import (
    STRATEGIES,
    Outcome,
    drop_images,
    evaluate,
    is_complete,
    map_images,
    refined_focals,
    strongest_pairs,
)
from sfm.options import MappingOptions
from sfm.types import ImagePair

ENOUGH = 0.5  # of the part's images, for its model to be a start
GROUP = 10  # misregistered images, to be mapped by themselves; fewer are registered anew


def map_once(data: MappingInput, options: MappingOptions, scratch: Path) -> Outcome:
    """The outcome of a large set; folders of what is run are in scratch. Deterministic with one thread."""
    attempt, start = _start(data, options, scratch)
    outcome, wrong = _run(attempt, options, scratch / "all", start)
    if outcome.models and outcome.is_folded and wrong:
        again = _run(replace(attempt, data=without_pairs(data, wrong)), options, scratch / "all again", None)
        if again[0].support > outcome.support:
            outcome, wrong = replace(again[0], removed_pairs=len(wrong)), again[1]
    if outcome.models and not outcome.is_folded and len(outcome.misregistered) >= GROUP:
        other, against = _from_group(outcome, options, scratch / "group")
        if other.support > outcome.support:
            outcome, wrong = other, against
    for strategy in STRATEGIES:
        if is_complete(outcome) and not outcome.misregistered:
            break
        if strategy is STRATEGIES[0] and outcome.models and not outcome.misregistered:
            continue  # nothing has changed
        folder = scratch / f"{strategy.name} more"
        more, still = _more(outcome, wrong, strategy, options, folder)
        if more.support > outcome.support:
            outcome, wrong = more, wrong | still
    return outcome


def _start(
    data: MappingInput, options: MappingOptions, scratch: Path
) -> tuple[Attempt, pycolmap.Reconstruction | None]:
    """How all images are mapped, and the model of a part to go on from; None where there is none."""
    default = Attempt(STRATEGIES[0].name, STRATEGIES[0], data)
    if options.mapper != "incremental" or data.rigs:
        return default, None
    part = well_connected(data)
    (scratch / "part").mkdir()
    found = map_images(part, options, scratch / "part")
    if found.is_folded or found.num_well_registered < ENOUGH * len(strongest_pairs(part)):
        return default, None
    model = pycolmap.Reconstruction(found.models[0])
    drop_images(model, found.misregistered)
    focals = refined_focals(data, model)
    images = replace_focals(found.attempt.data.images, focals)
    attempt = replace(found.attempt, strategy=STRATEGIES[0], data=replace(data, images=images))
    return attempt, model


def _run(
    attempt: Attempt, options: MappingOptions, folder: Path, start: pycolmap.Reconstruction | None
) -> tuple[Outcome, frozenset[ImagePair]]:
    """The outcome of mapping all images, from the start where there is one, and the pairs that contradict it."""
    if start is None:
        return evaluate(attempt, tuple(run_mapper(attempt, options, folder)), folder)
    folder.mkdir()
    write_database(folder / "database.db", attempt.data)
    (folder / "start").mkdir()
    save_model(start, folder / "start")
    return evaluate(attempt, tuple(map_incrementally(attempt, options, folder, folder / "start")), folder)


def _from_group(outcome: Outcome, options: MappingOptions, folder: Path) -> tuple[Outcome, frozenset[ImagePair]]:
    """The outcome of going on from a model of the misregistered images alone.

    Seen from the others, what truly ties these to them may have no 3D points, so that false matches decide where they
    are placed, time and again. In a model of their own the true matches have points.
    """
    folder.mkdir()
    attempt, images = outcome.attempt, outcome.misregistered
    alone, wrong = _run(replace(attempt, data=within(attempt.data, images)), options, folder / "alone", None)
    if 2 * alone.num_well_registered < len(images):
        return alone, wrong
    former = pycolmap.Reconstruction(outcome.models[0])
    drop_images(former, images)
    grown, wrong = _run(attempt, options, folder / "grown", alone.models[0])
    return replace(grown, models=(*grown.models, former), removed_pairs=outcome.removed_pairs), wrong


def _more(
    outcome: Outcome, wrong: frozenset[ImagePair], strategy: Strategy, options: MappingOptions, folder: Path
) -> tuple[Outcome, frozenset[ImagePair]]:
    """The outcome with the images that can be registered in it with other thresholds, misregistered ones once more,
    without the pairs that contradict it. Where there is no model, one is made with these thresholds."""
    attempt = replace(outcome.attempt, strategy=strategy, data=without_pairs(outcome.attempt.data, wrong))
    removed = outcome.removed_pairs + len(wrong)
    if not outcome.models:
        more, still = _run(attempt, options, folder, None)
        return replace(more, removed_pairs=removed), still
    model = pycolmap.Reconstruction(outcome.models[0])
    if not outcome.is_folded:
        drop_images(model, outcome.misregistered)
    folder.mkdir()
    write_database(folder / "database.db", attempt.data)
    models = (register_more(attempt, options, folder, model), *outcome.models[1:])
    more, still = evaluate(attempt, models, folder)
    return replace(more, removed_pairs=removed), still
