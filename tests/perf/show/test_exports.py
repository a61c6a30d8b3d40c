"""The two formats, read back by small strict readers that do what the services do."""

import json
import math
import pathlib
import re

import jsonschema
import pytest

from tracecore.errors import OutputError
from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.show.exports import (
    bencher_metrics,
    github_benchmark,
    github_benchmark_bigger,
    scenario_figures,
    write_formats,
)

# github-action-benchmark takes an array of these, coerces what it can, and drops other keys without
# a word.
GITHUB_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "value", "unit"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "value": {"type": "number"},
            "unit": {"type": "string", "minLength": 1},
            "range": {"type": "string", "pattern": r"^(\+-|±)\s*\d"},
            "extra": {"type": "string"},
        },
    },
}
# Bencher Metric Format: benchmark, measure, then up to three numbers.
BMF_SCHEMA = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
        "additionalProperties": {
            "type": "object",
            "required": ["value"],
            "additionalProperties": False,
            "properties": {
                name: {"type": "number"} for name in ("value", "lower_value", "upper_value")
            },
        },
    },
}


def reduce(rows):
    table = Rows(rows)
    facts = SliceFacts(episodes_requested=9, workers=2, elapsed_s=2.0)
    return scenario_figures(table), summary_document(table, facts)


@pytest.fixture
def reduced(make_row):
    rows = [
        make_row(
            index,
            task_ref="a@1",
            wall_clock_s=wall_s,
            cpu_user_s=wall_s / 2,
            cpu_sys_s=0.01,
            peak_rss_bytes=1000 + index,
        )
        for index, wall_s in enumerate([0.1, 0.2, 0.4])
    ]
    slow = {"wall_clock_s": 9.0, "error": "slow", "termination_reason": "timeout"}
    return reduce([*rows, make_row(3, task_ref="b@1", **slow)])


def check_numbers(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            check_numbers(item)
    else:
        assert not isinstance(value, float) or math.isfinite(value)


def test_github_benchmark_is_what_its_reader_takes(reduced):
    entries = github_benchmark(*reduced)
    jsonschema.validate(entries, GITHUB_SCHEMA)
    check_numbers(entries)
    assert len({entry["name"] for entry in entries}) == len(entries)
    by_name = {entry["name"]: entry for entry in entries}
    wall = by_name["a@1 / wall median"]
    assert (wall["unit"], wall["value"], wall["range"]) == ("ms", 200.0, "± 148.26")
    assert wall["extra"].splitlines()[:3] == ["n=3", "p95=400 ms", "cpu=110 ms"]
    assert by_name["a@1 / cpu median"]["value"] == pytest.approx(110.0)
    assert by_name["a@1 / peak rss"] == {"name": "a@1 / peak rss", "unit": "bytes", "value": 1002}
    assert by_name["all / failures"]["value"] == by_name["b@1 / failures"]["value"] == 1


def test_what_has_no_value_has_no_entry(reduced):
    names = {entry["name"] for entry in github_benchmark(*reduced)}
    # it only timed out: null would be read as 0, a great improvement
    assert "b@1 / wall median" not in names
    assert github_benchmark(*reduce([])) == []
    assert github_benchmark_bigger(*reduce([])) == []
    assert bencher_metrics(*reduce([])) == {}


def test_names_hold_no_stamp_and_no_count(make_row):
    three, seven = (
        [entry["name"] for entry in github_benchmark(*reduce(map(make_row, range(episodes))))]
        for episodes in (3, 7)
    )
    assert three == seven
    assert not [name for name in three if re.search(r"\d{8}T|n=", name)]


def test_what_is_better_when_bigger_stands_in_a_file_of_its_own(reduced):
    entries = github_benchmark_bigger(*reduced)
    jsonschema.validate(entries, GITHUB_SCHEMA)
    assert {entry["name"]: entry["value"] for entry in entries} == {
        "all / throughput": 2.0,
        "all / success rate": 0.75,
    }


def test_bencher_metrics_are_what_its_reader_takes(reduced):
    metrics = bencher_metrics(*reduced)
    jsonschema.validate(metrics, BMF_SCHEMA)
    check_numbers(metrics)
    assert metrics["a@1"]["latency"] == {"value": 0.2e9, "lower_value": 0.1e9, "upper_value": 0.4e9}
    assert metrics["a@1"]["peak-rss"] == {"value": 1002}
    assert metrics["b@1"] == {"failures": {"value": 1}}
    assert metrics["all"] == {"failures": {"value": 1}, "throughput": {"value": 2.0}}


def test_agents_that_share_a_task_are_told_apart(make_row):
    figures, _ = reduce(
        [make_row(0, agent="x.py"), make_row(1, agent="y.py"), make_row(2, task_ref="b@1")]
    )
    task = "filesystem_hidden_config@1"
    assert list(figures) == [f"{task} / x.py", f"{task} / y.py", "b@1"]


def test_the_files_are_written_under_names_that_a_workflow_knows(reduced, tmp_path: pathlib.Path):
    assert write_formats(str(tmp_path), (), *reduced) == {}
    assert list(tmp_path.iterdir()) == []
    paths = write_formats(str(tmp_path), ("github-benchmark", "bmf"), *reduced)
    schemas = {
        "perf-github-benchmark.json": GITHUB_SCHEMA,
        "perf-github-benchmark-bigger.json": GITHUB_SCHEMA,
        "perf-bencher.json": BMF_SCHEMA,
    }
    kinds = ("github_benchmark", "github_benchmark_bigger", "bmf")
    assert paths == {kind: str(tmp_path / name) for kind, name in zip(kinds, schemas, strict=True)}
    for name, schema in schemas.items():
        jsonschema.validate(json.loads((tmp_path / name).read_text("utf-8")), schema)
    with pytest.raises(OutputError):
        write_formats(str(tmp_path / "missing"), ("bmf",), *reduced)
