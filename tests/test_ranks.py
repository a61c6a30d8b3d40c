import itertools
import math
import random
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
import scipy

from tracecore import ranks
from tracecore.ranks import (
    benjamini_hochberg,
    hodges_lehmann,
    hodges_lehmann_interval,
    holm,
    kendall,
    mann_whitney_greater,
    smallest_p,
    theil_sen,
)


def draw(chance: random.Random, count: int) -> list[float]:
    """A sample that may be full of ties, have a few, or none."""
    grain = chance.choice([1, 2, 5, 10_000_000])
    return [round(chance.gauss(0, 1) * grain) / grain for _ in range(count)]


def brute_rank_sum_p(x: Sequence[float], y: Sequence[float]) -> Fraction:
    """Every split of the pooled values, counted one by one."""
    doubled = [int(2 * rank) for rank in scipy.stats.rankdata([*x, *y])]
    sums = [sum(choice) for choice in itertools.combinations(doubled, len(y))]
    observed = sum(doubled[len(x) :])
    return Fraction(sum(total >= observed for total in sums), len(sums))


# Mann-Whitney


def test_without_ties_the_exact_p_agrees_with_scipy():
    chance = random.Random(1)
    for _ in range(300):
        x = [chance.random() for _ in range(chance.randint(1, 9))]
        y = [chance.random() + chance.choice([0, 0.3]) for _ in range(chance.randint(1, 9))]
        expected = scipy.stats.mannwhitneyu(y, x, alternative="greater", method="exact")
        got = mann_whitney_greater(x, y)
        assert (got.statistic, got.method) == (expected.statistic, "exact")
        assert got.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_with_ties_the_exact_p_is_the_share_of_all_splits():
    chance = random.Random(2)
    for _ in range(300):
        x, y = draw(chance, chance.randint(1, 6)), draw(chance, chance.randint(1, 6))
        assert mann_whitney_greater(x, y).p == pytest.approx(
            float(brute_rank_sum_p(x, y)), rel=1e-12
        )


def test_with_ties_the_exact_p_agrees_with_the_permutation_test_of_scipy():
    chance = random.Random(3)
    for _ in range(30):
        x, y = draw(chance, chance.randint(2, 5)), draw(chance, chance.randint(2, 5))
        expected = scipy.stats.mannwhitneyu(
            y, x, alternative="greater", method=scipy.stats.PermutationMethod(n_resamples=math.inf)
        )
        assert mann_whitney_greater(x, y).p == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (1, 400), (400, 1), (13, 30), (30, 13)])
def test_the_largest_exact_sizes_agree_with_scipy(n: int, m: int):
    chance = random.Random(4)
    x, y = [chance.random() for _ in range(n)], [chance.random() + 0.2 for _ in range(m)]
    expected = scipy.stats.mannwhitneyu(y, x, alternative="greater", method="exact").pvalue
    got = mann_whitney_greater(x, y)
    assert got.method == "exact"
    assert got.p == pytest.approx(expected, rel=1e-9)


def test_beyond_them_the_approximation_agrees_with_scipy():
    chance = random.Random(5)
    for _ in range(100):
        x, y = draw(chance, chance.randint(21, 60)), draw(chance, chance.randint(21, 60))
        expected = scipy.stats.mannwhitneyu(
            y, x, alternative="greater", method="asymptotic", use_continuity=True
        )
        got = mann_whitney_greater(x, y)
        assert (got.statistic, got.method) == (expected.statistic, "normal approximation")
        assert got.p == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("count", [1, 5, 20, 21, 50])
def test_equal_values_everywhere_are_no_evidence(count: int):
    assert mann_whitney_greater([3.0] * count, [3.0] * count).p == 1


def test_both_directions_together_count_the_observed_split_twice():
    chance = random.Random(6)
    for _ in range(300):
        x, y = draw(chance, chance.randint(1, 6)), draw(chance, chance.randint(1, 6))
        assert mann_whitney_greater(x, y).p + mann_whitney_greater(y, x).p >= 1


