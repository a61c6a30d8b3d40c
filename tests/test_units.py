import pytest

from tracecore.units import (
    NONE_TEXT,
    bytes_text,
    counted,
    duration_text,
    figure_text,
    seconds_text,
    unit_of,
)


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("count", 1000, "1,000"),
        ("seconds", 0.0123456, "12.3 ms"),
        ("duration", 185.2, "3m05s"),
        ("duration", 12.3, "12.3 s"),
        ("bytes", 10_240, "10.2 kB"),
        ("percent", 0.98765, "98.77 %"),
        ("rate", 93.81, "93.8/s"),
        ("number", -0.1234567, "-0.123457"),
        ("number", 4_000_000.0, "4,000,000"),
        ("number", 1e300, "1e+300"),
        ("seconds", None, NONE_TEXT),
        ("count", True, NONE_TEXT),
    ],
)
def test_figures_are_no_more_precise_than_they_are_useful(unit, value, text):
    assert figure_text(unit, value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (7620, "2h07m")],
)
def test_durations_are_short(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (831, "831 B"),
        (10_240, "10.2 kB"),
        (999.7, "1 kB"),
        (1.5e6, "1.5 MB"),
        (2e13, "20 TB"),
    ],
)
def test_sizes_are_short(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123456, "12.3 ms"), (0.0000042, "0.0042 ms"), (1.23456, "1.235 s"), (180.04, "180 s")],
)
def test_measured_times_keep_three_digits_or_more(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("max_wall_clock_s", "seconds"),
        ("run_artifacts.total_bytes", "bytes"),
        ("artifact_bytes_avg", "bytes"),
        ("summary.success_rate", "percent"),
        ("summary.throughput_eps", "rate"),
        ("failure_count", "number"),
    ],
)
def test_the_name_of_a_metric_gives_its_unit(metric, unit):
    assert unit_of(metric) == unit


def test_a_count_and_its_noun_agree():
    assert [counted(number, "worker") for number in (0, 1, 1000)] == [
        "0 workers",
        "1 worker",
        "1,000 workers",
    ]
