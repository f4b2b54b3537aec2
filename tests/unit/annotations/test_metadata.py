import math

import numpy as np
import pytest

from lightly_fs.annotations.metadata import read_metadata, video_of
from lightly_fs.errors import DatasourceError


def entry(path, kind, default):
    return {"name": path.title(), "path": path, "defaultValue": default, "valueDataType": kind}


SCHEMA = [
    entry("scene", "CATEGORICAL_STRING", "undefined"),
    entry("weather.temperature", "NUMERIC_FLOAT", 0.0),
    entry("weather.pressure", "NUMERIC_INT", -1),
    entry("vehicle", "CATEGORICAL_INT", 0),
    entry("weather.rain", "CATEGORICAL_BOOLEAN", False),
]
SUNNY = {
    "scene": "city",
    "weather": {"temperature": 23.25, "pressure": 1, "rain": True},
    "vehicle": 321,
}


@pytest.fixture
def described(folder):
    return folder.write("metadata/schema.json", SCHEMA)


def values(found, path):
    column = found.columns[path]
    if column.entry.numeric:
        return column.values.tolist()
    return [column.labels[code] for code in column.codes]


def one(content, kind="image", **more):
    return {"type": kind, "metadata": content, **more}


def test_values_of_every_type_and_defaults_for_what_is_missing(described):
    described.write("metadata/sub/a.json", one(SUNNY, file_name="sub/a.jpg"))
    described.write("metadata/b.json", one({"weather": {"temperature": 7}, "vehicle": None}))
    described.write("metadata/c.json", one({"weather": "fine"}))

    found = read_metadata(described.files, ["b.png", "sub/a.jpg", "c.jpg", "none.jpg"])

    assert list(found.columns) == [line["path"] for line in SCHEMA]
    assert values(found, "scene") == ["undefined", "city", "undefined", "undefined"]
    assert found.columns["scene"].labels == ("city", "undefined")
    assert found.columns["scene"].codes.dtype == np.int32
    assert values(found, "weather.temperature") == [7.0, 23.25, 0.0, 0.0]
    assert found.columns["weather.temperature"].values.dtype == np.float64
    assert values(found, "weather.pressure") == [-1, 1, -1, -1]
    assert values(found, "vehicle") == ["0", "321", "0", "0"]
    assert values(found, "weather.rain") == ["false", "true", "false", "false"]
    assert found.described.tolist() == [True, True, True, False]
    assert found.columns["scene"].entry.name == "Scene"


