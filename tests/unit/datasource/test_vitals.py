from __future__ import annotations

from lightly_fs.datasource.vitals import Vitals
from lightly_fs.types import Sample

A, B, C = (Sample(name, 1, None, 0) for name in "abc")


class Now:
    seconds = 10.0

    def __call__(self) -> float:
        return self.seconds


def test_what_was_read_after_the_doubt_needs_no_probe():
    probed = []
    vitals = Vitals(lambda sample: bool(probed.append(sample)), clock=Now())
    vitals.good(A, started=6)
    assert vitals.alive(5, suspect=B) is True
    assert probed == []


def test_what_was_read_before_the_doubt_proves_nothing():
    vitals = Vitals(lambda sample: False, clock=Now())
    vitals.good(A, started=4)
    assert vitals.alive(5, suspect=B) is False


def test_a_known_good_sample_is_asked_first():
    probed = []
    vitals = Vitals(lambda sample: bool(probed.append(sample)) or True, clock=Now())
    vitals.expect([B, C])
    vitals.good(A, started=4)
    assert vitals.alive(5, suspect=B) is True
    assert probed == [A]


def test_without_a_good_one_others_and_then_those_elsewhere_are_tried():
    probed = []
    vitals = Vitals(
        lambda sample: bool(probed.append(sample)), elsewhere=lambda _: [C], clock=Now()
    )
    vitals.expect([A, B])
    assert vitals.alive(5, suspect=A) is False
    assert probed == [B, C]


def test_no_answer_is_not_a_refusal():
    vitals = Vitals(lambda sample: None, clock=Now())
    vitals.expect([A, B])
    assert vitals.alive(5, suspect=A) is None


def test_one_probe_serves_all_who_doubted_before_it():
    probed = []
    vitals = Vitals(lambda sample: bool(probed.append(sample)), clock=Now())
    vitals.expect([A])
    assert vitals.alive(5, suspect=B) is False
    assert vitals.alive(6, suspect=C) is False
    assert probed == [A]


def test_silence_is_counted_from_the_first_trouble():
    now = Now()
    vitals = Vitals(lambda sample: True, clock=now)
    assert vitals.silent_s == 0
    vitals.bad()
    now.seconds = 14
    vitals.bad()
    assert vitals.silent_s == 4
    vitals.good(A, started=13)
    assert vitals.silent_s == 0
