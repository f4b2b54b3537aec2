"""Pieces of videos: names when a video ended, order, gaps, and videos that failed in the middle."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.artifacts import RunDir
from lightly_fs.artifacts.parts import Piece
from lightly_fs.config import RunConfig
from lightly_fs.datasource.output import Output
from lightly_fs.errors import ArtifactError
from lightly_fs.types import (
    EmbeddedSamples,
    Failure,
    Frame,
    ImageRecord,
    Outcome,
    VideoFacts,
    frame_name,
    frame_of,
    provisional_name,
)
from tests.unit.artifacts.conftest import MODEL, embed, inventory_of

STEMS = st.text("ab-0./ü", min_size=1, max_size=8).map(lambda text: "v" + text)
VIDEOS = st.tuples(STEMS, st.sampled_from(["mp4", "MOV", "mkv"])).map(".".join)


@given(VIDEOS, st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_name_tells_video_and_index(video, index, more):
    name = frame_name(video, index, index + more)
    assert frame_of(name) == (video, index)
    assert name.endswith(".png")


@given(st.integers(1, 2000))
def test_names_sort_by_index(n_frames):
    names = [frame_name("a/v.mp4", index, n_frames) for index in range(n_frames)]
    assert names == sorted(names)
    assert len({len(name) for name in names}) == 1


def vector_of(frame: Frame) -> np.ndarray:
    digest = hashlib.sha256(provisional_name(frame.video, frame.index).encode()).digest()
    return np.frombuffer(digest[:12], np.uint32).astype(np.float32)


def part_of(frames: list[Frame], failures: list[Failure]) -> EmbeddedSamples:
    """Embed frames; every fifth one is corrupt."""
    good = [frame for frame in frames if frame.index % 5 != 4]
    bad = [frame for frame in frames if frame.index % 5 == 4]
    records = []
    for frame in good:
        digest = hashlib.sha256(vector_of(frame).tobytes()).digest()
        name = provisional_name(frame.video, frame.index)
        records.append(ImageRecord(name, 64, 48, digest, digest, {"sharpness": 1.0}, frame))
    failed = [
        Failure(provisional_name(one.video, one.index), Outcome.CORRUPT, "broken", one)
        for one in bad
    ]
    vectors = np.array([vector_of(frame) for frame in good], np.float32).reshape(-1, 3)
    return EmbeddedSamples(vectors, records, [*failed, *failures])


def facts_of(video: str, n_frames: int) -> VideoFacts:
    """Return what a process says that saw none of the corrupt frames: it went on behind them."""
    return VideoFacts(video, n_frames, 0, "h264", "mp4", 64, 48, 10.0, n_frames / 10)


def frame(video: str, index: int) -> Frame:
    return Frame(video, index, None if index % 3 == 0 else index * 512, index / 10)


def pieces_of(lengths: dict[str, int], lost: set[str], cuts: set[int]):
    """Yield what pieces hold when they are cut before these frames, counted over all videos."""
    frames, ended, failures, done, number = [], [], [], 0, 0
    for video, length in lengths.items():
        for index in range(length):
            if done in cuts and (frames or ended or failures):
                resume = {"video": video, "index": index, "pts": index * 512}
                yield part_of(frames, failures), Piece(number, ended, resume)
                frames, ended, failures = [], [], []
                number += 1
            frames.append(frame(video, index))
            done += 1
        if video in lost:
            failures.append(Failure(video, Outcome.GONE, "deleted"))
        else:
            ended.append(facts_of(video, length))
    yield part_of(frames, failures), Piece(number, ended, None)


def opened(folder: Path, names: list[str]) -> RunDir:
    output = folder / "out"
    output.mkdir(exist_ok=True)
    config = RunConfig(shard_size=4, run_directory="run", output_dir=str(output))
    (folder / "staging").mkdir(exist_ok=True)
    run_dir = RunDir.open(Output(output, None), config, Path(tempfile.mkdtemp(dir=folder)))
    run_dir.freeze(inventory_of(names))
    run_dir.set_model(MODEL)
    return run_dir


IMAGES = ["a.jpg", "v.jpg", "v/b.jpg", "z.jpg"]


@settings(max_examples=40)
@given(
    st.dictionaries(VIDEOS, st.integers(1, 23), min_size=1, max_size=4),
    st.data(),
)
def test_however_pieces_are_cut_the_table_is_the_same(lengths, data):
    lengths = dict(sorted(lengths.items()))
    lost = data.draw(st.sets(st.sampled_from(list(lengths)), max_size=1))
    cuts = data.draw(st.sets(st.integers(1, sum(lengths.values())), max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        run_dir = opened(Path(folder), [*IMAGES, *lengths])
        run_dir.write_part(0, embed(run_dir.shards[0].samples))
        for part, piece in pieces_of(lengths, lost, cuts):
            run_dir.write_part(1, part, piece)
        table = run_dir.read_parts()

    whole = {video: length for video, length in lengths.items() if video not in lost}
    frames = {
        frame_name(video, index, length): frame(video, index)
        for video, length in whole.items()
        for index in range(length)
    }
    good = [name for name, one in frames.items() if one.index % 5 != 4]
    assert table.filenames == sorted([*IMAGES, *good])
    for row, name in enumerate(table.filenames):
        assert table.frame(row) == frames.get(name)
        if name in frames:
            assert np.array_equal(table.vectors[row], vector_of(frames[name]))
    assert {video.filename: video.n_corrupt for video in table.videos} == {
        video: sum(index % 5 == 4 for index in range(length)) for video, length in whole.items()
    }
    assert [video.filename for video in table.videos] == sorted(whole)
    bad = {name: one for name, one in frames.items() if one.index % 5 == 4}
    assert {f.filename: f.frame for f in table.failures if f.frame is not None} == bad
    assert {f.filename for f in table.failures if f.frame is None} == lost
    assert table.misfit(every=True) is None
    assert {k: sorted(v) for k, v in table.frame_names().items()} == {
        video: sorted(name for name, one in frames.items() if one.video == video) for video in whole
    }


LENGTHS = {"v.mp4": 12, "w.mp4": 9}


@pytest.mark.parametrize("torn", range(4))
def test_a_later_process_goes_on_before_the_first_torn_piece(tmp_path, torn):
    run_dir = opened(tmp_path, list(LENGTHS))
    pieces = list(pieces_of(LENGTHS, set(), {5, 10, 15}))
    for part, piece in pieces:
        run_dir.write_part(0, part, piece)
    assert list(run_dir.committed()) == [0]
    parts = sorted((tmp_path / "out/run/parts").iterdir())
    parts[torn].write_bytes(parts[torn].read_bytes()[:-1])

    again = opened(tmp_path, list(LENGTHS))
    begun = again.begun(0)

    assert again.committed() == {}
    assert len(begun.names) == torn
    assert begun.resume == (pieces[torn - 1][1].resume if torn else None)
    assert begun.ended == ({"v.mp4"} if torn == 3 else set())
    assert begun.n_frames == min(21, 5 * torn)
    assert len(list((tmp_path / "out/run/parts").iterdir())) == torn
    for part, piece in pieces[torn:]:
        again.write_part(0, part, piece)
    assert len(again.read_parts()) == sum(i % 5 != 4 for n in LENGTHS.values() for i in range(n))


def test_frames_of_another_shard_are_refused(tmp_path):
    run_dir = opened(tmp_path, ["v.mp4"])
    part = part_of([frame("w.mp4", 0)], [])
    with pytest.raises(ArtifactError, match=r"shard 0 does not hold `w\.mp4`"):
        run_dir.write_part(0, part, Piece(0, []))


def test_a_frame_that_is_missing_or_there_twice_is_noticed(tmp_path):
    for name, indices in (("missing", [0, 2, 3]), ("twice", [0, 1, 1, 2, 3])):
        folder = tmp_path / name
        folder.mkdir()
        run_dir = opened(folder, ["v.mp4"])
        part = part_of([frame("v.mp4", index) for index in indices], [])
        run_dir.write_part(0, part, Piece(0, [facts_of("v.mp4", 4)]))
        with pytest.raises(ArtifactError, match=r"`v\.mp4` has 4 frames, but \d ended"):
            run_dir.read_parts()


def test_images_alone_are_parts_as_before(tmp_path):
    run_dir = opened(tmp_path, IMAGES)
    run_dir.write_part(0, embed(run_dir.shards[0].samples))
    table = run_dir.read_parts()
    assert table.frames is None
    assert not table.videos
    assert table.filenames == IMAGES
