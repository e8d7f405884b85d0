from __future__ import annotations

import threading
import time

import pytest

from sfm.system.parallel import Workers


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
