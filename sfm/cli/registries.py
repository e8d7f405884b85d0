"""Where the choices of an option come from, and its help with them. Each is read when a parser is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sfm.registry import Registry


def matchers() -> Registry[Any]:
    """What `--matcher` chooses from."""
    from sfm.matchers.registry import MATCHERS

    return MATCHERS


def pair_selectors() -> Registry[Any]:
    """What `--pairs` chooses from."""
    from sfm.pairs.registry import PAIR_SELECTORS

    return PAIR_SELECTORS


def mappers() -> Registry[Any]:
    """What `--mapper` chooses from."""
    from sfm.mapping.registry import MAPPERS

    return MAPPERS


def exports() -> Registry[Any]:
    """Formats of `loftr-sfm export`."""
    from sfm.export.registry import EXPORTS

    return EXPORTS


# What an option of sfm.options calls its `registry`, and the registry.
REGISTRIES: Mapping[str, Callable[[], Registry[Any]]] = MappingProxyType(
    {"matcher": matchers, "pairs": pair_selectors, "mapper": mappers, "format": exports}
)
