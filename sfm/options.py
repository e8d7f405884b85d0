"""One frozen dataclass a stage and the root Options; every default of the product is in this file.

A field's `help` metadata is its line in `loftr-sfm --help`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from sfm.errors import BadOption


def _option(default: Any, help: str, **extra: Any) -> Any:
    return field(default=default, metadata={"help": help, **extra})


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise BadOption(message)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Finding and reading photos, and what is assumed of their cameras."""

    camera_model: str = _option("SIMPLE_RADIAL", "COLMAP camera model of every photo", metavar="MODEL")
    camera: str = _option(
        "auto",
        "which photos share intrinsics: auto (same device, size and focal length), single, per-folder, per-image",
        choices=("auto", "single", "per-folder", "per-image"),
    )
    intrinsics: str | None = _option(
        None,
        "known intrinsics for every photo, as COLMAP's parameters: 'f,cx,cy,k' for SIMPLE_RADIAL",
        metavar="P1,P2,...",
    )
    masks: Path | None = _option(
        None,
        "folder of masks, NAME.png for photo NAME (COLMAP's convention): black pixels are ignored",
        metavar="FOLDER",
    )


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which photos are matched with which."""

    pairs: str = _option(
        "auto",
        "exhaustive, sequential[:N] (each photo with the next N by name, default 10), FILE (two names a line, as hloc "
        "has it), or auto",
        metavar="HOW",
    )


@dataclass(frozen=True, slots=True)
class MatchingOptions:
    """The matcher and what it may use."""

    matcher: str = _option(
        "loftr", "loftr (detector-free) or sift (COLMAP's SIFT, for comparison)", choices=("loftr", "sift")
    )
    weights: str = _option(
        "auto", "outdoor, indoor, indoor_new, compact, a checkpoint file, or auto", metavar="NAME|FILE"
    )
    resize: int = _option(
        640, "longer side of the image that the network sees, px; 0 keeps the photo's size", metavar="PX"
    )
    confidence: float | None = _option(
        None, "matches below this confidence are dropped, 0 to 1; the default is the weights' own", metavar="C"
    )
    device: str = _option("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    batch: int = _option(0, "pairs matched at once; 0 chooses by device", metavar="N")
    memory: float | None = _option(
        None,
        "gigabytes that cached features, batches and refinement may take (of the GPU where there is one); the default "
        "is half of what is free",
        metavar="GB",
    )
    turns: str = _option(
        "auto",
        "auto: where photos match in separate groups, try them turned by 90, 180 and 270 degrees; off",
        choices=("auto", "off"),
    )
    offline: bool = _option(False, "never use the network")

    def __post_init__(self) -> None:
        _require(self.resize == 0 or self.resize >= 64, f"--resize {self.resize}: must be 0 or at least 64")
        _require(
            self.confidence is None or 0 <= self.confidence <= 1,
            f"--confidence {self.confidence}: must be between 0 and 1",
        )
        _require(self.batch >= 0, f"--batch {self.batch}: must not be negative")
        _require(self.memory is None or self.memory > 0, f"--memory {self.memory}: must be positive")


@dataclass(frozen=True, slots=True)
class VerificationOptions:
    """Two-view geometry of each pair."""

    max_error: float = _option(
        2.0,
        "largest epipolar error of a verified match, px of the network's image (sift: COLMAP's 4 px of the photo)",
        metavar="PX",
    )
    min_inliers: int = _option(15, "pairs with fewer verified matches are left out", metavar="N")
    min_inlier_ratio: float = _option(
        0.5, "detector-free pairs of which a smaller share of matches is verified are left out, 0 to 1", metavar="R"
    )

    def __post_init__(self) -> None:
        _require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")
        _require(
            0 <= self.min_inlier_ratio <= 1, f"--min-inlier-ratio {self.min_inlier_ratio}: must be between 0 and 1"
        )
        _require(self.min_inliers >= 8, f"--min-inliers {self.min_inliers}: must be at least 8")


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """From matches of pairs to keypoints of images and tracks over them."""

    cell_size: float = _option(1.0, "size of a keypoint's cell, in cells of the network's coarse grid", metavar="CELLS")
    min_score: float = _option(0.0, "keypoint matches below this confidence join no track, 0 to 1", metavar="C")

    def __post_init__(self) -> None:
        _require(self.cell_size > 0, f"--cell-size {self.cell_size}: must be positive")
        _require(0 <= self.min_score <= 1, f"--min-score {self.min_score}: must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class MappingOptions:
    """COLMAP's mapping, or triangulation with poses that are known."""

    mapper: str = _option(
        "incremental",
        "incremental (photo by photo) or global (all at once, for large sets)",
        choices=("incremental", "global"),
    )
    known_poses: Path | None = _option(
        None,
        "COLMAP model whose cameras and poses are kept as they are: the matches are only triangulated",
        metavar="MODEL",
    )
    min_model_size: int = _option(3, "sub-models with fewer images are dropped", metavar="N")
    threads: int = _option(-1, "threads of the mapper; -1 takes all cores", metavar="N")
    seed: int = _option(0, "random seed of everything that draws", metavar="N")


