"""The driver, which is the only one that writes: killed and started again, interrupted, and as the program runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sfm.pipeline.run import reconstruct
from sfm.storage.database import FeatureDatabase
from tests.support.arc_scene import reused
from tests.support.crash_trial import matches_of
from tests.support.folders import DEMO, ROOT
from tests.support.ray_cluster import NEEDS_RAY, TOKEN, ray_cluster, write_numbered

pytestmark = [pytest.mark.slow, NEEDS_RAY]
ENVIRONMENT = {**os.environ, **TOKEN}
NUM = 26  # 325 pairs: the database writes after 200, or 10 s


@pytest.fixture(scope="module", autouse=True)
def token():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOKEN.items():
            patch.setenv(name, value)
        yield


def start(*command: str, **how) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a job in the background ignores
        **how,
    )


def wait_until(done, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def ray_processes_of(session: int) -> list[str]:
    """What runs in a session of processes."""
    found = subprocess.run(["ps", "-o", "args=", "-g", str(session)], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()


def tried(tally: Path) -> Counter[str]:
    """How often each pair was matched, by the two images' names."""
    return Counter(
        "-".join(f"{int(n):03d}.png" for n in path.name.split(".")[0].split("-")) for path in tally.iterdir()
    )


def test_a_driver_that_is_killed_goes_on_where_it_was(tmp_path):
    images, out, tally = tmp_path / "images", tmp_path / "out", tmp_path / "tally"
    write_numbered(images, NUM)
    out.mkdir()
    tally.mkdir()
    whole = NUM * (NUM - 1) // 2
    with ray_cluster(1, 1) as cluster:
        arguments = ("-m", "tests.support.ray_driver", cluster.address, str(images), str(out), str(tally))
        first = start(*arguments, "0.03")
        wait_until(lambda: len(list(tally.iterdir())) > 0.8 * whole, first)
        first.kill()
        first.wait()
        before, durable = tried(tally), set(matches_of(out))
        assert 0 < len(durable) < whole
        second = start(*arguments, "0")
        answer, _ = second.communicate(timeout=120)
    assert int(answer) == len(durable)
    assert len(matches_of(out)) == whole
    again = tried(tally)
    assert all(again[f"{a}-{b}"] == before[f"{a}-{b}"] for a, b in ((p.name0, p.name1) for p in durable))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Seven images of the demo, and a run over them by this process."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "images").mkdir()
    for path in sorted((DEMO / "images").glob("*.jpg"))[:7]:
        shutil.copy2(path, folder / "images")
    reconstruct(folder / "images", folder / "here", **OPTIONS)
    return folder


OPTIONS = {"resize": 256, "device": "cpu", "turns": "off", "no_report": True, "offline": True, "no_refine": True}
ARGUMENTS = ("--resize", "256", "--device", "cpu", "--rotations", "off", "--no-report", "--offline", "--no-refine")


def geometries_of(out: Path) -> list[tuple]:
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        return [
            (g.pair, g.kind, g.reason, g.inliers.tobytes(), None if g.F is None else g.F.tobytes())
            for g in db.read_two_view()
        ]


def test_a_run_on_a_cluster_of_its_own_gives_the_same_model_bit_for_bit(demo):
    out = demo / "there"
    run = start("reconstruct.py", str(demo / "images"), str(out), *ARGUMENTS, "--cluster", "local")
    printed, said = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert said == "loftr-sfm: compact weights, made for the CPU\n"
    assert "Ray" not in printed
    assert ray_processes_of(run.pid) == []
    assert len(matches_of(out)) == 21
    assert matches_of(out) == matches_of(demo / "here")
    assert geometries_of(out) == geometries_of(demo / "here")
    files = sorted(path.name for path in (out / "sparse" / "0").glob("*.bin"))
    assert files
    assert [(out / "sparse/0" / f).read_bytes() for f in files] == [
        (demo / "here/sparse/0" / f).read_bytes() for f in files
    ]


def test_what_a_run_here_has_done_is_not_done_again_on_a_cluster(demo):
    summary = reconstruct(demo / "images", demo / "here", cluster="local", **OPTIONS)
    assert len(reused(summary)) == len(summary.stages)


def test_ctrl_c_ends_driver_and_cluster_and_says_how_to_go_on(demo, tmp_path):
    run = start("reconstruct.py", str(demo / "images"), str(tmp_path / "out"), *ARGUMENTS, "--cluster", "local")
    wait_until(lambda: any("ray::Worker" in line for line in ray_processes_of(run.pid)), run)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "interrupted; the same command resumes" in said
    assert "Traceback" not in said
    end = time.monotonic() + 60
    while ray_processes_of(run.pid) and time.monotonic() < end:
        time.sleep(0.2)
    assert ray_processes_of(run.pid) == []


def test_two_matchers_match_on_a_cluster_as_they_do_here(demo, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    for out, cluster in ((there, "local"), (here, None)):
        options = OPTIONS | {"matcher": "loftr+sift"}
        summary = reconstruct(demo / "images", out, **options, **({"cluster": cluster} if cluster else {}))
        assert summary.registered == 7
    assert geometries_of(there) == geometries_of(here)
    found = []
    for out in (there, here):
        with FeatureDatabase.open(out / "features.h5", "r") as db:
            found.append([own.finder.tolist() for own in db.read_keypoints()])
    assert found[0] == found[1]
    assert set(found[0][0]) == {0, 1}
