import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightly_fs.embedding import openvino_runtime
from lightly_fs.embedding.bundled import INPUT_SIZE
from lightly_fs.embedding.embedder import Network
from lightly_fs.embedding.load import load_bundled
from lightly_fs.embedding.openvino_runtime import OpenVinoEmbedder, import_openvino, runtime
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.errors import MissingExtraError, ModelError
from tests.conftest import need
from tests.images import scene
from tests.unit.embedding.networks import cosines, pixels, small_network

CONVERTING = "converting small"


@pytest.fixture(scope="module", autouse=True)
def _openvino():
    try:
        import_openvino()
    except MissingExtraError as error:
        need("openvino", missing=error.message)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache") / "openvino"


@pytest.fixture(scope="module")
def embedder(cache) -> OpenVinoEmbedder:
    return OpenVinoEmbedder(small_network(), cache)


def test_agrees_with_the_torch_reference(embedder):
    reference = TorchEmbedder(small_network(), torch.device("cpu")).embed(pixels(64), [])
    vectors = embedder.embed(pixels(64), [])
    assert vectors.dtype == np.float32
    assert cosines(vectors, reference).min() >= 0.999


@pytest.mark.parametrize("batch", [1, 8, 13, 64])
def test_a_row_depends_neither_on_its_neighbours_nor_on_the_batch(embedder, batch):
    images = pixels(64)
    order = np.random.default_rng(batch).permutation(64)[:batch]
    assert np.array_equal(embedder.embed(images[order], []), embedder.embed(images, [])[order])


def test_a_quota_gives_fewer_streams_and_the_same_vectors(embedder, cache):
    need("cpus", missing=None if embedder.streams > 1 else "there is one stream without a quota")
    limited = OpenVinoEmbedder(small_network(), cache, cpus=1)
    assert limited.streams == 1
    assert np.array_equal(limited.embed(pixels(64), []), embedder.embed(pixels(64), []))


def test_the_card_records_the_precision_that_is_used(embedder):
    core = runtime()
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert embedder.info.precision == ("bf16" if has_bf16 else "f32")
    assert (embedder.info.runtime, embedder.info.dimensions) == ("openvino cpu", 24)


def test_a_second_start_finds_the_converted_model(embedder, cache, caplog):
    with caplog.at_level(logging.INFO):
        again = OpenVinoEmbedder(small_network(), cache)
    assert CONVERTING not in caplog.text
    assert np.array_equal(again.embed(pixels(9), []), embedder.embed(pixels(9), []))


def test_other_weights_are_another_entry(embedder, cache):
    entries = set(cache.iterdir())
    other = OpenVinoEmbedder(small_network(seed=1), cache)
    assert len(set(cache.iterdir()) - entries) == 1
    assert not np.allclose(other.embed(pixels(2), []), embedder.embed(pixels(2), []))


def test_a_shipped_network_needs_no_conversion_and_no_cache(
    embedder, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(openvino_runtime, "SHIPPED", tmp_path)
    openvino_runtime.ship(small_network(), tmp_path)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        shipped = OpenVinoEmbedder(small_network(), None)
        assert CONVERTING not in caplog.text
        OpenVinoEmbedder(small_network(seed=1), None)
        assert CONVERTING in caplog.text
    assert cosines(shipped.embed(pixels(9), []), embedder.embed(pixels(9), [])).min() > 0.999


@pytest.mark.skipif(
    not openvino_runtime.SHIPPED.exists(), reason="scripts/convert_bundled.py has not been run"
)
def test_the_package_ships_the_bundled_model_converted_and_true_to_its_weights(caplog):
    # When this fails after a training: python scripts/convert_bundled.py
    with caplog.at_level(logging.INFO):
        shipped = OpenVinoEmbedder(load_bundled(), None)
    assert "converting" not in caplog.text
    images = torch.from_numpy(
        np.stack([np.asarray(scene(seed).resize((INPUT_SIZE, INPUT_SIZE))) for seed in range(16)])
    )
    reference = TorchEmbedder(load_bundled(), torch.device("cpu"))
    assert cosines(shipped.embed(images, []), reference.embed(images, [])).min() >= 0.999


@pytest.mark.parametrize(
    ("name", "damage"),
    [("model.bin", b"\xff" * 100), ("model.bin", None), ("model.xml", b""), ("sha256", b"\xff")],
)
def test_a_damaged_entry_is_made_anew(tmp_path, caplog, name, damage):
    embedder = OpenVinoEmbedder(small_network(), tmp_path)
    (entry,) = tmp_path.iterdir()
    if damage is None:
        (entry / name).unlink()
    else:
        (entry / name).write_bytes(damage)
    with caplog.at_level(logging.INFO):
        again = OpenVinoEmbedder(small_network(), tmp_path)
    assert CONVERTING in caplog.text
    assert np.array_equal(again.embed(pixels(9), []), embedder.embed(pixels(9), []))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        OpenVinoEmbedder(small_network(), tmp_path)
    assert CONVERTING not in caplog.text
    assert list(tmp_path.iterdir()) == [entry]


def test_a_cache_that_cannot_be_written_costs_only_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    embedder = OpenVinoEmbedder(small_network(), tmp_path / "file" / "openvino")
    assert "is not kept for the next run" in caplog.text
    assert embedder.embed(pixels(3), []).shape == (3, 24)


class DependsOnData(nn.Module):
    """Takes a branch that tracing bakes in: traced on one image, it is wrong for another."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        means = images.mean(dim=(2, 3))
        return means if self.calls == 1 else means.flip(1) * torch.tensor([1.0, -1.0, 1.0])


def test_a_conversion_that_computes_something_else_is_refused():
    network = Network.of("fickle", DependsOnData(), 32, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ModelError, match="other vectors for fickle than torch") as caught:
        OpenVinoEmbedder(network, None)
    assert caught.value.hint == "runtime=torch"


class Unconvertible(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.svdvals(images.mean(dim=1))


def test_a_network_that_openvino_lacks_operations_for_is_refused():
    network = Network.of("svd", Unconvertible(), 32, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ModelError, match="OpenVINO cannot run svd"):
        OpenVinoEmbedder(network, None)


def test_importing_openvino_starts_no_telemetry():
    assert "openvino" in sys.modules
    assert "openvino_telemetry" not in sys.modules


def test_without_openvino_the_extra_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError) as caught:
        import_openvino()
    assert "pip install 'lightly-fs[openvino]'" in caught.value.hint
