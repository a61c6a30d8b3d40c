import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore.perf.show.sketch import Sketch
from tracecore.stats import nearest_rank


@given(st.lists(st.floats(2e-6, 1e5), min_size=1, max_size=300))
def test_every_percentile_is_within_one_percent_of_the_true_one(values):
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    percents = (1, 50, 95, 100)
    exact = [nearest_rank(sorted(values), percent) for percent in percents]
    assert sketch.percentiles(*percents) == pytest.approx(exact, rel=0.0101)
    assert len(sketch) == len(values)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e300])
def test_values_off_the_scale_count_at_its_ends(value):
    sketch = Sketch()
    sketch.add(value)
    assert len(sketch.percentiles(50)) == 1


def test_nothing_has_no_percentile():
    with pytest.raises(ValueError, match="no values"):
        Sketch().percentiles(50)
