"""From a name or a file to tensors and to a matcher.

No checkpoint executes code: pickles are read with weights_only, safetensors hold no code at all.
Loading is strict, and what is wrong with a file is said in one line that names it.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from sfm.errors import BadFile, SfMError, one_line
from sfm.matchers.loftr.config import CONFIGS, LoFTRConfig
from sfm.weights.download import MAX_BYTES, fetch, find, sha256_of
from sfm.weights.first_load import held_to_first_load
from sfm.weights.registry import REGISTRY, Weights, by_checksum, check_name

if TYPE_CHECKING:
    from torch import Tensor

    from sfm.matchers.loftr.matcher import LoFTRMatcher

_AGAIN = "download or copy it again"
_CORRECTED = ("indoor_ds_new", "minima")  # in the names of files that were trained with the corrected positions


@dataclass(frozen=True, slots=True)
class Choice:
    """The weights of a run. name: for people, e.g. "outdoor". reason: the one line that the run prints."""

    name: str
    path: Path
    config: LoFTRConfig
    reason: str


def choose(name: str, *, device: str, offline: bool = False, on_cpu: str = "compact") -> Choice:
    """The weights that `--weights NAME` means on this device ("cpu", "cuda", "cuda:1").

    name: "auto", a key of REGISTRY, or the path of a checkpoint. Under "auto" a CUDA device gets
    the official outdoor weights when they are cached or can be downloaded, everything else `on_cpu`, some
    of the weights that come with the package. Raises BadFile when explicitly named weights cannot be had.
    """
    if name == "auto":
        return _choose_auto(device, offline, on_cpu)
    if name in REGISTRY and REGISTRY[name].matcher == "loftr":
        return _chosen(REGISTRY[name], f"{name} weights, as asked for", offline)
    return _choose_file(Path(name))


def load(
    name: str = "auto", *, device: str = "cpu", offline: bool = False, resize: int = 640, batch_size: int = 0
) -> LoFTRMatcher:
    """A ready matcher: `weights.load("outdoor", device="cuda")`. See `choose` and LoFTRMatcher."""
    return load_matcher(
        choose(name, device=device, offline=offline), device=device, resize=resize, batch_size=batch_size
    )


def load_matcher(choice: Choice, *, device: str = "cpu", resize: int = 640, batch_size: int = 0) -> LoFTRMatcher:
    """The matcher with chosen weights. BadFile unless every tensor fits the network."""
    import torch

    from sfm.matchers.loftr.matcher import LoFTRMatcher
    from sfm.matchers.loftr.model import LoFTR

    config, tensors, sha256 = load_state_dict(choice)
    with torch.device("meta"):  # a file may declare a network that takes all memory
        model = LoFTR(config)
    if (fault := mismatch(model.state_dict(), tensors)) is not None:
        raise BadFile(f"{choice.path}: does not fit the network ({fault}); give a LoFTR checkpoint")
    model = LoFTR(config)
    model.load_state_dict(tensors, strict=True)
    return LoFTRMatcher(
        model, name=f"loftr-{choice.name}", checksum=sha256, device=device, resize=resize, batch_size=batch_size
    )


def load_state_dict(choice: Choice) -> tuple[LoFTRConfig, dict[str, Tensor], str]:
    """Configuration, tensors by LoFTR's own names (on the CPU), and the file's hex SHA-256."""
    return choice.config, read_tensors(choice.path), sha256_of(choice.path)


def mismatch(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """In words, how the given tensors differ from the expected in names or shapes; None if they do not."""
    missing, surplus = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    wrong = sorted(k for k in expected.keys() & given.keys() if expected[k].shape != given[k].shape)
    parts = [
        f"{len(names)} tensors {word}, first {names[0]}"
        for word, names in (("missing", missing), ("too many", surplus))
        if names
    ]
    if wrong:
        shapes = f"{tuple(given[wrong[0]].shape)} instead of {tuple(expected[wrong[0]].shape)}"
        parts.append(f"{len(wrong)} of wrong shape, first {wrong[0]} {shapes}")
    return "; ".join(parts) or None


def _chosen(weights: Weights, reason: str, offline: bool) -> Choice:
    path = fetch(weights, offline=offline)
    if weights.sha256 is None and weights.embedded is None:
        reason += f"; {held_to_first_load(path)}"
    return Choice(weights.name, path, CONFIGS[weights.config], reason)


def _choose_auto(device: str, offline: bool, on_cpu: str) -> Choice:
    ours = REGISTRY[on_cpu]
    if not device.startswith("cuda"):
        return _chosen(ours, f"{on_cpu} weights, made for the {device.upper()}", offline)
    try:
        cached = find(REGISTRY["outdoor"]) is not None
        how = "found in the cache" if cached else "downloaded"
        return _chosen(REGISTRY["outdoor"], f"official outdoor weights ({how}), since a GPU is used", offline)
    except SfMError as error:
        return _chosen(ours, f"{on_cpu} weights, since the official ones are not at hand: {error}", offline)


def _choose_file(path: Path) -> Choice:
    check_name(str(path))
    _bound_size(path)
    known = by_checksum(sha256_of(path))
    if known is not None and known.matcher == "loftr":
        config, why = CONFIGS[known.config], f"known by its checksum as the official {known.name}"
    elif (stored := _stored_config(path)) is not None:
        config, why = stored, "configuration read from the file"
    else:
        config, why = _guessed_config(path)
    return Choice(path.stem, path, config, f"weights {path}: {why}")


def _stored_config(path: Path) -> LoFTRConfig | None:
    """The configuration in the header of our own safetensors files; None where there is none."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    _bound_size(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
        return None if text is None else _config_from(json.loads(text))
    except (OSError, SafetensorError) as error:
        raise BadFile(f"{path}: {_not_safetensors(path, error)}; {_AGAIN}") from error
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise BadFile(f"{path}: its header holds no valid LoFTR configuration ({error}); {_AGAIN}") from error


