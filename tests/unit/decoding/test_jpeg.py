"""JPEG: scaled and strict."""

import dataclasses
import io
import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lightly_fs.decoding.images import CorruptImage, decode_full, thumbnail
from lightly_fs.decoding.jpeg import decode_jpeg
from tests.images import jpeg, scene
from tests.unit.decoding.encoded import SETTINGS, decoded, difference, encode, reason, squashed

PHOTO = scene(1, 1280, 720)
SMALL = scene(2, 200, 150)
BASELINE = jpeg(SMALL)
PROGRESSIVE = encode(SMALL, "JPEG", progressive=True, quality=85)
EOI = b"\xff\xd9"


def exif_segment(orientation: int, order: str = "<") -> bytes:
    mark = b"II" if order == "<" else b"MM"
    tiff = mark + struct.pack(order + "HIH", 42, 8, 1)
    tiff += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def with_segment(data: bytes, segment: bytes) -> bytes:
    return data[:2] + segment + data[2:]


def test_scaled_decode_shows_what_a_full_decode_shows() -> None:
    image = decoded(jpeg(PHOTO))
    assert (image.width, image.height) == (1280, 720)
    assert difference(image.pixels, squashed(Image.open(io.BytesIO(jpeg(PHOTO))))) < 1.0


def test_no_more_is_decoded_than_is_needed() -> None:
    shapes = [decode_jpeg(jpeg(PHOTO), side, 1 << 30).pixels.shape for side in (64, 224, 361)]
    assert shapes == [(90, 160, 3), (360, 640, 3), (720, 1280, 3)]
    odd = decode_jpeg(jpeg(PHOTO.resize((1279, 721))), 100, 1 << 30)
    assert odd.pixels.shape == (181, 320, 3)
    assert (odd.width, odd.height) == (1279, 721)


def test_small_images_are_enlarged_for_the_model_only() -> None:
    image = decoded(jpeg(SMALL.resize((30, 21))))
    assert image.pixels.shape == (64, 64, 3)
    assert (image.width, image.height) == (30, 21)


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
def test_every_common_subsampling(subsampling: str) -> None:
    data = simplejpeg.encode_jpeg(np.array(SMALL), quality=95, colorsubsampling=subsampling)
    assert difference(decoded(data).pixels, squashed(SMALL)) < 4


def test_grey_cmyk_and_progressive() -> None:
    grey = decoded(jpeg(SMALL.convert("L"))).pixels
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert difference(grey, squashed(SMALL.convert("L"))) < 1.5
    cmyk = SMALL.convert("CMYK")
    assert difference(decoded(jpeg(cmyk, 95)).pixels, squashed(cmyk)) < 3
    assert difference(decoded(PROGRESSIVE).pixels, squashed(SMALL)) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_honoured(orientation: int, order: str) -> None:
    data = with_segment(BASELINE, exif_segment(orientation, order))
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = decoded(data)
    assert (image.width, image.height) == turned.size
    assert difference(image.pixels, squashed(turned)) < 1.5
    assert np.array_equal(decode_full(data), np.array(turned))


@pytest.mark.parametrize(
    "segment",
    [
        exif_segment(0),
        exif_segment(9),
        exif_segment(6)[:-9] + bytes(9),
        b"\xff\xe1\0\x0aExif\0\0XX",
        b"\xff\xe1\0\x10Exif\0\0II*\0\xff\xff\xff\xff",
    ],
)
def test_damaged_exif_is_no_damage_to_the_image(segment: bytes) -> None:
    image = decoded(with_segment(BASELINE, segment))
    assert (image.width, image.height) == SMALL.size


@pytest.mark.parametrize("data", [BASELINE, PROGRESSIVE], ids=["baseline", "progressive"])
@pytest.mark.parametrize("ending", [b"", EOI], ids=["cut", "cut and closed again"])
def test_a_cut_file_never_passes(data: bytes, ending: bytes) -> None:
    cuts = {*range(2, len(data) - 2, 97), *range(len(data) - 40, len(data) - 2), 2, 3, 4, 20}
    if not ending:
        cuts |= {len(data) - 1, len(data) - 2}
    for cut in sorted(cuts):
        assert reason(data[:cut] + ending).startswith(("truncated", "broken data")), cut


