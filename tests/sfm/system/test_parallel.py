from __future__ import annotations

import threading
import time

import pytest
import torch

from sfm.system.parallel import Workers, map_on_cores, num_cores


def test_all_is_done_where_nothing_is_raised():
    done: list[int] = []
    with Workers(2) as pool:
        for i in range(20):
            pool.submit(done.append, i)
    assert sorted(done) == list(range(20))


def test_what_was_not_begun_is_dropped_at_an_error():
    begun, go = [], threading.Event()

    def work(i):
        begun.append(i)
        go.wait(10)

    started, pool = time.monotonic(), Workers(1)
    for i in range(20):
        pool.submit(work, i)
    while not begun:
        pass
    with pytest.raises(KeyboardInterrupt), pool:
        raise KeyboardInterrupt
    assert time.monotonic() - started < 5  # the one that was begun is not waited for
    go.set()
    pool.shutdown(wait=True)
    assert begun == [0]


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(cores: int) -> None:
    assert list(map_on_cores(lambda n: n * n, range(7), cores=cores)) == [n * n for n in range(7)]


def test_each_core_gives_torch_one_thread_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    together = threading.Barrier(2, timeout=10)

    def work(_: int) -> tuple[int, int]:
        together.wait()
        return threading.get_ident(), torch.get_num_threads()

    found = list(map_on_cores(work, range(2), cores=2))
    assert {threads for _, threads in found} == {1}
    assert len({thread for thread, _ in found}) == 2
    assert torch.get_num_threads() == before


def test_one_core_works_as_each_of_many_does() -> None:
    """Else torch would cut its sums by the number of threads, and one core would give other bits than two."""
    assert list(map_on_cores(lambda _: torch.get_num_threads(), [0], cores=1)) == [1]


def test_no_core_is_this_thread() -> None:
    (found,) = map_on_cores(lambda _: (threading.get_ident(), torch.get_num_threads()), [0], cores=0)
    assert found == (threading.get_ident(), torch.get_num_threads())


def test_an_error_in_one_item_reaches_the_caller() -> None:
    def work(n: int) -> int:
        if n == 3:
            raise ValueError("item 3")
        return n

    with pytest.raises(ValueError, match="item 3"):
        list(map_on_cores(work, range(5), cores=2))


def test_no_items_no_work() -> None:
    assert num_cores() >= 1
    assert list(map_on_cores(lambda n: n, [], cores=2)) == []


@pytest.mark.parametrize("given", ["3", "1"])
def test_a_process_takes_as_many_cores_as_it_is_given(given, monkeypatch):
    monkeypatch.setenv("LOFTR_SFM_CORES", given)
    assert num_cores() == int(given)


@pytest.mark.parametrize("given", ["", "0", "many", "-1"])
def test_what_is_no_number_of_cores_counts_for_nothing(given, monkeypatch):
    monkeypatch.delenv("LOFTR_SFM_CORES", raising=False)
    expected = num_cores()
    monkeypatch.setenv("LOFTR_SFM_CORES", given)
    assert num_cores() == expected
