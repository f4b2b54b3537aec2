"""Embedding on a CUDA device; skipped by name where there is none."""

import numpy as np
import pytest
import torch

from lightly_fs.config.run import RunConfig
from lightly_fs.embedding.bundled import INPUT_SIZE
from lightly_fs.embedding.load import load_bundled, load_embedder
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.errors import ModelError
from tests.images import scene

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    scenes = [np.asarray(scene(seed).resize((INPUT_SIZE, INPUT_SIZE))) for seed in range(64)]
    return torch.from_numpy(np.stack(scenes))


@pytest.fixture(scope="module")
def embedder() -> TorchEmbedder:
    return TorchEmbedder(load_bundled(), torch.device("cuda"))


def test_agrees_with_the_reference_on_the_cpu(embedder, images):
    reference = TorchEmbedder(load_bundled(), torch.device("cpu")).embed(images, [])
    vectors = embedder.embed(images, [])
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    assert ((vectors * reference).sum(axis=1) / norms).min() >= 0.999


def test_a_row_depends_on_its_own_image_alone(embedder, images):
    vectors = embedder.embed(images, [])
    order = np.random.default_rng(0).permutation(len(images))
    assert np.array_equal(embedder.embed(images[order], []), vectors[order])
    padded = torch.cat([images[:3], torch.zeros_like(images[3:])])
    assert np.array_equal(embedder.embed(padded, [])[:3], vectors[:3])


def test_auto_takes_the_gpu_and_records_the_precision(tmp_path):
    info = load_embedder(RunConfig(cache_dir=str(tmp_path))).info
    assert info.runtime == "torch cuda"
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert info.precision == ("bf16" if native else "f32")


def test_a_batch_that_does_not_fit_names_a_smaller_one(embedder):
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        torch.cuda.empty_cache()
        huge = torch.zeros(16384, INPUT_SIZE, INPUT_SIZE, 3, dtype=torch.uint8)
        with pytest.raises(ModelError, match="a batch of 16384 images does not fit") as caught:
            embedder.embed(huge, [])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert caught.value.hint == "batch_size=8192"


def test_a_device_number_that_does_not_exist_is_refused():
    with pytest.raises(ModelError, match="device=cuda:99"):
        load_embedder(RunConfig(model="colour-grid", device="cuda:99"))
