"""Runs that are killed and carried on, judged against a run that nobody disturbed."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from sfm.storage.database import FeatureDatabase
from sfm.types import STAGE_NAMES, ImagePair
from tests.support import crash_scene
from tests.support.crash_zygote import Zygote

BATCH = 2  # pairs that become durable at once
ENDS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}
MATCH_FIELDS = ("points0", "points1", "confidence", "cells0", "cells1")


@dataclass(frozen=True, slots=True)
class State:
    """What a run left: files, matches, and the largest model."""

    files: frozenset[str]
    matches: dict[ImagePair, tuple[bytes, ...]]
    registered: frozenset[str]
    num_points3D: int
    poses: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Course:
    """Images and how a run over them is started."""

    images: Path
    arguments: tuple[str, ...]
    batch: int
    num_pairs: int
    real: bool = False

    def run(self, zygote: Zygote, out: Path, **how: object) -> dict:
        """One run of the program."""
        log, tally = out.with_suffix(".log"), out.with_suffix(".tally")
        more = {"batch": self.batch, "real": self.real, "log": log, "tally": tally}
        return zygote.run(self.images, out, *self.arguments, **{**more, **how})


def quick_course(folder: Path) -> Course:
    """Four images of a cloud, six pairs: half a second a run."""
    images = crash_scene.write_images(folder / "photos", 4)
    return Course(images, ("--no-report", *crash_scene.ARGUMENTS), BATCH, 6)


def state_of(out: Path) -> State:
    """What lies in a run's folder; fails where it cannot be read."""
    model = pycolmap.Reconstruction(out / "sparse" / "0")
    images = {image.name: image.cam_from_world().matrix() for image in model.images.values() if image.has_pose}
    files = frozenset(path.relative_to(out).as_posix() for path in out.rglob("*"))
    return State(files, matches_of(out), frozenset(images), model.num_points3D(), images)


def matches_of(out: Path) -> dict[ImagePair, tuple[bytes, ...]]:
    """The bits of all matches that are durable; none where the run had not come to write any."""
    if not (out / "features.h5").is_file():
        return {}
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        read = {pair: db.read_matches(pair) for pair in db.match_counts()}
    return {pair: tuple(getattr(m, field).tobytes() for field in MATCH_FIELDS) for pair, m in read.items()}


def same(state: State, whole: State, tolerance: float) -> None:
    """Same files, same bits of matches, same images in the model, and poses equal within mapping's randomness."""
    assert state.files == whole.files
    assert state.matches == whole.matches
    assert state.registered == whole.registered
    assert abs(state.num_points3D - whole.num_points3D) <= tolerance * whole.num_points3D
    for name, pose in relative(state).items():
        np.testing.assert_allclose(pose, relative(whole)[name], atol=max(tolerance, 1e-6))


def relative(state: State) -> dict[str, np.ndarray]:
    """Rotations of all images against the first."""
    first = state.poses[min(state.poses)][:, :3]
    return {name: pose[:, :3] @ first.T for name, pose in state.poses.items()}


@dataclass(frozen=True, slots=True)
class Kill:
    """stage: the one that the kill fell into, "" where the run was done before.

    durable, repeated: pairs that are kept, and that were matched in vain. seconds: from the signal to the end.
    """

    stage: str
    durable: int
    repeated: int
    seconds: float


def killed_run(zygote: Zygote, course: Course, out: Path, whole: State, **kill: object) -> Kill:
    """A run that is killed as `kill` says. All that lies in its database is right, and lost is a batch at most."""
    tally = out.with_suffix(".tally")
    before = len(matches_of(out)), _size(tally)
    answer = course.run(zygote, out, **kill)
    assert answer["status"] in (0, ENDS[kill.get("signal", signal.SIGKILL)]), out.with_suffix(".log").read_text()
    durable = matches_of(out)
    assert durable.items() <= whole.matches.items()
    lost = (_size(tally) - before[1]) - (len(durable) - before[0])
    assert 0 <= lost <= course.batch
    stage = "" if answer["status"] == 0 else stage_of(out)
    return Kill(stage, len(durable), lost, answer["seconds_after_signal"])


def carried_on(zygote: Zygote, course: Course, out: Path, whole: State) -> None:
    """The last run, which nobody disturbs, ends as the one that nobody ever disturbed."""
    answer = course.run(zygote, out)
    assert answer["status"] == 0, out.with_suffix(".log").read_text()
    same(state_of(out), whole, 1e-3)


def stage_of(out: Path) -> str:
    """The stage that an ended run was in: the first that is not committed."""
    if not (out / "features.h5").is_file():
        return STAGE_NAMES[0]
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        return next((stage for stage in STAGE_NAMES if db.summary(stage) is None), "after all")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
