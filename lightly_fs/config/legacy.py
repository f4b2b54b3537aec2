"""Keys of the container that we replace which a run does not have (any more, or yet).

A key is accepted with the values that ask for nothing; any other value is an error that says why.
"""

from __future__ import annotations

from typing import Any

_ALWAYS_ON = "is always on"
_LATER = "is not part of this version"
_PLATFORM = "needs the platform, which is not part of this version"

_COUNTED = "cannot be honoured: frames are counted by decoding them, containers are often wrong"

_TASK = "is an EMBEDDINGS input with that `task` in `selection_config` now"
_SCORES = "is a SCORES input in `selection_config` now"

IGNORED = ("token",)
"""Accepted with any value: existing commands carry them."""

HARMLESS: dict[str, tuple[tuple[Any, ...], str]] = {
    "worker.worker_id": (("",), _PLATFORM),
    "worker_id": (("",), _PLATFORM),
    "worker.force_start": ((True, False), _PLATFORM),
    "enable_corruptness_check": ((True,), f"{_ALWAYS_ON} and cannot be switched off"),
    "corruptness_check.corruption_threshold": (
        (0.1,),
        "belongs to a check that is now a threshold on the measured `lightly.uniformRowRatio`",
    ),
    "remove_exact_duplicates": ((True,), f"{_ALWAYS_ON} and cannot be switched off"),
    "upload_dataset": ((False,), _PLATFORM),
    "upload_report": ((True, False), _PLATFORM),
    "pretagging_upload": ((False,), _PLATFORM),
    "append_weak_labels": ((False,), _LATER),
    "scorer": (("object-frequency", ""), _SCORES),
    "scorer_config.frequency_penalty": ((0.25,), _SCORES),
    "scorer_config.min_score": ((0.9,), _SCORES),
    "datapool.dataset_id": (("",), _PLATFORM),
    "datasource.dataset_id": (("",), _PLATFORM),
    "datasource.id": (("",), _PLATFORM),
    "datasource.use_frame_count_metadata": ((False,), _COUNTED),
    "datasource.use_redirected_read_url": ((False,), _PLATFORM),
    "datasource.bypass_verify": ((False,), _PLATFORM),
    "active_learning.task_name": (("",), _SCORES),
    "active_learning.score_name": (("uncertainty_margin", ""), _SCORES),
    "active_learning_score_column_name": (("",), _SCORES),
    "masked_out_column_name": (("",), _LATER),
    "existing_selection_column_name": (("",), _LATER),
    "use_video_reader_backend": ((False,), "is gone: PyAV decodes all videos"),
    "object_level.task_name": (("",), _TASK),
    "object_level.crop_dataset_name": (("",), _TASK),
    "object_level.padding": ((0.0,), "is now `crops.padding`"),
    "lightly.resize": ((-1, ""), _PLATFORM),
    "lightly.upload": (("", None), _PLATFORM),
}


def refuse_reason(key: str, value: object) -> str | None:
    """Return why `key=value` cannot be honoured, or None when it asks for nothing.

    Raises:
        KeyError: The container never had this key.
    """
    if key in IGNORED:
        return None
    accepted, reason = HARMLESS[key]
    same = any(type(value) is type(one) and value == one for one in accepted)
    numeric = not isinstance(value, bool) and isinstance(value, int | float) and value in accepted
    return None if same or numeric or value is None else reason