@dataclass(frozen=True, slots=True)
class RefinementOptions:
    """Sub-pixel tracks: every observation aligned with its track's reference in the photos, then bundle adjustment."""

    no_refine: bool = _option(False, "keep the models as mapping leaves them")
    rounds: int = _option(
        3,
        "rounds of alignment, bundle adjustment and completion at most; none follows one that moved little",
        metavar="N",
    )
    align_size: int = _option(
        1600, "longer side of the photos that are aligned, px; 0 keeps the photos' size", metavar="PX"
    )
    fix_principal_point: bool = _option(
        False, "leave the principal point, and all else that mapping did not estimate of the cameras, as it is"
    )

    def __post_init__(self) -> None:
        _require(self.rounds >= 1, f"--rounds {self.rounds}: must be at least 1; to refine nothing use --no-refine")
        _require(self.align_size == 0 or self.align_size >= 64, f"--align-size {self.align_size}: 0, or at least 64")


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The page report.html."""

    no_report: bool = _option(False, "write no report.html")


@dataclass(frozen=True, slots=True)
class Options:
    """All options of a run, stage by stage."""

    images: ImageOptions = field(default_factory=ImageOptions)
    pairs: PairOptions = field(default_factory=PairOptions)
    matching: MatchingOptions = field(default_factory=MatchingOptions)
    verification: VerificationOptions = field(default_factory=VerificationOptions)
    tracks: TrackOptions = field(default_factory=TrackOptions)
    mapping: MappingOptions = field(default_factory=MappingOptions)
    refinement: RefinementOptions = field(default_factory=RefinementOptions)
    report: ReportOptions = field(default_factory=ReportOptions)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, for JSON."""
        return {
            stage: {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}
            for stage, values in asdict(self).items()
        }


# --- two photos -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TwoViewOptions(MatchingOptions):
    """Matching for the geometry of two views alone."""

    confidence: float | None = _option(
        0.4,
        "matches below this confidence are dropped, 0 to 1; two views alone are best at 0.3 to 0.5, a model of many "
        "views, which can outvote false matches, at less (sift: does not apply)",
        metavar="C",
    )


@dataclass(frozen=True, slots=True)
class TwoPhotoOptions(TwoViewOptions):
    """Matching two photos, and the geometry between them."""

    turns: str = _option(
        "auto",
        "auto: photos that hardly match are tried with B turned by 90, 180 and 270 degrees; off",
        choices=("auto", "off"),
    )
    batch: int = field(default=0, init=False)  # no options for one pair
    memory: float | None = field(default=None, init=False)
    camera_model: str = _option("SIMPLE_RADIAL", "COLMAP camera model of both photos", metavar="MODEL")
    intrinsics: str | None = _option(
        None,
        "known intrinsics of both photos, as COLMAP's parameters: 'f,cx,cy,k' for SIMPLE_RADIAL; the default is the "
        "focal length in EXIF, or else a guess",
        metavar="P1,P2,...",
    )
    intrinsics_b: str | None = _option(None, "known intrinsics of B, where its camera is another", metavar="P1,P2,...")
    max_error: float = _option(
        2.0,
        "largest epipolar error of an inlier, px of the network's image (sift: 4 px of the photo)",
        metavar="PX",
    )
    seed: int = _option(0, "random seed of everything that draws", metavar="N")

    def __post_init__(self) -> None:
        MatchingOptions.__post_init__(self)
        _require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")