@pytest.mark.parametrize(
    ("kind", "given", "label"),
    [
        ("CATEGORICAL_DATETIME", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("CATEGORICAL_TIMESTAMP", 1767323045000, "1767323045000"),
        ("OTHER_STRING", "free text", "free text"),
        ("CATEGORICAL_INT", 3.0, "3"),
        ("CATEGORICAL_STRING", "", ""),
    ],
)
def test_further_categorical_types(folder, kind, given, label):
    folder.write("metadata/schema.json", [entry("x", kind, None)])
    folder.write("metadata/a.json", one({"x": given}))

    found = read_metadata(folder.files, ["a.jpg", "b.jpg"])

    assert values(found, "x") == [label, "null"]


@pytest.mark.parametrize(
    "kind", ["NUMERIC_INT", "NUMERIC_FLOAT", "NUMERICAL_INT", "NUMERICAL_FLOAT"]
)
def test_both_spellings_of_numbers_and_no_default(folder, kind):
    folder.write("metadata/schema.json", [entry("x", kind, None)])
    folder.write("metadata/a.json", one({"x": 4.0}))

    number, default = values(read_metadata(folder.files, ["a.jpg", "b.jpg"]), "x")

    assert number == 4
    assert math.isnan(default)


FRAMES = ["sub/v-000-mp4.png", "sub/v-001-mp4.png", "sub/v-099-mp4.png", "v-0-mp4.png"]


def test_the_metadata_of_a_video_is_that_of_its_frames_unless_they_have_their_own(described):
    described.write("metadata/sub/v.json", one(SUNNY, "video", file_name="sub/v.mp4"))
    described.write("metadata/sub/v-099-mp4.json", one({"scene": "tunnel"}, "frame"))

    found = read_metadata(described.files, FRAMES)

    assert values(found, "scene") == ["city", "city", "tunnel", "undefined"]
    assert found.described.tolist() == [True, True, True, False]
    assert found.unmatched == 0


def test_an_image_and_a_video_of_one_name_are_told_apart_by_the_type(described):
    described.write("metadata/v.json", one({"scene": "image"}))
    assert values(read_metadata(described.files, ["v.png", "v-0-mp4.png"]), "scene") == [
        "image",
        "undefined",
    ]

    described.write("metadata/v.json", one({"scene": "video"}, "video"))
    assert values(read_metadata(described.files, ["v.png", "v-0-mp4.png"]), "scene") == [
        "undefined",
        "video",
    ]


def test_two_videos_of_one_name_need_the_file_name(described):
    frames = ["v-0-mp4.png", "v-0-MOV.png", "w-0-mp4.png"]
    described.write("metadata/w.json", one({"scene": "w"}, "video"))
    described.write("metadata/v.json", one({"scene": "v"}, "video"))
    found = read_metadata(described.files, frames)
    assert [bad.reason for bad in found.invalid] == [
        "$.file_name: missing, but the file is that of `v.MOV` and `v.mp4`; write the video's path"
    ]

    described.write("metadata/v.json", one({"scene": "v"}, "video", file_name="v.MOV"))
    assert values(read_metadata(described.files, frames), "scene") == ["undefined", "v", "w"]


@pytest.mark.parametrize(
    ("filename", "video"),
    [
        ("a/v-007-mp4.png", "a/v.mp4"),
        ("a/v-1-7-webm.png", "a/v-1.webm"),
        ("a/v-7-jpg.png", None),
        ("a/v-mp4.png", None),
        ("-7-mp4.png", None),
    ],
)
def test_frames_name_their_video(filename, video):
    assert video_of(filename) == video


BROKEN = [
    ("{'type': 'image'}", "$: no JSON, object keys must be strings (byte 1); "
     "write the file again as JSON "
     "(which has no NaN, no comments, no trailing commas)"),
    ({"type": "image"}, "$.metadata: missing; write an object with the values"),
    ({"type": "picture", "metadata": {}}, "$.type: invalid enum value 'picture'; "
     "write image, video or frame"),
    ({"type": "video", "metadata": {}}, "$.type: video, but the file is that of `a.jpg`; "
     "write image"),
    ({"metadata": {}, "file_name": "b.jpg"}, "$.file_name: `b.jpg`, but the file is that of "
     "`a.jpg`; write the sample's path below the input, or leave it out"),
    (one({"weather": {"temperature": "warm"}}), "$.metadata.weather.temperature: \"warm\" is not "
     "a number; write a number, or change valueDataType in .lightly/metadata/schema.json"),
    (one({"weather": {"temperature": True}}), "$.metadata.weather.temperature: true is not "
     "a number; write a number, or change valueDataType in .lightly/metadata/schema.json"),
    (one({"weather": {"pressure": 1.5}}), "$.metadata.weather.pressure: 1.5 is not a whole "
     "number; write a whole number, or change valueDataType in .lightly/metadata/schema.json"),
    (one({"scene": 5}), "$.metadata.scene: 5 is not a text; "
     "write a text, or change valueDataType in .lightly/metadata/schema.json"),
    (one({"weather": {"rain": 1}}), "$.metadata.weather.rain: 1 is not true or false; "
     "write true or false, or change valueDataType in .lightly/metadata/schema.json"),
    ('{"metadata": {"weather": {"pressure": 1' + "0" * 400 + "}}}",
     "$.metadata.weather.pressure: 1" + "0" * 39 + " is not a whole number below 1e308; "
     "write a whole number below 1e308, or change valueDataType in "
     ".lightly/metadata/schema.json"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), BROKEN)
def test_a_broken_file_is_listed_and_its_sample_has_the_defaults(described, content, reason):
    described.write("metadata/a.json", content).write("metadata/b.json", one(SUNNY))

    found = read_metadata(described.files, ["a.jpg", "b.jpg"])

    assert [(bad.path, bad.reason) for bad in found.invalid] == [
        (".lightly/metadata/a.json", reason)
    ]
    assert values(found, "scene") == ["undefined", "city"]
    assert values(found, "weather.temperature") == [0.0, 23.25]


BROKEN_SCHEMAS = [
    ({}, "$: expected `array`, got `object`; "
     "write a list of objects with name, path, defaultValue and valueDataType"),
    ([entry("lightly.sharpness", "NUMERIC_FLOAT", 0)], "$[0].path: `lightly.sharpness` starts "
     "with `lightly`, which is kept for measured properties; use another name"),
    ([entry("a", "NUMERIC", 0)], "$[0].valueDataType: `NUMERIC` is no type; write one of "
     "NUMERIC_INT, NUMERIC_FLOAT, CATEGORICAL_INT, CATEGORICAL_STRING, CATEGORICAL_BOOLEAN, "
     "CATEGORICAL_DATETIME, CATEGORICAL_TIMESTAMP, OTHER_STRING"),
    ([entry("a", "NUMERIC_INT", "none")], '$[0].defaultValue: "none" is not a whole number; '
     "write a whole number, or change valueDataType in .lightly/metadata/schema.json"),
    ([entry("a", "NUMERIC_INT", 0), entry("a", "NUMERIC_INT", 0)],
     "$[1].path: `a` is there twice; take one out"),
    ([{"name": "a", "path": "a", "valueDataType": "NUMERIC_INT"}],
     "$[0].defaultValue: missing; write the value of samples without metadata, or null"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "reason"), BROKEN_SCHEMAS)
def test_a_broken_schema_stops_with_place_and_fix(folder, schema, reason):
    folder.write("metadata/schema.json", schema)

    with pytest.raises(DatasourceError) as caught:
        read_metadata(folder.files, ["a.jpg"])

    assert caught.value.message == f".lightly/metadata/schema.json is invalid: {reason}"


def test_no_schema_is_an_error(folder):
    with pytest.raises(DatasourceError, match=r"metadata/schema\.json is not there, so the bucket"):
        read_metadata(folder.files, ["a.jpg"])


def test_all_invalid_is_an_error_but_no_file_at_all_gives_defaults(described):
    assert values(read_metadata(described.files, ["a.jpg"]), "scene") == ["undefined"]

    described.write("metadata/a.json", {"type": "image"})
    described.write("metadata/other.json", one(SUNNY))
    with pytest.raises(DatasourceError) as caught:
        read_metadata(described.files, ["a.jpg"])
    assert caught.value.message == (
        "not one of 1 metadata files is valid, the first is .lightly/metadata/a.json: "
        "$.metadata: missing; write an object with the values"
    )


def test_files_of_no_sample_are_counted(described):
    described.write("metadata/a.json", one(SUNNY)).write("metadata/zz/b.json", one(SUNNY))

    assert read_metadata(described.files, ["a.jpg"]).unmatched == 1
