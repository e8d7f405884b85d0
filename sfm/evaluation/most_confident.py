"""Which of a network's matches the geometry of two views is estimated from.

Where two images have much in common, what is less sure only blurs the pose; where they have little, nearly all of what
is right is less sure. So all matches of a good confidence count, and at least a number of the best.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from sfm.evaluation.options import TwoViewOptions
from sfm.matchers.base import Matcher, Thresholded
from sfm.matchers.registry import make_matcher
from sfm.types import Matches

FLOOR = 0.03  # confidence below which a match is as good as none

Select = Callable[[Matches], Matches]


def two_view_matcher(options: TwoViewOptions) -> tuple[Matcher, Select]:
    """The options' matcher, and which of its matches count. Raises as make_matcher."""
    return with_choice(make_matcher(options), options)


def with_choice(matcher: Matcher, options: TwoViewOptions) -> tuple[Matcher, Select]:
    """The matcher so that it gives what the options choose from, and that choice.

    Matchers that have no confidence to set give what they give.
    """
    if not options.at_least or options.confidence is None or not isinstance(matcher, Thresholded):
        return matcher, lambda matches: matches
    sure, at_least = options.confidence, options.at_least
    return with_enough(matcher, sure=sure, at_least=at_least), partial(most_confident, sure=sure, at_least=at_least)


def with_enough(matcher: Thresholded, *, sure: float, at_least: int) -> Matcher:
    """The matcher with a least confidence that leaves `most_confident` enough to choose from."""
    return matcher.at_confidence(min(FLOOR, sure) if at_least else sure)


def most_confident(matches: Matches, *, sure: float, at_least: int) -> Matches:
    """Matches of a confidence of at least `sure`, or the `at_least` best ones where these are fewer; best first."""
    order = np.argsort(-matches.confidence, kind="stable")
    return matches.rows(order[: max(int(np.count_nonzero(matches.confidence >= sure)), at_least)])
