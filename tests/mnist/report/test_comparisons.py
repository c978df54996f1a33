"""Which arm is better: the pairs, the words, the summary."""

from __future__ import annotations

import pytest

from fastdrop.mnist.report import scope
from fastdrop.mnist.report.comparisons import compare, in_words, p_text, summary
from fastdrop.mnist.results import Results

from .made import DROPOUT, NONE, diverged, run, study


def test_a_pair_is_of_equal_settings_and_equal_seeds() -> None:
    (found,) = compare(study())
    assert (found.first.regularizer, found.second.regularizer, found.baseline) == ("none", "dropout=0.5", True)
    assert found.accuracy is not None and found.accuracy.difference.n == 5
    assert found.accuracy.difference.mean == pytest.approx(sum(DROPOUT) / 5 - sum(NONE) / 5)
    # Two tests, accuracy and loss; the losses are made of the accuracies, so Holm doubles both p-values.
    assert found.accuracy_p == pytest.approx(2 * found.accuracy.p_value)
    assert found.verdict == 1


def test_the_words() -> None:
    (found,) = compare(study())
    # Differences of .5, .6, .4, .5, .5 points: mean .5, t(4) half-width .0878.
    expected = "dropout is better than none by 0.50 points (95 % interval 0.41 to 0.59, p < .001, 5 seeds)."
    assert in_words(found, "none", "dropout") == expected


def test_the_words_of_a_worse_arm_name_a_positive_interval() -> None:
    (found,) = compare(study([(run(), DROPOUT), (run("dropout"), NONE)]))
    assert "dropout is worse than none by 0.50 points (95 % interval 0.41 to 0.59" in in_words(found, "none", "dropout")


def test_the_words_where_seeds_do_not_tell() -> None:
    (found,) = compare(study([(run(), (0.90, 0.91, 0.92)), (run("dropout"), (0.91, 0.90, 0.92))]))
    assert found.verdict == 0
    said = in_words(found, "none", "dropout")
    assert said.startswith("These seeds do not tell dropout and none apart (difference 0.00 points")


def test_equal_results_are_called_equal() -> None:
    (found,) = compare(study([(run(), NONE), (run("l2"), NONE)]))
    assert in_words(found, "none", "l2") == "l2 and none read equally many images right in every seed (5 seeds)."


def test_one_seed_has_no_test() -> None:
    results = study([(run(), [0.9]), (run("dropout"), [0.95])])
    (found,) = compare(results)
    assert (found.accuracy_p, found.verdict) == (None, None)
    assert "5.00 points above none (one seed: no interval, no test)" in in_words(found, "none", "dropout")
    assert "support no claim" in summary(results)


@pytest.mark.parametrize(("arms", "pairs"), [(2, 1), (3, 3), (4, 6), (5, 4)])
def test_all_pairs_of_few_arms_and_only_the_first_of_many(arms: int, pairs: int) -> None:
    names = ["none", "dropout", "l2", "gaussian", "max-norm"][:arms]
    found = compare(study([(run(name), NONE) for name in names]))
    assert len(found) == pairs
    assert sum(each.baseline for each in found) == arms - 1


def test_the_first_is_the_arm_without_a_regularizer() -> None:
    (found,) = compare(study([(run("dropout"), DROPOUT), (run(), NONE)]))
    assert found.first.regularizer == "none"


def test_arms_of_other_settings_are_not_compared() -> None:
    results = study([(run(), NONE), (run("dropout", train_size=50), DROPOUT), (run("l2", lr=0.5), NONE)])
    assert compare(results) == []
    assert "compare nothing" in summary(results)


def test_a_diverged_run_leaves_the_pairs_of_its_seed() -> None:
    results = study()
    records = (*results.records[:-1], diverged(results.records[-1]))
    (found,) = compare(Results(results.dataset, records))
    assert found.accuracy is not None and found.accuracy.difference.n == 4


def test_arms_that_share_no_seed() -> None:
    results = study([(run(), [0.9]), (run("dropout"), [0.9, 0.95])])
    records = (results.records[0], results.records[2])
    (found,) = compare(Results(results.dataset, records))
    assert found.accuracy is None
    assert "no seed in common" in in_words(found, "none", "dropout")


def test_the_summary_is_two_sentences() -> None:
    said = summary(study())
    assert "dropout is better than none by 0.50 points" in said
    assert "in test loss dropout is better than none" in said
    assert "The results do not say what other data sets" in said
    assert said.count(". ") == 1 and said.endswith(".")


def test_the_summary_counts_where_there_are_many() -> None:
    names = ["dropout", "l2", "gaussian", "max-norm"]
    arms = [(run(), NONE), (run("dropout"), DROPOUT), *((run(name), NONE) for name in names[1:])]
    said = summary(study(arms))
    assert "dropout is better than none; 3 of 4 comparisons do not tell two arms apart" in said
    assert "which of the arms that are not told apart is better" in said


def test_the_summary_where_everything_diverged() -> None:
    results = study()
    said = summary(Results(results.dataset, tuple(map(diverged, results.records))))
    assert said.startswith("Training diverged in every run")


@pytest.mark.parametrize(("p", "text"), [(0.0, "< .001"), (0.0996, ".10"), (0.05, ".050"), (0.999, "1"), (0.5, ".50")])
def test_p_values(p: float, text: str) -> None:
    assert p_text(p) == text


def test_the_best_is_chosen_by_validation_and_stands_beside_the_first_of_its_group() -> None:
    results = study([(run(), NONE), (run("l2"), NONE), (run("dropout"), DROPOUT), (run(train_size=20), (0.1, 0.1))])
    assert [arm.regularizer for arm in scope.pair(results)] == ["none", "dropout=0.5"]
    # Where the first is the best, the best of the others stands beside it.
    results = study([(run(), DROPOUT), (run("l2"), (0.1, 0.1)), (run("dropout"), NONE)])
    assert [arm.regularizer for arm in scope.pair(results)] == ["none", "dropout=0.5"]
    assert scope.pair(Results(results.dataset, tuple(map(diverged, results.records)))) == []


def test_what_every_picture_says() -> None:
    results = study([(run(), NONE), (run(train_size=2000), NONE[:2])])
    assert scope.about(results) == "some digits: 60 or 2,000 training, 40 validation, 40 test images; seeds 0 to 4"
    assert scope.about(results, results.arms[1:]).endswith(
        "2,000 training, 40 validation, 40 test images; seeds 0 and 1"
    )
