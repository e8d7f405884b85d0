"""One frozen dataclass per stage and the root Options; every default of a run is in this file.

A field's `help` metadata is its line in `loftr-sfm --help`. `registry` names the registry (sfm.cli.registries) whose
entries are its choices and are appended to its help; `other` is what it may be besides them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, asdict, dataclass, field, fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar, TypedDict, get_type_hints

from sfm.errors import BadOption
from sfm.option_values import checked, weights_option
from sfm.option_values import option as option
from sfm.option_values import require as require
from sfm.presets import BALANCED, PRESETS, preset_values
from sfm.wording import did_you_mean

AUTO = "auto"
SMALL_SET = 100  # images; of more, what takes several tries is found on some of them
STAGE_NAMES = ("images", "pairs", "matching", "verification", "tracks", "mapping", "refinement")  # in their order


@dataclass(frozen=True, slots=True)
class PresetOptions:
    """Several options at once; those that are given besides win."""

    preset: str = option(
        BALANCED,
        "; ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items()),
        choices=tuple(PRESETS),
        metavar="NAME",
    )


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Finding and reading images, and what is assumed of their cameras."""

    camera_model: str = option(
        AUTO,
        "COLMAP camera model of every image, or auto: OPENCV_FISHEYE where EXIF names a fisheye lens or the matches "
        "show one, else SIMPLE_RADIAL",
        metavar="MODEL",
    )
    camera: str = option(
        "auto",
        "which images share intrinsics: auto (same device, size and focal length), single, per-folder, per-image",
        choices=("auto", "single", "per-folder", "per-image"),
        metavar="HOW",
    )
    intrinsics: str | None = option(
        None,
        "known intrinsics, which are then kept (default: EXIF, or estimated). One camera, in COLMAP's order: f,cx,cy,k "
        "for SIMPLE_RADIAL, fx,fy,cx,cy for PINHOLE, fx,fy,cx,cy,k1,k2,p1,p2 for OPENCV, fx,fy,cx,cy,k1,k2,k3,k4 for "
        "OPENCV_FISHEYE (--camera-model). Several: COLMAP's cameras.txt (with its images.txt beside it, or by size), "
        "or a JSON of names, folders or patterns (docs/cameras.md)",
        metavar="P1,P2,...|FILE",
    )
    masks: Path | None = option(
        None,
        "folder of masks of the images' sizes: of a/IMG.jpg it is a/IMG.jpg.png or a/IMG.png; nothing is matched where "
        "it is black, and an image without one is used whole",
        metavar="FOLDER",
    )
    rig: str = option(
        "auto",
        "cameras that are mounted together: auto (folders of equal file names, where the model shows that they are "
        "rigid), off, or COLMAP's rig_config.json",
        metavar="auto|off|FILE",
    )
    panoramas: str = option(
        "auto",
        "auto: images of the whole sphere (twice as wide as high, whose right edge continues in the left one) are "
        "matched and mapped as the faces of a cube; off",
        choices=("auto", "off"),
        metavar="HOW",
    )
    frames: str | None = option(
        None,
        "of each video: how many frames at most (200), or the best of so many a second (2fps) (default: as many as the "
        "picture moves on by a twentieth to a tenth of its size, without the blurred ones)",
        metavar="N|FPS",
    )


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which images are matched with which."""

    pairs: str = option(
        "auto",
        "which pairs are matched",
        registry="pairs",
        other="several joined by +, FILE (two names per line, as in hloc), or auto (up to 100 images: exhaustive, of "
        "videos sequential; more: by likeness, in a row and by GPS where these fit, then what the matches speak for)",
        metavar="HOW",
    )

    def __post_init__(self) -> None:
        require(bool(self.pairs.strip()), "--pairs: is empty; give auto, a selector or a file of pairs")


@dataclass(frozen=True, slots=True)
class MatchingOptions:
    """The matcher and what it may use."""

    auto_on_cpu: ClassVar[str] = "compact"  # the weights that auto takes without a GPU
    matcher: str = option(
        "loftr",
        "what matches two images; NAME+NAME: several, whose matches become one model",
        registry="matcher",
        metavar="NAME",
    )
    weights: str = weights_option(auto_on_cpu)
    resize: int = option(
        640,
        "longer side of the image that the network sees, px; more is finer and slower, 0 keeps the image's size",
        metavar="PX",
    )
    confidence: float | None = option(
        None, "drop matches below this confidence, 0 to 1 (default: the weights' own)", metavar="C"
    )
    device: str = option("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"), metavar="NAME")
    batch: int = option(0, "pairs matched at once; 0 chooses by device", metavar="N")
    memory: float | None = option(
        None,
        "gigabytes that cached features, batches and refinement may take, of the GPU where there is one (default: half "
        "of what is free; of main memory features take 1.2)",
        metavar="GB",
    )
    turns: str = option(
        "auto",
        "auto: where images match in separate groups, or turned in their plane, also match them rotated by 90, 180 "
        "and 270 degrees; off",
        choices=("auto", "off"),
        metavar="HOW",
        flag="--rotations",
    )
    fallback: str = option(
        "sift",
        "a detector that also matches, at full size, images that a matcher without one hardly ties to others; off",
        choices=("sift", "off"),
        metavar="NAME",
    )
    offline: bool = option(False, "never use the network")

    def __post_init__(self) -> None:
        require(self.resize == 0 or self.resize >= 64, f"--resize {self.resize}: must be 0 or at least 64")
        confidence = self.confidence
        require(confidence is None or 0 <= confidence <= 1, f"--confidence {confidence}: must be between 0 and 1")
        require(self.batch >= 0, f"--batch {self.batch}: must not be negative")
        require(self.memory is None or self.memory > 0, f"--memory {self.memory}: must be positive")


@dataclass(frozen=True, slots=True)
class VerificationOptions:
    """Two-view geometry of each pair."""

    max_error: float = option(
        2.0,
        "largest epipolar error of a verified match, px of the network's image (sift: COLMAP's 4 px of the image)",
        metavar="PX",
    )
    min_inliers: int = option(15, "drop pairs with fewer verified matches", metavar="N")
    min_inlier_ratio: float = option(
        0.0,
        "also drop detector-free pairs of which a smaller share of matches is verified, 0 to 1; 0: a pair needs "
        "evidence beyond chance and no share",
        metavar="R",
    )

    def __post_init__(self) -> None:
        require(self.max_error > 0, f"--max-error {self.max_error}: must be positive")
        require(0 <= self.min_inlier_ratio <= 1, f"--min-inlier-ratio {self.min_inlier_ratio}: must be between 0 and 1")
        require(self.min_inliers >= 8, f"--min-inliers {self.min_inliers}: must be at least 8")


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """From matches of pairs to keypoints of images and tracks over them."""

    cell_size: float = option(1.0, "size of a keypoint's cell, in cells of the network's coarse grid", metavar="CELLS")
    min_score: float = option(0.0, "keypoint matches below this confidence join no track, 0 to 1", metavar="C")
    max_observations: int | None = option(
        None,
        "of tracks: so many an image at most, on average, of the longest, evenly spread; 0 keeps all "
        f"(default: all of up to {SMALL_SET} images; of more 700 an image and 500,000 besides)",
        metavar="N",
    )

    def __post_init__(self) -> None:
        require(self.cell_size > 0, f"--cell-size {self.cell_size}: must be positive")
        require(0 <= self.min_score <= 1, f"--min-score {self.min_score}: must be between 0 and 1")
        require(
            self.max_observations is None or self.max_observations >= 0,
            f"--max-observations {self.max_observations}: must not be negative; 0 keeps all",
        )


@dataclass(frozen=True, slots=True)
class MappingOptions:
    """Camera poses and points by COLMAP, or points alone where the poses are known."""

    mapper: str = option(
        "incremental",
        "what makes a model of tracks",
        registry="mapper",
        metavar="NAME",
    )
    known_poses: Path | None = option(
        None,
        "COLMAP model or OUT of a run, whose cameras and poses are kept as they are: matches are only triangulated",
        metavar="MODEL",
    )
    trust_pairs: str | None = option(
        None,
        "file with two image names a line: pairs that are never refused, though their images seem to show two places "
        "that look alike; or all, to refuse none (docs/alike.md)",
        metavar="FILE|all",
    )
    min_model_size: int = option(3, "drop sub-models with fewer images", metavar="N")
    threads: int = option(
        0,
        "threads of the mapper and of bundle adjustment: with 1 the same images give the same model bit for bit, -1 "
        f"takes all cores, 0 takes 1 for up to {SMALL_SET} images, which gain little from more, and all cores for more",
        metavar="N",
    )
    seed: int = option(0, "random seed", metavar="N")

    def __post_init__(self) -> None:
        require(self.min_model_size >= 1, f"--min-model-size {self.min_model_size}: must be at least 1")
        require(self.threads >= -1, f"--threads {self.threads}: must be at least 1, 0 or -1")
        require(0 <= self.seed < 2**31, f"--seed {self.seed}: must be from 0 to 2147483647")

    def for_images(self, num: int) -> MappingOptions:
        """The options with the threads that so many images take."""
        return self if self.threads else replace(self, threads=1 if num <= SMALL_SET else -1)


@dataclass(frozen=True, slots=True)
class RefinementOptions:
    """Sub-pixel tracks by photometric alignment of their observations, then bundle adjustment."""

    no_refine: bool = option(False, "keep the models as mapping leaves them")
    rounds: int = option(
        3,
        "rounds of alignment, bundle adjustment and completion at most; fewer where a round changes little",
        metavar="N",
    )
    align_size: int = option(
        1600, "longer side of the images that are aligned, px; 0 keeps the images' size", metavar="PX"
    )
    fix_principal_point: bool = option(
        False, "leave the principal point, and all else that mapping did not estimate of the cameras, as it is"
    )

    def __post_init__(self) -> None:
        require(self.rounds >= 1, f"--rounds {self.rounds}: must be at least 1; to refine nothing use --no-refine")
        require(self.align_size == 0 or self.align_size >= 64, f"--align-size {self.align_size}: 0, or at least 64")


@dataclass(frozen=True, slots=True)
class GeoreferencingOptions:
    """Models in metres: a similarity of the finished model, which changes nothing else of it."""

    gps: str = option(
        "auto",
        "auto: models are put into metres, x east, y north, z up, where enough of the images' GPS positions fit them, "
        "and are doubted where they contradict them; off: models keep a frame of their own",
        choices=("auto", "off"),
        metavar="HOW",
    )
    scale_bar: str | None = option(
        None,
        "a known distance: between the cameras of two images, or several and between marked points in a FILE of lines "
        "POINT,IMAGE,X,Y and A,B,METRES",
        metavar="A,B,METRES|FILE",
    )


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Many machines or many GPUs, by Ray; the results are those of one."""

    cluster: str | None = option(
        None,
        "match and verify by Ray: local (this machine's GPUs, or cores), HOST:PORT of a cluster, auto (that which this "
        "machine is in), off (default: RAY_ADDRESS, else off); needs pip install 'loftr-sfm[ray]' (docs/cluster.md)",
        metavar="ADDRESS",
    )


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The page report.html."""

    no_report: bool = option(False, "write no report.html")


class RunKeywords(TypedDict, total=False):
    """The options of a run as keyword arguments, under the names that they have on the command line."""

    preset: str
    camera_model: str
    camera: str
    intrinsics: str | None
    masks: str | PathLike[str] | None
    rig: str
    panoramas: str
    frames: str | None
    pairs: str
    matcher: str
    weights: str
    resize: int
    confidence: float | None
    device: str
    batch: int
    memory: float | None
    turns: str
    fallback: str
    offline: bool
    max_error: float
    min_inliers: int
    min_inlier_ratio: float
    cell_size: float
    min_score: float
    max_observations: int | None
    mapper: str
    known_poses: str | PathLike[str] | None
    trust_pairs: str | None
    min_model_size: int
    threads: int
    seed: int
    no_refine: bool
    rounds: int
    align_size: int
    fix_principal_point: bool
    gps: str
    scale_bar: str | None
    cluster: str | None
    no_report: bool


@dataclass(frozen=True, slots=True)
class Options:
    """All options of a run, stage by stage. `of` and the command line set what a preset says."""

    preset: PresetOptions = field(default_factory=PresetOptions)
    images: ImageOptions = field(default_factory=ImageOptions)
    pairs: PairOptions = field(default_factory=PairOptions)
    matching: MatchingOptions = field(default_factory=MatchingOptions)
    verification: VerificationOptions = field(default_factory=VerificationOptions)
    tracks: TrackOptions = field(default_factory=TrackOptions)
    mapping: MappingOptions = field(default_factory=MappingOptions)
    refinement: RefinementOptions = field(default_factory=RefinementOptions)
    georeferencing: GeoreferencingOptions = field(default_factory=GeoreferencingOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    report: ReportOptions = field(default_factory=ReportOptions)

    @classmethod
    def of(cls, **keywords: Any) -> Options:
        """Options by the names of the command line, as RunKeywords has them: Options.of(matcher="sift", resize=1024).

        Paths may be strings. BadOption for a name that there is not (with the nearest one), or a value of another kind,
        out of range or not among the choices.
        """
        own: dict[str, dict[str, Any]] = {stage: {} for stage in get_type_hints(cls)}
        stage_of = {item.name: stage for stage, item in cls.each()}
        for name, value in {**preset_values(keywords.get("preset", BALANCED)), **keywords}.items():
            if name not in stage_of:
                meant = did_you_mean(name, stage_of)
                raise BadOption(f"{name}: no option of this name{meant} (there are {', '.join(stage_of)})")
            if name in ("masks", "known_poses"):
                value = None if value is None else Path(value)
            elif name in ("pairs", "weights", "scale_bar", "rig", "trust_pairs") and isinstance(value, PathLike):
                value = fspath(value)
            own[stage_of[name]][name] = checked(get_type_hints(cls)[stage_of[name]], name, value)
        return cls(**{stage: kind(**own[stage]) for stage, kind in get_type_hints(cls).items()})

    @classmethod
    def each(cls) -> Iterator[tuple[str, Field[Any]]]:
        """(stage, field) of every option, stage by stage."""
        for stage, kind in get_type_hints(cls).items():
            yield from ((stage, item) for item in fields(kind))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, for JSON."""
        return {
            stage: {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}
            for stage, values in asdict(self).items()
        }
