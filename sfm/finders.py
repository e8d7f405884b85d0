"""What the stages after matching know of each of the matchers whose matches a run holds: its grids and its traits.

Matches of several matchers side by side are rows of one table; `Matches.finder` and `Keypoints.finder` say whose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sfm.registry import JOIN as JOIN
from sfm.registry import MOST as MOST
from sfm.types import Grid, MatcherTraits


@dataclass(frozen=True, slots=True, eq=False)
class Finder:
    """A matcher, as the stages after matching see it. grids: Matcher.grid by image name, None for a detector."""

    grids: Mapping[str, Grid | None]
    traits: MatcherTraits = MatcherTraits()


def joined(names: Iterable[str]) -> str:
    """How matchers side by side are called."""
    return JOIN.join(names)


def joined_provenance(provenances: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What the matches of several matchers depend on; of one what it says itself."""
    if len(provenances) == 1:
        return dict(provenances[0])
    names = [own.get("matcher", "?") for own in provenances]
    each = {f"{name}.{key}": value for name, own in zip(names, provenances, strict=True) for key, value in own.items()}
    return {"matcher": joined(names)} | {key: each[key] for key in each if not key.endswith(".matcher")}
