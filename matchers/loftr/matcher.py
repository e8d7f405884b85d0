"""LoFTR behind the Matcher interface: image in, Matches out in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfm.matchers.base import GreyImage, Mask, check_images
from sfm.matchers.loftr.config import COARSE_STRIDE
from sfm.matchers.loftr.model import ImageFeatures, LoFTR, PairMatches
from sfm.matchers.network_images import inside, on_usable, resized, usable_pixels
from sfm.system.parallel import map_on_cores, num_cores
from sfm.types import Grid, MatcherTraits, Matches


@dataclass(frozen=True, slots=True)
class LoFTRFeatures:
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


class LoFTRMatcher:
    """A LoFTR network with its weights on a device.

    resize: longer side of the image that the network sees, px; 0 keeps the image's size. Each coarse
    match gives two rows: the first cell's anchor refined in image 1, and the second's in image 0.
    On the CPU each core works on a pair of its own.
    """

    rotation_invariant = False
    anchor = 0.5 / COARSE_STRIDE  # the centre of the cell's first network pixel
    traits = MatcherTraits(pixel_sigma=1.0, dense=True)

    def __init__(
        self, model: LoFTR, *, name: str, checksum: str, device: str = "cpu", resize: int = 640, batch_size: int = 0
    ) -> None:
        self.name = name
        self._device = torch.device(device)
        self._cores = num_cores() if self._device.type == "cpu" else 0
        self.batch_size = batch_size or (8 if self._device.type != "cpu" else 4 * self._cores)
        self._resize = resize
        self._checksum = checksum
        self._model = model.eval().to(self._device).requires_grad_(False)
        self._model.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster

    def at_size(self, longer_side: int) -> LoFTRMatcher:
        """The same network for images reduced to so many px at most."""
        resize = min(self._resize or longer_side, longer_side)
        names = {"name": self.name, "checksum": self._checksum, "device": str(self._device)}
        return LoFTRMatcher(self._model, **names, resize=resize, batch_size=self.batch_size)

    @property
    def model(self) -> LoFTR:
        """The network, in evaluation mode."""
        return self._model

    @property
    def provenance(self) -> dict[str, str]:
        """Weights' checksum, configuration and options."""
        config = {key: str(value) for key, value in asdict(self._model.config).items()}
        return {"matcher": self.name, "weights_sha256": self._checksum, "resize": str(self._resize), **config}

    def net_size(self, width: int, height: int) -> tuple[int, int]:
        """Size (width, height) of the image that the network sees: sides are multiples of the coarse stride."""
        scale = self._resize / max(width, height) if self._resize else 1.0
        w, h = (max(1, round(side * scale / COARSE_STRIDE)) * COARSE_STRIDE for side in (width, height))
        return w, h

    def grid(self, width: int, height: int) -> Grid:
        """The coarse grid on an image of this size."""
        w, h = self.net_size(width, height)
        return Grid(COARSE_STRIDE * width / w, COARSE_STRIDE * height / h, w // COARSE_STRIDE, COARSE_STRIDE)

    def network_input(self, image: GreyImage) -> Tensor:
        """(1, 1, h, w) f32 in [0, 1]: the image (H, W) as the network sees it, on its device."""
        w, h = self.net_size(image.shape[1], image.shape[0])
        return resized(image, (h, w))[None].to(self._device)

    def _precision(self) -> AbstractContextManager[object]:
        """Half precision where the device is fast in it; sums that overflow in it are kept in fp32 by the network."""
        return torch.autocast("cuda", torch.float16) if self._device.type == "cuda" else nullcontext()

    def encode(self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None) -> list[LoFTRFeatures]:
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
    def _encode_batch(self, images: Sequence[GreyImage], masks: Sequence[Mask | None]) -> list[LoFTRFeatures]:
        height, width = images[0].shape
        w, h = self.net_size(width, height)
        batch = torch.stack([resized(image, (h, w)) for image in images]).to(
            self._device, memory_format=torch.channels_last
        )
        usable = [None if mask is None else usable_pixels(mask, (h, w)) for mask in masks]
        valid = None
        if any(u is not None for u in usable):
            cells = [np.ones((h, w), bool) if u is None else u for u in usable]
            valid = torch.from_numpy(np.stack(cells)[:, ::COARSE_STRIDE, ::COARSE_STRIDE].reshape(len(cells), -1))
            valid = valid.to(self._device)
        with self._precision():
            features = self._model.encode(batch, valid)
        scale = np.array([width / w, height / h])
        return [LoFTRFeatures(f, scale, (width, height), u) for f, u in zip(features, usable, strict=True)]

    def match(self, pairs: Sequence[tuple[LoFTRFeatures, LoFTRFeatures]]) -> list[Matches]:
        """Matches of each pair in image pixels, most confident first."""
        if self._cores:
            parts = map_on_cores(self._match_batch, [[pair] for pair in pairs], cores=self._cores)
            return [matches for part in parts for matches in part]
        return self._match_batch(pairs) if pairs else []

    @torch.inference_mode()
    def _match_batch(self, pairs: Sequence[tuple[LoFTRFeatures, LoFTRFeatures]]) -> list[Matches]:
        with self._precision():
            found = self._model.match([(f0.features, f1.features) for f0, f1 in pairs])
        return [_to_image(m, f0, f1) for m, (f0, f1) in zip(found, pairs, strict=True)]


def _to_image(found: PairMatches, f0: LoFTRFeatures, f1: LoFTRFeatures) -> Matches:
    order = torch.argsort(found.confidence, descending=True, stable=True)
    points0 = torch.cat([found.anchors0[order], found.refined0[order]]).cpu().numpy()  # network px
    points1 = torch.cat([found.refined1[order], found.anchors1[order]]).cpu().numpy()
    columns = (found.confidence[order].clamp(0, 1), found.i_ids[order], found.j_ids[order])
    keep = on_usable(points0, f0.usable) & on_usable(points1, f1.usable)
    return Matches(
        inside(points0[keep] * f0.image_from_net, f0.size),
        inside(points1[keep] * f1.image_from_net, f1.size),
        *(np.tile(column.cpu().numpy(), 2)[keep] for column in columns),
    )
