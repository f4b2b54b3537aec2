import json

import pytest

from lightly_fs.annotations.files import SourceFiles
from lightly_fs.annotations.metadata import read_metadata
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure


def test_a_prefix_names_a_file_a_folder_or_nothing(folder):
    for name in ("a.json", "b/c.json", "b/d/e.json", "bb/f.json"):
        folder.write(f"x/{name}", {})
    files = folder.files

    assert sorted(files.list(".lightly/x/")) == [
        ".lightly/x/a.json",
        ".lightly/x/b/c.json",
        ".lightly/x/b/d/e.json",
        ".lightly/x/bb/f.json",
    ]
    assert sorted(files.list(".lightly/x/b/")) == [".lightly/x/b/c.json", ".lightly/x/b/d/e.json"]
    assert files.list(".lightly/x/a.json") == [".lightly/x/a.json"]
    assert files.list(".lightly/y/") == []
    assert files.list(".lightly/x/a.json/z") == []


def test_files_come_in_the_order_they_were_asked_for(folder):
    for number in range(30):
        folder.write(f"x/{number}.json", number)
    files = folder.files
    paths = sorted(files.list(".lightly/x/"), key=lambda path: path[::-1])
    (folder.root / paths[3]).unlink()

    found = list(files.read([*paths, ".lightly/x/nothing.json"]))

    assert isinstance(found[3], Failure)
    assert isinstance(found[-1], Failure)
    assert [bytes(data).decode() for number, data in enumerate(found[:-1]) if number != 3] == [
        path.removeprefix(".lightly/x/").removesuffix(".json")
        for number, path in enumerate(paths)
        if number != 3
    ]


def test_a_file_that_cannot_be_read_is_listed_and_the_run_goes_on(folder):
    folder.task("t", "classification", ["a"])
    for name in ("a", "b"):
        folder.predict("t", f"{name}.json", {"category_id": 0})

    class Changing(SourceFiles):
        """Deletes a file between listing and reading, as other people do."""

        def read(self, paths):
            if ".lightly/predictions/t/a.json" in paths:
                (folder.root / ".lightly/predictions/t/a.json").unlink()
            return super().read(paths)

    files = Changing(Source("", folder.root), DirectoryReader(folder.root))
    found = read_predictions(files, "t", ["a.jpg", "b.jpg"])

    assert found.predicted.tolist() == [False, True]
    assert found.invalid[0].reason == "$: cannot be read, deleted during the run"


def test_a_source_without_a_place_is_refused():
    with pytest.raises(DatasourceError, match="has neither a directory nor a bucket"):
        SourceFiles(Source("nowhere", None), None).list(".lightly/")  # type: ignore[arg-type]


@pytest.mark.s3
def test_annotations_in_a_bucket_below_a_prefix(s3, bucket):
    schema = {"task_type": "object-detection", "categories": [{"id": 4, "name": "car"}]}
    car = {"category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}
    entry = {"name": "a", "path": "a", "defaultValue": 0, "valueDataType": "NUMERIC_INT"}
    objects = {
        "predictions/tasks.json": ["t"],
        "predictions/t/schema.json": schema,
        "predictions/t/sub/ä b.json": {"predictions": [car]},
        "predictions/t2/ignored.json": {},
        "metadata/schema.json": [entry],
        "metadata/sub/ä b.json": {"type": "image", "metadata": {"a": 7}},
    } | {f"predictions/t/{number}.json": {"predictions": []} for number in range(40)}
    client = s3.client()
    for key, content in objects.items():
        client.put_object(
            Bucket=bucket, Key=f"in/.lightly/{key}", Body=json.dumps(content).encode()
        )
    credentials = Credentials(s3.access_key, s3.secret_key)
    place = Bucket(bucket, "in/", s3.url, "us-east-1", path_style=True, credentials=credentials)
    reader = ObjectReader(ObjectStore(place))
    names = ["sub/ä b.jpg", *(f"{number}.png" for number in range(41))]
    try:
        files = SourceFiles(Source(place.uri, None, place), reader)
        found = read_predictions(files, "t", names)
        described = read_metadata(files, names)
    finally:
        reader.close()

    assert found.predicted.tolist() == [True] * 41 + [False]
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert found.unmatched == 0
    assert described.columns["a"].values.tolist() == [7] + [0] * 41
