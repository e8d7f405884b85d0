"""Options of the verb refine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sfm.options import RefinementOptions, option, require


@dataclass(frozen=True, slots=True)
class ModelRefinementOptions(RefinementOptions):
    """Sub-pixel tracks for a model that is given."""

    no_refine: bool = field(default=False, init=False)  # no option here
    fix_intrinsics: bool = option(False, "leave the cameras' parameters as the model has them")
    masks: Path | None = option(
        None,
        "folder of masks, NAME.png for image NAME as in COLMAP: no point is proposed where a mask is black",
        metavar="FOLDER",
    )


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What it may use."""

    device: str = option("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"), metavar="NAME")
    memory: float | None = option(
        None,
        "gigabytes that images and patches may take (of the GPU where there is one); the default is half of what is "
        "free",
        metavar="GB",
    )
    threads: int = option(
        1,
        "threads of bundle adjustment: with 1 the same model and images give the same result bit for bit, -1 takes all "
        "cores",
        metavar="N",
    )
    seed: int = option(0, "random seed of everything that draws", metavar="N")

    def __post_init__(self) -> None:
        require(self.memory is None or self.memory > 0, f"--memory {self.memory}: must be positive")
        require(self.threads == -1 or self.threads >= 1, f"--threads {self.threads}: must be at least 1, or -1")
        require(0 <= self.seed < 2**31, f"--seed {self.seed}: must be from 0 to 2147483647")


@dataclass(frozen=True, slots=True)
class RefineOptions:
    """All options of the verb refine."""

    refinement: ModelRefinementOptions = field(default_factory=ModelRefinementOptions)
    machine: MachineOptions = field(default_factory=MachineOptions)
