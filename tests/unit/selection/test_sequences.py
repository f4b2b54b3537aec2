import json
import random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightly_fs.artifacts.sequences import write_left_out, write_sequence_information
from lightly_fs.errors import ConfigError
from lightly_fs.selection.choose import Stop, choose
from lightly_fs.selection.pool import (
    Categorical,
    Distributions,
    Embeddings,
    Numeric,
    ObjectEmbeddings,
    Pool,
    check_pool,
)
from lightly_fs.selection.sequences import (
    SHORTER,
    Sequences,
    expanded,
    reduced,
    selected_sequences,
    sequence_limit,
    sequences_of,
)
from lightly_fs.selection.strategies import Diversity, Limits, Operation, Threshold
from lightly_fs.types import Selection, frame_of


def frames(video: str, indices, extension: str = "mp4") -> list[str]:
    return [f"{video}-{index:03}-{extension}.png" for index in indices]


def names_in(filenames, sequences: Sequences) -> list[list[str]]:
    return [[filenames[row] for row in rows] for rows in sequences.rows]


def test_a_video_is_cut_into_sequences_and_the_rest_is_left_out():
    names = frames("d/v", range(11))
    sequences = sequences_of(names, 4)
    assert names_in(names, sequences) == [names[:4], names[4:8]]
    assert sequences.left_out.tolist() == [8, 9, 10]
    assert sequences.length == 4


def test_no_sequence_has_samples_of_two_videos_or_folders():
    names = [
        *frames("a/v", range(3)),
        *frames("a/v", range(3), "avi"),
        *frames("b/v", range(3)),
        *(f"a/{number}.jpg" for number in range(3)),
        *(f"{number}.jpg" for number in range(3)),
    ]
    sequences = sequences_of(names, 2)
    groups = [
        {name.split("0")[0].split("1")[0] for name in one} for one in names_in(names, sequences)
    ]
    assert len(sequences.rows) == len(sequences.left_out) == 5
    assert all(len(group) == 1 for group in groups)


def test_a_missing_frame_ends_a_sequence():
    names = frames("v", [0, 1, 2, 4, 5, 6, 7])
    sequences = sequences_of(names, 2)
    assert names_in(names, sequences) == [frames("v", pair) for pair in ((0, 1), (4, 5), (6, 7))]
    assert [names[row] for row in sequences.left_out] == frames("v", [2])


def test_every_tenth_frame_is_consecutive_where_that_is_the_videos_step():
    names = frames("v", [0, 10, 20, 30, 31, 41, 51])
    assert names_in(names, sequences_of(names, 3)) == [
        frames("v", [0, 10, 20]),
        frames("v", [31, 41, 51]),
    ]


def test_images_are_in_the_natural_order_of_their_names():
    names = ["f/10.jpg", "f/9.jpg", "f/1.jpg", "f/2.jpg"]
    assert names_in(names, sequences_of(names, 2)) == [
        ["f/1.jpg", "f/2.jpg"],
        ["f/9.jpg", "f/10.jpg"],
    ]
    names = ["x", "a-2-b.jpg", "2.jpg", "2a.jpg", "02.jpg", "a.jpg", "", "a-10-b.jpg"]
    assert [one for (one,) in names_in(names, sequences_of(names, 1))] == [
        *("", "02.jpg", "2.jpg", "2a.jpg", "a-2-b.jpg", "a-10-b.jpg", "a.jpg", "x")
    ]


def test_frames_tell_their_video_and_index():
    assert frame_of("subdir/video_1-099-mp4.png") == ("subdir/video_1.mp4", 99)
    assert frame_of("a-7-b-0012-MOV.png") == ("a-7-b.MOV", 12)
    assert frame_of("a-7.png") is None


def test_a_length_that_nothing_has_is_refused_with_one_that_fits():
    with pytest.raises(ConfigError) as caught:
        sequences_of([*frames("v", range(7)), "a/1.jpg", "a/2.jpg"], 8)
    assert caught.value.message == (
        "selected_sequence_length=8, but the longest video or folder has 7 consecutive images"
    )
    assert caught.value.hint == "selected_sequence_length=7 or less"
    assert sequences_of([], 3).rows.shape == (0, 3)


@pytest.mark.parametrize(
    ("n_samples", "proportion", "expected"),
    [(None, False, None), (0, False, 0), (20, False, 4), (23, True, 4), (4, True, 0), (5, True, 1)],
)
def test_samples_become_sequences(n_samples, proportion, expected):
    assert sequence_limit(n_samples, 5, proportion=proportion) == expected


