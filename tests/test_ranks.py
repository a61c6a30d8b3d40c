import itertools
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


def test_with_ties_the_exact_p_is_the_share_of_all_splits():
    chance = random.Random(2)
    for _ in range(60):
        x, y = draw(chance, chance.randint(1, 6)), draw(chance, chance.randint(1, 6))
        assert mann_whitney_greater(x, y) == pytest.approx(float(brute_rank_sum_p(x, y)), rel=1e-12)


SMALL = [(n, m) for n in (1, 2, 5, 9) for m in (1, 3, 8)]
LARGEST = [(20, 20), (1, 400), (400, 1), (13, 30), (30, 13)]
BEYOND = [(21, 20), (21, 60), (60, 25), (401, 1)]


@pytest.mark.parametrize(("n", "m"), [*SMALL, *LARGEST, *BEYOND])
def test_p_agrees_with_scipy_whichever_method_it_is_worked_out_by(n: int, m: int):
    chance = random.Random(4)
    exact = (n, m) not in BEYOND
    for _ in range(4):
        if exact:
            x, y = [chance.random() for _ in range(n)], [chance.random() + 0.2 for _ in range(m)]
        else:
            x, y = draw(chance, n), draw(chance, m)
        expected = scipy.stats.mannwhitneyu(
            y, x, alternative="greater", method="exact" if exact else "asymptotic"
        )
        assert mann_whitney_greater(x, y) == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("count", [1, 5, 20, 21, 50])
def test_equal_values_everywhere_are_no_evidence(count: int):
    assert mann_whitney_greater([3.0] * count, [3.0] * count) == 1


@pytest.mark.parametrize(
    ("k", "p"), [(3, 0.05), (4, 1 / 70), (5, 1 / 252), (6, 1 / 924), (8, 1 / 12870)]
)
def test_complete_separation_reaches_the_smallest_p(k: int, p: float):
    assert mann_whitney_greater(range(k), range(k, 2 * k)) == smallest_p(k, k) == p


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
    for _ in range(50):
        x, y = draw(chance, chance.randint(1, 12)), draw(chance, chance.randint(1, 12))
        assert hodges_lehmann(x, y) == pytest.approx(
            np.median(np.subtract.outer(y, x)), rel=1e-12, abs=1e-12
        )


def test_the_interval_holds_just_the_shifts_that_the_test_would_not_reject():
    chance = random.Random(9)
    for _ in range(30):
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


def test_the_interval_covers_as_often_as_it_says_where_values_are_tied():
    chance = random.Random(10)
    covered = 0
    for _ in range(300):
        x, y = ([round(chance.gauss(0, 2), 1) for _ in range(5)] for _ in range(2))
        interval = hodges_lehmann_interval(x, y, 0.9)
        assert interval is not None
        covered += interval[0] <= 0 <= interval[1]
    assert covered / 300 > 0.87


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_no_chance_is_refused(confidence: float):
    with pytest.raises(ValueError, match="confidence"):
        hodges_lehmann_interval([1.0], [2.0], confidence)


# Kendall and Theil-Sen


@pytest.mark.parametrize("count", [2, 3, 4, 7, 12, 25, 50])
def test_kendall_without_ties_agrees_with_scipy(count: int):
    chance = random.Random(14)
    for drift in (0, 0.01, 0.05, -0.05):
        x, y = range(count), [chance.random() + k * drift for k in range(count)]
        expected = scipy.stats.kendalltau(x, y, method="exact")
        assert kendall(x, y) == pytest.approx(expected.pvalue, rel=1e-9)


def test_kendall_with_ties_or_many_values_agrees_with_scipy():
    chance = random.Random(16)
    compared = 0
    for _ in range(60):
        count = chance.choice([chance.randint(2, 12), chance.randint(51, 80)])
        x, y = draw(chance, count), draw(chance, count)
        if len(set(x)) == 1 or len(set(y)) == 1:
            continue
        is_exact = len(set(x)) == len(set(y)) == count <= ranks.EXACT_ORDERS
        expected = scipy.stats.kendalltau(x, y, method="exact" if is_exact else "asymptotic")
        assert kendall(x, y) == pytest.approx(expected.pvalue, rel=1e-9)
        compared += 1
    assert compared > 40


@pytest.mark.parametrize(
    ("x", "y"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([1, 1], [2, 2])]
)
def test_what_never_changes_correlates_with_nothing(x: list[float], y: list[float]):
    assert kendall(x, y) == 1


def test_slopes_agree_with_scipy():
    chance = random.Random(17)
    compared = 0
    for _ in range(60):
        count = chance.randint(2, 15)
        x, y = draw(chance, count), draw(chance, count)
        if len(set(x)) == 1:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = scipy.stats.theilslopes(y, x).slope
        assert theil_sen(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        compared += 1
    assert compared > 40


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
    for _ in range(60):
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


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_no_questions_have_no_answers(adjust: Callable[..., list[float]]):
    assert adjust([]) == []
    assert adjust([0.03]) == [0.03]
