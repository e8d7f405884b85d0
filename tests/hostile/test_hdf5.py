"""Feature databases and hloc's files that lie, lead elsewhere, or contradict themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.support.hostile_readers import NAMES
from tests.support.read_limits import REFUSED

Change = Callable[[h5py.File], object]
HUGE = 10**12
SECRET = "/etc/passwd"
LATEST = ("v108", "latest")


def put(path: str, value: Any, **how: Any) -> Change:
    """A dataset in another one's place."""

    def change(file: h5py.File) -> None:
        if path in file:
            del file[path]
        file.create_dataset(path, data=value, **how)

    return change


def declare(path: str, shape: tuple[int, ...], dtype: Any, **how: Any) -> Change:
    """A dataset that declares a shape and holds nothing."""

    def change(file: h5py.File) -> None:
        del file[path]
        file.create_dataset(path, shape=shape, dtype=dtype, **how)

    return change


def bomb(path: str, shape: tuple[int, ...], dtype: str) -> Change:
    """Zeros, which deflate makes a thousandth of."""
    return lambda file: put(path, np.zeros(shape, dtype), chunks=True, compression="gzip", shuffle=True)(file)


def link(path: str, target: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[path]
        file[path] = target

    return change


def stored_outside(path: str, shape: tuple[int, ...], dtype: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[path]
        file.create_dataset(path, shape=shape, dtype=dtype, external=[(SECRET, 0, h5py.h5f.UNLIMITED)])

    return change


def virtual(path: str, shape: tuple[int, ...], dtype: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[path]
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(SECRET, "x", shape)
        file.create_virtual_dataset(path, layout)

    return change


def replaced(path: str, at: Any, value: Any) -> Change:
    def change(file: h5py.File) -> None:
        values = file[path][()]
        values[at] = value
        file[path][...] = values

    return change


def attribute(stage: str, text: Any) -> Change:
    def change(file: h5py.File) -> None:
        file["stages"].attrs[stage] = text

    return change


def no_numbers(path: str, dtype: Any) -> Change:
    """A column of what are no numbers."""

    def change(file: h5py.File) -> None:
        shape = file[path].shape
        declare(path, shape, dtype)(file)

    return change


def ring(file: h5py.File) -> None:
    file["keypoints"]["again"] = file["keypoints"]


OUTSIDE = (  # ways to lead elsewhere
    ("a soft link", link, h5py.SoftLink("/images/size")),
    ("a link to itself", link, None),
    ("an external link", link, h5py.ExternalLink(SECRET, "/x")),
)
XY, SCORE = "keypoints/xy", "keypoints/score"
DATABASE: dict[str, Change] = {
    **{
        f"{path} is {what}": how(path, h5py.SoftLink(f"/{path}") if target is None else target)
        for path in (XY, "images", "stages")
        for what, how, target in OUTSIDE
    },
    "rows without end": declare(XY, (HUGE, 2), "f4"),
    "rows without end in chunks": declare(XY, (HUGE, 2), "f4", chunks=(4096, 2), compression="gzip"),
    "rows of a fill value": declare("keypoints/offsets", (HUGE,), "i8", chunks=(1024,), fillvalue=7),
    "one huge chunk": declare(XY, (24, 2), "f4", chunks=(1 << 28, 2), maxshape=(None, 2), compression="gzip"),
    "a bomb": bomb(XY, (9_000_000, 2), "f4"),
    "stored in another file": stored_outside(XY, (24, 2), "f4"),
    "a virtual dataset": virtual(XY, (24, 2), "f4"),
    "a filter that may be anything": put(XY, np.zeros((24, 2), "f4"), chunks=(24, 2), scaleoffset=2),
    "doubles": put(XY, np.zeros((24, 2))),
    "big-endian": put(XY, np.zeros((24, 2), ">f4")),
    "one dimension too few": put(XY, np.zeros(48, "f4")),
    "objects": no_numbers(XY, h5py.ref_dtype),
    "lists": no_numbers(SCORE, h5py.vlen_dtype(np.float32)),
    "a scalar": put(SCORE, np.float32(1)),
    "nothing": put(SCORE, h5py.Empty("f4")),
    "a group in a dataset's place": lambda file: (file.pop(SCORE), file.create_group(SCORE)),
    "a dataset in a group's place": put("keypoints", np.zeros(3)),
    "fewer scores than keypoints": put(SCORE, np.zeros(23, "f4")),
    "nan": replaced(XY, (0, 0), np.nan),
    "infinity": replaced(SCORE, 0, np.inf),
    "offsets that fall": replaced("keypoints/offsets", 1, 20),
    "offsets below zero": replaced("keypoints/offsets", 1, -8),
    "offsets beyond": replaced("keypoints/offsets", 3, 10**9),
    "a pair of no image": replaced("pairs/image_idx", (0, 0), 2**32 - 1),
    "a pair of one image": replaced("pairs/image_idx", (0, 0), 1),
    "a match of no keypoint": replaced("keypoint_matches/indices", (0, 0), 2**32 - 1),
    "matches of no verified pair": replaced("keypoint_matches/image_idx", (0, 1), 2),
    "a track of no image": replaced("tracks/image_idx", 0, 2**31),
    "a track of no keypoint": replaced("tracks/keypoint_idx", 0, 8),
    "a track of one": put("tracks/offsets", np.array([0, 1, 2])),
    "an inlier of no match": replaced("two_view/inliers", 5, 8),
    "a geometry of no kind": replaced("two_view/kind", 0, "__class__"),
    "a rotation of infinity": replaced("two_view/cam1_from_cam0", (0, 0, 0), np.inf),
    "a grid of infinity": replaced("grids/grid", (0, 0), np.inf),
    "matches beyond": replaced("matches/index", (0, 4), 10**12),
    "matches from below": replaced("matches/index", (0, 3), -1),
    "matches of no image": replaced("matches/index", (0, 1), 99),
    "a name that climbs": replaced("images/name", 0, "../../x"),
    "a name from the root": replaced("images/name", 0, "/etc/x"),
    "a name twice": replaced("images/name", 0, "b/c.jpg"),
    "an image without pixels": replaced("images/size", (0, 0), 0),
    "an image of less than none": replaced("images/size", (0, 1), -5),
    "a camera of no model": replaced("images/camera_model", 0, "__init__"),
    "a camera of few parameters": replaced("images/camera_model", 0, "OPENCV"),
    "a focal length of nan": replaced("images/params", 0, np.nan),
    "text that is none": put("images/name", np.array([b"\xff\xfe", b"b", b"c"], object), dtype=h5py.string_dtype()),
    "text of fixed length": put("images/name", np.array([b"a", b"b", b"c"])),
    "a summary that is no JSON": attribute("images", "["),
    "a summary without end": attribute("images", "[" * 60_000),
    "a summary that is a list": attribute("images", "[]"),
    "a summary of other members": attribute("images", json.dumps({"summary": {"stage": "x", "counts": 3}})),
    "a summary of more members": attribute("images", json.dumps({"summary": {"__class__": 3}})),
    "counts that are text": attribute(
        "images", json.dumps({"summary": {"stage": "x", "counts": {"n": "x"}, "seconds": 1, "skipped": []}})
    ),
    "a provenance that is text": attribute("images", json.dumps({"provenance": "x", "summary": {}})),
    "another program": lambda file: file.attrs.update({"format": "x"}),
    "another schema": lambda file: file.attrs.update({"schema": [1, 2]}),
    "a schema of objects": lambda file: file.attrs.create("schema", file.ref, dtype=h5py.ref_dtype),
}


@pytest.mark.parametrize("case", DATABASE)
def test_databases_that_lie_are_refused(case: str, whole: Callable[[str], Path], said: Callable[[str], str]) -> None:
    with h5py.File(whole("database") / "features.h5", "r+", libver=LATEST) as file:
        DATABASE[case](file)
    assert said("database") == REFUSED


def test_a_group_in_itself_does_not_hang(whole: Callable[[str], Path], said: Callable[[str], str]) -> None:
    with h5py.File(whole("database") / "features.h5", "r+", libver=LATEST) as file:
        ring(file)
    assert said("database") in ("read", REFUSED)


KEYPOINTS, MATCHES = "a.jpg/keypoints", f"{NAMES[0]}/b-c.jpg/matches0"
HLOC: dict[str, tuple[str, Change]] = {
    **{
        f"keypoints are {what}": (
            "features",
            how(KEYPOINTS, h5py.SoftLink(f"/{KEYPOINTS}") if target is None else target),
        )
        for what, how, target in OUTSIDE
    },
    **{
        f"matches are {what}": ("matches", how(MATCHES, h5py.SoftLink(f"/{MATCHES}") if target is None else target))
        for what, how, target in OUTSIDE
    },
    "rows without end": ("features", declare(KEYPOINTS, (HUGE, 2), "f2")),
    "a bomb": ("features", bomb(KEYPOINTS, (20_000_000, 2), "f2")),
    "stored in another file": ("features", stored_outside(KEYPOINTS, (8, 2), "f2")),
    "a virtual dataset": ("matches", virtual(MATCHES, (8,), "i2")),
    "lists": (
        "features",
        no_numbers(KEYPOINTS, h5py.vlen_dtype(np.float32)),
    ),
    "text": ("features", put(KEYPOINTS, np.array(["1"] * 8, object), dtype=h5py.string_dtype())),
    "nan": ("features", replaced(KEYPOINTS, (0, 0), np.nan)),
    "infinity": ("features", replaced(KEYPOINTS, (0, 0), np.inf)),
    "three numbers": ("features", put(KEYPOINTS, np.zeros((8, 3), "f2"))),
    "another size": ("features", put("a.jpg/image_size", np.array([1, 1]))),
    "no such image": ("features", put("../../x/keypoints", np.zeros((8, 2), "f2"))),
    "keypoint beyond": ("matches", replaced(MATCHES, 0, 8)),
    "keypoint below": ("matches", replaced(MATCHES, 0, -2)),
    "too many matches": ("matches", put(MATCHES, np.full(9, -1, "i2"))),
    "matches of floats": ("matches", put(MATCHES, np.zeros(8))),
    "matches without end": ("matches", declare(MATCHES, (HUGE,), "i2")),
    "no scores": ("matches", lambda file: file.pop("a.jpg/b-c.jpg/matching_scores0")),
    "matches with itself": ("matches", put("a.jpg/a.jpg/matches0", np.zeros(8, "i2"))),
    "matches of no image": ("matches", put("a.jpg/..-..-x/matches0", np.zeros(8, "i2"))),
    "a dataset for an image": ("matches", put("x", np.zeros(8, "i2"))),
}


@pytest.mark.parametrize("case", HLOC)
def test_hloc_files_that_lie_are_refused(case: str, whole: Callable[[str], Path], said: Callable[[str], str]) -> None:
    stem, change = HLOC[case]
    with h5py.File(whole("hloc") / f"{stem}.h5", "r+") as file:
        change(file)
    assert said("hloc") == REFUSED


@pytest.mark.parametrize("name", ["database", "hloc"])
def test_a_cut_file_is_refused(name: str, whole: Callable[[str], Path], said: Callable[[str], str]) -> None:
    path = whole(name) / "features.h5"
    data = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(data[: len(data) * tenth // 10])
        assert said(name) == REFUSED


@pytest.mark.parametrize("name", ["database", "hloc"])
def test_a_file_of_holes_takes_no_memory(name: str, whole: Callable[[str], Path], said: Callable[[str], str]) -> None:
    path = whole(name) / "features.h5"
    with h5py.File(path, "r+", libver=LATEST) as file:
        at = "keypoints/xy" if name == "database" else KEYPOINTS
        del file[at]
        space = h5py.h5s.create_simple((1 << 36, 2))
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        h5py.h5d.create(file.id, at.encode(), h5py.h5t.IEEE_F32LE, space, layout)
    assert path.stat().st_size > 1 << 36
    assert said(name) == REFUSED


@pytest.mark.parametrize("name", ["database", "hloc"])
def test_a_pipe_does_not_hang(name: str, whole: Callable[[str], Path], said: Callable[[str], str]) -> None:
    path = whole(name) / "features.h5"
    path.unlink()
    os.mkfifo(path)
    assert said(name) == REFUSED
