"""The files of a report, for ordinary and for degenerate runs."""

import io
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lightly_fs.properties import PROPERTIES
from lightly_fs.report import build_report, write_report
from lightly_fs.report.figures import PROPERTY_LABELS, draw
from lightly_fs.report.html import render_html
from lightly_fs.report.pdf import render_pdf
from lightly_fs.report.run_words import configuration
from lightly_fs.report.summary import sums
from lightly_fs.types import Duplicate, Failure, Outcome
from tests.conftest import need
from tests.unit.report.made import a_run

FAILURES = [Failure(f"broken_{i:03d}.jpg", Outcome.CORRUPT, "truncated") for i in range(50)]
NASTY = [
    "x" * 1000 + ".jpg",
    "<script>alert(1)</script>.jpg",
    "漢字/😀.png",
    "line\nbreak.jpg",
    "#set page(width: 1cm)$x$*b*_i_.jpg",
    "right\u202eto left.jpg",
    "\"quoted' & co.jpg",
]


def text_of(pdf: bytes) -> str:
    need("poppler", missing=None if shutil.which("pdftotext") else "there is no pdftotext")
    command = ["pdftotext", "-layout", "-", "-"]
    return subprocess.run(command, input=pdf, capture_output=True, check=True).stdout.decode()


@pytest.fixture(scope="module")
def ordinary():
    return build_report(
        a_run(
            failures=FAILURES,
            duplicates=[Duplicate("copy.jpg", "folder_0/image_0000.jpg", "pixels")],
            other_files=7,
        )
    )


@pytest.fixture(scope="module")
def figures(ordinary):
    return draw(ordinary)


@pytest.fixture(scope="module")
def page(ordinary, figures):
    return render_html(ordinary, figures)


