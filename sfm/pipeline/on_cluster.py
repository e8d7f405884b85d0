"""What of a run's stages is done by a cluster, where the options name one (sfm.cluster)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from sfm.cluster.recipe import recipe_of
from sfm.cluster.session import ClusterSession, ImageStore, nbytes_of
from sfm.matching.stage import SessionMaker
from sfm.types import ImageRecord
from sfm.verification.stage import MapElsewhere

if TYPE_CHECKING:
    from sfm.pipeline.stages import Run


def session_maker(run: Run) -> SessionMaker | None:
    """What makes the session of the run's cluster; None where it has none."""
    return partial(_session, run) if run.address is not None else None


def map_elsewhere(run: Run) -> MapElsewhere | None:
    """The built-in map by the run's cluster; None where it has none."""
    return partial(run.cluster.map, nbytes=nbytes_of) if run.address is not None else None


def _session(run: Run, records: Mapping[str, ImageRecord]) -> ClusterSession:
    options = run.options.matching
    store = ImageStore(run.pixels, records, run.masks, run.cluster.budget)
    return ClusterSession(run.cluster, recipe_of(options, run.matcher), options, store)
