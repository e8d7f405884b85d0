"""Any matcher of the package vismatch behind the Matcher interface: `--matcher vismatch:roma`.

vismatch (https://github.com/gmberton/vismatch) runs some fifty published matchers by one function. It is no dependency:
its wheel carries code under many licences, and it loads pickled weights. Whoever wants it installs it beside this
package, in an environment of its own (docs/matchers.md).

It is given pairs of images, and answers in points that are the pair's own, so nothing is shared between an image's
pairs, and tracks are made of the cells of a grid that the points lie in, as of a detector-free matcher's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sfm.errors import BadOption
from sfm.matchers.base import GreyImage, Mask, check_images
from sfm.matchers.network_images import inside, on_usable, resized, usable_pixels
from sfm.options import MatchingOptions
from sfm.types import Float32, Grid, Int64, MatcherTraits, Matches

STRIDE, MULTIPLE = 8, 32  # px of the image that it sees: of a cell, and of which its sides are multiples
PIXEL_CENTRE = 0.5  # px: vismatch's first pixel has its centre at (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class SeenImage:
    """An image as the matcher sees it: pixels (3, h, w) f32 in [0, 1], on the CPU. usable: (h, w) bool, or None for
    all. size: (width, height) of the image, px."""

    pixels: Tensor
    usable: NDArray[np.bool_] | None
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels; the three channels share them."""
        return self.pixels.numel() // 3 * 4


class VismatchMatcher:
    """One of vismatch's matchers. Each pair is matched by itself."""

    batch_size = 1
    rotation_invariant = False
    anchor = 0.5
    traits = MatcherTraits(pixel_sigma=1.0, dense=True)

    def __init__(self, model: Any, which: str, *, version: str, resize: int, threshold: float | None) -> None:
        """model: of vismatch.get_matcher. resize: longer side of the images that it sees, px; 0 keeps their size.
        threshold: confidence from which on matches count, None for all."""
        self.name = f"vismatch:{which}"
        self._model, self._resize, self._threshold = model, resize, threshold
        options = {"resize": str(resize), "threshold": str(threshold)}
        self.provenance = {"matcher": "vismatch", "model": which, "vismatch": version, **options}

    def grid(self, width: int, height: int) -> Grid:
        """Cells of 8 px of the image that it sees."""
        w, h = self._net_size(width, height)
        return Grid(STRIDE * width / w, STRIDE * height / h, w // STRIDE, STRIDE)

    def encode(self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None) -> list[SeenImage]:
        """Each image as it is seen. BadImage as of sfm.matchers.base.check_images."""
        check_images(images, masks)
        return [self._seen(*item) for item in zip(images, masks or [None] * len(images), strict=True)]

    def match(self, pairs: Sequence[tuple[SeenImage, SeenImage]]) -> list[Matches]:
        """Matches of each pair, most confident first, at most one a cell."""
        return [self._match(*pair) for pair in pairs]

    def _net_size(self, width: int, height: int) -> tuple[int, int]:
        scale = self._resize / max(width, height) if self._resize else 1.0
        w, h = (max(1, round(side * scale / MULTIPLE)) * MULTIPLE for side in (width, height))
        return w, h

    def _seen(self, image: GreyImage, mask: Mask | None) -> SeenImage:
        height, width = image.shape
        w, h = self._net_size(width, height)
        usable = None if mask is None else usable_pixels(mask, (h, w))
        return SeenImage(resized(image, (h, w)).clamp(0, 1).expand(3, -1, -1), usable, (width, height))

    def _match(self, seen0: SeenImage, seen1: SeenImage) -> Matches:
        found = self._model(seen0.pixels, seen1.pixels)
        points = [np.asarray(found[f"matched_kpts{k}"], np.float64).reshape(-1, 2) + PIXEL_CENTRE for k in (0, 1)]
        certain = found.get("matched_confidences")
        confidence = np.ones(len(points[0])) if certain is None else np.asarray(certain, np.float64).reshape(-1)
        kept = np.isfinite(np.column_stack([*points, confidence])).all(axis=1)
        kept &= confidence >= (self._threshold or -np.inf)
        points, confidence = [each[kept] for each in points], confidence[kept].clip(0, 1)
        ends = [_End.of(own, seen) for own, seen in zip(points, (seen0, seen1), strict=True)]
        order = np.argsort(-confidence, kind="stable")
        rows = order[(ends[0].usable & ends[1].usable)[order]]
        for end in ends:
            rows = rows[np.sort(np.unique(end.cells[rows], return_index=True)[1])]  # the first of each cell
        certainty: Float32 = confidence[rows].astype(np.float32)
        return Matches(ends[0].xy[rows], ends[1].xy[rows], certainty, ends[0].cells[rows], ends[1].cells[rows])


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """Matches in one image: xy (M, 2) px of the image, cells (M,), usable (M,)."""

    xy: Float32
    cells: Int64
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, points: NDArray[np.float64], seen: SeenImage) -> _End:
        """points: (M, 2) px of the image that is seen."""
        h, w = seen.pixels.shape[1:]
        on_it = inside(points, (w, h))
        column, row = np.minimum(on_it // STRIDE, (w // STRIDE - 1, h // STRIDE - 1)).astype(np.int64).T
        scale = np.array(seen.size) / (w, h)
        return cls(inside(points * scale, seen.size), row * (w // STRIDE) + column, on_usable(on_it, seen.usable))


def make(options: MatchingOptions, which: str, *, device: str) -> VismatchMatcher:
    """The matcher that vismatch calls so. Raises BadOption where there is none, or vismatch is not there."""
    if options.offline and os.environ.get("HF_HUB_OFFLINE") != "1":
        raise BadOption(f"--offline: vismatch asks its server; with the weights of {which} there, set HF_HUB_OFFLINE=1")
    try:
        import vismatch
    except ImportError as error:
        raise BadOption(
            f"--matcher vismatch:{which}: {error}; pip install vismatch into an environment of its own "
            "(docs/matchers.md says why)"
        ) from None
    if which not in vismatch.available_models:
        raise BadOption(f"--matcher vismatch:{which}: it has {', '.join(sorted(vismatch.available_models))}")
    try:
        model = vismatch.get_matcher(which, device=device)
    except Exception as error:  # of any of fifty packages
        raise BadOption(
            f"--matcher vismatch:{which}: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    model.skip_ransac = True  # of a homography
    version = metadata.version("vismatch")
    return VismatchMatcher(model, which, version=version, resize=options.resize, threshold=options.confidence)
