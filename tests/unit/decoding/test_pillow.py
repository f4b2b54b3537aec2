"""Everything but JPEG, recognised by content."""

import dataclasses
import io
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from lightly_fs.decoding.images import decode_full, thumbnail
from lightly_fs.decoding.pillow import warnings_ignored
from tests.images import jpeg, scene
from tests.unit.decoding.encoded import SETTINGS, decoded, difference, encode, png, reason, squashed

SMALL = scene(4, 120, 90)
OTHER = scene(5, 120, 90)
GREY16 = (np.arange(120 * 90).reshape(90, 120) * 6).astype(np.uint16)

FILES = {
    "png": encode(SMALL, "PNG"),
    "packed tiff": encode(SMALL, "TIFF", compression="tiff_lzw"),
    "tiff": encode(SMALL, "TIFF"),
    "bmp": encode(SMALL, "BMP"),
    "gif": encode(SMALL, "GIF"),
    "webp": encode(SMALL, "WEBP", lossless=True),
    "lossy webp": encode(SMALL, "WEBP", quality=80),
    "animated webp": encode(
        SMALL, "WEBP", save_all=True, append_images=[OTHER], duration=100, lossless=True
    ),
    "animated gif": encode(SMALL, "GIF", save_all=True, append_images=[OTHER]),
    "animated png": encode(SMALL, "PNG", save_all=True, append_images=[OTHER]),
    "pages": encode(SMALL, "TIFF", save_all=True, append_images=[OTHER]),
    "cmyk tiff": encode(SMALL.convert("CMYK"), "TIFF"),
    "jpeg tiff": encode(SMALL, "TIFF", compression="jpeg", quality=95),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_shows_its_first_image(name: str) -> None:
    image = decoded(FILES[name])
    assert (image.width, image.height) == (120, 90)
    tolerance = 8 if "gif" in name or "lossy" in name else 1.5
    assert difference(image.pixels, squashed(SMALL)) < tolerance
    assert difference(image.pixels, squashed(OTHER)) > 20


def test_palettes_are_looked_up() -> None:
    image = SMALL.quantize(64)
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        assert np.array_equal(decode_full(encode(image, kind)), np.array(image.convert("RGB")))


def test_avif_that_is_named_otherwise_is_decoded() -> None:
    assert difference(decoded(encode(SMALL, "AVIF", quality=90)).pixels, squashed(SMALL)) < 4


@pytest.mark.parametrize("name", ["png", "webp", "animated webp", "lossy webp", "animated png"])
def test_a_cut_file_never_passes(name: str) -> None:
    data = FILES[name]
    for cut in {*range(0, len(data), 211), *range(len(data) - 30, len(data)), 1, 4, 8, 12, 16, 30}:
        assert reason(data[:cut]).startswith(
            ("truncated", "broken data", "not an image", "empty file")
        ), cut


@pytest.mark.parametrize("name", ["tiff", "packed tiff", "bmp", "gif", "animated gif", "pages"])
def test_a_cut_file_is_corrupt_or_has_every_pixel(name: str) -> None:
    """Of these formats the first image is what counts; what follows it may be missing."""
    data = FILES[name]
    whole = decoded(data).pixels
    cuts = {*range(0, len(data), 509), *range(len(data) - 12, len(data))}
    passed = 0
    for cut in cuts:
        try:
            pixels = decoded(data[:cut]).pixels
        except AssertionError:
            continue
        passed += 1
        assert np.array_equal(pixels, whole), cut
    assert passed < 0.7 * len(cuts)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flipped_bits_in_a_png_never_pass(data: st.DataObject) -> None:
    png = bytearray(FILES["png"])
    at = data.draw(st.integers(0, len(png) - 1))
    png[at] ^= data.draw(st.integers(1, 255))
    assert reason(bytes(png))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b""]
    ),
    st.binary(max_size=200),
)
def test_any_bytes_have_a_reason(signature: bytes, tail: bytes) -> None:
    found = reason(signature + tail)
    assert found.startswith(
        ("truncated", "broken data", "unsupported", "not an image", "too large", "empty file")
    )
    assert reason(signature + tail) == found
    assert "object at" not in found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty file"),
        (b"this is not an image", "not an image (begins with b'this is not '"),
        (b"<?xml version='1.0'?><Error>", "not an image (begins with b'<?xml versio'"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "unsupported (HEIC)"),
        (b"8BPS\0\1", "unsupported (Photoshop)"),
        (b"%PDF-1.4", "unsupported (PDF)"),
        (b"\0" * 5000, "not an image"),
    ],
)
def test_reasons_name_what_is_there(data: bytes, expected: str) -> None:
    assert reason(data).startswith(expected)