@pytest.mark.parametrize(
    ("k", "p"), [(3, 0.05), (4, 1 / 70), (5, 1 / 252), (6, 1 / 924), (8, 1 / 12870)]
)
def test_complete_separation_reaches_the_smallest_p(k: int, p: float):
    assert mann_whitney_greater(range(k), range(k, 2 * k)).p == smallest_p(k, k) == p


def test_it_rejects_no_more_often_than_asked_when_nothing_is_there():
    chance = random.Random(7)
    alarms = sum(
        mann_whitney_greater(
            [chance.randrange(6) for _ in range(5)], [chance.randrange(6) for _ in range(5)]
        ).p
        < 0.05
        for _ in range(2000)
    )
    assert alarms / 2000 < 0.06


@pytest.mark.parametrize(("x", "y"), [([], [1.0]), ([1.0], []), ([], [])])
@pytest.mark.parametrize(
    "question",
    [mann_whitney_greater, hodges_lehmann, lambda x, y: hodges_lehmann_interval(x, y, 0.9)],
)
def test_an_empty_sample_is_refused(
    question: Callable[..., object], x: list[float], y: list[float]
):
    with pytest.raises(ValueError, match="two samples"):
        question(x, y)


# Hodges-Lehmann


def test_a_shift_is_the_median_of_all_differences():
    chance = random.Random(8)
    for _ in range(200):
        x, y = draw(chance, chance.randint(1, 12)), draw(chance, chance.randint(1, 12))
        assert hodges_lehmann(x, y) == pytest.approx(
            np.median(np.subtract.outer(y, x)), rel=1e-12, abs=1e-12
        )


