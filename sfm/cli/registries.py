"""Where the choices of an option come from, and its help with them. Each is read when a parser is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sfm.registry import Registry


def exports() -> Registry[Any]:
    """Formats of `loftr-sfm export`."""
    from sfm.export.registry import EXPORTS

    return EXPORTS


def mappers() -> Registry[Any]:
    """What `--mapper` chooses from."""
    from sfm.mapping.registry import MAPPERS

    return MAPPERS


# What an option of sfm.options calls its `registry`, and the registry.
REGISTRIES: Mapping[str, Callable[[], Registry[Any]]] = MappingProxyType({"format": exports, "mapper": mappers})
