"""COLMAP's SIFT behind the Matcher interface: the baseline that every other matcher is compared with.

Extraction is pycolmap's own, with COLMAP's defaults (8192 features, images reduced to 3200 px,
L1_ROOT normalisation: Arandjelovic & Zisserman, CVPR 2012). Matching is COLMAP's rule (mutual
nearest neighbours, angle at most 0.7, ratio of angles below 0.8), exact, as tiled matrix products:
pycolmap's in-memory matcher gives the same matches and takes twenty times as long.
Pixels are COLMAP's, as SIFT in COLMAP has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap
import torch
from torch import Tensor

from sfm.colmap.log import quiet
from sfm.matchers.base import GreyImage, Mask, check_images
from sfm.system.parallel import map_on_cores, num_cores
from sfm.types import Float32, MatcherTraits, Matches

TILE = 2048  # rows of the distance matrix that are held at once
_UNIT = 512.0**2  # COLMAP keeps unit descriptors as bytes, scaled by 512


@dataclass(frozen=True, slots=True, eq=False)
class SiftOptions:
    """COLMAP 4's defaults (SiftExtractionOptions, SiftMatchingOptions).

    max_features: kept keypoints, of the largest scales. max_image_size: px, larger images are
    reduced. max_angle: rad, between descriptors. max_ratio: best angle over second-best angle.
    """

    max_features: int = 8192
    max_image_size: int = 3200
    max_angle: float = 0.7
    max_ratio: float = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class SiftFeatures:
    """Keypoints of one image: xy (N, 2) f32 px; descriptors (N, 128) uint8 on the matcher's device."""

    xy: Float32
    descriptors: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of keypoints and descriptors."""
        return self.xy.nbytes + self.descriptors.numel()


class SiftMatcher:
    """Detects on the CPU, matches on `device`."""

    name = "sift"
    batch_size = 8
    rotation_invariant = True
    anchor = 0.5
    traits = MatcherTraits(pixel_sigma=1.0)

    def __init__(self, options: SiftOptions | None = None, *, device: str = "cpu") -> None:
        self.options = options or SiftOptions()
        self.device = torch.device(device)
        extraction = pycolmap.FeatureExtractionOptions(num_threads=1)
        extraction.sift.max_num_features = self.options.max_features
        with quiet():
            self._extractor = pycolmap.FeatureExtractor.create(extraction, device=pycolmap.Device.cpu)

    @property
    def provenance(self) -> dict[str, str]:
        """Name, version of COLMAP and the options."""
        options = self.options
        return {
            "matcher": self.name,
            "colmap": pycolmap.__version__,
            "max_features": str(options.max_features),
            "max_image_size": str(options.max_image_size),
            "max_angle": str(options.max_angle),
            "max_ratio": str(options.max_ratio),
        }

    def grid(self, width: int, height: int) -> None:
        """None: keypoints are detected and on no grid."""
        return None

    def encode(self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None) -> list[SiftFeatures]:
        """Keypoints and descriptors of each image; keypoints on masked-out pixels are dropped.

        BadImage as of sfm.matchers.base.check_images.
        """
        check_images(images, masks)
        masks = masks if masks is not None else [None] * len(images)
        return [self._encode_one(image, mask) for image, mask in zip(images, masks, strict=True)]

    def match(self, pairs: Sequence[tuple[SiftFeatures, SiftFeatures]]) -> list[Matches]:
        """One-to-one matches of each pair, most certain first; confidence = 1 - ratio of angles."""
        cores = num_cores() if self.device.type == "cpu" else 0
        return list(map_on_cores(lambda pair: self._match_one(*pair), pairs, cores=cores))

    def _encode_one(self, image: GreyImage, mask: Mask | None) -> SiftFeatures:
        height, width = image.shape
        bitmap = pycolmap.Bitmap.from_array(np.ascontiguousarray(image))
        reduction = min(1.0, self.options.max_image_size / max(width, height))
        if reduction < 1.0:
            bitmap.rescale(int(width * reduction), int(height * reduction))
        keypoints, descriptors = self._extractor.extract(bitmap)
        xy = pycolmap.keypoints_to_matrix(keypoints)[:, :2].reshape(-1, 2)
        xy = xy * np.array([width / bitmap.width, height / bitmap.height], np.float32)
        xy = np.clip(xy, 0, np.array([width, height], np.float32))
        desc = descriptors.data.reshape(-1, 128)
        if mask is not None:
            column = np.minimum(xy[:, 0].astype(int), width - 1)
            row = np.minimum(xy[:, 1].astype(int), height - 1)
            keep = mask[row, column]
            xy, desc = xy[keep], desc[keep]
        return SiftFeatures(np.ascontiguousarray(xy, np.float32), torch.tensor(desc, device=self.device))

    def _match_one(self, features0: SiftFeatures, features1: SiftFeatures) -> Matches:
        if min(len(features0.xy), len(features1.xy)) == 0:
            return Matches.empty()
        desc0, desc1 = features0.descriptors.float(), features1.descriptors.float()
        rows, columns = _two_best(desc0, desc1)
        nearest1, ratio = self._accepted(rows)
        nearest0, _ = self._accepted(columns)
        index0 = torch.arange(len(desc0), device=self.device)
        # Entry -1 of nearest0 is never read: rows without a neighbour are dropped first.
        mutual = (nearest1 >= 0) & (nearest0[nearest1.clamp(min=0)] == index0)
        order = torch.argsort(ratio[mutual], stable=True)
        cells0 = index0[mutual][order].cpu().numpy()
        cells1 = nearest1[mutual][order].cpu().numpy()
        confidence = 1 - ratio[mutual][order].cpu().numpy()
        return Matches(features0.xy[cells0], features1.xy[cells1], confidence, cells0, cells1)

    def _accepted(self, best: _TwoBest) -> tuple[Tensor, Tensor]:
        """The nearest where it is near and unambiguous enough, else -1: (N,) i64; and the ratio of angles (N,) f32."""
        first, second = (product.div(_UNIT).clamp(max=1).arccos() for product in (best.first, best.second))  # rad
        accepted = (first <= self.options.max_angle) & (first < self.options.max_ratio * second)
        ratio = (first / second.clamp(min=1e-6)).clamp(max=1)
        return torch.where(accepted, best.index, -1), ratio


@dataclass(frozen=True, slots=True)
class _TwoBest:
    """Of N descriptors the largest product with any of the others and its index, and the second largest: (N,) each.
    Without a second it is 0, a right angle."""

    first: Tensor
    index: Tensor
    second: Tensor


def _two_best(desc0: Tensor, desc1: Tensor) -> tuple[_TwoBest, _TwoBest]:
    """Of the rows of desc0 (N, 128) among desc1 (M, 128), and the other way round, from one product, tile by tile.

    Products of bytes are whole numbers below 2^24, so fp32 sums are exact in any order.
    """
    rows = []
    columns = _TwoBest(
        *(desc1.new_zeros(len(desc1), dtype=dtype) for dtype in (torch.float32, torch.int64, torch.float32))
    )
    for start in range(0, len(desc0), TILE):
        products = desc0[start : start + TILE] @ desc1.T  # (tile, M)
        rows.append(_best_along(products, 1))
        own = _best_along(products, 0)
        better = own.first > columns.first
        columns = _TwoBest(
            torch.where(better, own.first, columns.first),
            torch.where(better, own.index + start, columns.index),
            torch.maximum(torch.minimum(own.first, columns.first), torch.maximum(own.second, columns.second)),
        )
    return _TwoBest(*(torch.cat([getattr(part, name) for part in rows]) for name in _TwoBest.__slots__)), columns


def _best_along(products: Tensor, dim: int) -> _TwoBest:
    """The two largest along a dimension; `products` is as it was afterwards."""
    first, index = products.max(dim=dim)
    at = index.unsqueeze(dim)
    products.scatter_(dim, at, 0.0)
    second = products.amax(dim=dim)
    products.scatter_(dim, at, first.unsqueeze(dim))
    return _TwoBest(first, index, second)