def test_the_interval_holds_just_the_shifts_that_the_test_would_not_reject():
    chance = random.Random(9)
    for _ in range(60):
        x, y = (
            [chance.random() for _ in range(chance.randint(1, 8))],
            [chance.random() for _ in range(chance.randint(1, 8))],
        )
        confidence = chance.choice([0.5, 0.8, 0.9, 0.95, 0.99])
        interval = hodges_lehmann_interval(x, y, confidence)
        tail = (1 - confidence) / 2

        def rejected(
            shift: float, x: list[float] = x, y: list[float] = y, tail: float = tail
        ) -> bool:
            moved = [value - shift for value in y]
            p = min(
                scipy.stats.mannwhitneyu(moved, x, alternative=way, method="exact").pvalue
                for way in ("greater", "less")
            )
            return bool(p <= tail * (1 + 1e-9))

        if interval is None:
            assert not rejected(-10)
            assert not rejected(10)
        else:
            low, high = interval
            assert rejected(low - 1e-9)
            assert not rejected(low + 1e-9)
            assert not rejected(high - 1e-9)
            assert rejected(high + 1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_three_runs_a_side_bound_no_shift_at_95_percent(k: int):
    assert hodges_lehmann_interval(range(k), range(k), 0.95) is None


def test_four_runs_a_side_bound_it_by_the_extremes():
    assert hodges_lehmann_interval([0, 1, 2, 3], [10, 11, 12, 13], 0.95) == (7, 13)


def test_the_interval_goes_on_smoothly_where_the_approximation_takes_over(
    monkeypatch: pytest.MonkeyPatch,
):
    for n, m in [(20, 20), (10, 40), (16, 25)]:
        for tail in (0.005, 0.025, 0.1):
            exact = ranks._pairs_in_tail(n, m, tail)
            with monkeypatch.context() as patch:
                patch.setattr(ranks, "EXACT_PAIRS", 0)
                assert abs(ranks._pairs_in_tail(n, m, tail) - exact) <= 2


@pytest.mark.parametrize(("n", "m", "grain"), [(5, 5, None), (5, 5, 1), (25, 25, None)])
def test_the_interval_covers_as_often_as_it_says(n: int, m: int, grain: int | None):
    chance = random.Random(10)
    covered = 0
    for _ in range(600):
        x = [round(chance.gauss(0, 2), grain) if grain else chance.gauss(0, 2) for _ in range(n)]
        y = [
            round(chance.gauss(0, 2), grain) + 1 if grain else chance.gauss(1, 2) for _ in range(m)
        ]
        interval = hodges_lehmann_interval(x, y, 0.9)
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert covered / 600 > 0.87


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_no_chance_is_refused(confidence: float):
    with pytest.raises(ValueError, match="confidence"):
        hodges_lehmann_interval([1.0], [2.0], confidence)


# Kendall and Theil-Sen


def test_kendall_without_ties_agrees_with_scipy():
    chance = random.Random(14)
    for _ in range(300):
        count = chance.randint(2, 25)
        x, y = (
            list(range(count)),
            [chance.random() + k * chance.choice([0, 0.05]) for k in range(count)],
        )
        expected = scipy.stats.kendalltau(x, y, method="exact")
        got = kendall(x, y)
        assert got.method == "exact"
        assert got.statistic == pytest.approx(expected.statistic, abs=1e-12)
        assert got.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_kendall_at_its_largest_exact_size_agrees_with_scipy():
    chance = random.Random(15)
    x, y = range(50), [k + chance.gauss(0, 60) for k in range(50)]
    assert kendall(x, y).method == "exact"
    assert kendall(x, y).p == pytest.approx(
        scipy.stats.kendalltau(x, y, method="exact").pvalue, rel=1e-9
    )


def test_kendall_with_ties_or_many_values_agrees_with_scipy():
    chance = random.Random(16)
    compared = 0
    for _ in range(300):
        count = chance.choice([chance.randint(2, 12), chance.randint(51, 80)])
        x, y = draw(chance, count), draw(chance, count)
        if len(set(x)) == 1 or len(set(y)) == 1:
            continue
        got = kendall(x, y)
        expected = scipy.stats.kendalltau(
            x, y, method="exact" if got.method == "exact" else "asymptotic"
        )
        assert got.statistic == pytest.approx(expected.statistic, abs=1e-12)
        assert got.p == pytest.approx(expected.pvalue, rel=1e-9)
        compared += 1
    assert compared > 200


@pytest.mark.parametrize(
    ("x", "y"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([1, 1], [2, 2])]
)
def test_what_never_changes_correlates_with_nothing(x: list[float], y: list[float]):
    result = kendall(x, y)
    assert (result.p, result.statistic) == (1, 0)


def test_slopes_agree_with_scipy():
    chance = random.Random(17)
    compared = 0
    for _ in range(300):
        count = chance.randint(2, 15)
        x, y = draw(chance, count), draw(chance, count)
        if len(set(x)) == 1:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = scipy.stats.theilslopes(y, x).slope
        assert theil_sen(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        compared += 1
    assert compared > 200


def test_a_slope_overlooks_a_wild_value():
    assert theil_sen(range(20), [2 * k if k != 11 else 10_000 for k in range(20)]) == 2


def test_points_above_one_another_have_no_slope():
    with pytest.raises(ValueError, match="different x"):
        theil_sen([1, 1], [1, 2])


@pytest.mark.parametrize("question", [kendall, theil_sen])
@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [1]), ([1, 2], [1, 2, 3])])
def test_pairs_must_be_pairs(question: Callable[..., object], x: list[float], y: list[float]):
    with pytest.raises(ValueError, match="pairs"):
        question(x, y)


# many questions at once


def test_adjusted_p_values_keep_their_order_and_agree_with_their_definitions():
    chance = random.Random(18)
    for _ in range(300):
        p_values = [
            chance.choice([0, 1, round(chance.random() ** 3, 2)])
            for _ in range(chance.randint(1, 12))
        ]
        count, order = len(p_values), np.argsort(p_values, kind="stable")
        stepped = np.maximum.accumulate(
            [(count - k) * p_values[place] for k, place in enumerate(order)]
        )
        expected = np.empty(count)
        expected[order] = np.minimum(1, stepped)
        assert holm(p_values) == pytest.approx(expected)
        assert benjamini_hochberg(p_values) == pytest.approx(
            scipy.stats.false_discovery_control(np.array(p_values, float))
        )


def test_holm_rejects_what_stepping_down_rejects():
    assert [p < 0.05 for p in holm([0.01, 0.04, 0.03, 0.005])] == [True, False, False, True]
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_no_questions_have_no_answers(adjust: Callable[..., list[float]]):
    assert adjust([]) == []
    assert adjust([0.03]) == [0.03]
