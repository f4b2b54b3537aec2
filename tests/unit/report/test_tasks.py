import numpy as np
import pytest

from lightly_fs.annotations.objects import PredictedObject
from lightly_fs.report.statistics import Sets
from lightly_fs.report.tasks import task_statistics
from tests.unit.report.strategies_made import detections, predictions_of, schema

PERSON, CAR, BICYCLE, LIGHT = range(4)


def thing(category, score=0.5):
    return PredictedObject(category, score, (0, 0, 10, 10))


@pytest.fixture
def task():
    objects = [
        [thing(PERSON), thing(PERSON), thing(CAR, 0.9)],
        [],
        None,
        [thing(PERSON)],
        [thing(BICYCLE)] * 5,
    ]
    names = [f"{i}.jpg" for i in range(5)]
    sets = Sets(5, np.array([4, 0]), np.array([2, 3]), 0)
    scores = {"margin": np.array([0.1, 0.2, 0.3, 0.4, 0.5])}
    return task_statistics(predictions_of(names, objects, schema()), scores, sets)


def test_objects_and_images_by_class(task):
    assert task.n_predicted == 4
    assert task.classes.classes == ("person", "car", "bicycle", "traffic light")
    assert task.classes.input.amounts.tolist() == [3, 1, 5, 0]
    assert task.classes.selected.amounts.tolist() == [2, 1, 5, 0]
    assert task.classes.random.amounts.tolist() == [1, 0, 0, 0]
    assert task.images.input.amounts.tolist() == [2, 1, 1, 0]
    assert task.images.selected.amounts.tolist() == [1, 1, 1, 0]


def test_images_without_a_prediction_have_no_objects(task):
    per_image = task.per_image
    means = (per_image.input.mean, per_image.selected.mean, per_image.random.mean)
    assert means == pytest.approx((9 / 5, 4, 0.5))
    assert per_image.input.counts.tolist() == [2, 1, 0, 1, 0, 1]
    assert (per_image.input.median, per_image.input.max) == (1, 5)


def test_counts_per_image_include_the_images_without_the_class(task):
    person = task.counts["person"]
    assert person.input.counts.tolist() == [3, 1, 1]
    assert person.selected.counts.tolist() == [1, 0, 1]
    assert person.random.counts.tolist() == [1, 1, 0]
    assert task.counts["traffic light"].input.counts.tolist() == [5]
    assert task.counts["bicycle"].selected.max == 5


def test_confidences_are_those_of_the_objects_of_a_set(task):
    assert (task.confidences.input.n, task.confidences.random.n) == (9, 1)
    assert task.confidences.selected.max == 0.9
    assert task.scores["margin"].selected.mean == pytest.approx(0.3)


def test_a_task_without_confidences_has_no_distribution_of_them():
    made = predictions_of(["a", "b"], [[PredictedObject(0)], None], schema())
    statistics = task_statistics(made, {}, Sets(2, np.array([0]), np.array([1]), 0))
    assert statistics.confidences is None
    assert statistics.per_image.selected.mean == 1


def test_the_counts_of_every_class_are_those_of_a_loop():
    names = [f"{i}.jpg" for i in range(120)]
    made = detections(names, schema())
    sets = Sets(120, np.arange(0, 120, 3), np.arange(40), 0)
    statistics = task_statistics(made, {}, sets)
    for name, rows in sets.rows().items():
        for place, category in enumerate(made.schema.category_names):
            found = np.array([(made.categories[list(made.of(row))] == place).sum() for row in rows])
            told = getattr(statistics.counts[category], name)
            assert (told.n, told.max) == (len(rows), found.max())
            assert told.mean == pytest.approx(found.mean())
            assert told.std == pytest.approx(found.std())
            assert getattr(statistics.classes, name).amounts[place] == found.sum()
            assert getattr(statistics.images, name).amounts[place] == (found > 0).sum()
