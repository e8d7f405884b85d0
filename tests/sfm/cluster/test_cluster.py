"""Ray's own cluster on this machine: whatever dies or joins, every pair is matched once, and equal to a local run's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sfm.cluster.ledger import MAX_DEATHS
from sfm.errors import BadOption, SfMError
from sfm.matching.rotations import RotatedPair
from sfm.options import MatchingOptions
from sfm.types import ImagePair, Matches
from tests.support.ray_cluster import (
    NEEDS_RAY,
    TOKEN,
    Seen,
    SlowMatcher,
    SlowRecipe,
    add_node,
    ray_cluster,
    write_numbered,
)

pytestmark = [pytest.mark.slow, NEEDS_RAY]

NUM = 16


@pytest.fixture(scope="module", autouse=True)
def token():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOKEN.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def nodes():
    """A head with one CPU and a node with one."""
    with ray_cluster(1, 1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return folder, write_numbered(folder, NUM)


TASKS = [RotatedPair(ImagePair(f"{i:03d}.png", f"{j:03d}.png"), 0) for i, j in combinations(range(NUM), 2)]


def matched(address, images, matcher, during=lambda number: None, budget=None):
    """What a session on the cluster finds: each task's matches, in bytes. during: called after each block. budget:
    bytes of images that may be on their way."""
    from sfm.cluster.cluster import Cluster
    from sfm.cluster.session import ClusterSession, ImageStore

    folder, records = images
    found: dict[RotatedPair, tuple[bytes, ...]] = {}
    with Cluster(address, device="cpu") as cluster:
        store = ImageStore(folder, records, None, cluster.budget if budget is None else budget)
        session = ClusterSession(cluster, SlowRecipe(matcher), MatchingOptions(), store)
        for number, (results, num_done) in enumerate(session.match_all(TASKS)):
            assert num_done == len(results)
            assert not found.keys() & {task for task, _ in results}
            found |= {task: as_bytes(matches) for task, matches in results}
            during(number)
    return found


def as_bytes(matches):
    return tuple(getattr(matches, name).tobytes() for name in ("points0", "points1", "confidence", "cells0", "cells1"))


@pytest.fixture(scope="module")
def expected():
    matcher = SlowMatcher()
    numbers = [(int(pair.name0[:3]), int(pair.name1[:3])) for pair, _ in TASKS]
    return {task: as_bytes(matcher.match([(Seen(a), Seen(b))])[0]) for task, (a, b) in zip(TASKS, numbers, strict=True)}


def workers(tally: Path) -> set[str]:
    """Processes that matched something."""
    return {path.name.split(".")[1] for path in tally.iterdir()}


def test_two_nodes_share_the_pairs_and_find_what_one_process_finds(nodes, images, expected, tmp_path):
    assert matched(nodes.address, images, SlowMatcher(delay=0.02, tally=str(tmp_path))) == expected
    assert len(workers(tmp_path)) == 2
    assert len(list(tmp_path.iterdir())) <= len(TASKS) + 32  # no pair twice, but for a slow block at the end


def test_with_room_for_one_block_alone_it_takes_longer_but_ends(nodes, images, expected):
    assert matched(nodes.address, images, SlowMatcher(), budget=1) == expected


def test_images_stay_in_the_store_while_there_is_room_and_they_are_needed(nodes, images):
    import ray

    from sfm.cluster.cluster import Cluster
    from sfm.cluster.session import ImageStore

    folder, records = images
    first, second, third = sorted(records)[:3]
    size = (folder / first).stat().st_size
    with Cluster(nodes.address, device="cpu"):
        store = ImageStore(folder, records, None, 2 * size + 10)
        (of_first,) = store.hold([first])
        assert store.has_room
        (of_second,) = store.hold([second])
        assert store.hold([first]) == [of_first]
        store.hold([third])
        assert not store.has_room
        store.release([first])
        assert store.hold([second]) == [of_second]
        store.release([first])  # the last that needed it, and there is too much
        assert store.hold([first]) != [of_first]
        assert ray.get(of_second).record.name == second


def test_images_that_cannot_be_read_cost_their_pairs_as_they_do_locally(nodes, tmp_path):
    from sfm.cluster.cluster import Cluster
    from sfm.cluster.session import ClusterSession, ImageStore
    from sfm.matching.prefetch import ImageReader
    from sfm.matching.session import Session

    records = write_numbered(tmp_path, 4)
    tasks = [RotatedPair(ImagePair(*pair), 0) for pair in combinations(sorted(records), 2)]
    (tmp_path / "002.png").write_bytes(b"no image any more")
    matcher, options = SlowMatcher(), MatchingOptions()
    with ImageReader(tmp_path, records, None) as reader:
        here = Session(matcher, reader, options)
        expected = [task for results, _ in here.match_all(tasks) for task, _ in results]
    with Cluster(nodes.address, device="cpu") as cluster:
        store = ImageStore(tmp_path, records, None, cluster.budget)
        there = ClusterSession(cluster, SlowRecipe(matcher), options, store)
        found = [task for results, _ in there.match_all(tasks) for task, _ in results]
    assert sorted(found) == sorted(expected)
    assert len(found) == 3
    assert there.lost == here.lost == {task.pair for task in tasks if "002.png" in (task.pair.name0, task.pair.name1)}
    assert there.skipped == here.skipped == (("002.png", there.skipped[0][1]),)
    assert there.num_encoded == here.num_encoded == 3


def test_what_a_geometry_says_of_pairs_is_asked_of_the_workers_in_order(nodes, images):
    from sfm.cluster.cluster import Cluster
    from sfm.cluster.session import ClusterSession, ImageStore

    folder, records = images
    items = [(ImagePair("a", f"b{num:03d}"), matches_of_length(num)) for num in range(450)]
    with Cluster(nodes.address, device="cpu") as cluster:
        store = ImageStore(folder, records, None, cluster.budget)
        session = ClusterSession(cluster, SlowRecipe(SlowMatcher()), MatchingOptions(), store)
        assert list(session.fit(has_even_length, iter(items))) == [num % 2 == 0 for num in range(450)]
        assert list(session.fit(has_even_length, [])) == []


def matches_of_length(num):
    return Matches(np.zeros((num, 2)), np.zeros((num, 2)), np.zeros(num), np.zeros(num), np.zeros(num))


def has_even_length(pair, matches):
    return len(matches) % 2 == 0


def test_a_worker_that_is_killed_is_replaced(nodes, images, expected, tmp_path):
    def kill(number):
        if number == 1:
            os.kill(int(sorted(workers(tmp_path))[0]), signal.SIGKILL)

    assert matched(nodes.address, images, SlowMatcher(delay=0.05, tally=str(tmp_path)), kill) == expected


def test_workers_that_are_killed_again_and_again_at_any_moment(nodes, images, expected, tmp_path):
    over = threading.Event()

    def kill_now_and_then():
        killed = 0
        while not over.wait(1.3) and killed < MAX_DEATHS - 1:  # which even one block survives
            newest = max(tmp_path.iterdir(), key=lambda path: int(path.name.split(".")[2]), default=None)
            if newest is not None:
                with suppress(ProcessLookupError):
                    os.kill(int(newest.name.split(".")[1]), signal.SIGKILL)
                    killed += 1

    killer = threading.Thread(target=kill_now_and_then, daemon=True)
    killer.start()
    try:
        assert matched(nodes.address, images, SlowMatcher(delay=0.04, tally=str(tmp_path))) == expected
    finally:
        over.set()
        killer.join()
    assert len(workers(tmp_path)) > 2


def test_a_worker_that_dies_at_a_pair_costs_another_try(nodes, images, expected, tmp_path):
    matcher = SlowMatcher(tally=str(tmp_path), dies=((3, 9), (4, 5)), deaths=1)
    assert matched(nodes.address, images, matcher) == expected
    assert len(list(tmp_path.glob("3-9.*"))) == 2
    assert len(list(tmp_path.glob("4-5.*"))) == 2


def test_a_block_that_kills_every_worker_ends_the_run_with_a_remedy(nodes, images, tmp_path):
    matcher = SlowMatcher(tally=str(tmp_path), dies=((3, 9),), deaths=99)
    with pytest.raises(SfMError, match=r"4 workers failed at one block.*lower --memory or --resize"):
        matched(nodes.address, images, matcher)


def test_memory_that_is_exhausted_halves_the_batch_as_it_does_locally(nodes, images, expected):
    assert matched(nodes.address, images, SlowMatcher(too_many=1, batch_size=8)) == expected


def test_a_node_that_is_killed_and_one_that_joins_late(images, expected, tmp_path, capfd):
    tally, hold = tmp_path / "tally", tmp_path / "hold"
    tally.mkdir()

    def release():
        """What is left waits until a worker of the node that joined has begun, however long that takes to start."""
        end = time.monotonic() + 50
        while len(workers(tally)) < 3 and time.monotonic() < end:
            time.sleep(0.1)
        hold.unlink()

    with ray_cluster(1, 1) as cluster:
        (second,) = cluster.worker_nodes

        def disturb(number):
            if number == 1:
                hold.touch()
                cluster.remove_node(second, allow_graceful=False)
                add_node(cluster, 2)
                threading.Thread(target=release).start()

        matcher = SlowMatcher(delay=0.1, tally=str(tally), hold=str(hold))
        assert matched(cluster.address, images, matcher, disturb) == expected
    assert len(workers(tally)) >= 3  # the head's, the killed node's, and of the one that joined
    assert "raylet" not in "".join(capfd.readouterr())


def test_map_keeps_the_order_and_passes_errors_on(nodes):
    from sfm.cluster.cluster import Cluster

    with Cluster(nodes.address, device="cpu") as cluster:
        assert list(cluster.map(slow_square, range(9), nbytes=lambda item: cluster.budget)) == [i * i for i in range(9)]
        assert list(cluster.map(slow_square, [])) == []
        with pytest.raises(SfMError, match=r"node .*: no square of -1"):
            list(cluster.map(slow_square, [1, -1]))


def slow_square(number: int) -> int:
    if number < 0:
        raise SfMError(f"no square of {number}")
    time.sleep(0.3 if number == 0 else 0.01)
    return number * number


def test_a_node_with_other_versions_is_named(nodes, monkeypatch):
    from sfm.cluster import staff
    from sfm.cluster.cluster import Cluster

    monkeypatch.setattr(staff, "versions", lambda: {"loftr-sfm": "9.9.9"})
    told = r"no node can be used: node .* it has loftr-sfm .* and the driver 9\.9\.9"
    with Cluster(nodes.address, device="cpu") as cluster, pytest.raises(SfMError, match=told):
        list(cluster.map(slow_square, [1]))


def test_without_its_token_a_cluster_says_what_it_needs(nodes, monkeypatch):
    code = (
        "from sfm.cluster.cluster import Cluster\n"
        "from sfm.errors import BadOption\n"
        f"try: Cluster('{nodes.address}')\n"
        "except BadOption as error: print(error)"
    )
    environment = {**os.environ, "RAY_AUTH_TOKEN": "f" * 64}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert "copy ~/.ray/auth_token" in done.stdout
    assert done.stderr == ""


def test_one_connection_at_a_time(nodes):
    from sfm.cluster.cluster import Cluster

    with Cluster(nodes.address, device="cpu"), pytest.raises(BadOption, match="already connected"):
        Cluster(nodes.address)
