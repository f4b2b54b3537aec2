"""The local pack: what was decoded comes back bit for bit, and torn shards do not."""

import pickle

import numpy as np
import pytest
import torch

from lightly_fs.errors import ConfigError
from lightly_fs.training.pack import Pack
from lightly_fs.types import Failure
from tests.unit.training.small import COPY, SIZE, batch, make_pack, sample


def quiet(_count: int) -> None:
    pass


def test_a_shard_comes_back_as_it_was_decoded(tmp_path):
    pack = Pack(tmp_path / "pack", SIZE, COPY)
    pack.require_space(10)
    written = [batch(range(4), corrupt=(1,)), batch(range(4, 6), corrupt=(5,), length=4)]

    failures = pack.write(7, iter(written), progress=quiet)
    back = list(pack.batches(7, [sample(row) for row in range(6)], 4))

    assert ["001.jpg", "005.jpg"] == [failure.filename for failure in failures]
    assert failures == pack.failures(7)
    assert [list(one.results) for one in written] == [list(one.results) for one in back]
    assert [list(one.samples) for one in written] == [list(one.samples) for one in back]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(written, back, strict=True))


@pytest.mark.parametrize("size", [1, 3, 64])
def test_another_batch_size_gives_the_same_images(tmp_path, size):
    pack = Pack(tmp_path / "pack", SIZE, COPY)
    pack.require_space(10)
    written = batch(range(7), corrupt=(0, 3))
    pack.write(0, iter([written]), progress=quiet)

    back = list(pack.batches(0, written.samples, size))
    pixels = torch.cat([one.pixels[: len(one.results)] for one in back])

    assert torch.equal(written.pixels, pixels)
    assert list(written.results) == [result for one in back for result in one.results]


def test_copies_of_all_shards_are_counted_through_also_in_another_process(tmp_path):
    pack = make_pack(tmp_path, 10)
    expected = batch(range(10)).copies

    copies = pack.copies()
    there = pickle.loads(pickle.dumps(copies))

    assert len(copies) == 10
    for row in range(10):
        assert np.array_equal(expected[row], copies[row])
        assert np.array_equal(expected[row], there[row])


def test_a_shard_without_a_single_good_image_has_no_row(tmp_path):
    pack = Pack(tmp_path, SIZE, COPY)
    pack.require_space(9)
    pack.write(0, iter([batch(range(2), corrupt=(0, 1))]), progress=quiet)
    pack.write(1, iter([batch(range(2, 4))]), progress=quiet)

    assert len(pack.copies()) == 2
    assert np.array_equal(pack.copies()[0], batch(range(2, 4)).copies[0])
    (only,) = pack.batches(0, [sample(0), sample(1)], 8)
    assert all(isinstance(result, Failure) for result in only.results)


def test_a_shard_that_was_cut_off_is_not_there_and_goes_away(tmp_path):
    pack = make_pack(tmp_path, 4)

    def cut_off():
        yield batch(range(4, 6))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack.write(2, cut_off(), progress=quiet)

    assert pack.shards() == [0, 1]
    pack.require_space(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000", "00001"]
    pack.write(2, iter([batch(range(4, 6))]), progress=quiet)
    assert len(pack.copies()) == 6


def test_too_little_space_names_the_bytes_and_the_key(tmp_path):
    pack = Pack(tmp_path / "pack", 64, 128)
    with pytest.raises(ConfigError, match=r"takes [\d,]{20,} bytes, and [\d,]+ are free") as caught:
        pack.require_space(10**12)
    assert "cache_dir" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be kept in") as caught:
        Pack(tmp_path / "file" / "pack", 64, 128).require_space(1)
    assert "cache_dir" in caught.value.hint


def test_a_removed_pack_is_gone(tmp_path):
    pack = make_pack(tmp_path / "pack", 4)
    pack.remove()
    pack.remove()
    assert not (tmp_path / "pack").exists()
    assert pack.shards() == []
