import pytest

from tracecore.stats import nearest_rank


def test_a_nearest_rank_is_one_of_the_values() -> None:
    assert [nearest_rank([10, 20, 30, 40], p) for p in (0, 1, 25, 25.1, 50, 75, 95, 100)] == [
        10, 10, 10, 20, 20, 30, 40, 40,
    ]  # fmt: skip


def test_a_nearest_rank_of_twelve_is_the_sixth_at_the_middle() -> None:
    assert nearest_rank(range(1, 13), 50) == 6


def test_a_nearest_rank_reads_a_decimal_percent_as_it_is_written() -> None:
    assert nearest_rank(range(1, 1001), 99.9) == 999


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101), ([1.0], float("nan"))])
def test_a_nearest_rank_of_nothing_or_out_of_range_is_refused(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        nearest_rank(values, percent)
