"""Which frames a rule picks."""

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.decoding.video_sampling import Picker, Sampling, numbered_keyframes


@pytest.mark.parametrize(
    "values",
    [
        {"fps": 2.0, "every_nth": 3},
        {"fps": 0.0},
        {"fps": float("inf")},
        {"every_nth": 0},
        {"every_nth": 2, "keyframes_only": True},
    ],
)
def test_rules_that_make_no_sense_are_refused(values) -> None:
    with pytest.raises(ValueError, match=r"must be|exclude"):
        Sampling(**values)


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=200),
    st.floats(0.1, 60),
    st.integers(0, 10_000),
)
def test_one_frame_per_interval(steps: list[int], fps: float, origin: int) -> None:
    """Every interval of 1/fps that has a frame gives its first one, and no other."""
    times = [origin + sum(steps[:i]) for i in range(len(steps) + 1)]
    picker = Picker(Sampling(fps=fps), Fraction(1, 1000), Fraction(25), origin)
    picked = [t for i, t in enumerate(times) if picker.wants(i, t, key=False)]
    slots = [int((t - origin) / 1000 * fps + 1e-6) for t in picked]
    assert slots == sorted({int((t - origin) / 1000 * fps + 1e-6) for t in times})
    assert picked[0] == origin


@pytest.mark.parametrize("fps", [24000 / 1001, 29.97, 30000 / 1001, 25, 12.5])
def test_rates_that_are_rounded_lose_no_frame(fps: float) -> None:
    rate = Fraction(fps).limit_denominator(2000)
    picker = Picker(Sampling(fps=fps), 1 / rate, rate, 0)
    assert sum(picker.wants(i, i, key=False) for i in range(10_000)) >= 9_999


@dataclass
class Coded:
    pts: int | None
    dts: int | None
    is_keyframe: bool
    size: int = 1
    is_discard: bool = False


@given(st.data())
def test_keyframes_get_their_place_in_presentation_order(data) -> None:
    shown = data.draw(st.integers(1, 60))
    order = list(range(shown))
    for at in range(0, shown - 4, 4):  # four pictures at a time may be coded in any order
        order[at : at + 4] = data.draw(st.permutations(order[at : at + 4]))
    keys = data.draw(st.sets(st.integers(0, shown - 1)))
    packets = [Coded(40 * n, 40 * (i - 4), n in keys) for i, n in enumerate(order)]
    packets.append(Coded(None, None, is_keyframe=False, size=0))
    *numbered, (end, total) = numbered_keyframes(packets)
    assert {packet.pts: number for packet, number in numbered} == {40 * n: n for n in keys}
    assert (end.size, total) == (0, shown)
