"""Pairs that an unfinished verification has done, in the feature database: groups `two_view.0`, `two_view.1`, ...

Each has the columns of `two_view`, and as attribute `key` the digest of what the verification depends on. They go
when it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py

from sfm.storage.hdf5_columns import Array, check_below, read_columns, subgroup, write_columns
from sfm.storage.schema import SCHEMA

_PREFIX = "two_view."


def append(file: h5py.File, values: Mapping[str, Any], key: str) -> None:
    """One part more; parts of another key are dropped."""
    drop(file, but=key)
    group = file.create_group(f"{_PREFIX}{len(_names(file))}")
    write_columns(group, SCHEMA["two_view"], values)
    group.attrs["key"] = key


def read(file: h5py.File, key: str, num_images: int) -> list[dict[str, Array]]:
    """Columns of all parts of this key; ValueError where they do not fit the schema or the images."""
    groups = [subgroup(file, name) for name in _names(file)]
    parts = [read_columns(g, SCHEMA["two_view"]) for g in groups if g is not None and g.attrs.get("key") == key]
    for part in parts:
        check_below(part["image_idx"], num_images, "two_view/image_idx")
    return parts


def drop(file: h5py.File, *, but: str | None = None) -> None:
    """Removes all parts, or those of other keys."""
    for name in _names(file):
        group = subgroup(file, name)
        if group is None or but is None or group.attrs.get("key") != but:
            del file[name]


def _names(file: h5py.File) -> list[str]:
    return sorted(name for name in file if name.startswith(_PREFIX))
