import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.report.lettering import (
    counted,
    duration,
    mono_letters,
    percent,
    shown,
    size,
    without_secrets,
)


@given(st.text(max_size=300), st.integers(12, 80))
def test_shown_text_fits_and_holds_only_letters_of_the_font(text, width):
    made = shown(text, width, mono_letters())
    assert len(made) <= width
    assert all(ord(character) in mono_letters() for character in made)
    assert made.isprintable()


def test_what_no_font_has_and_what_nobody_sees_is_escaped():
    assert shown("a漢.jpg", 40, mono_letters()) == r"a\u{6f22}.jpg"
    assert shown("a\u202egpj.exe\n", 40) == r"a\u{202e}gpj.exe\u{a}"
    assert shown("漢😀.jpg", 40) == "漢😀.jpg"  # a browser has fonts for these
    assert shown("Zoë_Ωд.jpg", 40, mono_letters()) == "Zoë_Ωд.jpg"


def test_long_names_keep_both_ends_and_whole_escapes():
    made = shown("start_" + "x" * 1000 + "_end.jpg", 30)
    assert made.startswith("start_")
    assert made.endswith("_end.jpg")
    assert len(made) == 30
    assert shown("漢" * 9, 20, mono_letters()) == r"\u{6f22}…\u{6f22}"
    assert shown("copies/" + "😀" * 9 + ".jpg", 25, mono_letters()) == r"copies/…\u{1f600}.jpg"


@pytest.mark.parametrize(
    ("n", "nouns", "text"),
    [(1, ("image",), "1 image"), (0, ("image",), "0 images"), (1234, ("image",), "1,234 images"),
     (2, ("copy", "copies"), "2 copies")],
)  # fmt: skip
def test_one_is_not_many(n, nouns, text):
    assert counted(n, *nouns) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "< 0.1 s"), (0.05, "0.1 s"), (9.96, "10.0 s"), (41.2, "41 s"), (59.7, "1 min 00 s"),
     (153, "2 min 33 s"), (3599.8, "1 h 00 min"), (11_100, "3 h 05 min")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0 %"), (0, 9, "0 %"), (9, 9, "100 %"), (1, 9, "11 %"), (1, 40, "2.5 %"),
     (1, 1_000_000, "< 0.1 %"), (999_999, 1_000_000, "99.9 %")],
)  # fmt: skip
def test_shares_never_round_to_none_or_all(part, whole, text):
    assert percent(part, whole) == text


def test_sizes():
    assert [size(n) for n in (0, 999, 1_500, 42_000_000, 3.2e15)] == [
        "0 B", "999 B", "1.5 kB", "42.0 MB", "3,200.0 TB"
    ]  # fmt: skip


def test_keys_in_addresses_are_not_shown():
    assert without_secrets("https://user:key@host/a.pt?X-Amz-Signature=12 end") == (
        "https://…@host/a.pt?… end"
    )
    assert without_secrets("s3://bucket/what?.jpg") == "s3://bucket/what?…"
    assert without_secrets("/plain/path@x") == "/plain/path@x"
