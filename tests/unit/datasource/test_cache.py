from __future__ import annotations

from pathlib import Path

import pytest

from lightly_fs.datasource.cache import ObjectCache
from lightly_fs.types import Sample


def sample(etag: str | None, data: bytes) -> Sample:
    return Sample(f"{etag}.jpg", len(data), etag, 0)


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_what_was_put_is_there_also_for_the_next_run(tmp_path: Path):
    ObjectCache(tmp_path, 1000).put(sample("a", b"data"), memoryview(b"data"))
    cache = ObjectCache(tmp_path, 1000)
    assert cache.get(sample("a", b"data")) == b"data"
    assert cache.hits == 1


@pytest.mark.parametrize(
    "asked", [sample("b", b"data"), sample("a", b"longer"), sample(None, b"data")]
)
def test_another_object_is_a_miss(tmp_path: Path, asked: Sample):
    cache = ObjectCache(tmp_path, 1000)
    cache.put(sample("a", b"data"), b"data")
    assert cache.get(asked) is None


def test_what_has_no_etag_is_never_cached(tmp_path: Path):
    ObjectCache(tmp_path, 1000).put(sample(None, b"data"), b"data")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b""]
)
def test_a_damaged_file_is_a_miss_and_deleted(tmp_path: Path, damage):
    cache = ObjectCache(tmp_path, 1000)
    cache.put(sample("a", b"data"), b"data")
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(sample("a", b"data")) is None
    assert files(tmp_path) == []


def test_the_least_recently_used_makes_room(tmp_path: Path):
    cache = ObjectCache(tmp_path, 3 * (32 + 10))
    objects = {name: name.encode() * 10 for name in "abcd"}
    for name in "abc":
        cache.put(sample(name, objects[name]), objects[name])
    assert cache.get(sample("a", objects["a"])) is not None
    cache.put(sample("d", objects["d"]), objects["d"])
    left = [name for name in "abcd" if cache.get(sample(name, objects[name])) is not None]
    assert left == ["a", "c", "d"]
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 3 * 42


def test_a_smaller_cap_shrinks_what_is_there(tmp_path: Path):
    cache = ObjectCache(tmp_path, 1000)
    for name in "abcd":
        cache.put(sample(name, b"x" * 68), b"x" * 68)
    ObjectCache(tmp_path, 250)
    assert len(files(tmp_path)) == 2


def test_an_object_larger_than_the_cache_is_left_out(tmp_path: Path):
    ObjectCache(tmp_path, 50).put(sample("a", b"x" * 40), b"x" * 40)
    assert files(tmp_path) == []


def test_leftovers_of_a_crash_are_deleted(tmp_path: Path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "tmp123.part").write_bytes(b"half")
    ObjectCache(tmp_path, 1000)
    assert files(tmp_path) == []
