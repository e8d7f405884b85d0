"""Runs killed and interrupted at random moments, and what it costs that nothing is lost.

    python -m benchmarks.faults [--kills 500] [--real 50] [--interrupts 60] [--seed 0]

Kills: half of them before or in the middle of one of the run's writes, half at any time; --real of them while the
network matches, the others with a matcher that knows the scene. Every run is killed several times, each time further
on, and then carried on to its end, which must be that of a run that nobody disturbed. Interrupts: Ctrl-C at any time.
Cost: matches written as a run writes them, with the journal and as plain HDF5. Exit 1 where anything is not as
promised. Linux and macOS.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from benchmarks.measure import code_version, machine
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.storage.database import FeatureDatabase
from sfm.storage.match_table import MatchTable
from sfm.system.tables import aligned
from sfm.types import STAGE_NAMES, CameraPrior, ImagePair, ImageRecord, Matches
from tests.support import crash_trial, crash_zygote
from tests.support.crash_trial import Course, Kill, State

KILLS_A_RUN = 6
SOON_S = 2.0  # Ctrl-C ends within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500, help="runs that are killed")
    parser.add_argument("--real", type=int, default=50, help="how many of them with the network")
    parser.add_argument("--interrupts", type=int, default=60, help="runs that are interrupted, half with the network")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{machine()}; {code_version()}")
    rng = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with crash_zygote.zygote() as zygote:
            trials = Trials(zygote, folder, rng)
            trials.kill(crash_trial.quick_course(folder / "quick"), args.kills - args.real, "matcher that knows")
            trials.kill(real_course(folder / "real"), args.real, "network, 5 images")
            trials.interrupt(crash_trial.quick_course(folder / "quick2"), args.interrupts // 2, "matcher that knows")
            trials.interrupt(real_course(folder / "real2"), args.interrupts // 2, "network, 5 images")
        print(cost_table(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if trials.failures else 0)


def real_course(folder: Path, num: int = 5) -> Course:
    """Some of the demo's images, matched by the compact network: seconds a run."""
    copy_demo_scene(folder)
    images = folder / "images"
    for path in sorted(images.iterdir())[num:]:
        path.unlink()
    arguments = ("--weights", "compact", "--resize", "320", "--offline", "--seed", "0", "--device", "cpu")
    return Course(images, (*arguments, "--batch", "2", "--threads", "1"), 2, num * (num - 1) // 2, real=True)


class Trials:
    """Trials of runs, and what failed."""

    def __init__(self, zygote: crash_zygote.Zygote, folder: Path, rng: random.Random) -> None:
        self.failures: list[str] = []
        self._zygote, self._folder, self._rng = zygote, folder, rng

    def kill(self, course: Course, num: int, title: str) -> None:
        """Kills, and prints where they fell."""
        if num <= 0:
            return
        whole, points, seconds = self._undisturbed(course)
        kills: list[Kill] = []
        carried_on = failed = 0
        while len(kills) < num:
            found = self._chain(course, whole, self._moments(points, seconds, min(KILLS_A_RUN, num - len(kills))))
            carried_on, failed = carried_on + (found is not None), failed + (found is None)
            kills += [one for one in found or () if one.stage]
            if failed > 20:
                break
        print(f"\nkill -9, {title}: {len(kills)} kills, {carried_on} runs carried on to the same end, {failed} not")
        print(kill_table(kills), flush=True)

    def interrupt(self, course: Course, num: int, title: str) -> None:
        """Ctrl-C at any time, and prints how long it took."""
        if num <= 0:
            return
        whole, _, seconds = self._undisturbed(course)
        found: list[Kill] = []
        for _ in range(num):
            moment = {"after": "begun", "kill_after_s": self._rng.uniform(0.02, seconds), "signal": signal.SIGINT}
            found += [one for one in self._chain(course, whole, [moment]) or () if one.stage]
        late = [one for one in found if one.seconds >= SOON_S]
        self.failures += [f"{one.stage}: {one.seconds:.2f} s after Ctrl-C" for one in late]
        print(f"\nCtrl-C, {title}: {len(found)} runs in their course, {len(late)} ended after {SOON_S:.0f} s or later")
        print(interrupt_table(found), flush=True)

    def _undisturbed(self, course: Course) -> tuple[State, int, float]:
        out = self._folder / "whole"
        shutil.rmtree(out, ignore_errors=True)
        done = course.run(self._zygote, out)
        if done["status"] != 0:
            raise SystemExit(out.with_suffix(".log").read_text())
        return crash_trial.state_of(out), done["points"], done["seconds"]

    def _moments(self, points: int, seconds: float, num: int) -> Iterator[dict[str, object]]:
        for i in range(num):
            if i % 2:
                yield {"kill_after_s": self._rng.uniform(0.0, 2 * seconds / KILLS_A_RUN)}
            else:
                yield {"kill_at": self._rng.randrange(1, 2 * points // KILLS_A_RUN)}

    def _chain(self, course: Course, whole: State, moments: Iterable[dict[str, object]]) -> list[Kill] | None:
        """The kills of one run, which is carried on to its end; None where anything was not as promised."""
        out = self._folder / "killed"
        try:
            found = [crash_trial.killed_run(self._zygote, course, out, whole, **how) for how in moments]
            crash_trial.carried_on(self._zygote, course, out, whole)
            return found
        except Exception as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            print(f"FAILED {self.failures[-1][:500]}", flush=True)
            return None
        finally:
            for path in (out, out.with_suffix(".log"), out.with_suffix(".tally")):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def kill_table(kills: list[Kill]) -> str:
    """Where kills fell. A database that cannot be read, or holds what no run wrote, is a failure and not in here."""
    rows = [["stage", "kills", "pairs matched in vain, most"]]
    for stage in (*STAGE_NAMES, "after all"):
        own = [kill for kill in kills if kill.stage == stage]
        rows.append([stage, str(len(own)), str(max((kill.repeated for kill in own), default=0))])
    return aligned(rows)


def interrupt_table(found: list[Kill]) -> str:
    """Seconds from Ctrl-C to the end of the process, by stage."""
    rows = [["stage", "interrupts", "median s", "longest s"]]
    for stage in (*STAGE_NAMES, "after all"):
        own = sorted(kill.seconds for kill in found if kill.stage == stage)
        if own:
            rows.append([stage, str(len(own)), f"{statistics.median(own):.2f}", f"{own[-1]:.2f}"])
    return aligned(rows)


# What it costs


def cost_table(folder: Path, batches: int = 20, repeats: int = 7) -> str:
    """Matches of `batches` times 200 pairs, about 700 matches each, written as the matching stage does."""
    times: dict[str, list[float]] = {"journal": [], "plain": [], "plain, fsync": []}
    pairs, matches = _pairs(batches * 200), _matches(700)
    for repeat in range(repeats):
        for name, seconds in times.items():
            path = folder / f"cost{repeat}.h5"
            started = time.perf_counter()
            if name == "journal":
                _write_journaled(path, pairs, matches)
            else:
                _write_plain(path, pairs, matches, flush=name != "plain")
            seconds.append(time.perf_counter() - started)
            path.unlink()
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    rows = [["matches written as", "median s", "times plain", "ms a pair"]]
    for name, value in median.items():
        rows.append([name, f"{value:.2f}", f"{value / median['plain']:.2f}", f"{1000 * value / len(pairs):.3f}"])
    return f"\ncost of durability, {len(pairs)} pairs in {batches} writes\n{aligned(rows)}"


def _pairs(num: int) -> list[ImagePair]:
    names = [f"{i:04}.jpg" for i in range(int(np.sqrt(2 * num)) + 2)]
    return [ImagePair(a, b) for i, a in enumerate(names) for b in names[i + 1 :]][:num]


def _matches(num: int) -> Matches:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 640, (2, num, 2)).astype(np.float32)
    cells = rng.integers(0, 4800, (2, num))
    return Matches(points[0], points[1], rng.uniform(size=num).astype(np.float32), cells[0], cells[1])


def _write_journaled(path: Path, pairs: list[ImagePair], matches: Matches) -> None:
    camera = CameraPrior("SIMPLE_PINHOLE", np.array([500.0, 320.0, 240.0]), False, "a")
    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    with FeatureDatabase.open(path) as db:
        db.write_images([ImageRecord(name, 640, 480, camera, name) for name in names])
        for begin in range(0, len(pairs), 200):
            db.write_matches([(pair, matches) for pair in pairs[begin : begin + 200]], matcher_key="key")


def _write_plain(path: Path, pairs: list[ImagePair], matches: Matches, *, flush: bool) -> None:
    """The same columns by HDF5 alone. flush: to the disk after every write, which alone would not survive a kill."""
    digests = {name: name for pair in pairs for name in (pair.name0, pair.name1)}
    with h5py.File(path, "w", libver=("v108", "v108")) as file:
        table = MatchTable(file, digests)
        for begin in range(0, len(pairs), 200):
            table.append([(pair, matches) for pair in pairs[begin : begin + 200]], "key")
            file.flush()
            if flush:
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())


if __name__ == "__main__":
    main()
