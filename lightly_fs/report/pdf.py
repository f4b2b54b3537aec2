"""`report.pdf`: the report's values as data for `template.typ`, set by typst as PDF/A-2b."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from lightly_fs.report import distance_words, lettering, run_words, summary
from lightly_fs.report import sections as parts
from lightly_fs.report.blocks import (
    Block,
    Cell,
    Charts,
    Foreign,
    Heading,
    Photos,
    Section,
    Table,
    Words,
)
from lightly_fs.report.build import Report
from lightly_fs.report.charts import Drawing
from lightly_fs.report.examples import Pair
from lightly_fs.report.fates import removal
from lightly_fs.report.frames import caption, failure_lines, few_of_each_video, file_label
from lightly_fs.report.savings import ASSUMPTIONS
from lightly_fs.report.thumbnails import Pixels, encode
from lightly_fs.report.training import training_rows, training_words

Json = dict[str, Any]

MAX_SELECTED = 20
MAX_FIRST = 12
MAX_FAILURES = 24
_PICTURE = 480


def render_pdf(report: Report, figures: Mapping[str, Drawing]) -> bytes:
    """Return the document. The same report gives the same bytes.

    PDF/A-2b makes a glyph that no font has an error; text that might have one is escaped before.
    """
    import typst

    with tempfile.TemporaryDirectory(prefix="lightly-fs-report-") as name:
        folder = Path(name)
        source = folder / "report.typ"
        source.write_bytes(resources.files(__package__).joinpath("template.typ").read_bytes())
        for figure, drawing in figures.items():
            if drawing.svg is not None:
                (folder / f"{figure}.svg").write_bytes(drawing.svg)
            elif figure.startswith("scatter_"):
                (folder / f"{figure}.png").write_bytes(drawing.png)
        data = _data(report, figures, _Photos(report, folder))
        (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
        # These fonts only: any other that is found would be one whose letters we do not know.
        fonts = typst.Fonts(
            include_system_fonts=False,
            include_embedded_fonts=False,
            font_paths=[lettering.FONTS, _mono_fonts(folder / "fonts")],
        )
        compiler = typst.Compiler(input=source, root=folder, font_paths=fonts)
        finished = int(report.given.facts.finished)
        made = compiler.compile(format="pdf", pdf_standards="a-2b", timestamp=finished)
        assert isinstance(made, bytes)  # noqa: S101 - without an output path it is
        return made


def _mono_fonts(folder: Path) -> Path:
    """Put the fonts of foreign text, regular and bold, into a folder of their own."""
    folder.mkdir()
    for font in (lettering.mono_font(), lettering.mono_font(bold=True)):
        shutil.copyfile(font, folder / font.name)
    return folder


class _Photos:
    """Writes thumbnails beside the document, each once, and tells their names."""

    def __init__(self, report: Report, folder: Path) -> None:
        self._thumbnails = report.thumbnails
        self._folder = folder
        self._names: dict[str, str] = {}
        self._n_pictures = 0

    def __call__(self, filename: str) -> str | None:
        if filename not in self._thumbnails:
            return None
        if filename not in self._names:
            self._names[filename] = f"photo-{len(self._names)}.jpg"
            path = self._folder / self._names[filename]
            path.write_bytes(encode(self._thumbnails[filename], "JPEG"))
        return self._names[filename]

    def picture(self, pixels: Pixels) -> str:
        """Write a picture that is no thumbnail of a file."""
        self._n_pictures += 1
        name = f"picture-{self._n_pictures}.jpg"
        (self._folder / name).write_bytes(encode(pixels, "JPEG", _PICTURE))
        return name


def _text(text: str, width: int) -> str:
    return lettering.shown(text, width, lettering.mono_letters())


def _data(report: Report, figures: Mapping[str, Drawing], photo: _Photos) -> Json:
    facts = report.given.facts
    return {
        "title": summary.headline(report),
        "lead": summary.lead(report),
        "run": _text(facts.run_id, 60),
        "input": _text(lettering.without_secrets(facts.input_uri), 100),
        "finished": run_words.when(facts.finished),
        "flow": [_line(line) for line in summary.flow(report)],
        "sums": [_line(line) for line in summary.sums(report)],
        "cards": [
            {"label": card.label, "value": card.value, "note": card.note}
            for card in summary.cards(report)
        ],
        "stages": summary.stages(report),
        "reading": summary.reading(report),
        "savings": summary.savings_rows(report),
        "assumptions": ASSUMPTIONS,
        "findings": distance_words.findings(report),
        "distances": distance_words.distance_rows(report),
        "sets": distance_words.set_rows(report),
        "notes": list(report.notes),
        "properties": "properties" in figures,
        "training_words": training_words(report.given.training),
        "training": training_rows(report.given.training),
        **_sections(report, figures, photo),
        **_maps(report),
        **_examples(report, photo),
        **_left_out(report, photo),
        **_run(report),
    }


def _sections(report: Report, figures: Mapping[str, Drawing], photo: _Photos) -> Json:
    made = parts.sections(report, figures)
    return {
        "how": [_section(section, photo) for section in made.how],
        "looked_at": [_section(section, photo) for section in made.looked_at],
        "more_left_out": [_block(block, photo) for block in made.left_out],
    }


def _section(section: Section, photo: _Photos) -> Json:
    return {"title": section.title, "blocks": [_block(block, photo) for block in section.blocks]}


def _block(block: Block, photo: _Photos) -> Json:
    match block:
        case Words():
            return {"kind": "words", "text": block.text, "small": block.small}
        case Heading():
            about = None if block.about is None else _cell(block.about)
            return {"kind": "heading", "text": block.text, "about": about}
        case Table():
            rows = [[_cell(cell) for cell in row] for row in block.rows]
            head = list(block.head)
            return {"kind": "table", "head": head, "rows": rows, "n_left": block.n_left}
        case Charts():
            charts = [
                {"file": f"{one.name}.svg", "caption": one.caption, "title": _cell(one.title)}
                for one in block.charts
            ]
            return {"kind": "charts", "charts": charts, "columns": block.columns}
        case Photos():
            photos = [
                {
                    "file": photo(one.picture)
                    if isinstance(one.picture, str)
                    else photo.picture(one.picture),
                    "name": _text(one.name.text, one.name.width),
                    "note": one.note,
                }
                for one in block.photos
            ]
            return {"kind": "photos", "photos": photos, "columns": block.columns,
                    "height": block.height, "whole": block.whole}  # fmt: skip


def _cell(cell: Cell) -> Json:
    if isinstance(cell, Foreign):
        return {"text": _text(cell.text, cell.width), "foreign": True, "before": cell.before}
    return {"text": cell, "foreign": False}


def _line(line: summary.Line) -> Json:
    return {
        "label": line.label,
        "count": line.count,
        "text": f"{line.count:,}",
        "share": line.share,
        "level": line.level,
        "kind": line.kind,
    }


def _maps(report: Report) -> Json:
    names = {"pca": "scatter_pca", "pacmap": "scatter_pacmap"}
    n_selected = len(report.sets.selected)
    words = "Some of the selected ones are shown as photographs, each at its place."
    # For a handful of images the second map is the first; its words tell why.
    methods = {f"{names[drawn.key]}.png": f"{drawn.method}." for drawn in report.maps}
    return {
        "map_words": words if n_selected else "None was selected.",
        "maps": [{"file": file, "method": method} for file, method in methods.items()],
    }


def _examples(report: Report, photo: _Photos) -> Json:
    names = report.given.filenames
    rows = report.shown[:MAX_SELECTED].tolist()
    first = few_of_each_video(report.given, report.shown, MAX_FIRST).tolist()
    return {
        "first": [photo(names[row]) for row in first],
        "first_words": summary.first_words(report),
        "selected_words": f"{summary.chosen_words(report, len(rows))}.",
        "selected": [
            {
                "file": photo(names[row]),
                "name": _text(caption(report.given, row), 25),
                "note": _pick(rank, float(report.distances[rank])),
            }
            for rank, row in enumerate(rows)
        ],
        "pairs_words": distance_words.pairs_words(report),
        "pairs": [_pair(report, pair, photo) for pair in report.pairs],
    }


def _pick(rank: int, distance: float) -> str:
    return f"{rank + 1} · {distance:.3f}" if math.isfinite(distance) else f"{rank + 1}"


def _pair(report: Report, pair: Pair, photo: _Photos) -> Json:
    left, right = (report.given.filenames[row] for row in (pair.selected, pair.removed))
    return {
        "left": photo(left),
        "right": photo(right),
        "left_name": _text(caption(report.given, pair.selected), 42),
        "right_name": _text(caption(report.given, pair.removed), 42),
        "note": removal(report.fates[pair.removed], pair.distance),
    }


def _left_out(report: Report, photo: _Photos) -> Json:
    failures = report.given.failures
    lines = failure_lines(failures)[:MAX_FAILURES]
    more = len(failures) - sum(line.count for line in lines)
    return {
        "duplicates_words": summary.duplicates_words(report),
        "duplicates": [
            {
                "left": photo(each.original),
                "right": photo(each.filename),
                "left_name": _text(file_label(report.given, each.original), 42),
                "right_name": _text(file_label(report.given, each.filename), 42),
                "note": _text(summary.same(each), 40),
            }
            for each in report.duplicates
        ],
        "failure_counts": [
            (outcome, f"{count:,}", name) for outcome, count, name in summary.failure_counts(report)
        ],
        "failures": [
            (_text(line.name, 62), line.outcome.value, _text(line.reason, 56)) for line in lines
        ],
        "failures_words": f"{more:,} more {'is' if more == 1 else 'are'} in the lists."
        if more > 0
        else "",
        "nothing_left_out": summary.nothing_left_out(report),
    }


def _run(report: Report) -> Json:
    return {
        "facts": [(key, _text(value, 92)) for key, value in run_words.run_rows(report)],
        "model": [(key, _text(value, 92)) for key, value in run_words.model_rows(report)],
        "config": [
            (_text(key, 34), _text(value, 30), changed)
            for key, value, changed in run_words.configuration(report.given.config)
        ],
    }
