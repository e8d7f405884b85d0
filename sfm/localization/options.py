"""Options of the verb localize."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfm.options import MatchingOptions, option, require


@dataclass(frozen=True, slots=True)
class LocalizationOptions:
    """How new images find their place in the model."""

    candidates: int = option(
        30, "images of the model that a new image is matched with at most; those that look most alike", metavar="N"
    )
    min_inliers: int = option(30, "2D-3D correspondences that a pose must explain", metavar="N")
    align_size: int = option(
        1600,
        "longer side of the images in which correspondences are aligned, px; 0 keeps the images' size",
        metavar="PX",
    )
    seed: int = option(0, "random seed of RANSAC", metavar="N")

    def __post_init__(self) -> None:
        require(self.candidates >= 1, f"--candidates {self.candidates}: must be at least 1")
        require(self.min_inliers >= 6, f"--min-inliers {self.min_inliers}: must be at least 6")
        require(
            self.align_size == 0 or self.align_size >= 64, f"--align-size {self.align_size}: must be 0 or at least 64"
        )


@dataclass(frozen=True, slots=True)
class LocalizeOptions:
    """All options of the verb localize."""

    localization: LocalizationOptions = field(default_factory=LocalizationOptions)
    matching: MatchingOptions = field(default_factory=MatchingOptions)
