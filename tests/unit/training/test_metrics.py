"""Alignment, uniformity and k-NN on cases that can be computed by hand."""

import math

import pytest
import torch

from lightly_fs.training.metrics import measure_quality


def test_equal_views_of_orthogonal_images():
    quality = measure_quality(torch.eye(3), 5 * torch.eye(3))

    assert quality.alignment == pytest.approx(0)
    assert quality.uniformity == pytest.approx(math.log(math.exp(-4)))
    assert quality.knn == 1


def test_views_that_find_another_image():
    first = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    second = torch.tensor([[0.1, 1.0], [0, 1], [-1, 0]])
    quality = measure_quality(first, second)

    assert quality.knn == pytest.approx(2 / 3)
    assert quality.alignment == pytest.approx((2 - 2 * 0.1 / math.hypot(0.1, 1)) / 3)


def test_collapse_is_seen():
    same = torch.ones(4, 8)
    quality = measure_quality(same, same)

    assert quality.uniformity == pytest.approx(0)
    assert quality.alignment == pytest.approx(0)
