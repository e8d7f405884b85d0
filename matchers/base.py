"""The interface that every matcher is written to.

A matcher sees 8-bit grey images as they come from sfm.images.decoding (full size, EXIF rotation applied)
and answers in pixels of those images; resizing, padding and batching are its own secret. `encode`
is the work that one image needs once, whatever the number of its pairs; `match` is the work of a
pair. That split is what makes N images cost N encodings instead of N (N - 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadImage
from sfm.types import Grid, MatcherTraits, Matches

GreyImage = NDArray[np.uint8]  # (H, W)
Mask = NDArray[np.bool_]  # (H, W), True where the image may be used


def check_images(images: Sequence[Any], masks: Sequence[Any] | None = None) -> None:
    """What `encode` takes: (H, W) uint8 arrays, and for each a mask or None. BadImage in one line for anything else."""
    for number, image in enumerate(images):
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 2 and image.size):
            raise BadImage(f"image {number} of encode is {_words(image)}; give 8-bit grey ones: (H, W) uint8 arrays")
    if masks is None:
        return
    if len(masks) != len(images):
        raise BadImage(f"encode was given {len(masks)} masks for {len(images)} images; give one, or None, for each")
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if mask is not None and not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == image.shape):
            raise BadImage(f"mask {number} of encode is {_words(mask)}; give a bool array of its image's {image.shape}")


def _words(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return f"{dtype} of shape {tuple(shape)}" if shape is not None and dtype is not None else type(value).__name__


class Features(Protocol):
    """What a matcher keeps of one image. Opaque to everyone but the matcher that made it."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes."""
        ...


@runtime_checkable
class Matcher(Protocol):
    """Detector-free or sparse, learned or not: anything that can match two images."""

    @property
    def name(self) -> str:
        """Short name for users, e.g. "loftr-compact" or "sift"."""
        ...

    @property
    def provenance(self) -> dict[str, str]:
        """All that its matches depend on besides the images: weights' checksum, options, version. JSON-able."""
        ...

    @property
    def batch_size(self) -> int:
        """The number of pairs that `match` likes to be given at once."""
        ...

    @property
    def rotation_invariant(self) -> bool:
        """An image that is rotated in-plane (upside down, sideways) is matched as well.

        Where that is False, and there is a grid, pairs may be matched again with one of them rotated.
        """
        ...

    @property
    def anchor(self) -> float:
        """Where in its cell of the grid a coarse match lies before it is refined, from the corner: 0.5 the centre."""
        ...

    @property
    def traits(self) -> MatcherTraits:
        """What the stages after matching need to know of its matches."""
        ...

    def grid(self, width: int, height: int) -> Grid | None:
        """Coarse grid of an image of this size, whose cells Matches.cells0/1 number; None for a detector."""
        ...

    def encode(self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None) -> Sequence[Features]:
        """Features of each image, in order. Images may differ in size. Masked-out pixels give no matches.

        Begins with `check_images`: BadImage for colour, for floats and for anything else that is not (H, W) uint8.
        """
        ...

    def match(self, pairs: Sequence[tuple[Any, Any]]) -> list[Matches]:
        """Matches of each pair of this matcher's features, in order, in pixels of the original images."""
        ...


@runtime_checkable
class Resizable(Protocol):
    """A matcher that can be had for images of other sizes too: smaller ones tell at less cost how an image is rotated,
    larger ones show more of it."""

    @property
    def size(self) -> int:
        """Longer side of the images that it sees, px; 0 where they keep their sizes."""
        ...

    def at_size(self, longer_side: int) -> Matcher:
        """The same matcher for images of so many px, with a provenance of its own."""
        ...


@runtime_checkable
class Thresholded(Protocol):
    """A matcher that leaves out matches below a confidence, which may be another one."""

    def at_confidence(self, least: float) -> Matcher:
        """The same matcher with another least confidence, 0 to 1, and a provenance of its own."""
        ...
