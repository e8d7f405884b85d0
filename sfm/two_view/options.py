"""Options of the verb match: how two images are matched, and what is drawn of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

from sfm.errors import BadOption
from sfm.evaluation.options import TwoViewOptions
from sfm.options import option, require


@dataclass(frozen=True, slots=True)
class TwoImageOptions(TwoViewOptions):
    """Matching two images, and the geometry between them."""

    batch: int = field(default=0, init=False)  # no options for one pair
    memory: float | None = field(default=None, init=False)
    camera_model: str = option("SIMPLE_RADIAL", "COLMAP camera model of both images", metavar="MODEL")
    intrinsics: str | None = option(
        None,
        "known intrinsics of both images, in COLMAP's order: f,cx,cy,k for SIMPLE_RADIAL, fx,fy,cx,cy for PINHOLE "
        "(--camera-model; default: the focal length in EXIF, or estimated)",
        metavar="P1,P2,...",
    )
    intrinsics_b: str | None = option(None, "known intrinsics of B, where its camera is another", metavar="P1,P2,...")
    max_error: float = option(
        2.0,
        "largest epipolar error of an inlier, px of the network's image (sift: 4 px of the image)",
        metavar="PX",
    )
    seed: int = option(0, "random seed of everything that draws", metavar="N")

    def __post_init__(self) -> None:
        TwoViewOptions.__post_init__(self)
        require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")


@dataclass(frozen=True, slots=True)
class FigureOptions:
    """What is drawn; none of it changes the numbers."""

    draw: str = option("lines", "matches as lines or points", choices=("lines", "points"), metavar="HOW")
    max_drawn: int | None = option(
        None,
        "matches drawn at most, spread evenly, the most confident first, inliers and outliers in their true "
        "proportion; 0 draws all (default: 200 lines, all points)",
        metavar="N",
    )
    colormap: str = option(
        "jet",
        "of the confidence: jet (blue low, red high, as in LoFTR's own figures), viridis or cividis (also for "
        "colour-blind readers)",
        choices=("jet", "viridis", "cividis"),
        metavar="NAME",
    )
    hide_outliers: bool = option(False, "draw the inliers only")
    features: bool = option(False, "draw the network's coarse features before and after the transformer")
    attention: str | None = option(
        None, "draw what this pixel of A attends to, layer by layer, in A and in B", metavar="X,Y"
    )

    def __post_init__(self) -> None:
        require(self.max_drawn is None or self.max_drawn >= 0, f"--max-drawn {self.max_drawn}: must not be negative")
        self.pixel()

    def pixel(self) -> tuple[float, float] | None:
        """(x, y) px of A whose attention is drawn. Raises BadOption unless it is two finite numbers."""
        if self.attention is None:
            return None
        try:
            x, y = (float(part) for part in self.attention.split(","))
        except ValueError:
            raise BadOption(f"--attention {self.attention}: must be two numbers X,Y, a pixel of A") from None
        require(isfinite(x) and isfinite(y), f"--attention {self.attention}: must be finite")
        return x, y


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """All options of the verb match."""

    matching: TwoImageOptions = field(default_factory=TwoImageOptions)
    figures: FigureOptions = field(default_factory=FigureOptions)
