"""A stand-in for one of vismatch's matchers: SIFT behind the interface of its BaseMatcher.forward (vismatch 1.4)."""

from __future__ import annotations

import numpy as np

from sfm.matchers.sift import SiftMatcher


class SiftInVismatch:
    """SIFT's matches of two images (3, H, W) in [0, 1], in pixels of which the first has its centre at (0, 0)."""

    skip_ransac = False

    def __init__(self) -> None:
        self._sift = SiftMatcher()

    def __call__(self, image0, image1):
        assert image0.shape[0] == image1.shape[0] == 3
        images = [(255 * image[0]).round().numpy().astype(np.uint8) for image in (image0, image1)]
        found = self._sift.match([tuple(self._sift.encode(images))])[0]
        return {
            "matched_kpts0": found.points0.astype(np.float64) - 0.5,
            "matched_kpts1": found.points1.astype(np.float64) - 0.5,
            "matched_confidences": found.confidence,
            "num_inliers": 0,
        }
