"""From a name or a file to a matcher, for EfficientLoFTR. No checkpoint executes code (sfm.matchers.loftr.checkpoint).

Any published form is taken: see naming.py. Widths and depths are those of the tensors, so that nothing larger than the
file is ever made; what no tensor shows (heads, windows, temperatures) is the published network's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm.errors import BadFile
from sfm.matchers.efficient_loftr.config import EfficientLoFTRConfig
from sfm.matchers.loftr.checkpoint import read_tensors
from sfm.weights.download import fetch, sha256_of
from sfm.weights.first_load import held_to_first_load
from sfm.weights.registry import REGISTRY, Weights, check_name

if TYPE_CHECKING:
    from torch import Tensor

    from sfm.matchers.efficient_loftr.matcher import EfficientLoFTRMatcher

MATCHER = "efficient-loftr"
DEFAULT = "eloftr-outdoor"
MOST_BLOCKS = 64  # of a stage or a transformer; the published network has 14 and 8


@dataclass(frozen=True, slots=True)
class Choice:
    """The weights of a run. name: for people, e.g. "outdoor". reason: the one line that the run prints."""

    name: str
    path: Path
    reason: str


def choose(name: str, *, offline: bool = False) -> Choice:
    """The weights that `--weights NAME` means: "auto" (the published ones), a name of REGISTRY, or a checkpoint's path.

    Raises BadFile where they cannot be had, are of another network, or are not what was first loaded.
    """
    check_name(name, MATCHER)
    if name == "auto" or name in REGISTRY:
        return _chosen(REGISTRY[DEFAULT if name == "auto" else name], offline)
    path = Path(name)
    return Choice(path.stem, path, f"weights {path}: EfficientLoFTR by its tensors")


def _chosen(weights: Weights, offline: bool) -> Choice:
    path = fetch(weights, offline=offline)
    checked = "" if weights.sha256 is not None else f"; {held_to_first_load(path)}"
    return Choice(weights.name.removeprefix("eloftr-"), path, f"{weights.name} weights{checked}")


def load(
    name: str = "auto", *, device: str = "cpu", offline: bool = False, resize: int = 640, batch_size: int = 0
) -> EfficientLoFTRMatcher:
    """A ready matcher. See `choose` and EfficientLoFTRMatcher."""
    return load_matcher(choose(name, offline=offline), device=device, resize=resize, batch_size=batch_size)


def load_matcher(
    choice: Choice,
    *,
    device: str = "cpu",
    resize: int = 640,
    batch_size: int = 0,
    threshold: float | None = None,
) -> EfficientLoFTRMatcher:
    """The matcher with chosen weights; threshold: the least confidence, None for the network's own.

    Raises BadFile unless every tensor fits.
    """
    from sfm.matchers.efficient_loftr.matcher import EfficientLoFTRMatcher
    from sfm.matchers.efficient_loftr.model import EfficientLoFTR

    config, tensors = network_tensors(choice.path)
    if threshold is not None:
        config = replace(config, threshold=threshold)
    model = EfficientLoFTR(config)
    model.load_state_dict(tensors, strict=True)
    names = {"name": f"{MATCHER}-{choice.name}", "checksum": sha256_of(choice.path)}
    return EfficientLoFTRMatcher(model, **names, device=device, resize=resize, batch_size=batch_size)


def network_tensors(path: Path) -> tuple[EfficientLoFTRConfig, dict[str, Tensor]]:
    """Configuration, and tensors by the network's own names, of a checkpoint in any published form.

    Raises BadFile in one line for a file that is not one.
    """
    from sfm.matchers.efficient_loftr.naming import as_published, published_shapes, reparameterised

    state = as_published(read_tensors(path))
    try:
        config = config_of({key: tuple(value.shape) for key, value in state.items()})
    except ValueError as error:
        raise BadFile(
            f"{path}: is no EfficientLoFTR checkpoint ({error}); give one, e.g. eloftr_outdoor.ckpt"
        ) from None
    branches = "backbone.layer0.rbr_reparam.weight" not in state
    if (fault := _fault(published_shapes(config, branches=branches), state)) is not None:
        raise BadFile(f"{path}: does not fit the network ({fault}); give an EfficientLoFTR checkpoint")
    return config, reparameterised(state)


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> EfficientLoFTRConfig:
    """The network of these shapes by the authors' names. Raises ValueError where they show none."""
    d1, d2, d3 = (
        _rows(shapes, f"fine_preprocess.layer{part}.weight") for part in ("1_outconv2.3", "2_outconv2.3", "3_outconv")
    )
    first, second, third = (_num(shapes, f"backbone.layer{k}.") for k in (1, 2, 3))
    rounds = _num(shapes, "loftr_coarse.layers.") // 2
    return EfficientLoFTRConfig(dims=(d1, d2, d3), blocks=(first, second, third), layers=("self", "cross") * rounds)


def _rows(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    shape = shapes.get(name, ())
    if not shape or not shape[0]:
        raise ValueError(f"{name} is missing")
    return shape[0]


def _num(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many blocks or layers there are of a prefix: one more than the largest number after it."""
    after = (key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix))
    num = max((int(part) + 1 for part in after if part.isdecimal() and len(part) < 4), default=0)
    if not 0 < num <= MOST_BLOCKS:
        raise ValueError(f"{num} of {prefix}*")
    return num


def _fault(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> str | None:
    """In words, how tensors differ from the expected names and shapes; None where they do not."""
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = sorted(key for key in expected.keys() & state.keys() if tuple(state[key].shape) != expected[key])
    parts = [
        f"{len(names)} tensors {word}, first {names[0]}"
        for word, names in (("missing", missing), ("too many", surplus), ("of wrong shape", wrong))
        if names
    ]
    strange = next((key for key, value in state.items() if not value.is_floating_point()), None)
    if not parts and strange is not None:
        parts.append(f"{strange} is of type {state[strange].dtype}")
    return "; ".join(parts) or None
