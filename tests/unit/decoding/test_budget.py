"""What is held at the same time stays below the total."""

import threading
import time

import pytest

from lightly_fs.decoding.budget import Budget


def test_more_than_the_total_waits() -> None:
    budget = Budget(10)
    budget.take(6)
    entered = threading.Event()

    def second() -> None:
        with budget.hold(5):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.wait(0.05)
    budget.give(6)
    assert entered.wait(5)
    thread.join(5)


def test_one_that_is_larger_than_everything_is_held_alone() -> None:
    budget = Budget(10)
    with budget.hold(99):
        blocked = threading.Thread(target=budget.take, args=(1,))
        blocked.start()
        blocked.join(0.05)
        assert blocked.is_alive()
    blocked.join(5)
    assert not blocked.is_alive()


def test_never_more_than_the_total_is_held() -> None:
    budget, held, most = Budget(8), [0], [0]
    lock = threading.Lock()

    def work(amount: int) -> None:
        for _ in range(20):
            with budget.hold(amount):
                with lock:
                    held[0] += amount
                    most[0] = max(most[0], held[0])
                time.sleep(0.0002)
                with lock:
                    held[0] -= amount

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (1, 2, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 0 < most[0] <= 8


def test_a_failure_gives_back() -> None:
    budget = Budget(1)
    with pytest.raises(ZeroDivisionError), budget.hold(1):
        _ = 1 / 0
    with budget.hold(1):
        assert True, "a budget that was not given back would wait forever"
