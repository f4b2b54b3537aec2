"""Crops are cut where people see them, in batches, from images of any kind and any number."""

import hashlib
import io
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightly_fs.config import RunConfig
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.decoding import crops
from lightly_fs.decoding.crops import ImageCrops, crop_batches, crop_exporter, cut
from lightly_fs.decoding.images import MAX_PIXELS, decode_full
from lightly_fs.types import Failure, ImageRecord, Outcome, Sample
from tests.images import jpeg, scene
from tests.unit.decoding.encoded import SETTINGS, SIZE, decoded, difference, encode

WHOLE = (0, 0, 320, 240)
BOXES = [WHOLE, (10, 20, 110, 90), (319, 239, 320, 240), (0, 0, 1, 240), (300, 0, 320, 7)]


def rotated(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, "JPEG", quality=90, exif=exif)


def crops_of(data: bytes, boxes: Sequence[tuple[int, ...]], name: str = "a.jpg") -> ImageCrops:
    height, width = decode_full(data).shape[:2]
    names = [f"{name}#{number}" for number in range(len(boxes))]
    return ImageCrops(Sample(name, len(data), None, 0), width, height, names, np.array(boxes))


def pieces(data: bytes, boxes: Sequence[tuple[int, ...]], side: int = 0) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    failure = cut(
        crops_of(data, boxes),
        data,
        lambda _number, pixels: found.append(pixels.copy()),
        max_pixels=MAX_PIXELS,
        side=side,
    )
    assert failure is None
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_pixels_of_the_upright_image(orientation: int) -> None:
    data = rotated(scene(1), orientation)
    upright = decode_full(data)
    boxes = [(10, 20, 110, 90), (200, 100, 240, 240), (0, 0, 1, 1)]
    for (left, top, right, bottom), piece in zip(boxes, pieces(data, boxes), strict=True):
        assert np.array_equal(piece, upright[top:bottom, left:right])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_crops_at_the_edge_and_of_one_pixel_are_cut_from_every_format(kind: str) -> None:
    data = encode(scene(2), kind)
    whole = decode_full(data)
    for (left, top, right, bottom), piece in zip(BOXES, pieces(data, BOXES), strict=True):
        assert np.array_equal(piece, whole[top:bottom, left:right])


def test_only_the_crops_that_are_asked_for_are_handed_out() -> None:
    data = jpeg(scene(1))
    numbers: list[int] = []
    cut(
        crops_of(data, BOXES),
        data,
        lambda number, _pixels: numbers.append(number),
        max_pixels=MAX_PIXELS,
        numbers=range(1, 4),
    )
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_large_crops_come_from_a_smaller_decode_and_show_the_same(orientation: int) -> None:
    data = rotated(scene(3, 1283, 961), orientation)
    height, width = decode_full(data).shape[:2]
    boxes = [(0, 0, width, height), (77, 50, 77 + 640, 50 + 520)]
    small = pieces(data, boxes, side=224)
    for piece, full in zip(small, pieces(data, boxes), strict=True):
        assert min(full.shape[:2]) / 2 <= min(piece.shape[:2]) <= min(full.shape[:2]) / 2 + 1
        seen, expected = (
            np.array(Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
            for one in (piece, full)
        )
        assert difference(seen, expected) < 1


def test_one_small_crop_keeps_the_image_at_its_full_size() -> None:
    data = jpeg(scene(3, 1280, 960))
    piece, _ = pieces(data, [(0, 0, 1280, 960), (5, 5, 452, 500)], side=224)
    assert piece.shape[:2] == (960, 1280)


def test_an_image_of_another_size_is_not_cut() -> None:
    data = jpeg(scene(1))
    image = replace(crops_of(data, BOXES), width=321)
    failure = cut(image, data, lambda *_: pytest.fail("it was cut"), max_pixels=MAX_PIXELS)
    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.FAILED
    assert "321x240 pixels were embedded, 320x240 are there" in failure.reason


@pytest.mark.parametrize(
    ("data", "limit", "reason"),
    [
        (jpeg(scene(1))[:4000], MAX_PIXELS, "truncated"),
        (b"no image at all", MAX_PIXELS, "not an image"),
        (jpeg(scene(1)), 320 * 240 - 1, "too large"),
    ],
)
def test_what_cannot_be_decoded_is_named_with_its_reason(
    data: bytes, limit: int, reason: str
) -> None:
    image = crops_of(jpeg(scene(1)), BOXES)
    failure = cut(image, data, lambda *_: pytest.fail("it was cut"), max_pixels=limit)
    assert isinstance(failure, Failure)
    assert (failure.filename, failure.outcome) == ("a.jpg", Outcome.CORRUPT)
    assert failure.reason.startswith(reason)


class Photographs:
    """Images on a disk with boxes, and their reader, which notes what it read."""

    kind = "directory"

    def __init__(self, root: Path, boxes: Sequence[Sequence[tuple[int, ...]]]) -> None:
        self.root, self.read = root, []
        self.images = []
        for number, own in enumerate(boxes):
            name, data = f"{number:03d}.jpg", jpeg(scene(number))
            (root / name).write_bytes(data)
            found = (root / name).stat()
            sample = Sample(name, found.st_size, None, found.st_mtime_ns)
            self.images.append(replace(crops_of(data, own, name), sample=sample))

    def stream(self, samples: Sequence[Sample]) -> Iterator[bytes | memoryview | Failure]:
        reader = DirectoryReader(self.root, threads=2)
        with closing(reader):
            for sample in samples:
                self.read.append(sample.filename)
                yield reader.read(sample)


def everything(photographs, **changed):
    rows, results = [], []
    wanted = replace(SETTINGS, **changed)
    for batch in crop_batches(photographs.images, photographs, wanted):
        assert batch.pixels.shape == (wanted.batch_size, SIZE, SIZE, 3)
        assert not batch.pixels[len(batch.results) :].any()
        assert len(batch.samples) == len(batch.results) <= wanted.batch_size
        rows.append(batch.pixels[: len(batch.results)])
        results.extend(batch.results)
    return torch.cat(rows).numpy(), results


def test_a_row_is_what_a_lossless_file_of_the_crop_gives(tmp_path: Path) -> None:
    photographs = Photographs(tmp_path, [BOXES[1:], BOXES[1:]])
    rows, results = everything(photographs)
    crops = iter(zip(rows, results, strict=True))
    for image in photographs.images:
        whole = Image.fromarray(decode_full((tmp_path / image.sample.filename).read_bytes()))
        for name, box in zip(image.names, image.boxes.tolist(), strict=True):
            alone = decoded(encode(whole.crop(box), "PNG"))
            row, record = next(crops)
            assert np.array_equal(row, alone.pixels)
            assert record.pixel_hash == alone.pixel_hash
            assert (record.filename, record.width, record.height) == (
                name,
                box[2] - box[0],
                box[3] - box[1],
            )


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Photographs:
    boxes = [[(n, n, n + 9, n + 5) for n in range(count)] for count in (1, 7, 30, 2, 11)]
    return Photographs(tmp_path_factory.mktemp("many"), boxes)


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 4))
def test_rows_depend_on_neither_threads_nor_batches(many, batch_size: int, threads: int) -> None:
    expected, records = everything(many, batch_size=64)
    many.read.clear()
    rows, results = everything(many, batch_size=batch_size, threads=threads)
    assert np.array_equal(rows, expected)
    assert results == records
    assert many.read == [image.sample.filename for image in many.images]  # each once


