"""What the verb train is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfm.errors import BadFile
from sfm.options import require


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """A training run. Sources of pairs, any of them, together mixed:

    images: folder of images, warped and put on made bodies. scenes: folder of image sets NAME/images, with a COLMAP
    model in NAME/sparse or one that SIFT makes. model, model_images: a COLMAP model and its images. rgbd: a sequence
    with depth and poses, or a folder of such. imc2022: training set of the Image Matching Challenge 2022.

    init: name of weights or a file; None is a new compact network. wide: with the global stage of compact-wide.
    hours: length of the whole run; steps: in steps instead. batch: pairs a step. size: (H, W) px of the pairs,
    multiples of 32. learning_rate: of the transformers. evaluations: of held-out pairs in the run. workers: processes
    that make pairs. on_device: the device that trains makes them instead, of the same sources and of rendered scenes.
    """

    out: Path
    images: Path | None = None
    scenes: Path | None = None
    model: Path | None = None
    model_images: Path | None = None
    rgbd: Path | None = None
    imc2022: Path | None = None
    init: str | None = None
    wide: bool = False
    hours: float = 2.0
    steps: int = 0
    batch: int = 4
    size: tuple[int, int] = (256, 320)
    learning_rate: float = 1e-3
    evaluations: int = 10
    workers: int = 1
    on_device: bool = False
    device: str = "auto"
    seed: int = 0

    def check(self) -> None:
        """BadFile and BadOption for what would fail later, or train nothing."""
        folders = (self.images, self.scenes, self.model, self.rgbd, self.imc2022)
        require(
            any(folder is not None for folder in folders),
            "nothing to train on: give --images, --scenes, --model, --rgbd or --imc2022",
        )
        require((self.model is None) == (self.model_images is None), "--model and --model-images belong together")
        for folder in (*folders, self.model_images):
            if folder is not None and not folder.is_dir():
                raise BadFile(f"{folder}: no such folder; give a folder of images")
        if self.out.exists() and not self.out.is_dir():
            raise BadFile(f"{self.out}: is a file; give a folder for the weights")
        require(self.batch >= 1, f"--batch {self.batch}: must be at least 1")
        require(self.steps >= 0, f"--steps {self.steps}: must not be negative")
        require(self.hours > 0, f"--hours {self.hours}: must be positive")
        require(self.workers >= 0, f"--workers {self.workers}: must not be negative")
        require(self.evaluations >= 0, f"--evaluations {self.evaluations}: must not be negative")
        require(self.seed >= 0, f"--seed {self.seed}: must not be negative")
        require(self.learning_rate > 0, f"--learning-rate {self.learning_rate}: must be positive")
        _check_size(self.size)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """A stream of batches. size: (H, W) px of the pairs, multiples of 32. batch_size: pairs a batch. workers: processes
    that make them. rank, world: this process of those that train together; each has batches of its own."""

    size: tuple[int, int] = (256, 320)
    batch_size: int = 4
    workers: int = 1
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        _check_size(self.size)


def _check_size(size: tuple[int, int]) -> None:
    good = min(size) > 0 and not (size[0] % 32 or size[1] % 32)
    require(good, f"--size {size[0]} {size[1]}: both must be multiples of 32")
