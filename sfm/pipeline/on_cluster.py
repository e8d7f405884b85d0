"""What of a run's stages is done by a cluster, where the options name one (sfm.cluster)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from sfm.cluster.recipe import recipe_of
from sfm.cluster.session import ClusterSession, ImageStore, nbytes_of
from sfm.matchers.base import Matcher, Resizable
from sfm.matching.stage import SessionMaker
from sfm.options import MatchingOptions
from sfm.types import ImageRecord
from sfm.verification.stage import MapElsewhere

if TYPE_CHECKING:
    from sfm.pipeline.stages import Run


def session_maker(run: Run, matcher: Matcher, options: MatchingOptions) -> SessionMaker | None:
    """What makes the session of the run's cluster for one of its matchers; None where it has none. options: its own."""
    return partial(_session, run, matcher, options) if run.address is not None else None


def map_elsewhere(run: Run) -> MapElsewhere | None:
    """The built-in map by the run's cluster; None where it has none."""
    return partial(run.cluster.map, nbytes=nbytes_of) if run.address is not None else None


def _session(
    run: Run, own: Matcher, options: MatchingOptions, matcher: Matcher, records: Mapping[str, ImageRecord]
) -> ClusterSession:
    """own: the run's matcher. matcher: that, or the same for images of another size."""
    size = matcher.size if isinstance(matcher, Resizable) else None
    recipe = recipe_of(options, matcher, at_size=None if matcher is own else size)
    store = ImageStore(run.pixels, records, run.masks, run.cluster.budget)
    return ClusterSession(run.cluster, recipe, options, store)