def test_a_count_that_is_no_multiple_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        sequence_limit(23, 5, proportion=False)
    assert caught.value.message == "n_samples=23 is no multiple of selected_sequence_length=5"
    assert caught.value.hint == "n_samples=20 or n_samples=25"
    with pytest.raises(ConfigError) as caught:
        sequence_limit(3, 5, proportion=False)
    assert caught.value.hint == "n_samples=5"


NAMES = st.one_of(
    st.builds(
        "{}-{}-{}.png".format,
        st.sampled_from(["v", "w", "d/v", "a-1"]),
        st.integers(0, 40).map(lambda index: f"{index:02}"),
        st.sampled_from(["mp4", "MOV"]),
    ),
    st.builds("{}{}.jpg".format, st.sampled_from(["", "d/", "d/e/"]), st.integers(0, 30)),
    st.text(max_size=5),
)
NAME_LISTS = st.lists(NAMES, min_size=1, max_size=40, unique=True)


def cut(names, length) -> Sequences:
    try:
        return sequences_of(names, length)
    except ConfigError:
        assume(False)
        raise


@given(names=NAME_LISTS, length=st.integers(1, 5), seed=st.randoms(use_true_random=False))
def test_every_sample_is_in_one_place_whatever_the_order(names, length, seed):
    sequences = cut(names, length)
    places = sorted([*sequences.rows.reshape(-1).tolist(), *sequences.left_out.tolist()])
    assert places == list(range(len(names)))
    assert sequences.left_out.tolist() == sorted(sequences.left_out.tolist())
    shuffled = random.Random(seed.random()).sample(names, len(names))
    assert names_in(shuffled, sequences_of(shuffled, length)) == names_in(names, sequences)
    if length == 1:
        assert not len(sequences.left_out)


@given(names=NAME_LISTS, length=st.integers(2, 5))
def test_frames_of_a_sequence_rise_evenly_in_one_video(names, length):
    for one in names_in(names, cut(names, length)):
        found = [frame_of(name) for name in one]
        if found[0] is None:
            assert len({name.rpartition("/")[0] for name in one}) == 1
            assert found == [None] * length
        else:
            assert len({video for video, _ in found}) == 1
            assert len(set(np.diff([index for _, index in found]).tolist())) == 1


def pool_of(names, rng, *, unit=True) -> Pool:
    count = len(names)
    vectors = rng.normal(size=(count, 4)).astype(np.float32)
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    objects = rng.integers(0, 3, count)
    return Pool(
        names,
        {
            "image": Embeddings(vectors, vectors[:1] * 2),
            "objects": ObjectEmbeddings(
                rng.normal(size=(objects.sum(), 3)).astype(np.float32),
                np.concatenate([[0], np.cumsum(objects)]).astype(np.int64),
            ),
            "score": Numeric(rng.random(count)),
            "weather": Categorical(rng.choice(["sun", "rain", "fog"], count).tolist(), ["sun"]),
            "classes": Distributions(["a", "b"], rng.random((count, 2)), np.ones((1, 2))),
        },
        {"query": vectors[:2]},
    )


@given(
    names=NAME_LISTS, length=st.integers(1, 4), unit=st.booleans(), seed=st.integers(0, 2**32 - 1)
)
def test_a_candidate_is_made_of_its_samples_alone(names, length, unit, seed):
    sequences = cut(names, length)
    pool = pool_of(names, np.random.default_rng(seed), unit=unit)
    small = reduced(pool, sequences)
    check_pool(small)
    assert small.queries is pool.queries
    assert len(set(small.filenames)) == len(small.filenames) == len(sequences.rows)
    objects = pool.inputs["objects"]
    for place, rows in enumerate(sequences.rows):
        assert small.filenames[place] == names[rows[0]]
        mean = pool.inputs["image"].vectors[rows].astype(float).mean(axis=0)
        if unit:
            mean /= np.linalg.norm(mean)
        np.testing.assert_allclose(small.inputs["image"].vectors[place], mean, atol=1e-5)
        assert np.isclose(
            small.inputs["score"].values[place], pool.inputs["score"].values[rows].mean()
        )
        labels = [pool.inputs["weather"].labels[row] for row in rows]
        assert small.inputs["weather"].labels[place] == max(sorted(set(labels)), key=labels.count)
        total = pool.inputs["classes"].amounts[rows].sum(axis=0)
        np.testing.assert_allclose(small.inputs["classes"].amounts[place], total)
        ends = small.inputs["objects"].offsets
        owned = [objects.vectors[objects.offsets[row] : objects.offsets[row + 1]] for row in rows]
        mine = small.inputs["objects"].vectors[ends[place] : ends[place + 1]]
        assert np.array_equal(mine, np.concatenate(owned))
    for name in ("image", "weather", "classes"):
        assert small.inputs[name].preselected is pool.inputs[name].preselected


