"""What a report shows of videos: names and times of frames, the table, the timeline."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.artifacts.embedded_table import FrameColumns
from lightly_fs.report import build_report
from lightly_fs.report.figures import draw
from lightly_fs.report.frames import (
    caption,
    clock,
    failure_lines,
    few_of_each_video,
    file_label,
    spans,
)
from lightly_fs.report.html import render_html
from lightly_fs.report.pdf import render_pdf
from lightly_fs.report.timeline import common_axis
from lightly_fs.report.videos import MAX_TIMELINES, MAX_VIDEOS, shown_videos, timelines
from lightly_fs.types import Failure, Outcome
from tests.unit.report.made import a_run
from tests.unit.report.test_report import text_of
from tests.unit.report.videos_made import corrupt, of_videos

TWO = {"day/a.mp4": 60, "night $x$ b.mkv": 40}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "00:00.0"),
        (59.96, "01:00.0"),
        (83.44, "01:23.4"),
        (3723.4, "1:02:03.4"),
        (36_000, "10:00:00.0"),
        (-0.1, "-00:00.1"),
        (-0.01, "00:00.0"),
    ],
)
def test_a_time_is_written_as_players_do(seconds, words):
    assert clock(seconds) == words


@given(st.lists(st.integers(0, 60), unique=True).map(sorted))
def test_spans_hold_exactly_the_numbers(numbers):
    found = spans(np.array(numbers, np.int64))
    assert [i for first, last in found for i in range(first, last + 1)] == numbers
    assert all(later[0] > last + 1 for (_, last), later in pairwise(found))


def test_a_frame_is_called_by_its_video_and_its_time():
    run = of_videos(TWO, images=1)
    assert caption(run, 0) == "a image 0.jpg"
    assert caption(run, 1 + 12) == "day/a.mp4 00:01.2"
    assert caption(run, 61) == "night $x$ b.mkv 00:00.0"
    assert caption(of_videos(TWO, timed=False), 12) == "day/a.mp4 frame 12"
    assert caption(a_run(), 3) == a_run().filenames[3]


def test_only_frames_of_the_runs_videos_are_called_frames():
    run = of_videos(TWO)
    assert file_label(run, "day/a-07-mp4.png") == "day/a.mp4 frame 7"
    assert file_label(run, "other-07-mp4.png") == "other-07-mp4.png"
    assert file_label(run, "x.jpg") == "x.jpg"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-1, 4), max_size=40), st.integers(0, 14))
def test_the_first_pictures_are_at_most_a_few_of_a_video_in_their_order(places, n):
    nothing = np.zeros(len(places))
    columns = FrameColumns(np.array(places, np.int32), nothing, nothing, nothing)
    run = replace(of_videos({f"{i}.mp4": 2 for i in range(5)}, 2), frames=columns)
    rows = np.arange(len(places))
    kept = few_of_each_video(run, rows, n).tolist()
    assert kept == sorted(kept)
    assert len(kept) <= n
    most = max(3, -(-n // max(1, len(set(places))))) if -1 not in places else 3
    of = [places[row] for row in kept]
    assert all(of.count(place) <= most for place in set(of) - {-1})
    # What was left out had to be: there is no room, or there are enough of its video.
    for row in set(rows.tolist()) - set(kept):
        assert len(kept) == n or (places[row] >= 0 and of.count(places[row]) == most)


def test_frames_of_a_video_that_failed_alike_are_one_line():
    failures = [
        Failure("a.jpg", Outcome.CORRUPT, "empty file"),
        *(corrupt("b.mp4", index, 100) for index in (3, 4, 5, 9)),
        corrupt("b.mp4", 11, 100, "cannot be embedded"),
        Failure("c.mp4", Outcome.GONE, "deleted"),
    ]
    found = failure_lines(failures)
    assert [(line.name, line.count) for line in found] == [
        ("a.jpg", 1),
        ("b.mp4 frames 3–5, 9", 4),  # noqa: RUF001
        ("b.mp4 frame 11", 1),
        ("c.mp4", 1),
    ]
    assert sum(line.count for line in found) == len(failures)


def test_a_timeline_has_the_times_of_exactly_the_selected_frames():
    run = of_videos(TWO, 9)
    found = {line.video: line for line in timelines(run)}
    for place, (video, n) in enumerate(TWO.items()):
        rows = [row for row in run.selection.indices if run.frames.videos[row] == place]
        assert found[video].selected.tolist() == sorted(run.frames.seconds[rows].tolist())
        assert (found[video].start, found[video].end) == pytest.approx((0, n / 10))
        assert not found[video].broken
    assert sum(len(line.selected) for line in found.values()) == 9


def test_a_recording_whose_clock_began_earlier_begins_at_its_first_frame():
    (line,) = timelines(of_videos({"a.mpg": 50}, 4, start=95_443.7))
    assert (line.start, line.end) == pytest.approx((95_443.7, 95_448.7))
    assert line.selected.min() >= line.start
    assert line.selected.max() <= line.end


def test_corrupt_and_missing_frames_are_marked():
    run = of_videos({"a.mp4": 50}, 4, broken={"a.mp4": [10, 11, 12, 30]})
    (line,) = timelines(run)
    assert np.allclose(line.broken, [(1.0, 1.3), (3.0, 3.1)])
    one = run.videos[0]
    facts = replace(one.facts, seconds=20.0, problem="truncated: the file ends in the middle")
    (cut,) = timelines(replace(run, videos=[replace(one, facts=facts)]))
    assert np.allclose(cut.broken[-1], (5.0, 20.0))
    assert cut.end == pytest.approx(20)


def test_without_timestamps_frames_are_counted():
    (line,) = timelines(of_videos({"a.avi": 50}, 4, timed=False, broken={"a.avi": [7, 8]}))
    assert (line.unit, line.end) == ("frames", 50)
    assert line.broken == [(7.0, 9.0)]
    assert (line.selected == np.rint(line.selected)).all()


def test_at_most_twenty_videos_are_drawn_those_with_most_first():
    run = of_videos({f"{i:02d}.mp4": 9 + i for i in range(31)}, 60)
    drawn = timelines(run)
    assert len(drawn) == MAX_TIMELINES
    numbers = [len(line.selected) for line in drawn]
    assert numbers == sorted(numbers, reverse=True)
    left = {one.facts.filename for one in run.videos} - {line.video for line in drawn}
    assert max(one.selected for one in run.videos if one.facts.filename in left) <= numbers[-1]
    report = build_report(run)
    assert "The 20 videos of 31 with most selected frames" in render_html(report, draw(report))


def test_the_timeline_can_be_turned_off_and_needs_a_selection():
    assert not timelines(of_videos(TWO, config={"show_video_sampling_timeline": False}))
    assert not timelines(of_videos(TWO, 0, config={}))
    assert not timelines(a_run())


def test_videos_of_very_different_lengths_have_scales_of_their_own():
    assert common_axis(timelines(of_videos({"a.mp4": 100, "b.mp4": 10}, 9)))
    assert not common_axis(timelines(of_videos({"a.mp4": 300, "b.mp4": 10}, 9)))
    assert not common_axis(timelines(of_videos(TWO, timed=False)))


def test_the_table_has_those_with_most_selected_and_those_with_problems():
    names = {f"{i:02d}.mp4": 3 for i in range(60)}
    run = of_videos(names, 40, problems={"59.mp4": "truncated"}, broken={"58.mp4": [1]})
    shown = [one.facts.filename for one in shown_videos(run.videos)]
    assert {"58.mp4", "59.mp4"} <= set(shown)
    assert MAX_VIDEOS <= len(shown) == len(set(shown)) <= MAX_VIDEOS + 2
    report = build_report(run)
    assert f"{60 - len(shown)} more are in data/videos.csv" in render_html(report, draw(report))


def test_the_document_tells_of_videos_what_they_are_and_what_is_not_whole():
    run = of_videos(
        TWO, 9, broken={"day/a.mp4": [3, 4]}, problems={"day/a.mp4": "2 packets cannot be decoded"}
    )
    report = build_report(run)
    figures = draw(report)
    text = text_of(render_pdf(report, figures))
    assert "9 of 100 frames of 2 videos selected" in text
    assert "98 frames were usable" in text
    assert "The first frames to label" in text
    assert re.search(r"day/a\.mp4 +h264, not whole +64 × 48 +6\.0 +60 +2 +0 +\d", text)  # noqa: RUF001
    assert "When frames were selected" in text
    assert re.search(r"day/a\.mp4 frames 3–4 +corrupt +cannot be decoded", text)  # noqa: RUF001
    assert "Videos that are not whole" in text
    assert "2 packets cannot be decoded" in text
    assert "was read and decoded" not in text
    page = render_html(report, figures)
    assert re.search(r'class="small name">day/a\.mp4 00:0\d\.\d<', page)
    assert 'id="videos"' in page
    assert 'id="videos"' not in render_html(build_report(a_run()), draw(build_report(a_run())))


@pytest.mark.parametrize(
    "run",
    [
        of_videos({"one.mp4": 1}, 1),
        of_videos({"one.mp4": 1, "long.mp4": 200}, 150, timed=False),
        of_videos({"a.mp4": 12}, 0, images=3, config={}),
        of_videos({"漢字 $x^2$ \n<b>.mp4": 12}, 3),
    ],
    ids=["a frame", "all", "nothing selected", "odd name"],
)
def test_videos_of_any_kind_have_a_report(run):
    report = build_report(run)
    figures = draw(report)
    text = text_of(render_pdf(report, figures))
    assert "The videos" in text
    assert ("When frames were selected" in text) == bool(report.given.counts.selected)
    assert "<b>.mp4" not in render_html(report, figures)
