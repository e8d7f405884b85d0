"""Options of `evaluate pairs` and `evaluate imc2022`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from sfm.option_values import weights_option
from sfm.options import MatchingOptions, option, require

_MAX_ERROR_HELP = "largest epipolar error of an inlier, px of the image reduced to --resize"


@dataclass(frozen=True, slots=True)
class TwoViewOptions(MatchingOptions):
    """Matching for the geometry of two views alone."""

    auto_on_cpu: ClassVar[str] = "compact-wide"  # two views may be far apart, and nothing else helps
    matcher: str = option("loftr", "what matches two images", registry="matcher", metavar="NAME")
    weights: str = weights_option(auto_on_cpu)
    resize: int = option(
        1024,
        "longer side of the image that the network sees, px, also of one that is smaller: poses of two views gain by "
        "it, though a pair takes four times as long as at the 640 px of runs; 0 keeps the image's size",
        metavar="PX",
    )
    confidence: float | None = option(
        0.4,
        "drop matches below this confidence, 0 to 1; two views alone are best at 0.3 to 0.5, a model of many views, "
        "which can outvote false matches, at less (sift: does not apply)",
        metavar="C",
    )
    at_least: int = option(
        800,
        "keep so many of a pair's most confident matches though they are below --confidence: of wide baselines few are "
        "sure (loftr alone; 0: none)",
        metavar="N",
    )
    no_align: bool = option(
        False,
        "leave matches where the network places them, which is to a pixel of the image that it sees, instead of moving "
        "them to sub-pixel where the images themselves agree (detectors' keypoints are never moved)",
    )
    turns: str = option(
        "auto",
        "auto: where two images hardly match, look at the second one rotated by 90, 180 and 270 degrees; off",
        choices=("auto", "off"),
        metavar="HOW",
        flag="--rotations",
    )
    fallback: str = field(default="off", init=False)  # no option here: a pair is matched by what was chosen

    def __post_init__(self) -> None:
        MatchingOptions.__post_init__(self)
        require(self.at_least >= 0, f"--at-least {self.at_least}: must not be negative")


@dataclass(frozen=True, slots=True)
class PairEvaluationOptions:
    """Which pairs are evaluated, and how their relative pose is estimated."""

    pairs: Path | None = option(
        None, "only these pairs of the model: two image names per line, as in hloc", metavar="FILE"
    )
    max_rotation: float = option(
        60.0, "without --pairs: leave out pairs whose cameras are rotated by more against each other", metavar="DEG"
    )
    max_pairs: int = option(0, "evaluate a random sample of so many pairs; 0 takes all", metavar="N")
    max_error: float = option(1.0, _MAX_ERROR_HELP, metavar="PX")
    seeds: int = option(5, "estimations of each pose with different random seeds; their AUCs are averaged", metavar="N")

    def __post_init__(self) -> None:
        require(self.max_rotation > 0, f"--max-rotation {self.max_rotation}: must be positive")
        require(self.max_pairs >= 0, f"--max-pairs {self.max_pairs}: must not be negative")
        require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")
        require(self.seeds >= 1, f"--seeds {self.seeds}: must be at least 1")


@dataclass(frozen=True, slots=True)
class ChallengeOptions:
    """Which pairs are evaluated, and how their fundamental matrix is estimated."""

    split: str = option(
        "train",
        "train (prints the score) or test (writes submission.csv)",
        choices=("train", "test"),
        metavar="NAME",
    )
    min_covisibility: float = option(0.1, "train: leave out pairs with less, 0 to 1", metavar="C")
    max_pairs: int = option(0, "train: a random sample of so many pairs per scene; 0 takes all", metavar="N")
    max_error: float = option(0.5, _MAX_ERROR_HELP, metavar="PX")

    def __post_init__(self) -> None:
        require(self.max_pairs >= 0, f"--max-pairs {self.max_pairs}: must not be negative")
        require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")


@dataclass(frozen=True, slots=True)
class PairEvaluation:
    """All options of `evaluate pairs`."""

    matching: TwoViewOptions = field(default_factory=TwoViewOptions)
    evaluation: PairEvaluationOptions = field(default_factory=PairEvaluationOptions)


@dataclass(frozen=True, slots=True)
class ChallengeEvaluation:
    """All options of `evaluate imc2022`."""

    matching: TwoViewOptions = field(default_factory=TwoViewOptions)
    evaluation: ChallengeOptions = field(default_factory=ChallengeOptions)
