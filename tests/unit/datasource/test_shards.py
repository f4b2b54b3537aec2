"""Shards: images first, then videos packed together; every sample is in exactly one."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.datasource.inventory import SCHEMA, Inventory
from lightly_fs.datasource.shards import PACKED_BYTES
from lightly_fs.types import VIDEO_EXTENSIONS, Outcome, is_video

MIB = 1 << 20
STEMS = st.text("ab-0/", min_size=1, max_size=6).map(lambda text: "x" + text)
EXTENSIONS = st.sampled_from([".jpg", ".png", "-0-mp4.png", "-007-MOV.png", *VIDEO_EXTENSIONS])
NAMES = st.tuples(STEMS, EXTENSIONS).map("".join)
SIZES = st.sampled_from([0, 1, MIB, 30 * MIB, 64 * MIB, 65 * MIB, 1 << 40])


def inventory_of(sizes: dict[str, int]) -> Inventory:
    rows = [
        {"filename": name, "size": size, "etag": None, "mtime_ns": 1}
        for name, size in sizes.items()
    ]
    return Inventory(pa.Table.from_pylist(rows, SCHEMA))


@given(st.dictionaries(NAMES, SIZES, max_size=30), st.integers(1, 9))
def test_every_sample_is_in_one_shard_and_shards_are_of_one_kind(sizes, shard_size):
    inventory = inventory_of(sizes)
    shards = inventory.shards(shard_size)
    ended = [name for shard in shards for name in shard.filenames]

    assert sorted(ended) == sorted(sizes)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    for number, shard in enumerate(shards):
        assert shards.size_of(number) == len(shard.filenames) > 0
        assert {is_video(name) for name in shard.filenames} == {shard.videos}
        assert shards.holds_videos(number) == shard.videos
        if shard.videos:
            total = sum(sizes[name] for name in shard.filenames)
            assert len(shard.samples) == 1 or total <= PACKED_BYTES
        else:
            assert len(shard.filenames) <= shard_size
    kinds = [shard.videos for shard in shards]
    assert kinds == sorted(kinds)
    assert [video.filename for video in inventory.videos] == sorted(filter(is_video, sizes))


@given(st.dictionaries(NAMES, SIZES, max_size=30))
def test_images_named_like_a_frame_of_a_listed_video_are_refused(sizes):
    refused = {one.filename for shard in inventory_of(sizes).shards(4) for one in shard.refused}
    expected = {
        name
        for name in sizes
        for video in filter(is_video, sizes)
        for stem, _, extension in [video.rpartition(".")]
        if name.startswith(f"{stem}-") and name.endswith(f"-{extension}.png")
        if name[len(stem) + 1 : -len(extension) - 5].isdigit()
    }
    assert refused == expected


def test_a_refused_image_says_which_video_it_collides_with():
    (shard, _) = inventory_of({"d/v.mp4": 1, "d/v-03-mp4.png": 2, "d/v-03-mp4.jpg": 2}).shards(4)
    (failure,) = shard.refused
    assert (failure.filename, failure.outcome) == ("d/v-03-mp4.png", Outcome.UNREADABLE)
    assert "`d/v.mp4`" in failure.reason
    assert [sample.filename for sample in shard.samples] == ["d/v-03-mp4.jpg"]
