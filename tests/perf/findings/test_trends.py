import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore.perf.findings.columns import boundaries, cut_into_blocks, middle
from tracecore.perf.findings.drift import BLOCKS, TOO_EARLY, block_figures, mean, trend


def test_equal_parts_are_cut_at_the_values_that_begin_them():
    assert boundaries([3.0, 1.0, 2.0, 4.0], 2) == [3.0]
    assert boundaries([float(n) for n in range(100)], 4) == [25.0, 50.0, 75.0]
    assert list(cut_into_blocks([0.0, 24.9, 25.0, 99.0], [25.0, 50.0, 75.0])) == [0, 0, 1, 3]


@given(st.lists(st.floats(0, 1000), min_size=20, max_size=200, unique=True))
def test_the_blocks_of_different_values_are_equally_full(values):
    blocks = cut_into_blocks(values, boundaries(values, BLOCKS))
    sizes = [list(blocks).count(block) for block in range(BLOCKS)]
    assert max(sizes) - min(sizes) <= 1


def test_blocks_with_too_few_values_are_left_out_and_nan_is_no_value():
    blocks = array("B", [0] * 5 + [1] * 5 + [2] * 6)
    values = [1.0, 2.0, 3.0, 4.0, 5.0, *[7.0] * 4, math.nan, *[9.0] * 6]
    assert block_figures(blocks, values, middle) == [3.0, 9.0]
    assert block_figures(blocks, values, mean) == [3.0, 9.0]
    assert block_figures([TOO_EARLY, *blocks], [99.0, *values], mean) == [3.0, 9.0]


def test_a_rise_is_a_trend_and_its_ratio_is_that_of_the_quarters():
    found = trend([1.0 + 0.02 * block for block in range(20)])
    assert found.is_rise
    assert found.ratio == pytest.approx(1.34 / 1.04)
    assert not trend([1.4 - 0.02 * block for block in range(20)]).is_rise


def test_a_small_or_unsteady_rise_is_none():
    assert not trend([1.0 + 0.004 * block for block in range(20)]).is_rise
    assert not trend([1.0 + 0.5 * (block % 3) for block in range(20)]).is_rise
    assert not trend([1.0] * 20).is_rise


# Of a slice in which nothing grew but the host's own pace.
WANDERING = """0.81 0.81 0.94 0.97 0.96 0.83 0.76 0.84 0.96 0.95
1.13 1.05 1.09 1.08 1.12 1.07 1.09 1.10 1.10 1.03"""


@pytest.mark.parametrize(
    ("blocks", "is_rise"),
    [
        (list(map(float, WANDERING.split())), False),
        ([1.0 + 0.015 * block + 0.03 * (-1) ** block for block in range(20)], True),
        ([1.0 + (block / 19) ** 2 for block in range(20)], True),  # smooth, and far too much
    ],
)
def test_times_rise_where_it_is_more_than_what_neighbouring_blocks_share(blocks, is_rise):
    found = trend(blocks)
    assert found.is_rise
    assert found.is_rise_of_times is is_rise


def test_too_few_or_empty_blocks_have_no_trend():
    assert trend([1.0, 2.0, 3.0]) is None
    assert trend([0.0, 1.0, 2.0, 3.0]) is None


def test_the_middle_is_one_of_the_values():
    assert middle([5.0, 1.0, 3.0, 9.0]) == 3.0
    with pytest.raises(ValueError, match="no values"):
        middle([])
