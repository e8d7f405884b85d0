"""Untrusted files: text, JSON and arrays, read within bounds."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadFile

MAX_JSON = 1 << 26  # characters of a file that one run wrote
MAX_LINE = 1 << 16  # characters
NUMBER = "a number, no larger than makes sense"
_MAX_NUMBER = 1e18
_MAX_HOLES = 1 << 26  # bytes of a file that need not be on the disk


def refuse_holes(*paths: Path) -> None:
    """BadFile where one is no file, or says that it is very much longer than what the disk holds of it."""
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise BadFile(f"{path}: cannot be read ({error.strerror}); check the path") from None
        if not stat.S_ISREG(found.st_mode):
            raise BadFile(f"{path}: is no file; give the file itself")
        held = getattr(found, "st_blocks", 0) * 512  # 0: some file systems do not say
        if held and found.st_size > _MAX_HOLES + 100 * held:
            raise BadFile(f"{path}: {found.st_size} bytes, of which the disk holds {held}; copy it again")


def read_json(path: Path, *, limit: int = MAX_JSON) -> Any:
    """The plain values in a file. OSError where it cannot be read, ValueError where it is damaged or too long."""
    with path.open(encoding="utf-8") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"longer than {limit} characters")
    return parse_json(text)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that numpy.savez wrote, by name. OSError, ValueError or BadZipFile where that is not what it is."""
    with ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("compressed, as savez is not")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def parse_json(text: str) -> Any:
    """The plain values in a text; ValueError for whatever is wrong with it, nesting without end among it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def has_shape(value: Any, shape: Any) -> bool:
    """Whether plain values are as a shape says: a type; NUMBER; [shape of all items]; {name: shape of a member that
    must be there}; {str: shape of all members}."""
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(item, shape[0]) for item in value)
    if isinstance(shape, dict) and isinstance(value, dict):
        if str in shape:
            return all(has_shape(own, shape[str]) for own in value.values())
        return all(name in value and has_shape(value[name], own) for name, own in shape.items())
    if shape == NUMBER:
        return isinstance(value, int | float) and not abs(value) >= _MAX_NUMBER
    return isinstance(shape, type) and isinstance(value, shape)


def bounded_lines(path: Path, what: str, *, limit: int = MAX_LINE) -> Iterator[str]:
    """The lines of a text file one by one. what: it should be, for messages. Raises BadFile, also for endless lines."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            while line := file.readline(limit):
                if len(line) == limit:
                    raise BadFile(f"{path}: a line is longer than {limit} characters; give {what}")
                yield line
    except UnicodeDecodeError:
        raise BadFile(f"{path}: not a text file; give {what}") from None
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror}); give {what}") from None
