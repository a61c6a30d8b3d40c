import datetime as dt
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import clock

EPOCHS_S = st.floats(0, 4e9, allow_nan=False)


@given(EPOCHS_S)
def test_a_moment_reads_back_to_within_a_microsecond(epoch_s: float):
    read = dt.datetime.fromisoformat(clock.utc_text(epoch_s))
    assert abs(read.timestamp() - epoch_s) <= 1e-6
    assert read.utcoffset() == dt.timedelta(0)


@given(EPOCHS_S, EPOCHS_S)
def test_texts_sort_as_their_moments_do(one_s: float, other_s: float):
    assert (clock.utc_text(one_s) <= clock.utc_text(other_s)) or one_s > other_s


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_moment_is_in_utc_with_microseconds_wherever_it_is_read(monkeypatch, zone):
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert clock.utc_text(1_769_860_800) == "2026-01-31T12:00:00.000000Z"
        assert clock.utc_text(0.25) == "1970-01-01T00:00:00.250000Z"
        assert clock.utc_text(59.9999999) == "1970-01-01T00:01:00.000000Z"
        assert clock.utc_stamp(1_769_860_800) == "20260131T120000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_now_is_what_the_wall_clock_says():
    before_s = time.time()
    told = dt.datetime.fromisoformat(clock.utc_text()).timestamp()
    assert before_s - 1e-6 <= told <= time.time() + 1e-6


def test_a_stamp_has_whole_seconds_and_no_punctuation():
    assert clock.utc_stamp(1_769_860_800.999) == "20260131T120000Z"
    assert re.fullmatch(r"\d{8}T\d{6}Z", clock.utc_stamp())


def test_an_id_is_32_lower_hex_digits_and_never_twice_the_same():
    ids = [clock.new_id() for _ in range(1000)]
    assert all(re.fullmatch(r"[0-9a-f]{32}", new) for new in ids)
    assert len(set(ids)) == len(ids)
