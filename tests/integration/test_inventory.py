"""Listing and reading real buckets: every key is accounted for, whatever its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError, MountError
from lightly_fs.types import Failure

pytestmark = pytest.mark.s3

ODD_NAMES = [
    "plain.jpg",
    "spaces and  more .jpg",
    "u\u0308ber.jpg",
    "\u00fcber.jpg",
    "pl+us%20and#hash?.jpg",
    "quotes'\"<&>.jpg",
    "//doubled.jpg",
    "a//b.jpg",
    "a/../up.jpg",
    "./dot.jpg",
    "/leading.jpg",
    "tab\there.jpg",
    "emoji😀.JPEG",
    "photo.jpg/inside.png",
    "n" * 1000 + ".jpg",
]


def known(s3, name: str, prefix: str = "") -> Bucket:
    keys = Credentials(s3.access_key, s3.secret_key)
    return Bucket(name, prefix, s3.url, "us-east-1", path_style=True, credentials=keys)


def source(bucket: Bucket) -> Source:
    return Source(bucket.uri, None, bucket)


def test_odd_keys_are_listed_exactly_and_read_whole(s3, bucket: str):
    client = s3.client()
    for name in [*ODD_NAMES, "folder/", "photo.jpg/", "notes.txt"]:
        client.put_object(Bucket=bucket, Key=f"in/{name}", Body=name.encode())
    inventory = freeze(source(known(s3, bucket, "in/")))
    assert [s.filename for s in inventory.samples()] == sorted(ODD_NAMES, key=str.encode)
    assert inventory.other_files == 1
    reader = ObjectReader(ObjectStore(known(s3, bucket, "in/")))
    read = [bytes(data) for data in reader.stream(inventory.samples())]
    reader.close()
    assert read == [s.filename.encode() for s in inventory.samples()]


def test_the_listing_and_the_walk_agree(s3, bucket: str, images: Path):
    client = s3.client()
    for path in sorted(p for p in images.rglob("*") if p.is_file()):
        key = f"pre/{path.relative_to(images)}"
        client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    client.put_object(Bucket=bucket, Key="prefix_of_another/x.jpg", Body=b"x")
    listed = freeze(source(known(s3, bucket, "pre/")))
    walked = freeze(Source(str(images), images))
    assert [(s.filename, s.size) for s in listed.samples()] == [
        (s.filename, s.size) for s in walked.samples()
    ]
    assert listed.other_files == walked.other_files == 1
    assert all(s.etag for s in listed.samples())


def test_results_and_platform_files_in_the_same_bucket_are_no_samples(s3, bucket: str):
    client = s3.client()
    for key in [
        "a.jpg",
        ".lightly/thumbnails/a_thumb.jpg",
        "out/now/plots/x.png",
        "old/run/manifest.json",
        "old/run/config/config.yaml",
        "old/run/plots/x.png",
        "dead/run/lightly-fs.lock.json",
        "dead/run/samples/a.png",
        "set/manifest.json",
        "set/b.jpg",
    ]:
        client.put_object(Bucket=bucket, Key=key, Body=b"{}")
    inventory = freeze(source(known(s3, bucket)), output=known(s3, bucket, "out/"))
    assert [s.filename for s in inventory.samples()] == ["a.jpg", "set/b.jpg"]
    assert inventory.other_files == 1


def test_a_manifest_that_names_us_is_recognised_by_its_content(s3, bucket: str):
    client = s3.client()
    client.put_object(Bucket=bucket, Key="a.jpg", Body=b"x")
    content = b'{"format_version": 1, "made_by": "lightly-fs"}'
    client.put_object(Bucket=bucket, Key="old/manifest.json", Body=content)
    client.put_object(Bucket=bucket, Key="old/x.png", Body=b"x")
    inventory = freeze(source(known(s3, bucket)))
    assert [s.filename for s in inventory.samples()] == ["a.jpg"]


def test_a_bucket_that_is_not_there_is_named(s3):
    with pytest.raises(MountError, match="no-such-bucket") as caught:
        freeze(source(known(s3, "no-such-bucket")))
    assert caught.value.reason == "bucket"


def test_a_bucket_without_images_is_an_error(s3, bucket: str):
    s3.client().put_object(Bucket=bucket, Key="a.txt", Body=b"x")
    with pytest.raises(DatasourceError, match="1 other file"):
        freeze(source(known(s3, bucket)))


def test_conditional_writes(s3, bucket: str):
    store = ObjectStore(known(s3, bucket))
    etag = store.create("k", b"one")
    assert etag
    assert store.create("k", b"two") is None
    assert store.replace("k", b"two", etag="0" * 32) is None
    changed = store.replace("k", b"two", etag=etag)
    assert changed not in (None, etag)
    head = store.head("k")
    assert head is not None
    assert (head.size, head.etag) == (3, changed)
    assert bytes(store.get("k")) == b"two"
    store.delete("k")
    store.delete("k")
    assert store.head("k") is None
    # One more where the store compares the text of ETags, quotes and all (Ceph).
    assert store.requests["PUT"] in (4, 5)


def test_gone_and_changed_objects_end_with_their_reason(s3, bucket: str):
    client = s3.client()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        client.put_object(Bucket=bucket, Key=name, Body=b"first")
    inventory = freeze(source(known(s3, bucket)))
    client.delete_object(Bucket=bucket, Key="b.jpg")
    client.put_object(Bucket=bucket, Key="c.jpg", Body=b"other")
    reader = ObjectReader(ObjectStore(known(s3, bucket)))
    results = list(reader.stream(inventory.samples()))
    reader.close()
    ends = [r.outcome.value if isinstance(r, Failure) else bytes(r) for r in results]
    assert ends == [b"first", "gone", "failed", b"first"]
    assert isinstance(results[2], Failure)
    assert "changed during the run" in results[2].reason