def _config_from(values: Any) -> LoFTRConfig:
    """A configuration from parsed JSON; ValueError on unknown fields and on values outside sane bounds."""
    hints = get_type_hints(LoFTRConfig)
    if not isinstance(values, dict) or not values.keys() <= hints.keys():
        raise ValueError("unknown fields")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    wrong = next((key for key, value in values.items() if not _fits(value, hints[key])), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is {str(values[wrong])[:40]}")
    return LoFTRConfig(**values)


def _fits(value: Any, hint: Any) -> bool:
    """True where a plain value is of an annotated type; sizes are bounded, since files are not trusted."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in args
    if origin in (Union, UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is tuple:
        sized = isinstance(value, tuple) and (len(value) <= 64 if args[-1] is ... else len(value) == len(args))
        return sized and all(_fits(v, args[0]) for v in value)
    if hint is float:
        return type(value) in (int, float) and abs(value) < 1e6
    return type(value) is hint and not (hint is int and not 0 < value <= 4096)


def _guessed_config(path: Path) -> tuple[LoFTRConfig, str]:
    """Configuration by the shapes in a file of unknown checksum, and what had to be assumed."""
    tensors = read_tensors(path)
    if "backbone.layer3_outconv.weight" not in tensors:
        return CONFIGS["compact"], "unknown checksum; compact network by its tensors"
    corrected = next((name for name in _CORRECTED if name in path.name), None)
    config = CONFIGS["outdoor"] if corrected is None else replace(CONFIGS["outdoor"], temp_bug_fix=True)
    kind = "full LoFTR"
    if any(key.endswith("bin_score") for key in tensors):
        config, kind = replace(config, match_type="sinkhorn"), "full LoFTR with optimal transport"
    formula = f"original (no {' or '.join(_CORRECTED)} in its name)"
    if corrected is not None:
        formula = f"corrected ({corrected} in its name)"
    return config, f"unknown checksum; {kind} by its tensors, position encoding assumed to be the {formula}"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file or a torch checkpoint by LoFTR's own names, never executing code.

    Takes a bare state dict or one under the key state_dict; a leading "matcher." of names is dropped.
    """
    _bound_size(path)
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"  # a torch checkpoint, whatever its name
    state = _read_safetensors(path) if path.suffix == ".safetensors" and not is_zip else _read_pickle(path)
    return {key.removeprefix("matcher."): value for key, value in state.items()}


def _bound_size(path: Path) -> None:
    """BadFile for an empty, web or huge file, before anything parses it."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadFile(f"{path}: {size} bytes, larger than any LoFTR checkpoint; give the right file")
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    if not head:
        raise BadFile(f"{path}: empty; {_AGAIN}")
    if head.startswith(b"<"):
        raise BadFile(f"{path}: a web page, not a checkpoint; download the file itself, not the page that shows it")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (OSError, SafetensorError) as error:
        raise BadFile(f"{path}: {_not_safetensors(path, error)}; {_AGAIN}") from error


def _not_safetensors(path: Path, error: Exception) -> str:
    return f"truncated or not a safetensors file ({one_line(error, 120)})"


def _read_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    _bound_zip(path)
    try:
        with path.open("rb") as file:  # of a path, torch looks at the name
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadFile(
            f"{path}: not a checkpoint of plain tensors, refused because reading it could run code; "
            "give an official checkpoint or a .safetensors file"
        ) from error
    except Exception as error:  # torch raises nearly anything on broken files
        raise BadFile(f"{path}: not a readable checkpoint ({one_line(error, 120)}); {_AGAIN}") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not state or not all(_is_item(k, v) for k, v in state.items()):
        raise BadFile(f"{path}: holds no state dict of tensors; give a LoFTR checkpoint")
    return state


def _is_item(key: object, value: object) -> bool:
    import torch

    return isinstance(key, str) and isinstance(value, torch.Tensor)


def _bound_zip(path: Path) -> None:
    """BadFile when a zip checkpoint is truncated or would unpack to more than MAX_BYTES."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadFile(f"{path}: truncated or damaged checkpoint ({one_line(error, 120)}); {_AGAIN}") from error
    if total > MAX_BYTES:
        raise BadFile(f"{path}: would unpack to {total} bytes, more than any LoFTR checkpoint; give the right file")
