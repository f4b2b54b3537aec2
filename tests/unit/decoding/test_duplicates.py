"""Exact duplicates: same bytes, or same pixels in other bytes."""

from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightly_fs.decoding.duplicates import find_duplicates
from lightly_fs.types import Duplicate, Failure, ImageRecord, Outcome
from tests.images import jpeg, scene
from tests.unit.decoding.encoded import decoded, encode


def records(files: Mapping[str, bytes]) -> list[ImageRecord]:
    found = []
    for name, data in files.items():
        image = decoded(data)
        found.append(
            ImageRecord(name, image.width, image.height, image.content_hash, image.pixel_hash, {})
        )
    return found


def duplicates(files: Mapping[str, bytes]) -> list[Duplicate]:
    return find_duplicates(records(files), files.__getitem__, max_pixels=10_000_000)


def test_the_first_of_the_same_bytes_stays() -> None:
    one, two = jpeg(scene(1)), jpeg(scene(2))
    found = duplicates({"a": one, "b": two, "c": one, "d": one, "e": two})
    assert found == [
        Duplicate("c", "a", "content"),
        Duplicate("d", "a", "content"),
        Duplicate("e", "b", "content"),
    ]


def test_same_bytes_are_not_read_again() -> None:
    one = jpeg(scene(1))

    def read(filename: str) -> bytes:
        raise AssertionError(f"{filename} was read")

    given = records({"a": one, "b": one, "c": jpeg(scene(2))})
    assert len(find_duplicates(given, read, max_pixels=10_000_000)) == 1


def test_same_pixels_in_other_bytes_are_found() -> None:
    image = scene(1)
    files = {
        "a.png": encode(image, "PNG"),
        "b.bmp": encode(image, "BMP"),
        "c.jpg": jpeg(image),
        "d.webp": encode(image, "WEBP", lossless=True),
    }
    assert duplicates(files) == [
        Duplicate("b.bmp", "a.png", "pixels"),
        Duplicate("d.webp", "a.png", "pixels"),
    ]


def test_a_jpeg_whose_metadata_was_removed_is_the_same_image() -> None:
    plain = jpeg(scene(1))
    with_comment = plain[:2] + b"\xff\xfe\0\x07hello" + plain[2:]
    assert duplicates({"a": with_comment, "b": plain}) == [Duplicate("b", "a", "pixels")]


def test_one_pixel_that_the_model_does_not_see_makes_a_difference() -> None:
    pixels = np.array(Image.new("RGB", (900, 900), (100, 100, 100)))
    first = encode(Image.fromarray(pixels), "PNG")
    pixels[450, 450] = (101, 100, 100)
    second = encode(Image.fromarray(pixels), "PNG")
    given = records({"a": first, "b": second})
    assert given[0].pixel_hash == given[1].pixel_hash
    assert duplicates({"a": first, "b": second}) == []


def test_size_decides_before_pixels_do() -> None:
    plain = {str(side): encode(Image.new("RGB", (side, side), "red"), "PNG") for side in (64, 128)}
    given = records(plain)
    assert given[0].pixel_hash == given[1].pixel_hash
    assert duplicates(plain) == []


def test_an_original_is_never_a_duplicate_itself() -> None:
    image = scene(1)
    bmp = encode(image, "BMP")
    found = duplicates({"a": encode(image, "PNG"), "b": bmp, "c": bmp})
    assert found == [Duplicate("b", "a", "pixels"), Duplicate("c", "a", "pixels")]


def test_a_candidate_that_cannot_be_read_again_stays() -> None:
    image = scene(1)
    files = {"a": encode(image, "PNG"), "b": encode(image, "BMP"), "c": encode(image, "TIFF")}
    given = records(files)

    def read(filename: str) -> bytes | Failure:
        if filename == "b":
            return Failure("b", Outcome.GONE, "deleted during the run")
        return files[filename] if filename == "a" else b"changed"

    assert find_duplicates(given, read, max_pixels=10_000_000) == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["PNG", "BMP", "TIFF"])), max_size=8))
def test_one_sample_of_each_picture_stays(kinds: list[tuple[int, str]]) -> None:
    files = {
        f"{index:02}": encode(Image.new("RGB", (20 + seed, 10), "red"), kind)
        for index, (seed, kind) in enumerate(kinds)
    }
    found = duplicates(files)
    removed = {duplicate.filename for duplicate in found}
    stay = [seed for index, (seed, _) in enumerate(kinds) if f"{index:02}" not in removed]
    assert sorted(stay) == sorted({seed for seed, _ in kinds})
    assert all(duplicate.original not in removed for duplicate in found)
    assert all(duplicate.original < duplicate.filename for duplicate in found)
