"""One decode gives the model input, the properties and the hashes."""

import dataclasses
import hashlib
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightly_fs.config.run import PropertiesMode
from lightly_fs.decoding.images import CorruptImage, DecodeSettings, decode_full
from lightly_fs.properties import PROPERTIES
from lightly_fs.properties.measure import measure
from tests.images import jpeg, scene
from tests.unit.decoding.encoded import SETTINGS, decoded, difference, encode, reason, squashed

LARGE = scene(1, 1280, 720)
OFF, SCALED, FULL = (
    dataclasses.replace(SETTINGS, properties=mode)
    for mode in (PropertiesMode.OFF, PropertiesMode.SCALED, PropertiesMode.FULL)
)


def test_hashes_are_those_of_the_bytes_and_of_the_model_input() -> None:
    data = jpeg(LARGE)
    image = decoded(data)
    assert image.content_hash == hashlib.sha256(data).digest()
    assert image.pixel_hash == hashlib.sha256(image.pixels.tobytes()).digest()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_properties_do_not_change_the_model_input(kind: str) -> None:
    data = encode(scene(2, 1200, 900), kind)
    inputs = [decoded(data, settings).pixels for settings in (OFF, SCALED, FULL)]
    assert np.array_equal(inputs[0], inputs[1])
    assert np.array_equal(inputs[0], inputs[2])


def test_properties_have_their_names_in_their_order() -> None:
    assert decoded(jpeg(LARGE), OFF).properties == {}
    for settings in (SCALED, FULL):
        properties = decoded(jpeg(LARGE), settings).properties
        assert list(properties)[:3] == list(PROPERTIES)[:3]
        assert set(properties) == set(PROPERTIES)
        assert all(type(value) is float for value in properties.values())


def test_size_is_the_objects_and_sides_are_the_images() -> None:
    data = jpeg(LARGE) + b"trailing"
    properties = decoded(data, SCALED).properties
    assert properties["sizeInBytes"] == len(data)
    assert (properties["width"], properties["height"]) == (1280, 720)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_full_properties_are_those_of_every_pixel(kind: str) -> None:
    data = encode(LARGE, kind)
    expected = measure(np.array(Image.open(io.BytesIO(data)).convert("RGB")))
    properties = decoded(data, FULL).properties
    for name, value in expected.items():
        assert properties[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize("size", [(224, 300), (100, 50), (400, 224)])
def test_scaled_properties_of_small_images_are_the_full_ones(size: tuple[int, int]) -> None:
    data = jpeg(scene(3, 400, 300).resize(size))
    assert decoded(data, SCALED).properties == decoded(data, FULL).properties


def test_scaled_properties_depend_little_on_the_size_of_the_image() -> None:
    photo = scene(4, 1600, 1200)
    versions = [
        decoded(jpeg(photo.resize(size), 95), SCALED).properties
        for size in ((1600, 1200), (1000, 750), (640, 480))
    ]
    for name in ("luminance", "contrast", "meanRed", "stdBlue", "snr"):
        values = [version[name] for version in versions]
        assert max(values) / min(values) < 1.03, name


def test_damage_beyond_what_the_model_needs_is_still_damage() -> None:
    data = jpeg(LARGE)
    for settings in (OFF, SCALED, FULL):
        assert reason(data[:-2000], settings).startswith("truncated")


def test_full_decode_says_why_not() -> None:
    with pytest.raises(CorruptImage, match="empty file"):
        decode_full(b"")
    with pytest.raises(CorruptImage, match="more than max_image_pixels=100") as caught:
        decode_full(jpeg(LARGE), 100)
    assert caught.value.reason.startswith("too large: 1280x720")


def test_results_do_not_depend_on_threads() -> None:
    files = [jpeg(scene(seed, 500, 400)) for seed in range(6)]
    alone = [decoded(data, SCALED) for data in files]
    together: dict[int, object] = {}

    def decode(index: int) -> None:
        together[index] = decoded(files[index], SCALED)

    threads = [threading.Thread(target=decode, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for index, image in enumerate(alone):
        assert together[index].pixel_hash == image.pixel_hash
        assert together[index].properties == image.properties


def test_real_photographs(test_data: Path) -> None:
    files = sorted((test_data / "coco128" / "images").rglob("*.jpg"))[::16]
    assert files
    for path in files:
        data = path.read_bytes()
        image = decoded(data, DecodeSettings(size=64))
        assert difference(image.pixels, squashed(Image.open(io.BytesIO(data)))) < 1.5
        assert reason(data[: len(data) * 2 // 3]).startswith("truncated")


def test_a_larger_copy_changes_nothing_else() -> None:
    data = jpeg(scene(3, 640, 480))
    small = dataclasses.replace(OFF, size=64)
    plain, both = decoded(data, small), decoded(data, dataclasses.replace(small, copy_size=128))

    assert plain.copy is None
    assert both.copy is not None
    assert both.copy.shape == (128, 128, 3)
    assert np.array_equal(plain.pixels, both.pixels)
    assert plain.pixel_hash == both.pixel_hash
    smaller = np.asarray(Image.fromarray(both.copy).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(smaller.astype(int) - both.pixels).mean() < 3