def test_all_files_are_written_and_small(ordinary, tmp_path):
    write_report(ordinary, tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert {"report.pdf", "report.html", "report_v2.json"} <= found
    assert {f"plots/filter_decision_{11 * i}.png" for i in range(6)} <= found
    for name in ("distance_distr_before", "distance_distr_after", "scatter_pca",
                 "scatter_pca_no_overlay", "scatter_pacmap"):  # fmt: skip
        with Image.open(tmp_path / "plots" / f"{name}.png") as picture:
            assert picture.width > 500
    assert (tmp_path / "report.pdf").stat().st_size < 2_000_000


def test_the_same_report_makes_the_same_bytes(ordinary, figures):
    assert render_pdf(ordinary, figures) == render_pdf(ordinary, draw(ordinary))
    assert render_html(ordinary, figures) == render_html(ordinary, figures)


def test_the_document_tells_the_sums_and_what_is_missing(ordinary, figures):
    text = text_of(render_pdf(ordinary, figures))
    assert "8 of 91 images selected" in text
    assert re.search(r"corrupt: cannot be decoded\s+50", text)
    assert "26 more are in the lists" in text
    assert "broken_023.jpg" in text
    assert "broken_024.jpg" not in text
    assert "Same pixels, other bytes" in text
    assert "7 other files were no images" in text
    assert "Google Cloud" in text


def test_sections_without_images_are_sentences_on_the_first_page():
    whole, copied = (
        build_report(a_run(duplicates=duplicates))
        for duplicates in ([], [Duplicate("copy.jpg", "folder_0/image_0000.jpg", "content")])
    )
    first, *others = text_of(render_pdf(whole, draw(whole))).split("\f")
    assert "Every image of the inventory was read and decoded. No two images show" in first
    assert "left out" not in "".join(others)
    assert 'id="left-out"' not in render_html(whole, draw(whole))

    text = text_of(render_pdf(copied, draw(copied)))
    assert "Every image of the inventory was read and decoded." in text
    assert "No two images" not in text
    assert "Exact duplicates" in text
    assert "Corrupt and failed" not in text
    page = render_html(copied, draw(copied))
    assert "Exact duplicates" in page
    assert "Corrupt and failed" not in page


def test_single_images_are_spoken_of_as_one():
    report = build_report(
        a_run(1, 1, failures=FAILURES[:1], duplicates=[Duplicate("b.jpg", "a.jpg", "content")],
              other_files=1)
    )  # fmt: skip
    text = text_of(render_pdf(report, draw(report)))
    assert "1 image was usable." in text
    assert "1 could not be used and is listed with its reason" in " ".join(text.split())
    assert "1 other file was no image" in text
    assert not re.search(r"\b(?<!,)1 (images|other files|were|are)\b", text)


def test_the_bucket_names_the_input_and_the_mount_comes_second():
    given = replace(a_run(), mounted_at="/mnt/fleet")
    report = build_report(given)
    first, *_, last, _ = text_of(render_pdf(report, draw(report))).split("\f")
    assert first.count("s3://fleet/november/") == 2  # below the title, at the foot
    assert "/mnt/fleet" not in first
    assert re.search(r"Input +s3://fleet/november/\s+Mounted at +/mnt/fleet\s", last)
    page = render_html(report, draw(report))
    assert "<code>s3://fleet/november/</code>, mounted at <code>/mnt/fleet</code>" in page
    assert "Mounted at" not in render_html(build_report(a_run()), draw(report))


def test_properties_have_titles_in_words_and_colours_beside_one_another():
    report = build_report(a_run(properties=("novelty", *PROPERTIES)))
    drawn = draw(report)["properties"].svg.decode()
    # matplotlib writes each text that it draws as paths into a comment.
    written = re.findall("<!-- (.*?) -->", drawn)
    titles = [text for text in written if text in {*PROPERTY_LABELS.values(), "novelty"}]
    assert len(titles) == len(PROPERTIES) + 1
    assert titles[3:6] == ["Mean, red", "Mean, green", "Mean, blue"]
    assert titles[6:9] == [f"Standard deviation, {name}" for name in ("red", "green", "blue")]
    assert titles[-1] == "novelty"
    assert not set(written) & set(PROPERTIES)


def test_an_axis_of_one_value_is_labelled_with_it():
    run = a_run(properties=("width", "uniformRowRatio", "sizeInBytes"))
    values = {"width": 1920.0, "uniformRowRatio": 0.0, "sizeInBytes": 163_840.0}
    same = {name: np.full(40, value) for name, value in values.items()}
    drawn = draw(build_report(replace(run, properties=same)))["properties"].svg.decode()
    written = re.findall("<!-- (.*?) -->", drawn)
    assert {"1,920", "0", "164"} <= set(written)
    assert not [text for text in written if re.search(r"e[+]|^\W\d", text)]


def test_a_handful_of_images_has_one_map_with_the_reason():
    few = build_report(a_run(5, 2))
    text = text_of(render_pdf(few, draw(few)))
    assert text.count("fewer than 8 images are too few") == 1
    assert "of the variance" not in text


def test_the_sums_add_up(ordinary):
    lines = sums(ordinary)
    totals = [line.count for line in lines if line.level == 0]
    parts = [line.count for line in lines if line.level == 1]
    assert totals[0] == parts[0] + totals[1]
    assert totals[1] == sum(parts[1:])


@pytest.fixture(scope="module")
def nasty_figures(nasty):
    return draw(nasty)


@pytest.fixture(scope="module")
def nasty():
    names = NASTY + [f"{i}.jpg" for i in range(13)]
    failures = [Failure(name + "?", Outcome.FAILED, name * 3) for name in NASTY]
    duplicates = [Duplicate(name + "+", names[i], "content") for i, name in enumerate(NASTY)]
    return build_report(
        a_run(20, 20, names=names, failures=failures, duplicates=duplicates,
              run_id="漢/" + "r" * 500, input_uri="s3://key:secret@host/" + "p" * 1000,
              config={"relevant_filenames_file": "漢" * 300,
                      "weights": "https://h/w.pt?X-Amz-Signature=geheim"})
    )  # fmt: skip


def test_foreign_names_become_neither_boxes_nor_markup_nor_overflow(nasty, nasty_figures):
    # PDF/A makes a glyph that no font has an error: that it is made says there is none.
    text = text_of(render_pdf(nasty, nasty_figures))
    assert r"\u{6f22}\u{5b57}/\u{1f600}.png" in text
    assert r"right\u{202e}to left.jpg" in text
    assert "#set page(width: 1cm)$x$*b*_i_.jpg" in text
    assert max(map(len, text.splitlines())) < 260
    assert "secret" not in text
    assert "geheim" not in text


def test_a_letter_that_no_font_has_would_be_an_error(nasty, nasty_figures, monkeypatch):
    from lightly_fs.report import lettering

    monkeypatch.setattr(lettering, "mono_letters", lambda: range(0x110000))
    with pytest.raises(RuntimeError, match="could not be displayed"):
        render_pdf(nasty, nasty_figures)


def test_foreign_names_are_text_in_the_page(nasty, nasty_figures):
    page = render_html(nasty, nasty_figures)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in page
    assert "漢字/😀.png" in page
    assert r"right\u{202e}to left.jpg" in page
    assert "\u202e" not in page
    assert "secret" not in page
    assert "geheim" not in page
    assert page.count("<script") == 1


def test_the_page_needs_nothing_from_elsewhere(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "default-src 'none'" in page


def test_the_pages_policy_allows_its_own_script_and_no_other(page):
    import base64
    import hashlib

    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#39;", "'")


def test_the_gallery_shows_every_selected_image_with_its_photograph(ordinary, page):
    items = re.findall(
        r'<li data-rank="(\d+)" data-name="([^"]+)".*?src="data:image/webp', page, re.S
    )
    names = [ordinary.given.filenames[row] for row in ordinary.sets.selected]
    assert [name for _, name in items] == names
    assert page.count("stands for, at") == len(ordinary.replaced) > 0
    assert page.count("<td>corrupt</td>") == 50


@pytest.mark.parametrize(
    ("n", "k", "options"),
    [
        (0, 0, {}),
        (1, 1, {"properties": ()}),
        (3, 1, {"dimensions": 1}),
        (12, 0, {}),
        (12, 12, {"image": lambda filename, side: None, "config": {"n_example_images": 40}}),
        (9, 3, {"image": lambda filename, side: np.zeros((side, 1, 3), np.uint8), "timings": {}}),
    ],
)
def test_degenerate_runs_have_a_report_that_says_so(n, k, options, tmp_path):
    report = build_report(a_run(n, k, **({"config": {}} | options)))
    write_report(report, tmp_path)
    text = text_of((tmp_path / "report.pdf").read_bytes())
    assert "Every image of the inventory was read and decoded" in text
    assert ("Nothing was selected" in text) == (k == 0)
    assert ("What the images are like" in text) == bool(report.properties)
    assert "None" not in (tmp_path / "report.html").read_text().replace("None of", "")


def test_only_what_differs_from_the_default_is_marked():
    marked = [key for key, _, changed in configuration(a_run().config) if changed]
    assert marked == ["stopping_condition.n_samples"]


def test_plots_are_pictures_with_content(figures):
    for name, drawing in figures.items():
        pixels = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("L"))
        assert pixels.std() > 5, name
