"""The figures of scripts/bench_embedding.py, on vectors whose answers are known."""

import numpy as np
import pytest
from embedding_metrics import (
    cosines,
    knn_predict,
    leave_one_out,
    nearest_of_class,
    recall_at,
    retrieval_top1,
    threshold_at,
    top1,
)
from linear_probe import fit, out_of_fold


def at(*degrees):
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_vote_is_weighted_by_similarity_and_not_by_length():
    bank = at(2, 30, 31) * np.array([[0.01], [100], [100]], np.float32)

    one_near = knn_predict(bank, np.array([0, 1, 1]), at(0), k=3)

    # exp(cos 2° / 0.07) = 1.59e6 against exp(cos 30° / 0.07) + exp(cos 31° / 0.07) = 4.4e5
    assert one_near.tolist() == [0]


def test_two_votes_beat_one_that_is_a_little_nearer():
    predicted = knn_predict(at(2, 4, 5), np.array([0, 1, 1]), at(0), k=3)

    assert predicted.tolist() == [1]


def test_only_the_k_nearest_vote():
    bank, labels = at(2, 4, 5), np.array([0, 1, 1])

    assert knn_predict(bank, labels, at(0), k=1).tolist() == [0]


def test_leave_one_out_asks_everybody_else():
    vectors, labels = at(0, 1, 90, 91), np.array([0, 1, 2, 2])

    # With its own vote, each would be right.
    assert leave_one_out(vectors, labels).tolist() == [1, 0, 2, 2]
    assert top1(leave_one_out(vectors, labels), labels) == 0.5


def test_leave_one_out_passes_over_the_same_photograph():
    vectors, labels = at(0, 1, 3), np.array([0, 0, 1])

    assert leave_one_out(vectors, labels, groups=np.array([7, 7, 8])).tolist() == [1, 1, 0]


def test_nobody_to_vote_is_no_class():
    assert leave_one_out(at(0, 1), np.array([0, 0]), groups=np.array([3, 3])).tolist() == [-1, -1]


def test_blocks_of_queries_change_nothing():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2_300, 8)).astype(np.float32)
    labels = rng.integers(0, 4, 2_300)

    predicted = leave_one_out(vectors, labels)

    for row in (0, 999, 1_000, 2_299):
        others = np.delete(np.arange(2_300), row)
        alone = knn_predict(vectors[others], labels[others], vectors[row : row + 1])
        assert predicted[row] == alone[0]


def test_nearest_of_class_skips_itself_other_classes_and_its_group():
    vectors = at(0, 10, 1, 90)
    labels = np.array([0, 0, 1, 2])

    nearest = nearest_of_class(vectors, labels)

    assert nearest[:2] == pytest.approx(np.cos(np.radians([10, 10])), abs=1e-6)
    assert np.isnan(nearest[2:]).all()
    assert np.isnan(nearest_of_class(vectors, labels, np.array([5, 5, 6, 7]))).all()


def test_the_threshold_lets_no_more_negatives_pass_than_allowed():
    negatives = np.random.default_rng(1).permutation(np.arange(200)).astype(np.float32)

    assert threshold_at(negatives, 0.01) == 197
    assert (negatives > threshold_at(negatives, 0.01)).sum() == 2
    assert threshold_at(negatives[:50], 0.01) == negatives[:50].max()


def test_recall_counts_positives_above_the_threshold_alone():
    negatives = np.arange(100, dtype=np.float32)  # one may pass: the threshold is 98
    positives = np.array([97, 98, 98.5, 99], np.float32)

    assert recall_at(positives, negatives, 0.01) == 0.5


def test_equal_negatives_do_not_all_pass():
    negatives = np.ones(100, np.float32)

    assert recall_at(np.ones(10, np.float32), negatives, 0.01) == 0


def test_cosines_are_row_by_row():
    assert cosines(at(0, 0) * 3, at(60, 90)) == pytest.approx([0.5, 0], abs=1e-6)


def test_retrieval_wants_the_original_itself():
    assert retrieval_top1(at(0, 50, 100), at(52, 98, 1), np.array([1, 2, 1])) == pytest.approx(
        2 / 3
    )


def separable(n, classes=3, dimensions=6):
    rng = np.random.default_rng(2)
    labels = np.arange(n) % classes
    centres = 4 * np.eye(classes, dimensions)
    return (centres[labels] + rng.normal(size=(n, dimensions))).astype(np.float32), labels


def test_the_probe_tells_what_can_be_told_and_scale_does_not_matter():
    vectors, labels = separable(600)
    vectors = vectors * np.float32([1e4, 1e-4, 1, 1, 1, 0]) + 7

    predicted = fit(vectors[:300], labels[:300]).predict(vectors[300:])

    assert top1(predicted, labels[300:]) > 0.97


def test_the_probe_learns_nothing_from_labels_without_meaning():
    vectors = np.random.default_rng(3).normal(size=(1_000, 4)).astype(np.float32)
    labels = np.random.default_rng(4).integers(0, 4, 1_000)

    assert top1(fit(vectors[:500], labels[:500]).predict(vectors[500:]), labels[500:]) < 0.35


def test_wide_vectors_are_reduced_to_what_varies():
    vectors, labels = separable(90)
    wide = np.concatenate([vectors, np.zeros((90, 600), np.float32)], axis=1)

    probe = fit(wide[:60], labels[:60])

    assert probe.axes.shape == (606, 60)
    assert top1(probe.predict(wide[60:]), labels[60:]) > 0.9


def test_folds_keep_a_photograph_together():
    # Each scene has a vector of its own and the label of a coin: only its own rows could tell.
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 4)
    labels = rng.integers(0, 2, 40)[groups]
    vectors = rng.normal(size=(40, 32)).astype(np.float32)[groups]

    assert top1(out_of_fold(vectors, labels, groups), labels) < 0.7
    assert top1(out_of_fold(vectors, labels, np.arange(160)), labels) > 0.85
