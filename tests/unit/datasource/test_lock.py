"""Leases on plain directories; `tests/integration/test_output_mount.py` has them in buckets."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from lightly_fs.datasource import lock
from lightly_fs.datasource.exclusion import LOCK_NAME
from lightly_fs.datasource.lock import Holder, locked
from lightly_fs.datasource.output import Output
from lightly_fs.errors import RunLockedError


@pytest.fixture
def output(tmp_path):
    made = Output(tmp_path, None)
    yield made
    made.close()


def held(output, folder="run"):
    return json.loads((output.root / folder / LOCK_NAME).read_text())


def left_elsewhere(output, changed):
    """Leave the lock of a process whose life cannot be seen from here."""
    with locked(output, "run", lease_s=1):
        holder = {**held(output), "host": "far-away", changed: "another", "pid_started": 1}
    return leave(output, holder)


def leave(output, holder):
    """Leave a lock as a killed process does."""
    path = output.root / "run" / LOCK_NAME
    path.parent.mkdir()
    path.write_text(json.dumps(holder))
    return path


def test_a_lock_says_who_holds_it_and_is_gone_afterwards(output):
    with locked(output, "run", owner="run 5", lease_s=60) as lease:
        lease.check()
        holder = held(output)

        assert (holder["owner"], holder["pid"], holder["generation"]) == ("run 5", os.getpid(), 1)

    assert not (output.root / "run" / LOCK_NAME).exists()


def test_a_second_writer_is_refused_and_told_who_writes(output):
    with (
        locked(output, "run", owner="run 5"),
        pytest.raises(RunLockedError) as caught,
        locked(output, "run"),
    ):
        pass

    host, pid = os.uname().nodename, os.getpid()
    assert f"run` is being written by run 5 on {host}, pid {pid} since 20" in caught.value.message
    assert "locked until 20" in caught.value.message
    assert LOCK_NAME in caught.value.hint
    assert caught.value.exit_code == 6


def test_run_directories_do_not_lock_one_another(output):
    with locked(output, "run"), locked(output, "other") as lease:
        lease.check()


def test_a_lock_is_released_by_an_exception_too(output):
    with pytest.raises(KeyboardInterrupt), locked(output, "run"):
        raise KeyboardInterrupt

    assert not (output.root / "run" / LOCK_NAME).exists()


def test_of_many_that_start_at_once_one_gets_it(output):
    all_tried = Barrier(8, timeout=60)

    def attempt(number):
        try:
            with locked(output, "run", owner=str(number)):
                all_tried.wait()
        except RunLockedError:
            all_tried.wait()
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_process_on_this_host_is_succeeded_at_once(output, reaped):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        with locked(Output(output.root, None), "run", owner="the dead", lease_s=3600):
            os.write(write, b"x")
            time.sleep(60)
    os.read(read, 1)
    with pytest.raises(RunLockedError, match="the dead"), locked(output, "run"):
        pass
    os.kill(child, signal.SIGKILL)
    if reaped:
        os.waitpid(child, 0)
    else:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

    with locked(output, "run") as lease:
        lease.check()
        assert held(output)["generation"] == 2

    if not reaped:
        os.waitpid(child, 0)
    os.close(read)
    os.close(write)


def test_a_reused_pid_is_not_the_holder(output):
    with locked(output, "run"):
        holder = held(output)
    leave(output, {**holder, "pid_started": holder["pid_started"] - 1})

    with locked(output, "run"):
        assert held(output)["generation"] == 2


@pytest.mark.parametrize("changed", ["boot_id", "pid_namespace"])
def test_elsewhere_the_lease_has_to_run_out(output, changed):
    path = left_elsewhere(output, changed)

    with pytest.raises(RunLockedError, match="far-away"), locked(output, "run"):
        pass

    expired = time.time() - 2.5
    os.utime(path, (expired, expired))
    with locked(output, "run"):
        assert held(output)["generation"] == 2


def test_a_damaged_lock_is_respected_until_its_lease_has_run_out(output):
    path = output.root / "run" / LOCK_NAME
    path.parent.mkdir()
    path.write_text('{"owner": "torn')

    with pytest.raises(RunLockedError, match="damaged"), locked(output, "run", lease_s=1):
        pass

    os.utime(path, (0, 0))
    with locked(output, "run", lease_s=1):
        assert held(output)["generation"] == 1


def test_a_lease_is_renewed_while_its_owner_works(output):
    with locked(output, "run", lease_s=1.5) as lease:
        first = held(output)["expires_at"]
        time.sleep(2)
        lease.check()

        assert held(output)["expires_at"] > first


def test_a_lock_that_was_taken_over_is_lost_and_left_alone(output):
    with locked(output, "run", lease_s=0.3) as lease:
        successor = {**held(output), "lease_id": "x", "owner": "run 6", "host": "far-away"}
        (output.root / "run" / LOCK_NAME).write_text(json.dumps(successor))
        time.sleep(0.4)
        with pytest.raises(RunLockedError) as caught:
            lease.check()

    assert "lost the lock" in caught.value.message
    assert "run 6 on far-away" in caught.value.message
    assert held(output)["owner"] == "run 6"


def test_a_lease_that_could_not_be_renewed_is_renewed_late_if_nobody_came(output, monkeypatch):
    with locked(output, "run", lease_s=3600) as lease:
        monkeypatch.setattr(lock, "_uptime", lambda: time.clock_gettime(7) + 3601)
        lease.check()

        (output.root / "run" / LOCK_NAME).unlink()
        monkeypatch.setattr(lock, "_uptime", lambda: time.clock_gettime(7) + 7300)
        with pytest.raises(RunLockedError, match="lost the lock"):
            lease.check()


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"lease_id": "1"}'])
def test_a_damaged_lock_names_nobody(data):
    assert Holder.decode(data) is None
