import random

import pytest

from tracecore.resample import moving_block_bootstrap, usual_block
from tracecore.stats import median


def mean(values):
    return sum(values) / len(values)


def autocorrelated(count: int, seed: int) -> list[float]:
    chance, value, series = random.Random(seed), 0.0, []
    for _ in range(count):
        value = 0.8 * value + chance.gauss(0, 1)
        series.append(value)
    return series


def test_the_same_seed_gives_the_same_interval():
    series = autocorrelated(100, 1)
    assert moving_block_bootstrap(series, median, seed=3) == moving_block_bootstrap(
        series, median, seed=3
    )
    assert moving_block_bootstrap(series, median, seed=3) != moving_block_bootstrap(
        series, median, seed=4
    )


def test_the_statistic_sees_series_of_the_same_length_made_of_neighbours():
    seen = []

    def note(values):
        seen.append(list(values))
        return 0.0

    moving_block_bootstrap(range(20), note, block=5, resamples=200)
    assert {len(series) for series in seen} == {20}
    for series in seen:
        for start in range(0, 20, 5):
            assert series[start : start + 5] == list(range(series[start], series[start] + 5))
    assert {series[0] for series in seen} == set(range(16))


def test_a_last_block_is_cut_to_fit():
    lengths = set()

    def note(values):
        lengths.add(len(values))
        return 0.0

    moving_block_bootstrap(range(11), note, block=4, resamples=10)
    assert lengths == {11}


def test_blocks_widen_the_interval_of_values_that_follow_each_other():
    series = autocorrelated(400, 2)
    alone, together = (moving_block_bootstrap(series, mean, block=block) for block in (1, 20))
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_the_interval_of_a_mean_is_about_two_standard_errors_each_way():
    chance = random.Random(5)
    series = [chance.gauss(10, 3) for _ in range(900)]
    low, high = moving_block_bootstrap(series, mean, block=1, resamples=4000)
    assert (high - low) / 2 == pytest.approx(1.96 * 3 / 30, rel=0.1)
    assert low < mean(series) < high


def test_a_series_no_longer_than_its_block_is_only_itself():
    assert moving_block_bootstrap([1.0, 2.0, 6.0], mean) == (3.0, 3.0)


@pytest.mark.parametrize(("length", "block"), [(1, 8), (512, 8), (1000, 10), (27_000, 30)])
def test_the_usual_block_grows_slowly(length: int, block: int):
    assert usual_block(length) == block


@pytest.mark.parametrize("wrong", [{"block": 0}, {"resamples": 0}, {"confidence": 1.0}])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="block"):
        moving_block_bootstrap([1.0, 2.0], mean, **wrong)


def test_nothing_cannot_be_resampled():
    with pytest.raises(ValueError, match="no values"):
        moving_block_bootstrap([], mean)
