"""What became of each candidate: one fate each, and the same sums everywhere."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.report import build_report
from lightly_fs.report.fates import LOOKS, Fate, fates, removal
from lightly_fs.report.figures import draw
from lightly_fs.report.html import render_html
from lightly_fs.report.pdf import render_pdf
from lightly_fs.report.selection import SelectionFacts
from lightly_fs.report.summary import chosen_words, count_of, flow, lead, sums
from lightly_fs.types import Selection
from tests.unit.report.made import a_run
from tests.unit.report.strategies_made import with_strategies
from tests.unit.report.test_report import text_of


@given(
    st.integers(1, 60),
    st.sets(st.integers(0, 59)),
    st.sets(st.integers(0, 59)),
    st.sets(st.integers(0, 59)),
)
@settings(deadline=None)
def test_every_candidate_has_one_fate_and_the_selected_are_selected(n, chosen, gone, near):
    selected, thresholded, removed = (
        np.array(sorted(row for row in rows if row < n), np.int64) for rows in (chosen, gone, near)
    )
    facts = SelectionFacts(
        [], thresholded=thresholded, near_duplicates=(removed, removed, np.zeros(len(removed)))
    )
    found = fates(n, selected, facts, np.arange(0))
    assert np.flatnonzero(found == Fate.SELECTED).tolist() == selected.tolist()
    assert set(np.flatnonzero(found == Fate.THRESHOLDED)) == set(thresholded) - set(selected)
    near_only = set(removed) - set(selected) - set(thresholded)
    assert set(np.flatnonzero(found == Fate.NEAR_DUPLICATE)) == near_only
    assert not (found == Fate.LEFT_OVER).any()


def test_fates_differ_in_colour_and_shape_and_are_told_alike_everywhere():
    assert len({looks.colour for looks in LOOKS.values()}) == len(LOOKS)
    removed = [looks.marker for fate, looks in LOOKS.items() if fate != Fate.SELECTED]
    assert len(set(removed)) == len(removed)
    report = build_report(with_strategies(a_run(120, 30)))
    figures = draw(report)
    parts = {part.label: part for part in flow(report)}
    lines = {line.kind: line.count for line in sums(report) if line.level}
    for label, fate in (
        ("Not chosen", Fate.NOT_CHOSEN),
        ("Near duplicates", Fate.NEAR_DUPLICATE),
        ("Removed by thresholds", Fate.THRESHOLDED),
        ("Selected", Fate.SELECTED),
    ):
        n = count_of(report, fate)
        assert n > 0
        assert parts[label].count == n == lines[LOOKS[fate].kind]
        assert parts[label].kind == LOOKS[fate].kind
    page, text = render_html(report, figures), text_of(render_pdf(report, figures))
    for part in parts.values():
        assert f'<span class="dot {part.kind}"></span>{part.label} <b>{part.count}</b>' in page
        assert f".{part.kind} {{ background: var(--{part.kind}); }}" in page
        assert re.search(rf"{part.label}\s+{part.count}\s", text)
    assert sum(part.count for part in parts.values()) == report.given.counts.inventory


def test_a_pair_says_what_removed_the_image():
    assert removal(Fate.NOT_CHOSEN, 0.25) == "Distance 0.250"
    run = with_strategies(a_run(40, 8))
    report = build_report(run)
    shown = [report.fates[pair.removed] for pair in report.pairs]
    page = render_html(report, draw(report))
    for fate, words in (
        (Fate.THRESHOLDED, ", removed by a threshold"),
        (Fate.NEAR_DUPLICATE, ", near duplicate"),
    ):
        assert page.count(words) == shown.count(fate)


@pytest.fixture(scope="module")
def sequences():
    """Three of five sequences of four images, the last two images in none."""
    run = a_run(22, 12, names=[f"{i:02d}.jpg" for i in range(22)],
                config={"selected_sequence_length": 4})  # fmt: skip
    picks = np.concatenate([np.arange(start, start + 4) for start in (8, 0, 16)])
    distances = np.repeat(np.array([np.inf, 0.9, 0.4], np.float32), 4)
    chosen = Selection(picks, distances, "n_samples")
    return build_report(replace(run, selection=chosen, left_over=np.array([20, 21])))


def test_of_a_sequence_the_first_image_is_shown(sequences):
    assert sequences.shown.tolist() == [8, 0, 16]
    assert sequences.distances.tolist() == pytest.approx([np.inf, 0.9, 0.4])
    figures = draw(sequences)
    text = " ".join(text_of(render_pdf(sequences, figures)).split())
    assert "The first sequences to label, an image of each" in text
    assert "Of 3 sequences of 4 images, the first image of every one, in the order" in text
    assert "2 · 0.900" in text
    page = render_html(sequences, figures)
    names = re.findall(r'data-rank="(\d)" data-name="(\d\d.jpg)"', page)
    assert names == [("1", "08.jpg"), ("2", "00.jpg"), ("3", "16.jpg")]
    assert "the first image of the first 2," in chosen_words(sequences, 2)


def test_what_is_in_no_whole_sequence_is_counted_by_itself(sequences):
    assert np.flatnonzero(sequences.fates == Fate.LEFT_OVER).tolist() == [20, 21]
    lines = {line.label: line.count for line in sums(sequences)}
    assert lines["left over: shorter than a sequence"] == 2
    assert lines["not chosen: a selected image stands for them"] == 8
    assert "sequences of 4 were selected" in lead(sequences)
