"""The EfficientLoFTR network: torch in, torch out, in network pixels.

`encode` is the work of an image (backbone and the first self-attention), `match` the work of a pair: the other layers,
coarse matching, fine features (they grow from cells that have seen the other image) and refinement. Network pixels have
their origin at the corner of the image. The cell (r, c) is anchored at (8 c + 0.5, 8 r + 0.5), its match lies up to
3.5 px from there in image 0, and 4.5 px in image 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfm.matchers.efficient_loftr.attention import FeatureTransformer, aggregated_mask
from sfm.matchers.efficient_loftr.backbone import RepVGG
from sfm.matchers.efficient_loftr.config import EfficientLoFTRConfig
from sfm.matchers.efficient_loftr.fine_matching import FineFeatures, padded_map, patches_at, refine
from sfm.matchers.loftr.coarse_matching import CoarseMatches, CoarseMatching
from sfm.matchers.loftr.config import LoFTRConfig
from sfm.matchers.loftr.model import anchors

FINE_CHUNK = 128  # matches refined at once on a CPU: their windows fit its cache
CUDA_FINE_CHUNK = 4096  # and on a GPU, where it bounds their memory


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the network keeps of one image. coarse: (h, w, d3). quarter: (d2, H/4, W/4). half: (d1, H/2, W/2).
    valid: (h, w) bool, or None where the whole image may be used."""

    coarse: Tensor
    quarter: Tensor
    half: Tensor
    valid: Tensor | None = None

    @property
    def hw(self) -> tuple[int, int]:
        """The coarse grid (h, w)."""
        return self.coarse.shape[0], self.coarse.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory of the tensors in bytes."""
        return sum(t.nbytes for t in (self.coarse, self.quarter, self.half, self.valid) if t is not None)


@dataclass(frozen=True, slots=True)
class PairMatches:
    """Matches of one pair, by cell of image 0. i_ids, j_ids: (M,) i64 cells. confidence: (M,) f32.
    points0, points1: (M, 2) f32 xy, network px."""

    i_ids: Tensor
    j_ids: Tensor
    confidence: Tensor
    points0: Tensor
    points1: Tensor


class EfficientLoFTR(nn.Module):
    """Semi-dense matching of images (Wang et al., CVPR 2024), its full model, for inference."""

    def __init__(self, config: EfficientLoFTRConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = RepVGG(config)
        self.loftr_coarse = FeatureTransformer(config)
        self.fine_preprocess = FineFeatures(config)
        like_loftr = LoFTRConfig(threshold=config.threshold, temperature=config.temperature, border=config.border)
        self.coarse_matching = CoarseMatching(like_loftr)

    def encode(self, images: Tensor, valid: Tensor | None = None) -> list[ImageFeatures]:
        """Features of B images of one size. images: (B, 1, H, W) in [0, 1], sides multiples of 32; valid: (B, h, w)."""
        half, quarter, coarse = self.backbone(images)
        mask = None if valid is None else aggregated_mask(valid)
        cells = self.loftr_coarse.encode(coarse.permute(0, 2, 3, 1), mask)
        return [
            ImageFeatures(cells[b], quarter[b], half[b], None if valid is None else valid[b])
            for b in range(len(images))
        ]

    def match(self, pairs: Sequence[tuple[ImageFeatures, ImageFeatures]]) -> list[PairMatches]:
        """Matches of each pair, in order; pairs of equal sizes go through the transformer together."""
        alike: dict[tuple[tuple[int, int], tuple[int, int]], list[int]] = {}
        for row, (f0, f1) in enumerate(pairs):
            alike.setdefault((f0.hw, f1.hw), []).append(row)
        found: dict[int, PairMatches] = {}
        for rows in alike.values():
            feat0, feat1 = self.pair_features([pairs[row] for row in rows])
            found.update({row: self._match_one(*pairs[row], feat0[b], feat1[b]) for b, row in enumerate(rows)})
        return [found[row] for row in range(len(pairs))]

    def pair_features(self, pairs: Sequence[tuple[ImageFeatures, ImageFeatures]]) -> tuple[Tensor, Tensor]:
        """Cells of pairs of equal sizes as they are matched: (B, h0, w0, C), (B, h1, w1, C)."""
        firsts, seconds = [f0 for f0, _ in pairs], [f1 for _, f1 in pairs]
        feat0, feat1 = (torch.stack([f.coarse for f in side]) for side in (firsts, seconds))
        found: tuple[Tensor, Tensor] = self.loftr_coarse(feat0, feat1, _masks(firsts), _masks(seconds))
        return found

    def forward(self, image0: Tensor, image1: Tensor) -> list[PairMatches]:
        """Matches of B pairs of images, each side of one size: (B, 1, H0, W0), (B, 1, H1, W1) in [0, 1]."""
        return self.match(list(zip(self.encode(image0), self.encode(image1), strict=True)))

    def _match_one(self, f0: ImageFeatures, f1: ImageFeatures, feat0: Tensor, feat1: Tensor) -> PairMatches:
        valid0, valid1 = (None if f.valid is None else f.valid.flatten() for f in (f0, f1))
        cells = self.coarse_matching(feat0.flatten(0, 1), feat1.flatten(0, 1), f0.hw, f1.hw, valid0, valid1)
        points0, points1 = anchors(cells.i_ids, f0.hw[1]), anchors(cells.j_ids, f1.hw[1])
        if len(points0):
            offset0, offset1 = self._offsets(f0, f1, feat0, feat1, cells)
            points0, points1 = points0 + offset0, points1 + offset1
        return PairMatches(cells.i_ids, cells.j_ids, cells.confidence, points0, points1)

    def _offsets(
        self, f0: ImageFeatures, f1: ImageFeatures, feat0: Tensor, feat1: Tensor, cells: CoarseMatches
    ) -> tuple[Tensor, Tensor]:
        """Where the matches lie from the anchors of their cells: (M, 2), (M, 2) network px."""
        map0, map1 = self._fine_map(f0, feat0), self._fine_map(f1, feat1)
        chunk = CUDA_FINE_CHUNK if feat0.is_cuda else FINE_CHUNK
        parts = []
        for i_ids, j_ids in zip(torch.split(cells.i_ids, chunk), torch.split(cells.j_ids, chunk), strict=True):
            patches0, patches1 = patches_at(map0, i_ids, f0.hw[1]), patches_at(map1, j_ids, f1.hw[1])
            parts.append(refine(patches0, patches1, self.config))
        return torch.cat([part.offset0 for part in parts]), torch.cat([part.offset1 for part in parts])

    def _fine_map(self, image: ImageFeatures, cells: Tensor) -> Tensor:
        """The fine map of an image of a pair, padded, of its cells (h, w, C) as they are matched."""
        fine = self.fine_preprocess(cells.permute(2, 0, 1)[None], image.quarter[None], image.half[None])
        return padded_map(fine[0])


def _masks(features: Sequence[ImageFeatures]) -> Tensor | None:
    """Which aggregated cells of images of one size are looked at, (B, T) bool; None where all are."""
    if all(f.valid is None for f in features):
        return None
    cells = [
        torch.ones(f.hw, dtype=torch.bool, device=f.coarse.device) if f.valid is None else f.valid for f in features
    ]
    return aggregated_mask(torch.stack(cells))
