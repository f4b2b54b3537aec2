"""The measured properties against their published definitions, computed the slow way."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from lightly_fs.properties import PROPERTIES
from lightly_fs.properties.measure import measure, uniform_row_ratio
from tests.images import scene

LAPLACIAN = ImageFilter.Kernel((3, 3), (-1, -1, -1, -1, 8, -1, -1, -1, -1), 1, 0)


def published(image: Image.Image) -> dict[str, float]:
    pixels = np.asarray(image).astype(float)
    std = pixels.std()
    values = {
        "sharpness": float(np.std(np.asarray(image.convert("L").filter(LAPLACIAN)))),
        "snr": float(pixels.mean() / std) if std else 0.0,
    }
    for index, colour in enumerate(("Red", "Green", "Blue")):
        values[f"mean{colour}"] = pixels[..., index].mean() / 255
        values[f"std{colour}"] = pixels[..., index].std() / 255
    return values


def published_uniform_rows(grey: np.ndarray) -> float:
    """The published algorithm in PyTorch's own operations."""
    image = torch.from_numpy(grey)[None, None].float() / 255
    height, width = grey.shape
    if height > 400:
        size = (int(height * (400 / height)), max(3, int(width * (400 / height))))
        image = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=False)
    kernel = -torch.ones(1, 1, 3, 3)
    kernel[0, 0, 1, 1] = 8
    uniform = torch.nn.functional.conv2d(image, kernel).abs() < 5 / 255 - 1e-6
    return float((uniform.float().mean(3) > 0.97).float().mean())


@pytest.mark.parametrize("size", [(320, 240), (37, 5), (3, 3), (5, 600), (1, 1), (2, 9), (9, 2)])
def test_values_are_the_published_ones(size: tuple[int, int]) -> None:
    image = scene(3).resize(size)
    measured = measure(np.array(image))
    for name, value in published(image).items():
        assert measured[name] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31), st.integers(1, 256))
def test_values_hold_for_any_pixels(height: int, width: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, levels, (height, width, 3), dtype=np.uint8)
    measured = measure(pixels)
    for name, value in published(Image.fromarray(pixels)).items():
        assert measured[name] == pytest.approx(value, abs=1e-9), name
    assert 0 <= measured["luminance"] <= 100
    assert 0 <= measured["contrast"] <= 50
    assert 0 <= measured["uniformRowRatio"] <= 1


def test_names_are_those_that_are_announced() -> None:
    of_the_object = {"width", "height", "sizeInBytes"}
    assert set(measure(np.array(scene(1)))) == set(PROPERTIES) - of_the_object


@pytest.mark.parametrize(
    ("grey", "luminance"), [(0, 0.0), (255, 100.0), (119, 50.034), (188, 76.245)]
)
def test_luminance_is_cie_lightness(grey: int, luminance: float) -> None:
    measured = measure(np.full((8, 8, 3), grey, np.uint8))
    assert measured["luminance"] == pytest.approx(luminance, abs=0.05)
    assert measured["contrast"] == 0


def test_contrast_is_largest_for_black_and_white() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:5] = 255
    assert measure(pixels)["contrast"] == pytest.approx(50)


def test_a_uniform_image_has_no_noise_and_only_uniform_rows() -> None:
    measured = measure(np.full((40, 60, 3), 77, np.uint8))
    assert measured["snr"] == 0
    assert measured["uniformRowRatio"] == 1
    assert measured["stdRed"] == 0


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (500, 401), (640, 1000), (4, 900)])
def test_uniform_rows_are_the_published_ones(size: tuple[int, int]) -> None:
    pixels = np.array(scene(5).resize(size).convert("L"))
    pixels[size[1] // 2 :] //= 64  # a half with next to no structure
    expected = published_uniform_rows(pixels)
    assert 0.1 < expected < 0.9
    # float rounding at the threshold may move a row between the two
    assert uniform_row_ratio(pixels) == pytest.approx(expected, abs=1.01 / 398)


@pytest.mark.parametrize("shape", [(2, 100), (100, 2), (1, 1)])
def test_uniform_rows_need_three_pixels_each_way(shape: tuple[int, int]) -> None:
    assert uniform_row_ratio(np.zeros(shape, np.uint8)) == 0.0


def test_blur_lowers_sharpness() -> None:
    image = scene(2)
    blurred = image.filter(ImageFilter.GaussianBlur(3))
    sharpness = [measure(np.array(given))["sharpness"] for given in (image, blurred)]
    assert sharpness[1] < 0.7 * sharpness[0]


def test_names_are_known_without_loading_a_compiler() -> None:
    code = (
        "import sys, lightly_fs.properties; print('numba' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
