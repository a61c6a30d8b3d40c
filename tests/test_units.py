import json

import pytest
from helpers.tables import rows

from tracecore.units import (
    NONE_TEXT,
    counted,
    duration_text,
    figure_text,
    unit_of,
)


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    rows("""
    count    | 1000       | 1,000
    duration | 12.3       | 12.3 s
    duration | 185.2      | 3m05s
    percent  | 0.98765    | 98.77 %
    rate     | 93.81      | 93.8/s
    number   | -0.1234567 | -0.123457
    number   | 4000000.0  | 4,000,000
    number   | 1e300      | 1e+300
    bytes    | 0          | 0 B
    bytes    | 831        | 831 B
    bytes    | 10240      | 10.2 kB
    bytes    | 999.7      | 1 kB
    bytes    | 1.5e6      | 1.5 MB
    bytes    | 2e13       | 20 TB
    seconds  | 0.0123456  | 12.3 ms
    seconds  | 0.0000042  | 0.0042 ms
    seconds  | 1.23456    | 1.235 s
    seconds  | 180.04     | 180 s
    seconds  | null       | NONE
    count    | true       | NONE
    """),
)
def test_figures_are_no_more_precise_than_they_are_useful(unit, value, text):
    assert figure_text(unit, json.loads(value)) == (NONE_TEXT if text == "NONE" else text)


def test_durations_are_short_and_a_count_and_its_noun_agree():
    durations = {0: "0s", 59.4: "59s", 59.6: "1m00s", 185: "3m05s", 7620: "2h07m"}
    assert [duration_text(seconds) for seconds in durations] == list(durations.values())
    workers = ["0 workers", "1 worker", "1,000 workers"]
    assert [counted(number, "worker") for number in (0, 1, 1000)] == workers


@pytest.mark.parametrize(
    ("metric", "unit"),
    rows("""
    max_wall_clock_s           | seconds
    run_artifacts.total_bytes  | bytes
    artifact_bytes_avg         | bytes
    summary.success_rate       | percent
    summary.throughput_eps     | rate
    failure_count              | number
    """),
)
def test_the_name_of_a_metric_gives_its_unit(metric, unit):
    assert unit_of(metric) == unit
