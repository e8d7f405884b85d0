"""EfficientLoFTR behind the Matcher interface: image in, Matches out in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from sfm.matchers.base import GreyImage, Mask, check_images
from sfm.matchers.efficient_loftr.config import COARSE_STRIDE, NET_STRIDE
from sfm.matchers.efficient_loftr.model import EfficientLoFTR, ImageFeatures, PairMatches
from sfm.matchers.network_images import inside, on_usable, resized, usable_pixels
from sfm.system.parallel import map_on_cores, num_cores
from sfm.types import Grid, MatcherTraits, Matches


@dataclass(frozen=True, slots=True)
class EfficientLoFTRFeatures:
    """Network features of one image. image_from_net: (2,) f64, image px per network px in x and y.
    size: (width, height) of the image. usable: (h, w) bool, network pixels that may be used, or None for all."""

    features: ImageFeatures
    image_from_net: NDArray[np.float64]
    size: tuple[int, int]
    usable: NDArray[np.bool_] | None = None

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.features.nbytes + (0 if self.usable is None else self.usable.nbytes)


class EfficientLoFTRMatcher:
    """An EfficientLoFTR network with its weights on a device.

    resize: longer side of the image that the network sees, px; 0 keeps the image's size. Sides are rounded to multiples
    of 32. Each match is one row: a pixel of the first cell, and a place in or next to the second. Both depend on the
    pair; what is the same in all pairs is the cell, and tracks are made of cells. On the CPU each core works on a pair
    of its own.
    """

    rotation_invariant = False
    anchor = 0.5 / COARSE_STRIDE  # matches lie around the centre of the cell's first network pixel
    traits = MatcherTraits(pixel_sigma=1.0, dense=True)

    def __init__(
        self,
        model: EfficientLoFTR,
        *,
        name: str,
        checksum: str,
        device: str = "cpu",
        resize: int = 640,
        batch_size: int = 0,
    ) -> None:
        self.name = name
        self._device = torch.device(device)
        self._cores = num_cores() if self._device.type == "cpu" else 0
        self.batch_size = batch_size or (8 if self._device.type != "cpu" else 2 * self._cores)
        self._resize = resize
        self._checksum = checksum
        self._model = model.eval().to(self._device).requires_grad_(False)
        for part in (self._model.backbone, self._model.fine_preprocess):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster, on CPUs as well

    def at_size(self, longer_side: int) -> EfficientLoFTRMatcher:
        """The same network for images reduced to so many px at most."""
        resize = min(self._resize or longer_side, longer_side)
        names = {"name": self.name, "checksum": self._checksum, "device": str(self._device)}
        return EfficientLoFTRMatcher(self._model, **names, resize=resize, batch_size=self.batch_size)

    @property
    def model(self) -> EfficientLoFTR:
        """The network, in evaluation mode."""
        return self._model

    @property
    def provenance(self) -> dict[str, str]:
        """Weights' checksum, configuration and options."""
        config = {key: str(value) for key, value in asdict(self._model.config).items()}
        return {"matcher": self.name, "weights_sha256": self._checksum, "resize": str(self._resize), **config}

    def net_size(self, width: int, height: int) -> tuple[int, int]:
        """Size (width, height) of the image that the network sees."""
        scale = self._resize / max(width, height) if self._resize else 1.0
        w, h = (max(1, round(side * scale / NET_STRIDE)) * NET_STRIDE for side in (width, height))
        return w, h

    def grid(self, width: int, height: int) -> Grid:
        """The coarse grid on an image of this size."""
        w, h = self.net_size(width, height)
        return Grid(COARSE_STRIDE * width / w, COARSE_STRIDE * height / h, w // COARSE_STRIDE, COARSE_STRIDE)

    def _precision(self) -> AbstractContextManager[object]:
        """Half precision where the device is fast in it; coarse matching and refinement stay in fp32 by themselves."""
        return torch.autocast("cuda", torch.float16) if self._device.type == "cuda" else nullcontext()

    def encode(
        self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None
    ) -> list[EfficientLoFTRFeatures]:
        """Features of each image; neighbours of one size go through the backbone together, a batch at most.

        BadImage as of sfm.matchers.base.check_images.
        """
        check_images(images, masks)
        items = list(zip(images, masks or [None] * len(images), strict=True))
        size = 1 if self._cores else self.batch_size
        batches: list[list[tuple[GreyImage, Mask | None]]] = []
        for _, group in groupby(items, key=lambda item: item[0].shape):
            same_size = list(group)
            batches += [same_size[start : start + size] for start in range(0, len(same_size), size)]
        encoded = map_on_cores(lambda batch: self._encode_batch(*zip(*batch, strict=True)), batches, cores=self._cores)
        return [features for batch in encoded for features in batch]

    @torch.inference_mode()
    def _encode_batch(self, images: Sequence[GreyImage], masks: Sequence[Mask | None]) -> list[EfficientLoFTRFeatures]:
        height, width = images[0].shape
        w, h = self.net_size(width, height)
        batch = torch.stack([resized(image, (h, w)) for image in images]).to(self._device)
        usable = [None if mask is None else usable_pixels(mask, (h, w)) for mask in masks]
        valid = None
        if any(u is not None for u in usable):
            cells = np.stack([np.ones((h, w), bool) if u is None else u for u in usable])
            valid = torch.from_numpy(cells[:, ::COARSE_STRIDE, ::COARSE_STRIDE].copy()).to(self._device)
        with self._precision():
            features = self._model.encode(batch.contiguous(memory_format=torch.channels_last), valid)
        scale = np.array([width / w, height / h])
        return [EfficientLoFTRFeatures(f, scale, (width, height), u) for f, u in zip(features, usable, strict=True)]

    def match(self, pairs: Sequence[tuple[EfficientLoFTRFeatures, EfficientLoFTRFeatures]]) -> list[Matches]:
        """Matches of each pair in image pixels, most confident first."""
        if self._cores:
            parts = map_on_cores(self._match_batch, [[pair] for pair in pairs], cores=self._cores)
            return [matches for part in parts for matches in part]
        return self._match_batch(pairs) if pairs else []

    @torch.inference_mode()
    def _match_batch(self, pairs: Sequence[tuple[EfficientLoFTRFeatures, EfficientLoFTRFeatures]]) -> list[Matches]:
        with self._precision():
            found = self._model.match([(f0.features, f1.features) for f0, f1 in pairs])
        return [_to_image(m, f0, f1) for m, (f0, f1) in zip(found, pairs, strict=True)]


def _to_image(found: PairMatches, f0: EfficientLoFTRFeatures, f1: EfficientLoFTRFeatures) -> Matches:
    order = torch.argsort(found.confidence, descending=True, stable=True)
    points0, points1 = found.points0[order].cpu().numpy(), found.points1[order].cpu().numpy()  # network px
    columns = (found.confidence[order].clamp(0, 1), found.i_ids[order], found.j_ids[order])
    keep = on_usable(points0, f0.usable) & on_usable(points1, f1.usable)
    return Matches(
        inside(points0[keep] * f0.image_from_net, f0.size),
        inside(points1[keep] * f1.image_from_net, f1.size),
        *(column.cpu().numpy()[keep] for column in columns),
    )