def test_a_progressive_file_cut_between_scans_and_closed_again_is_truncated() -> None:
    """A valid stream of less detail: no decoder warns, Pillow and libjpeg show a blurred image."""
    scans = [at for at in range(len(PROGRESSIVE)) if PROGRESSIVE[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 5
    tables = [PROGRESSIVE.rfind(b"\xff\xc4", 0, at) for at in scans[1:]]
    for cut in {*scans[1:], *(at for at in tables if at > scans[0])}:
        closed = PROGRESSIVE[:cut] + EOI
        assert Image.open(io.BytesIO(closed)).convert("RGB").size == SMALL.size
        assert reason(closed).startswith("truncated")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_hole_in_the_file_has_a_reason_or_costs_nothing_but_pixels(data: st.DataObject) -> None:
    start = data.draw(st.integers(2, len(BASELINE) - 2))
    length = data.draw(st.integers(1, 400))
    try:
        pixels = decode_full(BASELINE[:start] + BASELINE[start + length :], 10_000_000)
    except CorruptImage as error:
        found = error.reason.split(" (")[0].split(":")[0]
    else:
        found = f"{pixels.ndim} dimensions"
    expected = {"truncated", "broken data", "unsupported", "not an image", "too large"}
    assert found in {*expected, "3 dimensions"}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_bytes_after_a_signature_have_a_reason(tail: bytes) -> None:
    assert reason(b"\xff\xd8" + tail).startswith(
        ("truncated", "broken data", "unsupported", "not an image", "too large")
    )


@pytest.mark.parametrize("junk", [b"\0" * 50, b"junk" * 30, BASELINE])
def test_bytes_after_the_end_are_ignored(junk: bytes) -> None:
    assert np.array_equal(decoded(BASELINE + junk).pixels, decoded(BASELINE).pixels)


def test_junk_that_costs_no_pixel_is_accepted_on_pillows_word() -> None:
    """Strict libjpeg stops at these; some cameras and tools write them."""
    tables = BASELINE.index(b"\xff\xdb")
    between = BASELINE[:tables] + bytes(3) + BASELINE[tables:]
    padded = BASELINE[:-2] + b"\0" * 8 + EOI
    version = BASELINE.replace(b"JFIF\0\1", b"JFIF\0\3")
    assert version != BASELINE
    for data in (between, padded, version):
        with pytest.raises(ValueError, match=r"extraneous|revision"):
            simplejpeg.decode_jpeg(data, strict=True)
        assert difference(decoded(data).pixels, decoded(BASELINE).pixels) < 1
        assert reason(data[: len(data) // 2]).startswith("truncated")


def test_a_forged_size_is_refused_before_memory_is_taken() -> None:
    at = BASELINE.index(b"\xff\xc0") + 5
    forged = BASELINE[:at] + b"\xff\xff\xff\xff" + BASELINE[at + 4 :]
    assert reason(forged) == (
        "too large: 65535x65535 = 4,294,836,225 pixels, more than max_image_pixels=536,870,912"
    )
    limited = dataclasses.replace(SETTINGS, max_pixels=200 * 150 - 1)
    assert reason(BASELINE, limited).startswith("too large: 200x150 = 30,000 pixels")
    assert decoded(BASELINE, dataclasses.replace(SETTINGS, max_pixels=200 * 150)).width == 200


def test_a_forged_size_within_the_limit_is_truncated() -> None:
    at = BASELINE.index(b"\xff\xc0") + 5
    forged = BASELINE[:at] + struct.pack(">HH", 4000, 3000) + BASELINE[at + 4 :]
    assert reason(forged).startswith(("truncated", "broken data"))


def test_the_largest_square_works() -> None:
    row = np.tile(np.arange(256, dtype=np.uint8), 64)
    stripe = np.broadcast_to(row, (16384, 16384))[..., None]
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(stripe), quality=50, colorspace="GRAY", colorsubsampling="Gray"
    )
    image = decoded(data)
    assert (image.width, image.height) == (16384, 16384)
    assert image.pixels.mean() == pytest.approx(127.5, abs=2)


def test_full_decode_is_pillows() -> None:
    data = jpeg(PHOTO)
    assert difference(decode_full(data), np.array(Image.open(io.BytesIO(data)))) < 0.1


@pytest.mark.parametrize(("side", "shape"), [(96, (54, 96, 3)), (300, (169, 300, 3))])
def test_thumbnails_keep_the_aspect(side: int, shape: tuple[int, int, int]) -> None:
    small = thumbnail(jpeg(PHOTO), side)
    assert small.shape == shape
    expected = PHOTO.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    assert difference(small, np.array(expected)) < 3


def test_thumbnails_never_enlarge() -> None:
    assert thumbnail(BASELINE, 999).shape == (150, 200, 3)
