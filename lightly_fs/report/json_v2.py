"""`report_v2.json`: the schema `ReportV2` of the published client, field by field.

`datasetAnalysis` holds nothing of the run itself (no times, no paths of ours): a resumed run writes
the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import json

from lightly_fs import __version__
from lightly_fs.report.build import Report
from lightly_fs.report.json_embeddings import embedding_information
from lightly_fs.report.json_inputs import metadata, prediction_tasks
from lightly_fs.report.json_values import Json, number
from lightly_fs.types import Outcome, frame_of, is_video


def render_json(report: Report) -> str:
    """Return the document as text; keys in the schema's order, six significant digits."""
    document = {
        "generalInformation": _general(report),
        "datasetAnalysis": _analysis(report),
        "predictionTaskInformation": prediction_tasks(report),
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"


def _general(report: Report) -> Json:
    given = report.given
    facts, counts, names = given.facts, given.counts, given.filenames
    earlier = () if given.preselected is None else given.preselected.filenames
    return {
        "workerInformation": {"buildTime": "", "buildVersion": f"lightly-fs {__version__}"},
        "runInformation": {
            "startTimestamp": facts.started,
            "endTimestamp": facts.finished,
            "totalProcessingTimeS": number(facts.finished - facts.started),
            "runId": facts.run_id,
            "runUrl": "",
        },
        "datasetInformation": {
            "datasetSizes": {
                "nInput": counts.samples,
                "nCorrupt": counts.corrupt,
                "nDuplicate": counts.duplicate,
                "nRemoved": counts.removed,
                "nSelected": counts.selected,
                "nPreselectedDatapool": len(earlier),
                "nSelectedWithDatapool": counts.selected + len(earlier),
            },
            **_video_sizes(report),
            "datasetId": "",
            "datasetUrl": facts.input_uri,
            "datasetName": facts.input_uri.rstrip("/").rsplit("/", 1)[-1],
        },
        "annotationSavings": {
            key: {
                "costSavings": number(saved.dollars),
                "co2Savings": number(saved.kilograms_co2),
            }
            for key, saved in report.savings.items()
        },
        "selectedAndRemovedImageExamples": [
            {
                "selectedImage": names[pair.selected],
                "removedImage": names[pair.removed],
                "distance": number(pair.distance),
            }
            for pair in report.pairs
        ],
    }


def _video_sizes(report: Report) -> Json:
    """Return the same sizes for whole videos; nothing where there are none.

    A video is selected when one of its frames is, and a duplicate when all of them are.
    """
    videos = report.given.videos
    lost = [one for one in report.given.failures if one.frame is None and is_video(one.filename)]
    if not videos and not lost:
        return {}
    selected = {one.facts.filename for one in videos if one.selected}
    frames = () if report.given.preselected is None else report.given.preselected.filenames
    before = {frame[0] for frame in map(frame_of, frames) if frame is not None}
    twice = sum(one.embedded == one.duplicates > 0 for one in videos)
    return {
        "videoLevelSizes": {
            "nInput": len(videos) + len(lost),
            "nCorrupt": sum(one.outcome is Outcome.CORRUPT for one in lost),
            "nDuplicate": twice,
            "nRemoved": len(videos) - len(selected) - twice,
            "nSelected": len(selected),
            "nPreselectedDatapool": len(before),
            "nSelectedWithDatapool": len(before | selected),
        }
    }


def _analysis(report: Report) -> Json:
    return {
        "embeddingInformation": embedding_information(
            report.statistics, report.maps, report.sets, report.given.filenames.__getitem__
        ),
        "metadataInformation": metadata(report),
    }
