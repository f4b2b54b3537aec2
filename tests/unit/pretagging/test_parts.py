import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightly_fs.pretagging.detections import Detections
from lightly_fs.pretagging.parts import part_of, read_part, write_part
from lightly_fs.types import Failure, Outcome

DIGEST = "0123456789abcdef" * 4
SCORES = st.lists(st.floats(0, 1), max_size=4)


def found(scores) -> Detections:
    count = len(scores)
    boxes = np.arange(4.0 * count).reshape(count, 4)
    return Detections(640, 480, np.arange(count, dtype=np.int32), np.array(scores, float), boxes)


RESULTS = st.lists(
    st.one_of(
        SCORES.map(found), st.sampled_from(Outcome).map(lambda o: Failure("", o, 'a, "b"\n猫'))
    ),
    max_size=6,
).map(
    lambda results: [
        (
            f"d/{at}.jpg",
            Failure(f"d/{at}.jpg", r.outcome, r.reason) if isinstance(r, Failure) else r,
        )
        for at, r in enumerate(results)
    ]
)


@given(results=RESULTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path, results):
    path = write_part(tmp_path, 7, DIGEST, results)
    again = write_part(tmp_path, 7, DIGEST, results)
    assert path == again
    assert part_of(path.name, DIGEST) == 7
    read = read_part(path.name, path.read_bytes())
    assert [name for name, _ in read] == [name for name, _ in results]
    for (_, one), (_, other) in zip(read, results, strict=True):
        if isinstance(other, Failure):
            assert one == other
            continue
        assert (one.width, one.height) == (640, 480)
        assert one.boxes.shape == other.boxes.shape
        for name in ("categories", "scores", "boxes"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_torn_part_is_none(tmp_path, damage):
    path = write_part(tmp_path, 0, DIGEST, [("a", found([0.5]))])
    assert read_part(path.name, damage) is None
    assert read_part(path.name, path.read_bytes()[:-1]) is None
    assert read_part("other.parquet", path.read_bytes()) is None


def test_a_part_of_another_detector_has_no_number(tmp_path):
    path = write_part(tmp_path, 3, DIGEST, [("a", found([]))])
    assert part_of(path.name, "f" * 64) is None
    assert part_of("embed-00003-0123456789abcdef.parquet", DIGEST) is None
