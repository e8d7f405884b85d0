from __future__ import annotations

import random

from sfm.cluster.ledger import AHEAD, SLOW, Ledger


def test_jobs_are_drawn_in_order_one_ahead_of_what_a_worker_does():
    drawn = []
    ledger = Ledger(drawn.append(i) or f"job {i}" for i in range(9))
    assert [ledger.next_for("a", 0.0).job, ledger.next_for("b", 0.0).job] == ["job 0", "job 1"]
    assert ledger.next_for("a", 0.0).job == "job 2"
    assert ledger.next_for("a", 0.0) is None
    assert drawn == [0, 1, 2]
    assert ledger.num_held("a") == AHEAD


def test_what_a_dead_worker_had_is_done_by_another_and_counts_against_the_first_of_it():
    ledger = Ledger("xyz")
    ledger.next_for("a", 0.0)
    ledger.next_for("a", 0.0)
    assert ledger.died("a", 1.0) == (0, 1)
    assert (ledger.deaths(0), ledger.deaths(1)) == (1, 0)
    assert ledger.next_for("b", 1.0) == (0, "x", 1)
    assert ledger.next_for("b", 1.0) == (1, "y", 0)
    assert ledger.answered("b", 0, 2.0)
    assert ledger.deaths(0) == 0


def test_an_idle_worker_takes_what_waits_behind_another_then_what_is_slow():
    ledger = Ledger("wxyz")
    for worker in "ab":
        ledger.next_for(worker, 0.0)  # w, x
    for worker in "ab":
        ledger.next_for(worker, 0.0)  # y, z
    assert ledger.answered("b", 1, 10.0)
    assert ledger.answered("b", 3, 20.0)
    assert ledger.next_for("b", 20.0) == (2, "y", 0)  # which waits behind w
    assert ledger.answered("b", 2, 30.0)
    assert ledger.next_for("b", 10.0 * SLOW - 0.1) is None
    assert ledger.next_for("b", 30.0) == (0, "w", 0)
    assert ledger.answered("a", 0, 31.0)
    assert not ledger.answered("b", 0, 32.0)
    assert ledger.next_for("a", 33.0) is None
    assert ledger.done


def test_a_job_has_two_workers_at_most():
    ledger = Ledger("x")
    ledger.next_for("a", 0.0)
    assert ledger.next_for("b", 100.0) is None  # nobody knows yet what is slow
    ledger = Ledger("xy")
    ledger.next_for("a", 0.0)
    ledger.next_for("b", 0.0)
    ledger.answered("b", 1, 1.0)
    assert ledger.next_for("b", 9.0) == (0, "x", 0)
    assert ledger.next_for("c", 9.0) is None


def test_a_lost_answer_is_found_again_unless_another_has_it():
    ledger = Ledger("x")
    ledger.next_for("a", 0.0)
    assert ledger.gave_back("a", 0, 1.0, at_fault=True) == 1
    assert ledger.next_for("b", 1.0) == (0, "x", 1)
    assert ledger.gave_back("b", 0, 2.0, at_fault=False) == 1
    assert not ledger.done


def test_whatever_happens_every_job_is_answered_once():
    for seed in range(200):
        rng = random.Random(seed)
        ledger, workers, answers, held, now = Ledger(range(20)), set("abc"), [], [], 0.0
        while not ledger.done:
            now += rng.random()
            worker = rng.choice(sorted(workers))
            what = rng.random()
            if what < 0.5:
                order = ledger.next_for(worker, now)
                held += [(worker, order.number)] if order else []
            elif what < 0.55:
                ledger.died(worker, now)
                held = [item for item in held if item[0] != worker]
            elif held:
                item = held.pop(rng.randrange(len(held)))
                if what < 0.6:
                    ledger.gave_back(*item, now, at_fault=False)
                elif ledger.answered(*item, now):
                    answers.append(item[1])
        assert sorted(answers) == list(range(20)), seed