def test_an_image_with_thousands_of_boxes_needs_no_more_memory(tmp_path, monkeypatch) -> None:
    boxes = [(n % 300, n % 200, n % 300 + 9, n % 200 + 9) for n in range(1500)]
    photographs = Photographs(tmp_path, [boxes, BOXES])
    wanted = replace(SETTINGS, batch_size=50)
    expected = hashlib.sha256()
    for batch in crop_batches(photographs.images, photographs, wanted):
        expected.update(batch.pixels.numpy())
    photographs.read.clear()

    monkeypatch.setattr(crops, "_CHUNK_BYTES", 1 << 20)
    seen = hashlib.sha256()
    tracemalloc.start()
    for batch in crop_batches(photographs.images, photographs, wanted):
        seen.update(batch.pixels.numpy())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert seen.digest() == expected.digest()
    assert peak < 6 << 20  # all crops together are 18 MiB
    assert photographs.read == ["000.jpg", "001.jpg"]


def test_crops_of_a_broken_or_missing_image_fail_and_the_others_do_not(tmp_path: Path) -> None:
    photographs = Photographs(tmp_path, [BOXES] * 4)
    (tmp_path / "001.jpg").unlink()
    broken = bytearray((tmp_path / "002.jpg").read_bytes())
    changed = (tmp_path / "002.jpg").stat().st_mtime_ns
    broken[1000:3000] = bytes(2000)
    (tmp_path / "002.jpg").write_bytes(broken)
    photographs.images[2] = replace(
        photographs.images[2],
        sample=Sample("002.jpg", len(broken), "etag", changed),
    )
    _, results = everything(photographs, batch_size=3)
    ended = [
        result.outcome if isinstance(result, Failure) else result.filename for result in results
    ]
    assert ended == [
        *photographs.images[0].names,
        *[Outcome.GONE] * 5,
        *[Outcome.CORRUPT] * 5,
        *photographs.images[3].names,
    ]


def test_no_images_are_no_batches(tmp_path: Path) -> None:
    photographs = Photographs(tmp_path, [])
    assert list(crop_batches([], photographs, SETTINGS)) == []


def test_closing_early_ends_the_threads(tmp_path: Path) -> None:
    photographs = Photographs(tmp_path, [BOXES * 9] * 6)
    batches = crop_batches(photographs.images, photographs, SETTINGS)
    assert isinstance(next(batches).results[0], ImageRecord)
    batches.close()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("crop")]
    assert left == []
    assert len(photographs.read) < 6


@pytest.mark.parametrize(
    ("form", "suffix", "kind"),
    [("png", ".png", "PNG"), ("original", ".png", "PNG"), ("jpg", ".jpg", "JPEG")],
)
def test_files_of_crops_have_their_own_size_and_the_format_of_copies(form, suffix, kind) -> None:
    config = RunConfig(output_image_format=form, output_image_size=100)
    pixels = np.asarray(scene(4))[10:17, 20:320]
    made, export = crop_exporter(config)
    image = Image.open(io.BytesIO(export(pixels)))
    assert (made, image.format, image.size) == (suffix, kind, (300, 7))
    if kind == "PNG":
        assert np.array_equal(np.asarray(image), pixels)