@dataclass(frozen=True, slots=True)
class FigureOptions:
    """What is drawn of two photos. None of it touches the numbers."""

    draw: str = _option("lines", "matches as lines or as points", choices=("lines", "points"))
    max_drawn: int | None = _option(
        None,
        "matches drawn at most, evenly spread and the most confident of each place, inliers and outliers in their true "
        "proportion; 0 draws all; the default is 200 lines, all points",
        metavar="N",
    )
    colormap: str = _option(
        "jet",
        "of confidence: jet (blue low, red high, as LoFTR's own figures have it), or viridis or cividis, which "
        "colour-blind people read as well",
        choices=("jet", "viridis", "cividis"),
    )
    hide_outliers: bool = _option(False, "draw the inliers only")
    features: bool = _option(False, "draw the network's coarse features before and after the transformer")
    attention: str | None = _option(
        None, "draw where this pixel of A looks, layer by layer: its self- and cross-attention", metavar="X,Y"
    )

    def __post_init__(self) -> None:
        _require(self.max_drawn is None or self.max_drawn >= 0, f"--max-drawn {self.max_drawn}: must not be negative")
        self.pixel()

    def pixel(self) -> tuple[float, float] | None:
        """(x, y) px of A whose attention is drawn. Raises BadOption unless it is two finite numbers."""
        if self.attention is None:
            return None
        try:
            x, y = (float(part) for part in self.attention.split(","))
        except ValueError:
            raise BadOption(f"--attention {self.attention}: must be two numbers X,Y, a pixel of A") from None
        _require(isfinite(x) and isfinite(y), f"--attention {self.attention}: must be finite")
        return x, y


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """All options of the verb match."""

    matching: TwoPhotoOptions = field(default_factory=TwoPhotoOptions)
    figures: FigureOptions = field(default_factory=FigureOptions)


# --- evaluation of matchers ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgedOptions(TwoViewOptions):
    """The matcher that is judged."""

    turns: str = field(default="off", init=False)  # no option here: a pair is judged as it is


@dataclass(frozen=True, slots=True)
class PairEvaluationOptions:
    """Which pairs are judged, and how their relative pose is estimated."""

    pairs: Path | None = _option(None, "only these pairs of the model: two photo names a line, as hloc", metavar="FILE")
    max_rotation: float = _option(
        60.0,
        "without --pairs: pairs whose true cameras are turned by more against each other do not count",
        metavar="DEG",
    )
    max_pairs: int = _option(0, "judge a random sample of so many pairs; 0 takes all", metavar="N")
    max_error: float = _option(
        0.5, "largest epipolar error of an inlier, px of the photo reduced to --resize", metavar="PX"
    )
    seeds: int = _option(
        5, "estimations of each pose with different random seeds; their AUCs are averaged", metavar="N"
    )

    def __post_init__(self) -> None:
        _require(self.max_rotation > 0, f"--max-rotation {self.max_rotation}: must be positive")
        _require(self.max_pairs >= 0, f"--max-pairs {self.max_pairs}: must not be negative")
        _require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")
        _require(self.seeds >= 1, f"--seeds {self.seeds}: must be at least 1")


@dataclass(frozen=True, slots=True)
class ChallengeOptions:
    """Which pairs are judged, and how their fundamental matrix is estimated."""

    split: str = _option("train", "train (prints the score) or test (writes submission.csv)", choices=("train", "test"))
    min_covisibility: float = _option(0.1, "train: pairs with less do not count, 0 to 1", metavar="C")
    max_pairs: int = _option(0, "train: judge a random sample of so many pairs a scene; 0 takes all", metavar="N")
    max_error: float = _option(
        0.5, "largest epipolar error of an inlier, px of the photo reduced to --resize", metavar="PX"
    )

    def __post_init__(self) -> None:
        _require(self.max_pairs >= 0, f"--max-pairs {self.max_pairs}: must not be negative")
        _require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")


@dataclass(frozen=True, slots=True)
class PairEvaluation:
    """All options of `evaluate pairs`."""

    matching: JudgedOptions = field(default_factory=JudgedOptions)
    evaluation: PairEvaluationOptions = field(default_factory=PairEvaluationOptions)


@dataclass(frozen=True, slots=True)
class ChallengeEvaluation:
    """All options of `evaluate imc2022`."""

    matching: JudgedOptions = field(default_factory=JudgedOptions)
    evaluation: ChallengeOptions = field(default_factory=ChallengeOptions)
