"""COLMAP models that lie, are cut short, or refer to what is not there."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sfm.colmap.model_reader import read_reconstruction
from tests.support.hostile_readers import MODEL, NAMES
from tests.support.read_limits import READ, REFUSED, attempt, guarded

Change = Callable[[bytes], bytes]
HUGE = 10**12
POINT = 8  # where the first point begins; its track at + 51
FRAME = 8  # id, rig, pose, number of data


@pytest.fixture
def binary(whole: Callable[[str], Path]) -> Path:
    return whole("model-binary")


@pytest.fixture
def text(whole: Callable[[str], Path]) -> Path:
    return whole("model-text")


def put(layout: str, at: int, *values: float) -> Change:
    def change(data: bytes) -> bytes:
        return data[:at] + struct.pack(layout, *values) + data[at + struct.calcsize(layout) :]

    return change


def after(name: str, layout: str, offset: int, *values: float) -> Change:
    """Values so many bytes behind an image's name."""
    return lambda data: put(layout, data.index(name.encode() + b"\0") + len(name) + 1 + offset, *values)(data)


def word(old: str, new: str) -> Change:
    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return change


BINARY: dict[str, tuple[str, Change]] = {
    **{f"{stem} declares {num}": (stem, put("<Q", 0, num)) for stem in MODEL for num in (HUGE, 2**64 - 1, 13, 1)},
    **{f"{stem} is longer": (stem, lambda data: data + b"\0") for stem in MODEL},
    "keypoints without end": ("images", after(NAMES[0], "<Q", 0, HUGE)),
    "name without end": ("images", lambda data: data.replace(b"\0", b"x")),
    "observations without end": ("points3D", put("<Q", POINT + 43, HUGE)),
    "observations that wrap around": ("points3D", put("<Q", POINT + 43, 2**61)),
    "sensors without end": ("rigs", put("<I", 12, 2**32 - 1)),
    "data without end": ("frames", put("<I", FRAME + 64, 2**32 - 1)),
    "observation in no image": ("points3D", put("<I", POINT + 51, 999)),
    "observation of no keypoint": ("points3D", put("<I", POINT + 55, 999)),
    "keypoint of no point": ("images", after(NAMES[0], "<Q", 8 + 24 * 11 + 16, 999)),
    "point twice": ("points3D", put("<Q", POINT, 2)),
    "image twice": ("images", put("<I", 8, 2)),
    "name twice": ("images", word("f.jpg", "a.jpg")),
    "frame of no rig": ("frames", put("<I", FRAME + 4, 999)),
    "rig of no camera": ("rigs", put("<I", 20, 999)),
    "pose of nan": ("frames", put("<d", FRAME + 40, float("nan"))),
    "rotation of nothing": ("frames", put("<4d", FRAME + 8, 0, 0, 0, 0)),
    "camera of no model": ("cameras", put("<i", 12, 99)),
    "camera of a negative model": ("cameras", put("<i", 12, -1)),
    "camera without pixels": ("cameras", put("<Q", 16, 0)),
    "camera of endless pixels": ("cameras", put("<Q", 16, 2**63)),
    "focal length of nan": ("cameras", put("<d", 32, float("nan"))),
}


@pytest.mark.parametrize("case", BINARY)
def test_binary_models_that_lie_are_refused(case: str, binary: Path, said: Callable[[str], str]) -> None:
    stem, change = BINARY[case]
    path = binary / f"{stem}.bin"
    path.write_bytes(change(path.read_bytes()))
    assert said("model-binary") == REFUSED


TEXT: dict[str, tuple[str, Change]] = {
    "image of no camera": ("images", lambda data: data.replace(b" 1 a.jpg", b" 99 a.jpg")),
    "camera of no model": ("cameras", word("SIMPLE_RADIAL", "NO_MODEL")),
    "camera of few values": ("cameras", word(" 0.01", "")),
    "camera of nan": ("cameras", word(" 300", " nan")),
    "camera without pixels": ("cameras", word(" 320", " 0")),
    "pose of nan": ("frames", lambda data: data.replace(b" 0.", b" nan")),
    "name twice": ("images", word("f.jpg", "a.jpg")),
    "keypoint of no point": ("images", word(" -1", " 999")),
    "not text": ("points3D", lambda data: bytes(range(256)) * 64),
}


@pytest.mark.parametrize("case", TEXT)
def test_text_models_that_lie_are_refused(case: str, text: Path, said: Callable[[str], str]) -> None:
    stem, change = TEXT[case]
    path = text / f"{stem}.txt"
    path.write_bytes(change(path.read_bytes()))
    assert said("model-text") == REFUSED


@pytest.mark.parametrize("stem", MODEL)
def test_a_cut_binary_file_is_refused_wherever_it_is_cut(stem: str, binary: Path) -> None:
    path = binary / f"{stem}.bin"
    assert guarded(lambda: cuts(path)) == " ".join([REFUSED] * 11)


@pytest.mark.parametrize("stem", MODEL)
def test_a_cut_text_file_is_refused_or_read(stem: str, text: Path) -> None:
    assert set(guarded(lambda: cuts(text / f"{stem}.txt")).split()) <= {READ, REFUSED}


def cuts(path: Path) -> str:
    """What reading says of a file without its last byte, and cut at every tenth."""
    whole = path.read_bytes()
    answers = []
    for length in (len(whole) - 1, *(len(whole) * tenth // 10 for tenth in range(10))):
        path.write_bytes(whole[:length])
        answers.append(attempt(read_reconstruction, path.parent))
    return " ".join(answers)


def test_a_file_of_holes_takes_no_memory(binary: Path, said: Callable[[str], str]) -> None:
    with (binary / "points3D.bin").open("r+b") as file:
        file.truncate(1 << 42)
        file.write(struct.pack("<Q", 1 << 35))
    assert said("model-binary") == REFUSED


@pytest.mark.parametrize("stem", ["images", "rigs"])
def test_a_pipe_or_a_device_does_not_hang(stem: str, binary: Path, said: Callable[[str], str]) -> None:
    path = binary / f"{stem}.bin"
    path.unlink()
    os.mkfifo(path) if stem == "rigs" else path.symlink_to("/dev/zero")
    assert said("model-binary") == REFUSED


@pytest.mark.parametrize("name", ["../x.jpg", "/tmp/x.jpg", "a/../../x", "..\\x.jpg", "C:x.jpg", "x\n.jpg"])
def test_no_export_of_names_that_lead_out(name: str, binary: Path, said: Callable[[str], str]) -> None:
    path = binary / "images.bin"
    path.write_bytes(path.read_bytes().replace(b"a.jpg\0", name.encode() + b"\0"))
    before = set(binary.parent.rglob("x*"))  # of other tests, whose folders lie beside
    assert said("export") == REFUSED
    assert set(binary.parent.rglob("x*")) == before
