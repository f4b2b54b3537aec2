"""Views depend on seed, epoch and image alone; batches are shared out and never overlap."""

import random

import numpy as np
import pytest
import torch

from lightly_fs.config.training import CollateConfig
from lightly_fs.training.views import EpochBatches, ViewMaker, Views, held_out, view_loader
from tests.unit.training.small import SIZE, make_pack

PLAIN = {
    "cj_prob": 0,
    "min_scale": 1,
    "random_gray_scale": 0,
    "gaussian_blur": 0,
    "hf_prob": 0,
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack"), 12).copies()


def views_of(copies, *, workers: int, epochs: int = 2):
    views = Views(copies, ViewMaker(CollateConfig(), SIZE), seed=1)
    batches = EpochBatches(np.arange(12), 5, seed=1, drop_last=False)
    loader = view_loader(views, batches, workers)
    made = []
    for epoch in range(epochs):
        batches.epoch = epoch
        made += list(loader)
    return made


def test_the_number_of_workers_changes_nothing(copies):
    alone, several = views_of(copies, workers=0), views_of(copies, workers=2)

    assert len(alone) == len(several) == 6
    assert all(torch.equal(one, other) for one, other in zip(alone, several, strict=True))


def test_the_two_views_epochs_and_images_differ(copies):
    views = Views(copies, ViewMaker(CollateConfig(), SIZE), seed=1)
    first = views[(0, 3)]

    assert first.shape == (2, SIZE, SIZE, 3)
    assert first.dtype == torch.uint8
    assert torch.equal(first, views[(0, 3)])
    for other in (views[(1, 3)], views[(0, 4)], first.flip(0)):
        assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("batch", "drop_last", "world", "images"),
    [
        (5, True, 1, 10),
        (5, False, 1, 12),
        (3, True, 2, 12),
        (11, False, 1, 11),
        (5, False, 2, 10),
        (4, False, 2, 12),
    ],
)
def test_the_images_of_an_epoch_are_counted(batch, drop_last, world, images):
    batches = [
        EpochBatches(np.arange(12), batch, seed=1, drop_last=drop_last, rank=rank, world=world)
        for rank in range(world)
    ]
    seen = {row for one in batches for part in one for _, row in part}

    assert [one.images for one in batches] == [images] * world
    assert len(seen) == images


def test_the_callers_generators_are_left_alone(copies):
    views = Views(copies, ViewMaker(CollateConfig(), SIZE), seed=1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = (random.random(), np.random.random_sample(), torch.rand(1))
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    views[(0, 0)]

    assert expected == (random.random(), np.random.random_sample(), torch.rand(1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, lambda small: small),
        ({"hf_prob": 1}, lambda small: small.flip(1)),
        ({"vf_prob": 1}, lambda small: small.flip(0)),
        ({"rr_prob": 1}, lambda small: small.rot90(1)),
    ],
)
def test_keys_reach_the_transform(copies, change, expected):
    square = copies[0][:SIZE, :SIZE]
    whole = ViewMaker(CollateConfig(**{**PLAIN, **change}), SIZE)(square, (1, 2, 3))
    # A crop of the whole area is the whole image only when its ratio drawn is near 1: force it.
    plain = ViewMaker(CollateConfig(**PLAIN), SIZE)(square, (1, 2, 3))

    for view, small in zip(whole, plain, strict=True):
        assert torch.equal(view, expected(small))


def test_grey_blurred_and_fully_turned_hues_are_allowed(copies):
    grey = ViewMaker(CollateConfig(random_gray_scale=1, cj_hue=1.0, kernel_size=0.1), SIZE)
    view = grey(copies[1], (0,))[0]

    assert torch.equal(view[..., 0], view[..., 1])
    assert view.float().std() > 0


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n_images", [12, 13, 17])
def test_processes_share_every_step_without_overlap(world, n_images):
    parts = [
        list(EpochBatches(np.arange(n_images), 2, seed=3, drop_last=True, rank=rank, world=world))
        for rank in range(world)
    ]
    rows = [row for part in parts for keys in part for _, row in keys]

    assert {len(part) for part in parts} == {n_images // (2 * world)}
    assert len(rows) == len(set(rows)) == n_images // (2 * world) * 2 * world


def test_a_last_step_that_is_not_full_is_filled_for_all_processes():
    parts = [
        list(EpochBatches(np.arange(11), 3, seed=None, drop_last=False, rank=rank, world=2))
        for rank in range(2)
    ]

    assert [[3, 3], [3, 3]] == [[len(keys) for keys in part] for part in parts]
    assert {row for part in parts for keys in part for _, row in keys} == set(range(11))


def test_a_single_image_left_over_is_left_out():
    batches = EpochBatches(np.arange(7), 3, seed=None, drop_last=False)
    assert [len(keys) for keys in batches] == [3, 3]


def test_epochs_are_shuffled_by_seed_and_number():
    batches = EpochBatches(np.arange(40), 4, seed=1, drop_last=True)
    first = [row for keys in batches for _, row in keys]
    assert first == [row for keys in batches for _, row in keys]
    batches.epoch = 1
    second = [row for keys in batches for _, row in keys]
    assert sorted(first) == sorted(second)
    assert first != second
    plain = EpochBatches(np.arange(8), 4, seed=None, drop_last=True)
    assert [0, 1, 2, 3, 4, 5, 6, 7] == [row for keys in plain for _, row in keys]


@pytest.mark.parametrize(
    ("n_images", "batch_size", "expected"),
    [(10_000, 16, 512), (1000, 16, 100), (40, 16, 4), (17, 16, 1), (16, 16, 0), (3, 16, 0)],
)
def test_a_tenth_is_held_out_but_never_a_batch_that_is_missing(n_images, batch_size, expected):
    rows = held_out(n_images, batch_size, seed=1)

    assert len(rows) == len(set(rows.tolist())) == expected
    assert all(0 <= row < n_images for row in rows)
    assert np.array_equal(rows, held_out(n_images, batch_size, seed=1))
