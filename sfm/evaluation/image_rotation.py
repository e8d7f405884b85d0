"""The quarter turn at which two images match, where nothing but the two says it.

Where images hardly match as they are, one camera may have been rotated about its axis. A glance at small images tells
at which quarter turn they match best, at the cost of one pair for all four (right for 98 of 100 pairs of a room with
image 1 rotated by any angle, and for all of them as they are), and the images at full size confirm it. What is up to 45
degrees off a quarter turn is left to the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sfm.evaluation.most_confident import Select
from sfm.evaluation.options import TwoViewOptions
from sfm.matchers.base import GreyImage, Matcher
from sfm.matchers.rotated import RotatedFeatures, RotatingMatcher
from sfm.matching.pair_matching import glancing, may_rotate
from sfm.matching.rotations import strength
from sfm.types import Matches

GLANCE_PX = 320  # longer side; at 240 px it is right for 95 of those 100 pairs
WEAK = 0.05  # share of cells with strong matches below which image 1 is rotated; pairs as they are have 0.04 to 0.3
TURNS = (0, 1, 2, 3)


def glancing_matcher(matcher: Matcher, options: TwoViewOptions) -> Matcher | None:
    """The matcher for small images; None where no image is rotated: not asked for, or of no use."""
    return glancing(matcher, GLANCE_PX) if may_rotate(matcher, options) else None


def hardly_match(matches: Matches, matcher: Matcher, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether few of the cells are matched, and the images may be rotated. sizes: (width, height) of both images."""
    grids = [(matcher.grid(*size), size[1]) for size in sizes]
    return strength(matches, min(g.columns * g.num_rows(height) for g, height in grids if g is not None)) < WEAK


def certainty(matches: Matches) -> float:
    """The number of matches that are right, if confidences are probabilities."""
    return float(matches.confidence.sum(dtype=np.float64))


def best_rotation(seen: Mapping[int, float]) -> int:
    """The rotation at which two images match best, 0 where that is as good. seen: certainty, by rotation."""
    return max(sorted(seen), key=lambda rotation: seen[rotation])


def matched(
    greys: tuple[GreyImage, GreyImage],
    features: tuple[RotatedFeatures, RotatedFeatures],
    matcher: Matcher,
    options: TwoViewOptions,
    select: Select,
) -> tuple[Matches, int]:
    """The matches that count of two images, and the rotation of image 1 that they are found at.

    features: of the images as they are, by RotatingMatcher(matcher).
    """
    (found,) = RotatingMatcher(matcher).match([features])
    sizes = [(grey.shape[1], grey.shape[0]) for grey in greys]
    if not may_rotate(matcher, options) or not hardly_match(found, matcher, sizes):
        return select(found), 0
    return best_matches(select(found), greys, features[0], matcher, glancing(matcher, GLANCE_PX), select)


def best_matches(
    upright: Matches,
    greys: tuple[GreyImage, GreyImage],
    features0: RotatedFeatures,
    matcher: Matcher,
    glance: Matcher,
    select: Select,
) -> tuple[Matches, int]:
    """The matches that count of two images that hardly match as they are, and the rotation of image 1 that they are
    found at.

    upright: those as the images are. features0: of image 0, by RotatingMatcher(matcher). glance: glancing_matcher's.
    """
    rotating, small = RotatingMatcher(matcher), RotatingMatcher(glance)
    small0, *small1 = small.encode([(greys[0], None, 0), *((greys[1], None, rotation) for rotation in TURNS)])
    seen = map(certainty, small.match([(small0, each) for each in small1]))
    rotation = best_rotation(dict(zip(TURNS, seen, strict=True)))
    if rotation == 0:
        return upright, 0
    (features1,) = rotating.encode([(greys[1], None, rotation)])
    (found,) = rotating.match([(features0, features1)])
    rotated = select(found)
    return (rotated, rotation) if certainty(rotated) > certainty(upright) else (upright, 0)
