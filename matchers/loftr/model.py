"""The LoFTR network: torch in, torch out, in network pixels.

`encode` is the work of an image (backbone, position encoding, the leading self-attention),
`match` the work of a pair. Network pixels have their origin at the corner of the image, so the
cell (r, c) of the coarse grid, which sits on pixel index (8 r, 8 c), is anchored at (8 c + 0.5,
8 r + 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from sfm.matchers.loftr.backbone import build_backbone
from sfm.matchers.loftr.coarse_matching import CoarseMatching
from sfm.matchers.loftr.config import COARSE_STRIDE, LoFTRConfig
from sfm.matchers.loftr.fine_matching import (
    FinePreprocess,
    fine_offsets,
    padded_fine_map,
    windows_at,
)
from sfm.matchers.loftr.global_context import GlobalContext
from sfm.matchers.loftr.position_encoding import position_encoding
from sfm.matchers.loftr.transformer import LocalFeatureTransformer, frozen

FINE_CHUNK = 128  # matches refined at once on a CPU: their windows fit its cache
SHARED_FINE_CHUNK = 2048  # where several threads share an operation, which must then be worth sharing
CUDA_FINE_CHUNK = 8192  # and on a GPU, where it bounds the memory of the fine stage


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the network keeps of one image.

    coarse: (h * w, d_coarse) tokens. fine: (H/2 + p, W/2 + p, d_fine), padded. hw: the grid (h, w).
    valid: (h * w,) bool, or None where the whole image may be used.
    """

    coarse: Tensor
    fine: Tensor
    hw: tuple[int, int]
    valid: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the tensors in bytes."""
        return sum(t.nbytes for t in (self.coarse, self.fine, self.valid) if t is not None)


@dataclass(frozen=True, slots=True)
class PairMatches:
    """Matches of one pair in network pixels, by cell of image 0.

    i_ids, j_ids: (M,) i64 cells. confidence: (M,) f32. anchors0, anchors1: (M, 2) f32 xy of the two
    cells. refined1: (M, 2) where anchors0 lies in image 1; refined0: where anchors1 lies in image 0.
    """

    i_ids: Tensor
    j_ids: Tensor
    confidence: Tensor
    anchors0: Tensor
    anchors1: Tensor
    refined0: Tensor
    refined1: Tensor


def anchors(cells: Tensor, columns: int) -> Tensor:
    """(M,) i64 cells of a grid `columns` wide → (M, 2) f32 xy, network px."""
    xy = torch.stack([cells % columns, torch.div(cells, columns, rounding_mode="floor")], dim=1)
    return xy.float() * COARSE_STRIDE + 0.5


class LoFTR(nn.Module):
    """Detector-free local feature matching with transformers (Sun et al., CVPR 2021); any configuration."""

    def __init__(self, config: LoFTRConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config)
        self.loftr_coarse = LocalFeatureTransformer(config.d_coarse, config.num_heads_coarse, config.coarse_layers)
        if config.global_layers:
            self.global_context = GlobalContext(config)
        self.coarse_matching = CoarseMatching(config)
        self.fine_preprocess = FinePreprocess(config)
        self.loftr_fine = LocalFeatureTransformer(config.d_fine, config.num_heads_fine, config.fine_layers)
        if config.position_gain is not None:
            self.position_gain = nn.Parameter(torch.tensor(config.position_gain))

    def tokens(self, coarse: Tensor) -> Tensor:
        """(B, C, h, w) → (B, h * w, C) f32 with the position encoding added."""
        hw = (coarse.shape[2], coarse.shape[3])
        position = position_encoding(
            self.config.d_coarse, hw, temp_bug_fix=self.config.temp_bug_fix, device=coarse.device
        )
        if self.config.position_gain is not None:
            position = position * self.position_gain
        return rearrange(coarse, "b c h w -> b (h w) c") + position

    def encode(self, images: Tensor, valid: Tensor | None = None) -> list[ImageFeatures]:
        """Features of B images of one size. images: (B, 1, H, W) in [0, 1]; valid: (B, h * w) bool or None."""
        coarse, fine = self.backbone(images)
        tokens = frozen(self.loftr_coarse, coarse).encode(self.tokens(coarse), valid)
        hw = (coarse.shape[2], coarse.shape[3])
        window = self.config.fine_window
        return [
            ImageFeatures(tokens[b], padded_fine_map(fine[b], window), hw, None if valid is None else valid[b])
            for b in range(len(images))
        ]

    def match(self, pairs: Sequence[tuple[ImageFeatures, ImageFeatures]]) -> list[PairMatches]:
        """Matches of each pair; sizes may differ between pairs and within them."""
        feat0, valid0 = _padded([f0 for f0, _ in pairs])
        feat1, valid1 = _padded([f1 for _, f1 in pairs])
        hws0, hws1 = [f0.hw for f0, _ in pairs], [f1.hw for _, f1 in pairs]
        if self.config.global_layers and (len(set(hws0)) > 1 or len(set(hws1)) > 1):
            return [found for pair in pairs for found in self.match([pair])]  # patches need one grid
        feat0, feat1 = self.pair_tokens(feat0, feat1, hws0[0], hws1[0], valid0, valid1)
        return [self._match_one(f0, f1, feat0[b], feat1[b]) for b, (f0, f1) in enumerate(pairs)]

    def pair_tokens(
        self,
        feat0: Tensor,
        feat1: Tensor,
        hw0: tuple[int, int],
        hw1: tuple[int, int],
        valid0: Tensor | None = None,
        valid1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The work of pairs up to the similarities: tokens of `encode` (B, L, C), (B, S, C) → as they are matched.

        valid0: (B, L), valid1: (B, S) bool or None. hw0, hw1: the grids, which only the global stage asks for.
        """
        layers = frozen(self.loftr_coarse, feat0)
        if not self.config.global_layers:
            return layers.after_encode(feat0, feat1, valid0, valid1)
        first = layers.num_leading_self
        feat0, feat1 = layers.part(slice(first, first + 1), feat0, feat1, valid0, valid1)
        feat0, feat1 = self.global_context(feat0, feat1, hw0, hw1, valid0, valid1)
        return layers.part(slice(first + 1, None), feat0, feat1, valid0, valid1)

    def forward(self, image0: Tensor, image1: Tensor) -> list[PairMatches]:
        """Matches of B pairs of images, each side of one size: (B, 1, H0, W0), (B, 1, H1, W1) in [0, 1]."""
        return self.match(list(zip(self.encode(image0), self.encode(image1), strict=True)))

    def _match_one(self, f0: ImageFeatures, f1: ImageFeatures, feat0: Tensor, feat1: Tensor) -> PairMatches:
        feat0, feat1 = feat0[: len(f0.coarse)], feat1[: len(f1.coarse)]
        cells = self.coarse_matching(feat0, feat1, f0.hw, f1.hw, f0.valid, f1.valid)
        offset0, offset1 = (feat0.new_zeros(len(cells.i_ids), 2, dtype=torch.float32) for _ in range(2))
        chunk = FINE_CHUNK if torch.get_num_threads() == 1 else SHARED_FINE_CHUNK
        chunk = CUDA_FINE_CHUNK if feat0.is_cuda else chunk
        layers = frozen(self.loftr_fine, feat0)
        for start in range(0, len(offset0), chunk):
            part = slice(start, start + chunk)
            windows0 = self._windows(f0, feat0, cells.i_ids[part])
            windows1 = self._windows(f1, feat1, cells.j_ids[part])
            offsets = fine_offsets(windows0, windows1, layers)
            offset0[part], offset1[part] = offsets.offset0, offsets.offset1
        anchors0, anchors1 = anchors(cells.i_ids, f0.hw[1]), anchors(cells.j_ids, f1.hw[1])
        return PairMatches(
            cells.i_ids, cells.j_ids, cells.confidence, anchors0, anchors1, anchors0 + offset0, anchors1 + offset1
        )

    def _windows(self, image: ImageFeatures, tokens: Tensor, cells: Tensor) -> Tensor:
        """(M, window², c): the fine map around (M,) i64 cells, with their tokens (h * w, C) of this pair."""
        windows = windows_at(image.fine, cells, image.hw[1], self.config.fine_window)
        joined: Tensor = self.fine_preprocess(windows, tokens[cells])
        return joined


def _padded(features: Sequence[ImageFeatures]) -> tuple[Tensor, Tensor | None]:
    """Tokens of all images as one batch (B, L, C), and which of them exist (B, L) bool, None if all do."""
    lengths = [len(f.coarse) for f in features]
    if len(set(lengths)) == 1 and all(f.valid is None for f in features):
        return torch.stack([f.coarse for f in features]), None
    tokens = nn.utils.rnn.pad_sequence([f.coarse for f in features], batch_first=True)
    valid = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    for row, feature in zip(valid, features, strict=True):
        row[: len(feature.coarse)] = True if feature.valid is None else feature.valid
    return tokens, valid
