"""Within-class covariance normalisation: what it evens out, keeps, and refuses."""

import numpy as np
import pytest
import torch

from lightly_fs.training.pack import Copies
from lightly_fs.training.views import ViewMaker, Views
from lightly_fs.training.within_class import MOST_VIEWS, Images, fitted_layer, within_class_layer
from tests.unit.training.small import make_pack, plan

DIMENSIONS = 6
SPREAD = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
"""By how much views differ, direction by direction."""


def drawn(n: int, seed: int = 0):
    """Return images, and two views of each that differ by `SPREAD` around it."""
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=(n, DIMENSIONS)) + 5
    noise = rng.normal(size=(2, n, DIMENSIONS)) * SPREAD
    return plain, plain + noise[0], plain + noise[1]


def ratio(first, second) -> float:
    spread = np.sqrt(np.square(second - first).mean(axis=0))
    return float(spread.max() / spread.min())


def test_views_differ_more_evenly_afterwards():
    plain, first, second = drawn(500)
    layer = within_class_layer(plain, first, second)

    assert ratio(first, second) > 8
    # The ridge leaves what views hardly change smaller than the rest.
    assert ratio(layer(first), layer(second)) < 6
    spread = np.square(layer(second) - layer(first)).mean(axis=0)
    assert (np.diff(spread) < 0).all()


def test_the_mean_is_zero_and_lengths_stay_as_they_were():
    plain, first, second = drawn(500)
    made = within_class_layer(plain, first, second)(plain)
    lengths = [np.sqrt(np.square(each).sum(axis=1).mean()) for each in (plain, made)]

    assert np.abs(made.mean(axis=0)).max() < 1e-9
    assert lengths[1] == pytest.approx(lengths[0])


def test_fewer_images_than_dimensions_have_a_layer_of_full_rank():
    plain, first, second = drawn(3)
    weight, bias = within_class_layer(plain, first, second)

    assert np.isfinite(bias).all()
    assert np.linalg.cond(weight) < 100


def test_the_order_of_the_two_views_does_not_matter():
    plain, first, second = drawn(50)
    one, other = (within_class_layer(plain, *both) for both in ((first, second), (second, first)))
    assert np.array_equal(one.weight, other.weight)


@pytest.mark.parametrize("case", ["same views", "one image", "not finite"])
def test_nothing_to_measure_gives_no_layer(case):
    plain, first, second = drawn(20)
    if case == "same views":
        second = first
    elif case == "one image":
        plain = plain[:1]
    else:
        second = second.copy()
        second[3, 2] = np.nan
    assert within_class_layer(plain, first, second) is None


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack"), 10)


def fitted(pack, rows=range(10), *, embed=None, batch=4, workers=0):
    settings = plan(pack).settings
    views = Views(pack.copies(), ViewMaker(settings.collate, 16), settings.seed)
    images = Images(pack.plain(), views, np.array(rows))
    return fitted_layer(embed or colours, images, seed=1, batch=batch, workers=workers)


def colours(images: torch.Tensor) -> np.ndarray:
    return images.double().mean(dim=(1, 2)).numpy()


def test_neither_workers_nor_batches_change_a_bit_of_it(pack):
    expected = fitted(pack)
    for other in (fitted(pack, workers=2), fitted(pack, batch=3)):
        assert np.array_equal(expected.weight, other.weight)
        assert np.array_equal(expected.bias, other.bias)


def test_only_the_given_images_are_measured_each_in_many_views(pack):
    seen = []

    def embed(images):
        seen.append(len(images))
        return colours(images)

    rows = [1, 4, 7]
    layer = fitted(pack, rows, embed=embed)
    plain = np.stack([pack.plain()[row] for row in rows])

    assert sum(seen) == len(rows) * (1 + 2 * MOST_VIEWS)
    assert np.abs(layer(colours(torch.from_numpy(plain))).mean(axis=0)).max() < 1e-9


def test_plain_images_are_those_that_are_embedded(pack):
    plain = pack.plain()
    assert isinstance(plain, Copies)
    assert len(plain) == len(pack.copies()) == 10
    assert plain[0].shape == (16, 16, 3)
