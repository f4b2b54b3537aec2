"""The report of a run: `build_report` computes values, `write_report` writes the files."""

from __future__ import annotations

from pathlib import Path

from lightly_fs.report.build import Report, ReportInput, build_report

__all__ = ["Report", "ReportInput", "build_report", "write_report"]


def write_report(report: Report, directory: Path) -> None:
    """Write `report.pdf`, `report.html`, `report_v2.json` and `plots/*.png` below `directory`."""
    from lightly_fs.report.figures import draw
    from lightly_fs.report.html import render_html
    from lightly_fs.report.json_v2 import render_json
    from lightly_fs.report.pdf import render_pdf

    plots = directory / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    figures = draw(report)
    for name, figure in figures.items():
        (plots / f"{name}.png").write_bytes(figure.png)
    (directory / "report_v2.json").write_text(render_json(report), encoding="utf-8")
    (directory / "report.html").write_text(render_html(report, figures), encoding="utf-8")
    (directory / "report.pdf").write_bytes(render_pdf(report, figures))
