"""Typed columns in the groups of an HDF5 file, checked before anything is allocated.

A `Columns` is the schema of a group: column name -> (kind, dimensions). Kinds are numpy's ("f4",
"i8", ...) and "str" (variable-length UTF-8). A dimension is a number or a letter; equal letters are
equal counts within the group, "P+1" is one more than "P". A kind that ends in "?" is of a column that older files
lack.

Files may come from anywhere. Only plain datasets that live in the file itself are read: soft,
external and user-defined links, virtual and externally stored datasets are refused, and so are
unknown filters, and datasets that declare more than their stored bytes can hold (deflate never
shrinks more than 1032 to 1), or large ones that declare very much more than all of the file holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadFile, one_line

Columns = Mapping[str, tuple[str, tuple[int | str, ...]]]
Array = NDArray[Any]

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_LZF, h5py.h5z.FILTER_FLETCHER32}
_MAX_RATIO = 1100  # declared bytes per stored byte
_LARGE = 1 << 26  # bytes; beyond, a dataset declares at most
_LARGE_RATIO = 100  # so many for each byte of the file: constant columns of ours take 1 / 88 (LZF's limit)
_STRING_ROWS = 64  # strings that are read at once: rows may all refer to one long string
_MAX_CHUNK = 1 << 25  # bytes of numbers; HDF5 holds text in twice as many
_COMPRESSED_FROM = 4096  # bytes; smaller columns are stored plainly
CHUNK_ROWS = 4096


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Whatever h5py or a constructor says about broken contents becomes one line: BadFile(path, reason, remedy)."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, SystemError) as error:
        _reraise_interrupt(error)
        raise BadFile(f"{path}: damaged or not what it should be ({one_line(error)}); {remedy}") from error


def _reraise_interrupt(error: BaseException | None) -> None:
    """h5py hides Ctrl-C behind a SystemError where it hits while HDF5 calls our file object: bring it back."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            raise error
        error = error.__cause__ or error.__context__


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk or a folder that may not be written to becomes one line; what was committed before is safe."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, OverflowError, SystemError) as error:
        _reraise_interrupt(error)
        reason = _reason(error)
        raise BadFile(f"{path}: cannot be written ({reason}); free some space or choose another folder") from error


def _reason(error: Exception) -> str:
    """The system's message, which HDF5 wraps in many words."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    found = re.search("error message = '([^']*)'", text)
    return found[1] if found else text[:160]


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """The member that lives in this file, None where there is none; ValueError for a link to elsewhere."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name}: a link, not data")
    return group[name]


def subgroup(group: h5py.Group, name: str) -> h5py.Group | None:
    """A member that is a group; None where there is none."""
    member = child(group, name)
    if member is not None and not isinstance(member, h5py.Group):
        raise ValueError(f"{name}: not a group")
    return member


def check_no_links(file: h5py.Group, depth: int = 2) -> None:
    """ValueError where one of the file's groups, down to a depth, holds a link to elsewhere."""
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name}: a link, not data")
        if depth > 1 and isinstance(member := file[name], h5py.Group):
            check_no_links(member, depth - 1)


