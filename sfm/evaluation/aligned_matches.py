"""The matches of two views that their geometry is estimated from, moved to sub-pixel where that is possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sfm.evaluation.options import TwoViewOptions
from sfm.geometry.pixels import reduction
from sfm.matchers.base import GreyImage, Matcher
from sfm.matchers.registry import device_of
from sfm.options import RefinementOptions
from sfm.types import Matches

if TYPE_CHECKING:
    from sfm.alignment.pyramids import AlignmentImages

ALIGN_SIZE = RefinementOptions().align_size  # px; as of models


def images_to_align(
    read: Callable[[int], GreyImage],
    sizes: Sequence[tuple[int, int]],
    matcher: Matcher,
    options: TwoViewOptions,
    *,
    size: int = ALIGN_SIZE,
) -> AlignmentImages | None:
    """The images in which a matcher's matches are aligned (sfm.alignment.match_alignment); None where they are not:
    without neighbours everywhere, and with --no-align.

    read: (H, W) of an image by its row. sizes: (width, height) of all of them. size: px of a longer side.
    """
    traits = matcher.traits
    if options.no_align or not (traits.dense and traits.refinable):
        return None
    from sfm.alignment.pyramids import AlignmentImages  # torch is loaded only where something is aligned

    sigmas = [traits.pixel_sigma * reduction(matcher.grid(width, height)) for width, height in sizes]
    return AlignmentImages.of(read, sizes, sigmas, align_size=size, device=device_of(options))


def align_pair(
    matches: Matches,
    greys: tuple[GreyImage, GreyImage],
    matcher: Matcher,
    options: TwoViewOptions,
    *,
    size: int = ALIGN_SIZE,
    seed: int = 0,
    cores: int = 0,
) -> tuple[Matches, int | None]:
    """The matches aligned in their two images, and how many were, None where that is not tried.

    size: as of images_to_align. seed, cores: as of align_matches.
    """
    images = images_to_align(greys.__getitem__, [grey.shape[::-1] for grey in greys], matcher, options, size=size)
    if images is None:
        return matches, None
    from sfm.alignment.match_alignment import align_matches  # torch is loaded only where something is aligned

    found, aligned = align_matches(matches, images, seed=seed, cores=cores)
    return found, int(np.count_nonzero(aligned))
