"""`report.html`: one file with everything inside, escaped by jinja, without the network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from lightly_fs import __version__
from lightly_fs.report import distance_words, lettering, run_words, summary
from lightly_fs.report import sections as parts
from lightly_fs.report.blocks import (
    Block,
    Cell,
    Charts,
    Foreign,
    Heading,
    Photo,
    Photos,
    Section,
    Table,
    Words,
)
from lightly_fs.report.build import Report
from lightly_fs.report.charts import Drawing
from lightly_fs.report.examples import Pair
from lightly_fs.report.fates import removal
from lightly_fs.report.frames import caption, failure_lines, file_label, video_of
from lightly_fs.report.savings import ASSUMPTIONS
from lightly_fs.report.thumbnails import encode
from lightly_fs.report.training import training_rows, training_words

Values = dict[str, Any]

MAX_FAILURES = 1_000
_SIDE, _PICTURE = 208, 480
_WIDTH = 400
"""Characters of a name; longer ones lose their middle."""


def render_html(report: Report, figures: Mapping[str, Drawing]) -> str:
    """Return the page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    package = resources.files(__package__)
    script = package.joinpath("gallery.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(package.joinpath("template.html").read_text(encoding="utf-8"))
    photos = _Photos(report)
    return page.render(
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=f"sha256-{digest}",
        **_summary(report),
        **_sections(report, figures, photos),
        **_charts(report, figures),
        **_gallery(report, photos),
        **_left_out(report, photos),
        **_run(report),
    )


class _Photos:
    """Thumbnails as data URLs, each encoded once."""

    def __init__(self, report: Report) -> None:
        self._thumbnails = report.thumbnails
        self._made: dict[str, str] = {}

    def __call__(self, filename: str) -> str:
        if filename not in self._thumbnails:
            return ""
        if filename not in self._made:
            data = encode(self._thumbnails[filename], "WEBP", _SIDE)
            self._made[filename] = _url(data, "image/webp")
        return self._made[filename]


def _sections(report: Report, figures: Mapping[str, Drawing], photos: _Photos) -> Values:
    made = parts.sections(report, figures)

    def section(one: Section) -> Values:
        blocks = [_block(block, figures, photos) for block in one.blocks]
        return {"key": one.key, "title": one.title, "short": one.short, "blocks": blocks}

    return {
        "how": [section(one) for one in made.how],
        "looked_at": [section(one) for one in made.looked_at],
        "more_left_out": [_block(block, figures, photos) for block in made.left_out],
    }


def _block(block: Block, figures: Mapping[str, Drawing], photos: _Photos) -> Values:
    match block:
        case Words():
            return {"kind": "words", "text": block.text, "small": block.small}
        case Heading():
            about = "" if block.about is None else _text(block.about.text)
            return {"kind": "heading", "text": block.text, "about": about}
        case Table():
            rows = [[_cell(cell) for cell in row] for row in block.rows]
            return {"kind": "table", "head": block.head, "rows": rows, "n_left": block.n_left}
        case Charts():
            charts = [
                _chart(figures[one.name], one.caption) | {"title": _cell(one.title)}
                for one in block.charts
            ]
            return {"kind": "charts", "charts": charts, "columns": block.columns}
        case Photos():
            shown = [_photo(one, photos) for one in block.photos]
            return {"kind": "photos", "photos": shown, "columns": block.columns}


def _cell(cell: Cell) -> Values:
    if isinstance(cell, Foreign):
        return {"text": _text(cell.text), "foreign": True, "before": cell.before}
    return {"text": cell, "foreign": False}


def _photo(one: Photo, photos: _Photos) -> Values:
    picture = one.picture
    if isinstance(picture, str):
        source = photos(picture)
    else:
        source = _url(encode(picture, "WEBP", _PICTURE), "image/webp")
    return {"source": source, "name": _text(one.name.text), "note": one.note}


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _text(text: str) -> str:
    return lettering.shown(text, _WIDTH)


def _summary(report: Report) -> Values:
    facts = report.given.facts
    return {
        "title": summary.headline(report),
        "lead": summary.lead(report),
        "run": _text(facts.run_id),
        "input": _text(lettering.without_secrets(facts.input_uri)),
        "mounted_at": _text(report.given.mounted_at),
        "finished": run_words.when(facts.finished),
        "flow": summary.flow(report),
        "sums": summary.sums(report),
        "cards": summary.cards(report),
        "stages": summary.stages(report),
        "reading": summary.reading(report),
        "savings": summary.savings_rows(report),
        "assumptions": ASSUMPTIONS,
        "distances": distance_words.distance_rows(report),
        "notes": report.notes,
    }


def _charts(report: Report, figures: Mapping[str, Drawing]) -> Values:
    found = distance_words.findings(report)
    captions = {
        "distance_to_nearest_neighbor": found["neighbour"],
        "distance_to_selection": found["covering"],
        "distance_distr_before": "All pairs of candidates by distance, on a logarithmic scale.",
        "distance_distr_after": f"Pairs of selected images. {found['pairwise']}",
    }
    maps = {"scatter_pca": 0, "scatter_pacmap": 1}
    return {
        "distance_charts": [_chart(figures[name], words) for name, words in captions.items()],
        "maps": [
            _chart(figures[name], f"{report.maps[index].method}.")
            for name, index in maps.items()
            if name in figures
        ],
        "properties": _chart(
            figures["properties"],
            "Shares of images by property; the outermost bars hold the values beyond them.",
        )
        if "properties" in figures
        else None,
        "training": _chart(figures["training"], training_words(report.given.training))
        if "training" in figures
        else None,
        "training_rows": training_rows(report.given.training),
    }


def _chart(drawing: Drawing, caption: str) -> Values:
    if drawing.svg is not None:
        return {"source": _url(drawing.svg, "image/svg+xml"), "caption": caption}
    return {"source": _url(drawing.png, "image/png"), "caption": caption}


def _gallery(report: Report, photos: _Photos) -> Values:
    names = report.given.filenames
    shown = report.shown.tolist()
    below = ", and below some of them the nearest image that was removed" if report.replaced else ""
    return {
        "gallery_words": f"{summary.chosen_words(report, len(shown))}{below}.",
        "gallery": [
            {
                "rank": rank,
                "name": _text(names[row]),
                "place": ""
                if video_of(report.given, row) is None
                else _text(caption(report.given, row)),
                "image": photos(names[row]),
                "order": f"{distance if math.isfinite(distance) else 1e30:.6g}",
                "distance": f"{distance:.3f}" if math.isfinite(distance) else "",
                "removed": _removed(report, report.replaced.get(row), photos),
            }
            for rank, (row, distance) in enumerate(zip(shown, report.distances, strict=True), 1)
        ],
        "pairs_words": distance_words.pairs_words(report),
        "pairs": [_pair(report, pair, photos) for pair in report.pairs],
    }


def _removed(report: Report, pair: Pair | None, photos: _Photos) -> Values | None:
    if pair is None:
        return None
    name = report.given.filenames[pair.removed]
    return {
        "name": _text(caption(report.given, pair.removed)),
        "image": photos(name),
        "distance": f"{pair.distance:.3f}",
    }


def _pair(report: Report, pair: Pair, photos: _Photos) -> Values:
    given = report.given
    left, right = (
        (photos(given.filenames[row]), caption(given, row)) for row in (pair.selected, pair.removed)
    )
    return _both(left, right, removal(report.fates[pair.removed], pair.distance))


def _both(left: tuple[str, str], right: tuple[str, str], note: str) -> Values:
    """Return two pictures beside one another, each with its name."""
    return {
        "left": left[0],
        "right": right[0],
        "left_name": _text(left[1]),
        "right_name": _text(right[1]),
        "note": note,
    }


def _left_out(report: Report, photos: _Photos) -> Values:
    listed = "; ".join(
        f"{count:,} {outcome} (all in {name})"
        for outcome, count, name in summary.failure_counts(report)
    )
    lines = failure_lines(report.given.failures)
    more = f"; the first {MAX_FAILURES:,} lines are shown" if len(lines) > MAX_FAILURES else ""
    return {
        "duplicates": [
            _both(
                (photos(each.original), file_label(report.given, each.original)),
                (photos(each.filename), file_label(report.given, each.filename)),
                summary.same(each),
            )
            for each in report.duplicates
        ],
        "duplicates_words": summary.duplicates_words(report),
        "failures": [
            (_text(line.name), line.outcome.value, _text(line.reason))
            for line in lines[:MAX_FAILURES]
        ],
        "failures_words": f"{listed}{more}.",
        "nothing_left_out": summary.nothing_left_out(report),
    }


def _run(report: Report) -> Values:
    return {
        "program": f"lightly-fs {__version__}",
        "facts": [
            (key, _text(value))
            for key, value in (*run_words.run_rows(report), *run_words.model_rows(report))
        ],
        "config": [
            (_text(key), _text(value), changed)
            for key, value, changed in run_words.configuration(report.given.config)
        ],
    }
