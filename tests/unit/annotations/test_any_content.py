"""Whatever a file holds, it is either read or refused with a place and a reason."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.annotations.metadata import read_metadata
from lightly_fs.annotations.predictions import PredictionReader
from lightly_fs.annotations.reading import InvalidContentError
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType

from .folder import LightlyFolder

numbers = st.integers() | st.floats() | st.just(10**400)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=4)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
rows = st.lists(numbers, max_size=6) | anything
singletons = st.fixed_dictionaries(
    {},
    optional={
        "category_id": st.sampled_from([0, 4]) | anything,
        "bbox": st.lists(numbers, min_size=4, max_size=4) | rows,
        "score": st.floats(0, 1) | anything,
        "probabilities": st.just([0.5, 0.5]) | rows,
        "segmentation": st.lists(st.integers(0, 9)) | rows,
        "keypoints": st.lists(numbers, min_size=3, max_size=6) | rows,
    },
)
contents = st.fixed_dictionaries(
    {"predictions": st.lists(singletons, max_size=3) | anything},
    optional={"file_name": st.just("a.jpg") | anything},
)


@pytest.mark.parametrize("task_type", list(TaskType))
@given(content=contents | anything)
def test_predictions(task_type, content):
    reader = PredictionReader(TaskSchema("t", task_type, (Category(0, "a"), Category(4, "b"))))

    refused = ""
    try:
        objects = reader.read(json.dumps(content).encode(), "a.jpg")
    except InvalidContentError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("$")
    else:
        assert len(objects) == len(content["predictions"])
        assert all(math.isfinite(value) for one in objects for value in one.box or ())


@given(st.binary(max_size=40))
def test_bytes(data):
    reader = PredictionReader(TaskSchema("t", TaskType.CLASSIFICATION, (Category(0, "a"),)))

    with pytest.raises(InvalidContentError, match=r"^\$"):
        reader.read(data, "a.jpg")


TYPES = ["NUMERIC_INT", "NUMERIC_FLOAT", "CATEGORICAL_INT", "CATEGORICAL_BOOLEAN", "OTHER_STRING"]


@given(value=anything, metadata=anything, kind=st.sampled_from(TYPES))
def test_metadata(tmp_path_factory, value, metadata, kind):
    folder = LightlyFolder(tmp_path_factory.mktemp("bucket"))
    line = {"name": "v", "path": "v", "defaultValue": None, "valueDataType": kind}
    folder.write("metadata/schema.json", [line])
    folder.write("metadata/a.json", {"metadata": {"v": value}})
    folder.write("metadata/b.json", {"metadata": metadata})
    folder.write("metadata/c.json", {"metadata": {}})

    found = read_metadata(folder.files, ["a.jpg", "b.jpg", "c.jpg"])

    assert found.described[2]
    assert len(found.invalid) == 3 - found.described.sum()
