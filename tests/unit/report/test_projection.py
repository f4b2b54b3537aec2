import numpy as np
import pytest

from lightly_fs.report.projection import pacmap, pca
from tests.unit.report.made import vectors


def test_pca_agrees_with_the_singular_value_decomposition():
    given = vectors(60, 12)
    points, share = pca(given, 2, 1)
    centred = given - given.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :2] * values[:2]), atol=1e-4)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), rel=1e-4)


def test_pca_finds_the_axes_of_many_columns():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(300, 400)).astype(np.float32) * 0.1
    given[:, 7] += 9 * rng.normal(size=300)
    points, _ = pca(given, 2, 1)
    assert abs(np.corrcoef(points[:, 0], given[:, 7])[0, 1]) > 0.99


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (5, 1), (7, 3)])
def test_pca_of_few_rows_or_columns_has_two_finite_axes(shape):
    points, share = pca(np.ones(shape, np.float32) * np.arange(shape[0])[:, None], 2, 1)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
    assert 0 <= share <= 1


def neighbours_kept(high, low, k=10):
    def found(points):
        squares = np.square(points[:, None] - points[None]).sum(axis=2)
        np.fill_diagonal(squares, np.inf)
        return np.argsort(squares, axis=1)[:, :k]

    pairs = zip(found(high), found(low), strict=True)
    return np.mean([len(set(a) & set(b)) / k for a, b in pairs])


def test_pacmap_keeps_neighbourhoods_better_than_pca_and_separates_clusters():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, 400)
    given = (8 * rng.normal(size=(8, 32))[labels] + rng.normal(size=(400, 32))).astype(np.float32)
    points = pacmap(given, 1)
    assert neighbours_kept(given, points) > 1.2 * neighbours_kept(given, pca(given, 2, 1)[0])
    squares = np.square(points[:, None] - points[None]).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    assert np.mean(labels[squares.argmin(axis=1)] == labels) > 0.98


def test_pacmap_is_the_same_on_repeat_and_follows_the_seed():
    given = vectors(80)
    np.testing.assert_array_equal(pacmap(given, 1), pacmap(given, 1))
    assert not np.array_equal(pacmap(given, 1), pacmap(given, 2))


@pytest.mark.parametrize(("n", "dimensions"), [(4, 1), (9, 2), (12, 300)])
def test_pacmap_of_small_input_is_finite(n, dimensions):
    points = pacmap(vectors(n, dimensions), 1)
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()


def test_pacmap_of_equal_vectors_is_finite():
    assert np.isfinite(pacmap(np.ones((20, 8), np.float32), 1)).all()
