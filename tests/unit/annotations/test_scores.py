"""Every score against values computed by hand from the published definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.annotations.objects import PredictedObject, PredictionsBuilder
from lightly_fs.annotations.scores import active_learning_scores, score_named, uncertainties
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.errors import ConfigError

NAN = float("nan")


def predictions(task_type, *samples, n_categories=3):
    """Build from one list of objects per sample; None for a sample without a file."""
    categories = tuple(Category(number, f"c{number}") for number in range(n_categories))
    names = [f"{number}.jpg" for number in range(len(samples))]
    builder = PredictionsBuilder(TaskSchema("t", task_type, categories), names)
    for row, objects in enumerate(samples):
        builder.skip(row)
        if objects is not None:
            builder.add(objects)
    return builder.build()


def obj(category=0, score=NAN, probabilities=None, **more):
    return PredictedObject(category, score, probabilities=probabilities, **more)


UNSURE = [0.5, 0.25, 0.25]
# 1 - 0.5 of at most 2/3; 1 - (0.5 - 0.25); (0.5 + 0.5 + 0.5) bits of at most log2(3)
UNSURE_SCORES = {
    "uncertainty_least_confidence": 0.75,
    "uncertainty_margin": 0.75,
    "uncertainty_entropy": 1.5 / math.log2(3),
}
SURE, UNIFORM = [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]


def test_uncertainties_by_hand():
    found = uncertainties(np.array([UNSURE, SURE, UNIFORM]))

    for name, expected in UNSURE_SCORES.items():
        assert found[name] == pytest.approx([expected, 0, 1], abs=1e-12)


def test_four_classes_by_hand():
    found = uncertainties(np.array([[0.1, 0.2, 0.3, 0.4]]))

    entropy = -(0.1 * math.log2(0.1) + 0.2 * math.log2(0.2) + 0.3 * math.log2(0.3))
    entropy -= 0.4 * math.log2(0.4)
    assert found["uncertainty_least_confidence"] == pytest.approx([0.8])  # 0.6 / 0.75
    assert found["uncertainty_margin"] == pytest.approx([0.9])  # 1 - (0.4 - 0.3)
    assert found["uncertainty_entropy"] == pytest.approx([entropy / 2])


def test_a_single_column_is_a_binary_class():
    found = uncertainties(np.array([[0.25], [1.0]]))

    assert found["uncertainty_least_confidence"].tolist() == [0.5, 0]
    assert found["uncertainty_margin"].tolist() == [0.5, 0]
    assert found["uncertainty_entropy"] == pytest.approx(
        [-(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75)), 0]
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda row: sum(row) > 0.1))
def test_uncertainties_lie_between_one_hot_and_uniform(row):
    for values in uncertainties(np.array([row]) / sum(row)).values():
        assert 0 <= values[0] <= 1


def test_classification():
    found = active_learning_scores(
        predictions(
            TaskType.CLASSIFICATION,
            [obj(probabilities=UNSURE)],
            [obj(probabilities=SURE)],
            None,
            [obj(category=2)],  # a label: nothing says how sure
            [obj(probabilities=SURE), obj(probabilities=UNSURE)],
        )
    )

    assert set(found) == set(UNSURE_SCORES)
    for name, expected in UNSURE_SCORES.items():
        assert found[name] == pytest.approx([expected, 0, 0, 0, expected])


def test_labels_without_probabilities_have_no_uncertainty():
    assert active_learning_scores(predictions(TaskType.CLASSIFICATION, [obj()])) == {}


def test_detection():
    found = active_learning_scores(
        predictions(
            TaskType.OBJECT_DETECTION,
            [obj(0, 0.5, SURE), obj(0, 0.9, UNSURE), obj(1, 1.0), obj(0, 0.6)],
            [obj(2, 0.75, UNIFORM)],
            [],
            None,
        )
    )

    # 1 - (0.5 + 0.9 + 1 + 0.6) / 4
    assert found["objectness_least_confidence"] == pytest.approx([0.25, 0.25, 0, 0])
    # classes: 1 + 0.25 x 2 of the first, 1 of the second; 2.5, 1 and 0 are mapped to 0.9 ... 1
    assert found["object_frequency"] == pytest.approx([1.0, 0.94, 0.9, 0.9])
    # the largest over the boxes that give probabilities
    assert found["uncertainty_margin"] == pytest.approx([0.75, 1, 0, 0])
    assert found["uncertainty_least_confidence"] == pytest.approx([0.75, 1, 0, 0])
    assert found["uncertainty_entropy"] == pytest.approx([1.5 / math.log2(3), 1, 0, 0])


def test_the_settings_of_object_frequency():
    given = predictions(TaskType.OBJECT_DETECTION, [obj(0, 1), obj(0, 1)], [obj(1, 1)], [])

    found = active_learning_scores(given, frequency_penalty=1.0, min_score=0.0)

    assert found["object_frequency"].tolist() == [1.0, 0.5, 0.0]
    assert "uncertainty_margin" not in found


def test_equal_frequencies_are_all_one():
    given = predictions(TaskType.OBJECT_DETECTION, [obj(0, 1)], [obj(2, 0.1)])

    assert active_learning_scores(given)["object_frequency"].tolist() == [1, 1]


def test_segmentation_is_the_mean_over_pixels():
    found = active_learning_scores(
        predictions(
            TaskType.SEMANTIC_SEGMENTATION,
            # 6 pixels unsure, 2 uniform, 2 more without probabilities
            [
                obj(0, 0.5, UNSURE, mask=[0, 6, 4]),
                obj(1, 0.5, UNIFORM, mask=[6, 1, 2, 1]),
                obj(2, 0.5, mask=[7, 2, 1]),
            ],
            [obj(0, 1, SURE, mask=[0, 10])],
            [obj(0, 1, UNIFORM, mask=[10])],
            None,
        )
    )

    assert set(found) == set(UNSURE_SCORES)
    for name, expected in UNSURE_SCORES.items():
        assert found[name] == pytest.approx([(6 * expected + 2) / 8, 0, 0, 0])


def test_segmentation_equals_the_score_of_every_pixel_averaged():
    rng = np.random.default_rng(3)
    segments = rng.integers(0, 4, (12, 9))
    vectors = rng.dirichlet(np.ones(3), 4)
    from lightly_fs.annotations import rle

    objects = [
        obj(0, 1, list(vectors[one]), mask=rle.encode(segments == one).tolist()) for one in range(4)
    ]
    found = active_learning_scores(predictions(TaskType.SEMANTIC_SEGMENTATION, objects))

    for name, values in uncertainties(vectors[segments.ravel()]).items():
        assert found[name] == pytest.approx([values.mean()])


def test_instances_are_scored_like_boxes():
    found = active_learning_scores(
        predictions(TaskType.INSTANCE_SEGMENTATION, [obj(0, 0.25, UNSURE, mask=[1, 2])], [])
    )

    assert found["objectness_least_confidence"].tolist() == [0.75, 0]
    assert found["uncertainty_margin"].tolist() == [0.75, 0]
    assert found["object_frequency"].tolist() == [1, 0.9]


def test_keypoints():
    found = active_learning_scores(
        predictions(
            TaskType.KEYPOINT_DETECTION,
            # means of 0.2 and 0.6 per object
            [
                obj(0, 0.5, keypoints=[9, 9, 0.1, 9, 9, 0.3]),
                obj(0, 0.7, keypoints=[9, 9, 0.4, 9, 9, 0.8, 9, 9, 0.6]),
            ],
            [],
            None,
        )
    )

    assert found["least_confidence"] == pytest.approx([0.6, 0, 0])
    assert found["objectness_least_confidence"] == pytest.approx([0.4, 0, 0])
    assert set(found) == {"least_confidence", "objectness_least_confidence", "object_frequency"}


def test_visibilities_of_labels_are_no_confidences():
    labels = predictions(TaskType.KEYPOINT_DETECTION, [obj(0, 1, keypoints=[9, 9, 2, 9, 9, 0])])

    assert "least_confidence" not in active_learning_scores(labels)


def test_asking_for_a_score_that_a_task_does_not_have():
    labels = predictions(TaskType.OBJECT_DETECTION, [obj(0, 1)])

    assert score_named(labels, "objectness_least_confidence").tolist() == [0]
    with pytest.raises(ConfigError) as caught:
        score_named(labels, "uncertainty_margin")
    assert caught.value.message == (
        "the task `t` (object-detection) has no score `uncertainty_margin`: "
        "its predictions have no `probabilities`"
    )
    assert caught.value.hint == "Its scores: object_frequency, objectness_least_confidence"
    with pytest.raises(ConfigError, match=r"has no score `margin`$"):
        score_named(labels, "margin")


@pytest.mark.parametrize("task_type", list(TaskType))
def test_no_sample_and_no_object_give_no_error(task_type):
    for empty in (predictions(task_type), predictions(task_type, None, [])):
        for values in active_learning_scores(empty).values():
            assert values.shape == (len(empty),)