def test_opposite_embeddings_have_no_direction_and_stay_finite():
    pool = Pool(["1.jpg", "2.jpg"], {"image": Embeddings(np.array([[1, 0], [-1, 0]], np.float32))})
    assert reduced(pool, sequences_of(pool.filenames, 2)).inputs["image"].vectors.tolist() == [
        [0, 0]
    ]


def test_sequences_are_chosen_whole_and_in_order():
    names = [*frames("v", range(10)), *frames("w", range(7)), *(f"a/{n}.jpg" for n in range(5))]
    rng = np.random.default_rng(3)
    pool = pool_of(names, rng)
    sequences = sequences_of(names, 3)
    small = reduced(pool, sequences)
    strategies = [Diversity("image"), Threshold("score", Operation.BIGGER, 0.4)]
    limit = sequence_limit(9, 3, proportion=False)
    picked = choose(small, strategies, Limits(limit))
    chosen = expanded(picked, sequences)
    assert picked.stopped_by is chosen.stopped_by is Stop.N_SAMPLES
    assert len(chosen.indices) == len(set(chosen.indices.tolist())) == 9
    assert chosen.indices.reshape(3, 3).tolist() == sequences.rows[picked.indices].tolist()
    assert np.array_equal(chosen.objectives[::3], picked.objectives)
    assert np.array_equal(chosen.objectives[2::3], picked.objectives)
    assert np.array_equal(chosen.distances[1::3], picked.distances)
    assert 0 < len(picked.removed)
    assert set(chosen.removed) == set(sequences.rows[picked.removed].reshape(-1))
    assert not set(chosen.removed) & {*chosen.indices, *sequences.left_out}
    prefix = expanded(choose(small, strategies, Limits(1)), sequences)
    assert chosen.indices[:3].tolist() == prefix.indices.tolist()


def test_a_selection_by_a_method_is_expanded_too():
    sequences = sequences_of(frames("v", range(6)), 2)
    picked = Selection(np.array([2, 0]), np.array([np.inf, 0.5], np.float32), "n_samples")
    chosen = expanded(picked, sequences)
    assert chosen.indices.tolist() == [4, 5, 0, 1]
    assert chosen.distances.tolist() == [np.inf, np.inf, 0.5, 0.5]
    assert chosen.stopped_by == "n_samples"


def test_the_file_names_frames_with_what_is_known_of_them(tmp_path):
    video, folder = frames("d/v", [4, 5]), ["a/1.jpg", "a/2.jpg"]
    sequences = selected_sequences([*video, *folder], 2)
    path = tmp_path / "data" / "sequence_information.json"
    write_sequence_information(path, sequences)
    plain = {"video_name": "d/v.mp4", "frame_names": video, "frame_indices": [4, 5]}
    assert json.loads(path.read_text()) == [plain, {"filenames": folder}]
    times = {video[0]: (2048, 0.16), video[1]: (2560, 0.2)}
    write_sequence_information(path, sequences, times)
    assert json.loads(path.read_text())[0] == {
        **plain,
        "frame_timestamps_pts": [2048, 2560],
        "frame_timestamps_sec": [0.16, 0.2],
    }
    write_sequence_information(path, sequences, {video[0]: (2048, 0.16)})
    assert json.loads(path.read_text())[0] == plain
    write_sequence_information(path, [])
    assert json.loads(path.read_text()) == []


def test_what_is_left_out_is_listed_with_its_reason(tmp_path):
    write_left_out(tmp_path / "data" / "left.csv", ["a/9.jpg", 'b, "c".jpg'], SHORTER)
    assert (tmp_path / "data" / "left.csv").read_text().splitlines() == [
        "filename,reason",
        '"a/9.jpg","shorter than a sequence"',
        '"b, ""c"".jpg","shorter than a sequence"',
    ]
