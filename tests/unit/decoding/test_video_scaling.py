"""Frames to pixels: what the fast ways make is what the plain ones make."""

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.decoding.video_kernels import halve, interleave
from lightly_fs.decoding.video_scaling import interleaved, packed
from tests.films import picture

sides = st.integers(1, 40)


@given(sides, sides, st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_planes_are_interleaved_without_the_padding_of_their_rows(height, width, padding, seed):
    planes = np.random.default_rng(seed).integers(
        0, 256, (3, height, width + padding), dtype=np.uint8
    )
    pixels = np.empty((height, width, 3), np.uint8)
    interleave(*planes, pixels)
    assert (pixels == planes[:, :, :width].transpose(1, 2, 0)).all()


@given(sides, sides, st.sampled_from([np.uint8, np.uint16]), st.integers(0, 2**32 - 1))
def test_squares_are_averaged_and_rounded(height, width, kind, seed):
    most = np.iinfo(kind).max
    plane = np.random.default_rng(seed).integers(0, most, (2 * height, 2 * width), kind, True)
    small = np.empty((height, width), kind)
    halve(plane, small)
    squares = plane.astype(np.uint32).reshape(height, 2, width, 2).sum(axis=(1, 3))
    assert (small == (squares + 2) // 4).all()


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (33, 64)])
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuvj422p", "yuv420p10le", "rgb24"])
def test_scaling_to_planes_gives_what_scaling_to_pixels_gives(form, size):
    whole = av.VideoFrame.from_ndarray(picture(3, 160, 128), format="rgb24").reformat(format=form)
    flags = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
    planes, pixels = (
        VideoReformatter().reformat(whole, *size, kind, interpolation=flags, threads=1)
        for kind in ("gbrp", "rgb24")
    )
    assert interleaved(planes).shape == (size[1], size[0], 3)
    difference = interleaved(planes).astype(int) - packed(pixels)
    # Dithering and rounding differ in a few places.
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01
