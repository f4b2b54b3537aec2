import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.decoding.images import DecodeSettings, decode_image
from lightly_fs.embedding.colour_grid import build_colour_grid
from lightly_fs.embedding.csv import CsvEmbedder
from lightly_fs.embedding.embed import embed_samples
from lightly_fs.embedding.embedder import Network
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.types import EmbeddedSamples, Outcome, Sample
from tests.unit.embedding.networks import small_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples(images: Path) -> list[Sample]:
    files = sorted(path for path in images.rglob("*.*") if path.suffix != ".txt")
    return [
        Sample(p.relative_to(images).as_posix(), p.stat().st_size, None, p.stat().st_mtime_ns)
        for p in files
    ]


@pytest.fixture
def embed(images: Path):
    def run(samples, embedder, progress=lambda n: None, **values) -> EmbeddedSamples:
        reader = DirectoryReader(images)
        try:
            config = RunConfig.model_validate({"num_threads": 2, **values})
            return embed_samples(samples, reader, embedder, config, progress=progress)
        finally:
            reader.close()

    return run


@pytest.fixture(scope="module")
def grid() -> TorchEmbedder:
    return TorchEmbedder(build_colour_grid(), CPU)


def test_every_sample_ends_as_a_vector_or_a_failure_in_order(embed, grid, samples):
    done = []
    embedded = embed(samples, grid, done.append, batch_size=8)
    assert embedded.vectors.shape == (26, 48)
    assert embedded.vectors.dtype == np.float32
    assert embedded.vectors.flags.c_contiguous
    names = [record.filename for record in embedded.records]
    failed = [failure.filename for failure in embedded.failures]
    assert names == [s.filename for s in samples if not s.filename.startswith("corrupt")]
    assert failed == ["corrupt_empty.png", "corrupt_text.webp", "corrupt_truncated.jpg"]
    assert {failure.outcome for failure in embedded.failures} == {Outcome.CORRUPT}
    assert done == [8, 8, 8, 5]


def test_a_row_belongs_to_its_record(embed, grid, samples, images):
    embedded = embed(samples, grid, batch_size=8, normalize_embeddings=False)
    settings = DecodeSettings(size=64)
    for row, record in enumerate(embedded.records):
        pixels = decode_image((images / record.filename).read_bytes(), settings).pixels
        alone = grid.embed(torch.from_numpy(pixels)[None], [record.filename])
        assert np.allclose(embedded.vectors[row], alone[0], atol=1e-6), record.filename


def test_vectors_have_unit_length_unless_told_otherwise(embed, grid, samples):
    scaled = embed(samples, grid).vectors
    plain = embed(samples, grid, normalize_embeddings=False).vectors
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    assert np.allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-6)
    assert np.ptp(lengths) > 0.1
    assert np.allclose(scaled, plain / lengths, atol=1e-6)


def test_a_vector_depends_neither_on_neighbours_nor_on_place_nor_on_padding(embed, samples):
    embedder = TorchEmbedder(small_network(), CPU)
    whole = embed(samples, embedder, batch_size=8)
    turned = embed(samples[::-1], embedder, batch_size=8)
    few = embed(samples[3:6], embedder, batch_size=8)
    assert np.array_equal(turned.vectors[::-1], whole.vectors)
    rows = {record.filename: row for row, record in enumerate(whole.records)}
    expected = whole.vectors[[rows[record.filename] for record in few.records]]
    assert np.array_equal(few.vectors, expected)


def test_no_samples_give_no_vectors(embed, grid):
    embedded = embed([], grid)
    assert embedded.vectors.shape == (0, 48)
    assert (embedded.records, embedded.failures) == ([], [])


@pytest.fixture
def csv(tmp_path, samples):
    names = [s.filename for s in samples if s.filename.startswith("folder_0")][:3]
    rows = [f"{names[0]},3,4,0", f"{names[1]},0,0,0", f"{names[2]},1e30,1e30,0"]
    path = tmp_path / "vectors.csv"
    path.write_text("\n".join(["filenames,embedding_0,embedding_1,labels", *rows, ""]))
    return CsvEmbedder(path, names), names


def test_samples_without_a_row_fail_and_corrupt_ones_stay_corrupt(embed, csv, samples):
    embedder, names = csv
    embedded = embed(samples, embedder)
    reasons = {failure.filename: failure for failure in embedded.failures}
    assert [record.filename for record in embedded.records] == [names[0], names[2]]
    assert reasons["corrupt_empty.png"].outcome is Outcome.CORRUPT
    other = reasons["zz_copy_of_000.jpg"]
    assert (other.outcome, other.reason) == (Outcome.FAILED, "no row in vectors.csv")


def test_large_vectors_are_scaled_without_overflow(embed, csv, samples):
    assert embed(samples, csv[0]).vectors.tolist() == [
        [np.float32(0.6), np.float32(0.8)],
        [np.float32(0.5**0.5), np.float32(0.5**0.5)],
    ]


def test_a_zero_vector_fails_only_where_it_should_be_scaled(embed, csv, samples):
    embedder, names = csv
    zero = [s for s in samples if s.filename == names[1]]
    (failure,) = embed(zero, embedder).failures
    assert failure.outcome is Outcome.FAILED
    assert "zero vector" in failure.reason
    assert embed(zero, embedder, normalize_embeddings=False).vectors.tolist() == [[0, 0]]


class Logarithm(nn.Module):
    """Not finite where a mean is not above the mean of ImageNet."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)).log()


def test_a_vector_that_is_not_finite_is_a_failure_and_never_in_the_output(embed, samples):
    network = Network.of("log", Logarithm(), 32, mean=(0.485, 0.456, 0.406), std=(1, 1, 1))
    embedded = embed(samples, TorchEmbedder(network, CPU), normalize_embeddings=False)
    failed = [f for f in embedded.failures if f.outcome is Outcome.FAILED]
    assert failed
    assert failed[0].reason == "log gave a vector that is not finite"
    assert np.isfinite(embedded.vectors).all()
    assert len(embedded.records) + len(embedded.failures) == len(samples)


class Breaks(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 1:
            raise RuntimeError("the device fell off the bus")
        return images.mean(dim=(2, 3))


def test_a_broken_runtime_ends_the_stage_and_its_threads(embed, samples):
    network = Network.of("breaks", Breaks(), 32, mean=(0, 0, 0), std=(1, 1, 1))
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="fell off the bus"):
        embed(samples, TorchEmbedder(network, CPU), batch_size=4)
    assert threading.active_count() == before
