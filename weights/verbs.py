"""What `loftr-sfm weights list | fetch | check` print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfm.errors import BadFile
from sfm.system.tables import aligned
from sfm.weights.download import cache_folder, fetch, find, sha256_of, state_of
from sfm.weights.registry import REGISTRY, Weights, by_checksum


def list_text() -> str:
    """All weights known by name, what they are for, and whether they are on this machine."""
    rows: list[tuple[str, str]] = []
    for w in REGISTRY.values():
        here = "on this machine" if find(w) else "not here"
        rows += [(w.name, w.purpose), ("", f"{_size(w)}, {w.licence}, {here}")]
    return f"{aligned(rows, 'll')}\ncache: {cache_folder()}"


def fetch_text(names: Sequence[str], *, offline: bool = False) -> str:
    """Downloads the named weights and says where they are; BadFile when one cannot be had."""
    return "\n".join(f"{name:<14} {fetch(_known(name), offline=offline)}" for name in names)


def check_text(names: Sequence[str] = ()) -> str:
    """State and checksum of named weights or of files; of everything in the registry when none is named."""
    return "\n".join(_check(name) for name in names or REGISTRY)


def _check(name: str) -> str:
    if name in REGISTRY:
        return f"{name:<14} {state_of(REGISTRY[name])}"
    digest = sha256_of(Path(name))
    known = by_checksum(digest)
    return f"{name}: {f'the official {known.name}' if known else 'unknown checksum'}, SHA-256 {digest}"


def _known(name: str) -> Weights:
    if name not in REGISTRY:
        raise BadFile(f"{name}: no weights of this name; known are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def _size(weights: Weights) -> str:
    size = weights.size
    if weights.embedded is not None and weights.embedded.is_file():
        size = weights.embedded.stat().st_size
    return f"{size / 1e6:.1f} MB" if size else "size not published"
