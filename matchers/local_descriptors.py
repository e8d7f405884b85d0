"""Local descriptors of images for retrieval: the coarse features of the compact network, which ships with the package.

No pair is looked at: an image's descriptors depend on the image alone, so they can be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

from sfm.matchers.base import GreyImage, Mask, check_images
from sfm.matchers.loftr import checkpoint
from sfm.matchers.loftr.matcher import LoFTRMatcher
from sfm.system.parallel import map_on_cores, num_cores

SIZE = 320  # px, longer side of the image that the network sees
POOL = 2  # cells along each side that are averaged to one descriptor: 300 of a 4:3 image
WIDTH = 96  # numbers of a descriptor


class LocalDescriptors:
    """The compact network up to its first self-attention, on the CPU whatever the device of a run is."""

    def __init__(self) -> None:
        choice = checkpoint.choose("compact", device="cpu", offline=True)
        self._matcher: LoFTRMatcher = checkpoint.load_matcher(choice, device="cpu", resize=SIZE, batch_size=1)

    @property
    def provenance(self) -> dict[str, str]:
        """All that they depend on besides the images."""
        return {"weights": self._matcher.provenance["weights_sha256"], "size": str(SIZE), "pool": str(POOL)}

    def of(self, images: Sequence[GreyImage], masks: Sequence[Mask | None] | None = None) -> list[NDArray[np.float16]]:
        """(T, 96) f16 of each image, without those of masked-out places; T may be 0. BadImage as check_images."""
        check_images(images, masks)
        items = list(zip(images, masks or [None] * len(images), strict=True))
        return list(map_on_cores(lambda item: self._of_one(*item), items, cores=num_cores()))

    @torch.inference_mode()
    def _of_one(self, image: GreyImage, mask: Mask | None) -> NDArray[np.float16]:
        pixels = self._matcher.network_input(image).to(memory_format=torch.channels_last)
        model = self._matcher.model
        coarse, _ = model.backbone(pixels)  # (1, C, h, w)
        encoded = model.loftr_coarse.encode(model.tokens(coarse), None)  # (1, h * w, C), after its self-attention
        cells = rearrange(encoded, "1 (h w) c -> c h w", h=coarse.shape[2])
        pooled = torch.nn.functional.avg_pool2d(cells, POOL, ceil_mode=True)
        tokens: NDArray[np.float16] = rearrange(pooled, "c h w -> (h w) c").numpy().astype(np.float16)
        if mask is None:
            return tokens
        usable = torch.from_numpy(np.asarray(mask, bool)).float()[None, None]
        share = (
            torch.nn.functional.adaptive_avg_pool2d(usable, (pooled.shape[1], pooled.shape[2]))[0, 0].flatten().numpy()
        )
        kept: NDArray[np.float16] = tokens[share > 0.5]
        return kept