def test_a_memoryview_is_as_good_as_bytes() -> None:
    for data in (FILES["png"], jpeg(SMALL)):
        assert np.array_equal(decoded(memoryview(data)).pixels, decoded(data).pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    data = encode(Image.fromarray(GREY16), kind)
    pixels = decode_full(data)
    expected = np.rint(GREY16 / 257)
    assert np.array_equal(pixels[..., 0], expected)
    assert np.array_equal(pixels[..., 1], expected)


def test_sixteen_bit_colour_is_scaled() -> None:
    deep = np.array(SMALL).astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    data = png(120, 90, bits=16, colour=2, rows=rows)
    assert np.array_equal(decode_full(data), np.array(SMALL))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_floats_and_wide_integers_are_stretched_to_their_range(dtype: type) -> None:
    values = np.linspace(-50, 1000, 120 * 90).reshape(90, 120).astype(dtype)
    pixels = decode_full(encode(Image.fromarray(values), "TIFF"))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.all(np.diff(pixels[0, :, 0].astype(int)) >= 0)


def test_floats_that_are_no_numbers_are_dark() -> None:
    values = np.linspace(0, 1, 9 * 9).reshape(9, 9).astype(np.float32)
    values[4, 4], values[5, 5] = np.nan, np.inf
    pixels = decode_full(encode(Image.fromarray(values), "TIFF"))
    assert pixels[4, 4].tolist() == [0, 0, 0]
    assert pixels.max() == 255
    empty = np.full((9, 9), np.nan, np.float32)
    assert decode_full(encode(Image.fromarray(empty), "TIFF")).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_seen_before_white(mode: str) -> None:
    image = SMALL.convert("RGBA")
    hole = Image.new("L", image.size, 255)
    hole.paste(0, (0, 0, 60, 90))
    image.putalpha(hole)
    if mode == "P":
        image = image.quantize(32, method=Image.Quantize.FASTOCTREE)
    pixels = decode_full(encode(image.convert(mode), "PNG"))
    assert (pixels[:, :60] == 255).all()
    assert (
        difference(
            pixels[:, 60:],
            np.array(SMALL.convert("L" if mode == "LA" else "RGB").convert("RGB"))[:, 60:],
        )
        < 25
    )


def test_half_transparent_black_is_grey() -> None:
    data = encode(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "PNG")
    assert np.unique(decode_full(data)).tolist() == [127]


def test_a_single_transparent_colour_counts() -> None:
    image = Image.new("RGB", (8, 8), (10, 20, 30))
    data = encode(image, "PNG", transparency=(10, 20, 30))
    assert (decode_full(data) == 255).all()


def test_one_bit_images_are_black_and_white() -> None:
    image = SMALL.convert("1")
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(decode_full(encode(image, kind))[..., 0], np.array(image) * 255)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_honoured(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"lossless": True} if kind == "WEBP" else {})
    image = decoded(encode(SMALL, kind, **options))
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    turned = Image.fromarray(np.rot90(np.array(SMALL), turns))
    assert (image.width, image.height) == turned.size
    assert difference(image.pixels, squashed(turned)) < 1.5


def test_large_images_are_averaged_down_to_the_same_result() -> None:
    big = scene(6, 1000, 750)
    image = decoded(encode(big, "BMP"))
    assert difference(image.pixels, squashed(big)) < 1.0
    assert thumbnail(encode(big, "BMP"), 100).shape == (75, 100, 3)


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = png(30_000, 30_000, bits=8, colour=2, rows=bytes(90_001 * 20))
    assert len(bomb) < 10_000
    assert reason(bomb) == (
        "too large: 30000x30000 = 900,000,000 pixels, more than max_image_pixels=536,870,912"
    )


def test_the_largest_square_works() -> None:
    row = b"\0" + b"\xff" * 1024 + bytes(1024)
    image = decoded(png(16384, 16384, bits=1, colour=0, rows=row * 16384))
    assert (image.width, image.height) == (16384, 16384)
    assert (image.pixels[:, :31] == 255).all()
    assert (image.pixels[:, 33:] == 0).all()


def test_the_limit_of_pillow_is_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    decoded(FILES["png"])
    assert before == Image.MAX_IMAGE_PIXELS


def damaged_tiff() -> bytes:
    """A TIFF with a tag that has too many values: Pillow warns, and shows the image."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[296] = 2
    data = bytearray(encode(SMALL, "TIFF", tiffinfo=tags))
    at = data.index(b"\x28\x01\x03\x00\x01\x00\x00\x00")
    data[at + 4] = 2
    return bytes(data)


def test_warnings_of_pillow_neither_leak_nor_decide() -> None:
    data = damaged_tiff()
    with pytest.warns(UserWarning, match="too many entries"):
        dict(Image.open(io.BytesIO(data)).tag_v2)
    for action in ("error", "always"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            decoded(data)
        assert not caught


def test_filters_of_others_stay_as_they_were() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        inside, leave = threading.Barrier(2), threading.Barrier(2)

        def decode() -> None:
            with warnings_ignored():
                inside.wait(10)
                leave.wait(10)

        thread = threading.Thread(target=decode)
        thread.start()
        inside.wait(10)
        warnings.warn("of somebody else", stacklevel=1)
        leave.wait(10)
        thread.join(10)
        assert warnings.filters == before
    assert [str(warning.message) for warning in caught] == ["of somebody else"]


def test_text_in_a_png_does_not_matter() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 10_000, zip=True)
    assert decoded(encode(SMALL, "PNG", pnginfo=info)).width == 120


def test_the_limit_counts_the_first_frame_of_any_format() -> None:
    limited = dataclasses.replace(SETTINGS, max_pixels=120 * 90 - 1)
    for name, data in FILES.items():
        assert reason(data, limited).startswith("too large: 120x90"), name
