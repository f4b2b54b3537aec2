from __future__ import annotations

import threading

from lightly_fs.datasource.pacing import Latencies, Pacer, backoff_s


def sent_by(pacer: Pacer) -> int:
    with pacer.slot() as sent:
        return sent


def test_the_limit_grows_with_every_answer_up_to_its_most():
    pacer = Pacer(start=4, most=10)
    for _ in range(20):
        pacer.answered()
    assert pacer.limit == 10


def test_refusals_of_one_round_halve_it_once():
    pacer = Pacer(start=32, most=96)
    together = sent_by(pacer)
    for _ in range(10):
        pacer.refused(together)
    assert pacer.limit == 16
    pacer.refused(sent_by(pacer))
    assert pacer.limit == 8
    pacer.refused(together)
    assert pacer.limit == 8


def test_it_never_falls_below_two():
    pacer = Pacer(start=8)
    for _ in range(20):
        pacer.refused(sent_by(pacer))
    assert pacer.limit == 2


def test_after_a_refusal_it_grows_by_one_per_round():
    pacer = Pacer(start=16, most=96)
    pacer.refused(sent_by(pacer))
    for _ in range(8):
        pacer.answered()
    assert 8 <= pacer.limit <= 9


def test_no_more_than_the_limit_are_in_flight():
    pacer = Pacer(start=3, most=3)
    inside, most = [], []
    lock = threading.Lock()

    def work() -> None:
        for _ in range(50):
            with pacer.slot():
                with lock:
                    inside.append(1)
                    most.append(len(inside))
                with lock:
                    inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 3


def test_hedging_waits_two_seconds_and_longer_for_a_slow_store():
    latencies = Latencies()
    assert latencies.hedge_after() == 2
    for _ in range(100):
        latencies.add(0.02)
    assert latencies.hedge_after() == 2
    for _ in range(100):
        latencies.add(4.0)
    assert latencies.hedge_after() == 6


def test_waiting_doubles_up_to_a_bound():
    assert 0.05 <= backoff_s(1) <= 0.1
    assert 2 <= backoff_s(12) <= 4
