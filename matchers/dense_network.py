"""What LoFTR's matcher and its successor's have in common: image in, Matches out in pixels of the image.

The network encodes each image once and matches pairs of encodings, both in network pixels of a reduced image; sides of
that, masks, half precision, batches, and cores are dealt with here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfm.matchers.base import GreyImage, Mask, check_images
from sfm.matchers.network_images import inside, on_usable, resized, usable_pixels
from sfm.system.parallel import map_on_cores, num_cores
from sfm.types import Grid, MatcherTraits, Matches


class _Encoding(Protocol):
    @property
    def nbytes(self) -> int: ...


Encoding = TypeVar("Encoding", bound=_Encoding)
Found = TypeVar("Found")
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class NetworkFeatures(Generic[Encoding]):
    """Network features of one image. image_from_net: (2,) f64, image px per network px in x and y.
    size: (width, height) of the image. usable: (h, w) bool, network pixels that may be used, or None for all."""

    features: Encoding
    image_from_net: NDArray[np.float64]
    size: tuple[int, int]
    usable: NDArray[np.bool_] | None = None

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.features.nbytes + (0 if self.usable is None else self.usable.nbytes)


class NetworkMatches(NamedTuple):
    """Rows of a pair, as of sfm.types.Matches. points0, points1: (M, 2) f32 network px."""

    points0: Tensor
    points1: Tensor
    confidence: Tensor
    cells0: Tensor
    cells1: Tensor


class DenseNetworkMatcher(Generic[Model, Encoding, Found]):
    """A network with its weights on a device.

    resize: longer side of the image that the network sees, px; 0 keeps the image's size. On the CPU each core works on
    a pair of its own.
    """

    stride: ClassVar[int]  # network px a cell of the coarse grid
    net_stride: ClassVar[int]  # sides of the image that the network sees are multiples of it
    pairs_a_core: ClassVar[int]  # of a batch on the CPU
    anchor: ClassVar[float]  # of sfm.matchers.base.Matcher

    rotation_invariant = False
    traits = MatcherTraits(pixel_sigma=1.0, dense=True)

    def __init__(
        self, model: Model, *, name: str, checksum: str, device: str = "cpu", resize: int = 640, batch_size: int = 0
    ) -> None:
        self.name = name
        self._device = torch.device(device)
        self._cores = num_cores() if self._device.type == "cpu" else 0
        self.batch_size = batch_size or (8 if self._device.type != "cpu" else self.pairs_a_core * self._cores)
        self._resize = resize
        self._checksum = checksum
        self._model = model.eval().to(self._device).requires_grad_(False)
        for part in self._channels_last(self._model):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster

    @staticmethod
    def _channels_last(model: Any) -> Sequence[nn.Module]:
        """Parts of the network that are convolutions."""
        return (model.backbone,)

    @staticmethod
    def _by_confidence(found: Any) -> NetworkMatches:
        """The rows of what the network found of a pair, best first."""
        raise NotImplementedError

    @staticmethod
    def _valid(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(B, rows, columns) of usable coarse cells, as the network takes them."""
        return usable

    @property
    def size(self) -> int:
        """Longer side of the images that the network sees, px; 0 where they keep their sizes."""
        return self._resize

    def at_size(self, longer_side: int) -> Self:
        """The same network for images of so many px."""
        return self._with(self._model, longer_side)

    def _with(self, model: Model, resize: int) -> Self:
        """The same matcher with another network of these weights, for images of another size."""
        names = {"name": self.name, "checksum": self._checksum, "device": str(self._device)}
        return type(self)(model, **names, resize=resize, batch_size=self.batch_size)

    @property
    def model(self) -> Model:
        """The network, in evaluation mode."""
        return self._model

    @property
    def provenance(self) -> dict[str, str]:
        """Weights' checksum, configuration and options."""
        config: Any = self._model.config
        options = {key: str(value) for key, value in asdict(config).items()}
        return {"matcher": self.name, "weights_sha256": self._checksum, "resize": str(self._resize), **options}

    def net_size(self, width: int, height: int) -> tuple[int, int]:
        """Size (width, height) of the image that the network sees."""
        scale = self._resize / max(width, height) if self._resize else 1.0
        w, h = (max(1, round(side * scale / self.net_stride)) * self.net_stride for side in (width, height))
        return w, h

    def grid(self, width: int, height: int) -> Grid:
        """The coarse grid on an image of this size."""
        w, h = self.net_size(width, height)
        return Grid(self.stride * width / w, self.stride * height / h, w // self.stride, self.stride)

    def network_input(self, image: GreyImage) -> Tensor:
        """(1, 1, h, w) f32 in [0, 1]: the image (H, W) as the network sees it, on its device."""
        w, h = self.net_size(image.shape[1], image.shape[0])
        return resized(image, (h, w))[None].to(self._device)

    def encode(
        self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None
    ) -> list[NetworkFeatures[Encoding]]:
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

    def match(self, pairs: Sequence[tuple[NetworkFeatures[Encoding], NetworkFeatures[Encoding]]]) -> list[Matches]:
        """Matches of each pair in image pixels, most confident first."""
        if self._cores:
            parts = map_on_cores(self._match_batch, [[pair] for pair in pairs], cores=self._cores)
            return [matches for part in parts for matches in part]
        return self._match_batch(pairs) if pairs else []

    def _precision(self) -> AbstractContextManager[object]:
        """Half precision where the device is fast in it; what overflows in it is kept in fp32 by the network."""
        return torch.autocast("cuda", torch.float16) if self._device.type == "cuda" else nullcontext()

    @torch.inference_mode()
    def _encode_batch(
        self, images: Sequence[GreyImage], masks: Sequence[Mask | None]
    ) -> list[NetworkFeatures[Encoding]]:
        height, width = images[0].shape
        w, h = self.net_size(width, height)
        batch = torch.stack([resized(image, (h, w)) for image in images]).to(
            self._device, memory_format=torch.channels_last
        )
        usable = [None if mask is None else usable_pixels(mask, (h, w)) for mask in masks]
        valid = None
        if any(u is not None for u in usable):
            cells = np.stack([np.ones((h, w), bool) if u is None else u for u in usable])
            of_cells = self._valid(cells[:, :: self.stride, :: self.stride])
            valid = torch.from_numpy(np.ascontiguousarray(of_cells)).to(self._device)
        network: Any = self._model
        with self._precision():
            features = network.encode(batch, valid)
        scale = np.array([width / w, height / h])
        return [NetworkFeatures(f, scale, (width, height), u) for f, u in zip(features, usable, strict=True)]

    @torch.inference_mode()
    def _match_batch(
        self, pairs: Sequence[tuple[NetworkFeatures[Encoding], NetworkFeatures[Encoding]]]
    ) -> list[Matches]:
        network: Any = self._model
        with self._precision():
            found = network.match([(f0.features, f1.features) for f0, f1 in pairs])
        return [_to_image(self._by_confidence(m), f0, f1) for m, (f0, f1) in zip(found, pairs, strict=True)]


def _to_image(found: NetworkMatches, f0: NetworkFeatures[Any], f1: NetworkFeatures[Any]) -> Matches:
    points0, points1, confidence, cells0, cells1 = (column.cpu().numpy() for column in found)
    keep = on_usable(points0, f0.usable) & on_usable(points1, f1.usable)
    return Matches(
        inside(points0[keep] * f0.image_from_net, f0.size),
        inside(points1[keep] * f1.image_from_net, f1.size),
        confidence[keep],
        cells0[keep],
        cells1[keep],
    )
