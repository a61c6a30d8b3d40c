import math
import random
import subprocess
import sys

import numpy as np
import pytest
import scipy

from tracecore.stats import (
    hypergeometric_tail,
    mad,
    median,
    nearest_rank,
    normal_quantile,
    normal_tail,
    student_quantile,
    student_tail,
    wilson_interval,
)

WRONG_COUNTS = [(2, 1), (-1, 3), (0, -1)]
NO_CHANCES = [0, 1, 95, -0.5, math.nan]
NO_PERCENTS = [-1, 101, math.nan]


def samples(count: int, *, longest: int = 30) -> list[list[float]]:
    """Sorted samples of every shape: single values, ties, wild outliers, tiny and huge scales."""
    chance = random.Random(7)
    shapes = [
        lambda: float(chance.randrange(4)),
        lambda: chance.gauss(0, 1),
        lambda: chance.lognormvariate(0, 3),
        lambda: chance.gauss(0, 1) * 1e-9,
        lambda: chance.gauss(1e9, 1),
    ]
    return [
        sorted(shape() for _ in range(chance.randint(1, longest)))
        for shape in (shapes[k % len(shapes)] for k in range(count))
    ]


def test_a_nearest_rank_is_one_of_the_values():
    assert [nearest_rank([10, 20, 30, 40], p) for p in (0, 1, 25, 25.1, 50, 75, 95, 100)] == [
        10, 10, 10, 20, 20, 30, 40, 40,
    ]  # fmt: skip


@pytest.mark.parametrize("percent", [0.1, 12.3, 55.5, 99.9])
def test_a_nearest_rank_reads_a_decimal_percent_as_it_is_written(percent: float):
    assert nearest_rank(range(1, 1001), percent) == round(10 * percent)


def test_a_nearest_rank_is_the_first_value_with_enough_at_or_below_it():
    for values in samples(20):
        for percent in range(101):
            enough = (len(values) * percent + 99) // 100  # how many, rounded up
            assert nearest_rank(values, percent) == values[max(enough, 1) - 1]


def test_medians_and_their_deviations_agree_with_scipy_in_any_order():
    chance = random.Random(1)
    for values in samples(60):
        chance.shuffle(values)
        assert median(values) == np.median(values)
        assert mad(values) == pytest.approx(scipy.stats.median_abs_deviation(values), rel=1e-12)


def test_wilson_intervals_agree_with_scipy():
    for trials in (1, 2, 3, 7, 11, 59, 60):
        for successes in {0, 1, trials // 2, trials - 1, trials}:
            measured = scipy.stats.binomtest(successes, trials)
            for confidence in (0.8, 0.95, 0.999):
                expected = measured.proportion_ci(confidence, method="wilson")
                got = wilson_interval(successes, trials, confidence)
                assert got == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def test_a_wilson_interval_ends_exactly_at_never_and_always_and_is_all_without_trials():
    for trials in range(300):
        assert wilson_interval(0, trials, 0.95)[0] == 0
        assert wilson_interval(trials, trials, 0.95)[1] == 1


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        *((lambda c=counts: wilson_interval(*c, 0.95), "successes") for counts in WRONG_COUNTS),
        *((lambda c=chance: wilson_interval(1, 2, c), "confidence") for chance in NO_CHANCES),
        *((lambda p=chance: normal_quantile(p), "probability") for chance in (0, 1, math.nan)),
        (lambda: hypergeometric_tail(1, 10, 11, 5), "population"),
        (lambda: median([]), "no values"),
        (lambda: mad([]), "no values"),
        *((lambda p=percent: nearest_rank([1.0], p), "percentile") for percent in NO_PERCENTS),
        (lambda: nearest_rank([], 50), "percentile"),
    ],
)
def test_what_cannot_be_is_refused(refused, words: str):
    with pytest.raises(ValueError, match=words):
        refused()


def test_hypergeometric_tails_agree_with_scipy():
    chance = random.Random(5)
    for _ in range(150):
        population = chance.randint(1, 60)
        successes, draws = chance.randint(0, population), chance.randint(0, population)
        least = chance.randint(-1, draws + 2)
        expected = scipy.stats.hypergeom.sf(least - 1, population, successes, draws)
        assert hypergeometric_tail(least, population, successes, draws) == pytest.approx(
            expected, rel=1e-9, abs=1e-15
        )


@pytest.mark.parametrize(
    "counts",
    [
        *((30, 1000, 100, 200), (30, 1001, 100, 200)),
        *((12, 100_000, 40, 10_000), (25_100, 100_000, 50_000, 50_000)),
    ],
)
def test_hypergeometric_tails_of_large_slices_agree_with_scipy(counts):
    least, *others = counts
    expected = scipy.stats.hypergeom.sf(least - 1, *others)
    assert hypergeometric_tail(*counts) == pytest.approx(expected, rel=1e-7)


def test_fisher_agrees_with_scipy():
    chance = random.Random(6)
    for _ in range(150):
        a, b, c, d = (
            chance.choice([0, chance.randint(0, 5), chance.randint(0, 40)]) for _ in range(4)
        )
        expected = scipy.stats.fisher_exact([[a, b], [c, d]], alternative="greater").pvalue
        assert hypergeometric_tail(a, a + b + c + d, a + c, a + b) == pytest.approx(
            expected, rel=1e-9, abs=1e-15
        )


def test_normal_tails_and_quantiles_agree_with_scipy():
    for z in np.linspace(-37, 37, 149):
        assert normal_tail(z) == pytest.approx(scipy.stats.norm.sf(z), rel=1e-12)
    for probability in [1e-300, 1e-12, 0.001, 0.025, 0.3, 0.5, 0.95, 0.975, 0.999999]:
        expected = scipy.stats.norm.ppf(probability)
        assert normal_quantile(probability) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_stats_costs_no_heavy_import():
    code = (
        "import sys, tracecore.stats; print({'random', 'statistics', 'fractions', 'decimal'} &"
        " set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 101])
def test_student_agrees_with_scipy(freedom: int):
    for t in (-40.0, -2.5, -0.1, 0.0, 0.3, 1.0, 2.776, 6.965, 60.0):
        expected = scipy.stats.t.sf(t, freedom)
        assert student_tail(t, freedom) == pytest.approx(expected, rel=1e-6, abs=1e-14)
    for probability in (0.01, 0.5, 0.8, 0.95, 0.99, 0.9975):
        expected = scipy.stats.t.ppf(probability, freedom)
        assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8, abs=1e-9)