def checked(group: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset, plain, in this file and no larger than its stored bytes allow; ValueError otherwise."""
    dataset = child(group, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{name}: missing")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name}: stored elsewhere")
    plist = dataset.id.get_create_plist()
    if any(plist.get_filter(i)[0] not in _FILTERS for i in range(plist.get_nfilters())):
        raise ValueError(f"{name}: unknown filter")
    declared = dataset.size * dataset.dtype.itemsize
    if declared > _MAX_RATIO * dataset.id.get_storage_size():
        raise ValueError(f"{name}: declares {declared} bytes, more than it can hold")
    if declared > max(_LARGE, _LARGE_RATIO * dataset.file.id.get_filesize()):
        raise ValueError(f"{name}: declares {declared} bytes, suspiciously many for its file")
    if dataset.chunks and int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize > _MAX_CHUNK:
        raise ValueError(f"{name}: chunks of {dataset.chunks}")
    return dataset


def check_total(datasets: Sequence[h5py.Dataset]) -> None:
    """ValueError where datasets of one file that are all to be held declare very much more than the file holds."""
    declared = sum(dataset.size * dataset.dtype.itemsize for dataset in datasets)
    if datasets and declared > max(_LARGE, _LARGE_RATIO * datasets[0].file.id.get_filesize()):
        raise ValueError(f"{datasets[0].name} and others: declare {declared} bytes, more than the file can hold")


def _fits(dataset: h5py.Dataset, kind: str) -> bool:
    if kind == "str":
        info = h5py.check_string_dtype(dataset.dtype)
        return info is not None and info.length is None
    return bool(dataset.dtype == np.dtype(kind))


def column(
    group: h5py.Group, name: str, spec: tuple[str, tuple[int | str, ...]], counts: dict[str, int]
) -> h5py.Dataset:
    """The checked dataset of a column. `counts` holds the letters met so far and takes up new ones."""
    kind, dims = spec
    dataset = checked(group, name)
    if not _fits(dataset, kind) or dataset.ndim != len(dims):
        raise ValueError(f"{name}: {dataset.dtype} of shape {dataset.shape}, expected {kind} {dims}")
    for dim, size in zip(dims, dataset.shape, strict=True):
        letter, extra = (dim.removesuffix("+1"), dim.endswith("+1")) if isinstance(dim, str) else ("", False)
        expected = dim if isinstance(dim, int) else counts.setdefault(letter, size - extra) + extra
        if size != expected:
            raise ValueError(f"{name}: shape {dataset.shape}, expected {dims}")
    return dataset


def read_columns(group: h5py.Group, columns: Columns) -> dict[str, Array]:
    """All columns of a group, strings as str objects; ValueError where the group does not fit the schema."""
    counts: dict[str, int] = {}
    present = {
        name: (kind.removesuffix("?"), dims)
        for name, (kind, dims) in columns.items()
        if not kind.endswith("?") or name in group
    }
    datasets = {name: column(group, name, spec, counts) for name, spec in present.items()}
    return {name: _strings(d) if columns[name][0] == "str" else d[()] for name, d in datasets.items()}


def _strings(dataset: h5py.Dataset) -> Array:
    """All of a column of strings; ValueError where they are longer together than the file that holds them."""
    values: list[str] = []
    left = int(dataset.file.id.get_filesize())
    for start in range(0, len(dataset), _STRING_ROWS):
        rows = dataset.asstr()[start : start + _STRING_ROWS].tolist()
        left -= sum(map(len, rows))
        if left < 0:
            raise ValueError(f"{dataset.name}: more text than the file can hold")
        values += rows
    return np.array(values, dtype=object)


def write_columns(group: h5py.Group, columns: Columns, values: Mapping[str, Any]) -> None:
    """Write every column of the schema into an empty group."""
    for name, (kind, _) in columns.items():
        if kind == "str":
            group.create_dataset(name, data=np.asarray(values[name], dtype=object), dtype=h5py.string_dtype())
            continue
        array = np.asarray(values[name], dtype=kind.removesuffix("?"))
        layout = chunked(array.shape[1:]) if array.nbytes >= _COMPRESSED_FROM else {}
        group.create_dataset(name, data=array, **layout)


def chunked(trailing: tuple[int, ...]) -> dict[str, Any]:
    """Layout of a column that is large or grows: CHUNK_ROWS rows a chunk, shuffled and compressed."""
    return {"chunks": (CHUNK_ROWS, *trailing), "maxshape": (None, *trailing), "shuffle": True, "compression": "lzf"}


def check_offsets(offsets: Array, total: int, what: str) -> None:
    """ValueError unless the offsets rise from 0 to the number of rows."""
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
        raise ValueError(f"{what}: offsets do not rise from 0 to {total}")


def check_below(values: Array, limit: int, what: str) -> None:
    """ValueError unless all values are in [0, limit)."""
    if values.size and (int(values.min()) < 0 or int(values.max()) >= limit):
        raise ValueError(f"{what}: beyond {limit}")


def offsets_of(lengths: Any) -> Array:
    """(N + 1,) i64 start of each of N slices and the end of the last."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64), dtype=np.int64)]).astype(np.int64)
