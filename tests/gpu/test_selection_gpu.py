"""Selection with products on a CUDA device; skipped by name where there is none."""

import numpy as np
import pytest
import torch

from lightly_fs.selection import device, distances
from lightly_fs.selection.choose import choose
from lightly_fs.selection.near_duplicates import find_near_duplicates
from lightly_fs.selection.pool import Embeddings, Pool
from lightly_fs.selection.strategies import Limits, Representativeness, Strategy, Typicality

pytestmark = pytest.mark.gpu

COUNT = 20_000


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Unit vectors around 40 centres; one in twenty is a near copy of another."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 128), np.float32)
    found = centres[rng.integers(0, 40, COUNT)] + 0.6 * rng.standard_normal((COUNT, 128))
    found[rng.choice(COUNT, COUNT // 20)] = found[rng.choice(COUNT, COUNT // 20)] + 1e-3
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def names() -> list[str]:
    return [f"{row:06d}.jpg" for row in range(COUNT)]


@pytest.fixture(params=["highest", "high"])
def precision(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("precision")
def test_near_duplicates_are_those_of_the_cpu(vectors, names):
    assert not distances.is_small(vectors, COUNT)
    one, other = (
        find_near_duplicates(vectors, names, max_distance=0.1, device=where)
        for where in ("cpu", "cuda")
    )
    assert len(one.removed) > 500
    np.testing.assert_array_equal(one.removed, other.removed)
    np.testing.assert_array_equal(one.original, other.original)
    assert one.distance.tobytes() == other.distance.tobytes()


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("strategy", [Typicality("e", 20), Representativeness("e")])
def test_picks_are_those_of_the_cpu(vectors, names, strategy: Strategy):
    pool = Pool(names, {"e": Embeddings(vectors)})
    one, other = (choose(pool, [strategy], Limits(20), device=where) for where in ("cpu", "cuda"))
    assert one.indices.tolist() == other.indices.tolist()
    assert one.objectives.tobytes() == other.objectives.tobytes()


def test_a_full_gpu_leaves_the_selection_to_the_cpu(vectors, names, caplog):
    expected = find_near_duplicates(vectors, names, max_distance=0.1, device="cpu")
    torch.cuda.set_per_process_memory_fraction(1e-5)
    try:
        torch.cuda.empty_cache()
        found = find_near_duplicates(vectors, names, max_distance=0.1, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.removed.tolist() == expected.removed.tolist()
    assert [record.message for record in caplog.records] == [device.NO_MEMORY % "cuda"]
