"""The job summary, annotations and outputs, read back by the rules of GitHub's runner."""

import io
import pathlib
import re

import pytest
from helpers.gates import read_gate
from helpers.github import read_command, read_outputs, read_tables

from tracecore.perf.documents.metrics import metrics_document
from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.findings.findings import Circumstances, findings_document
from tracecore.perf.judge.aggregates import evaluate
from tracecore.perf.judge.gate import Gate
from tracecore.perf.judge.verdicts import Evidence, judge, verdict_document
from tracecore.perf.show.github import annotations, output_lines, show_in_job, view_of_slice
from tracecore.perf.show.markdown import write_markdown_within
from tracecore.perf.show.terminal import Console
from tracecore.units import NONE_TEXT

MANIFEST = {
    "host": {"cpu_model": "CPU | X", "cpus_usable": 2, "kernel": "6.1", "python_version": "3.11.7"},
    "runtime_identity": {"version": "1.0", "git_sha": "abc"},
    "workers": 4,
}
PATHS = {"summary": "out/perf-summary-S.json"}
HOSTILE = "a|b `c` <img src=x> \x1b[31m\r\n::error::x *bold* [link](javascript:x) %0A"


def judged(rows, *expressions, episodes=None):
    gate = read_gate(episodes=24, expressions=expressions) if expressions else Gate()
    table = Rows(rows)
    facts = SliceFacts(
        episodes_requested=episodes or len(rows),
        workers=4,
        runs_root="runs",
        system_samples={},
        elapsed_s=2.0,
    )
    document = summary_document(table, facts) | findings_document(table, Circumstances())
    statuses = tuple(evaluate(threshold, document, table) for threshold in gate.thresholds)
    document["verdict"] = verdict_document(judge(document, Evidence(statuses)), gate)
    return document, metrics_document(table)


def view_of(rows, *expressions, paths=PATHS):
    document, metrics = judged(rows, *expressions)
    return view_of_slice(document, MANIFEST, metrics, paths)


def page_of(rows, *expressions, bytes_most=900_000):
    return write_markdown_within(view_of(rows, *expressions).page(), bytes_most, 3)


def annotations_of(view):
    return [*annotations("error", view.errors), *annotations("warning", view.warnings)]


# --- the page


def test_a_good_slice_is_one_sentence_with_the_rest_folded_away(make_row):
    page = page_of([make_row(0), make_row(1, task_ref="other@1")])
    assert page.startswith("### Perf: PASS - All 2 episodes succeeded.\n")
    ((header, body),) = read_tables(page)
    assert header[:3] == ["", "task", "agent"]
    assert [row[1] for row in body] == ["`filesystem_hidden_config@1`", "`other@1`"]
    assert page.index("<details>") < page.index("| task")
    assert page.count("<details>") == page.count("</details>") == 2
    assert "`out/perf-summary-S.json`" in page


def test_what_fails_comes_first(make_row):
    no_data = "system_samples.cpu_percent < 50"
    expressions = ("episodes >= 3", "max_wall_clock_s <= 9", no_data)
    page = page_of([make_row(0, error="went wrong")], *expressions)
    assert page.startswith("### Perf: FAIL - 1 of 1 episodes failed; most often (1): went wrong.")
    (thresholds, broken), (_, failures), _ = read_tables(page)
    assert thresholds == ["threshold", "observed", "limit", "room left", "status"]
    assert broken == [
        ["`episodes >= 3`", "1", "3", "-2", "**✘ broken**"],
        [f"`{no_data}`", NONE_TEXT, "50", NONE_TEXT, "**✘ no data**"],
    ]
    assert failures == [["1", "went wrong"]]
    assert "- `python -m tracecore run --agent agents/toy_agent.py" in page


def test_twenty_rows_are_shown_and_the_rest_counted(make_row):
    page = page_of([make_row(0)], *(f"episodes >= {limit}" for limit in range(10, 35)))
    (_, broken), _ = read_tables(page)
    assert len(broken) == 20
    assert "and 5 more" in page


def test_nothing_that_an_agent_says_ends_a_cell_or_becomes_markup(make_row):
    page = page_of([make_row(0, error=HOSTILE, agent="a`b``c.py", task_ref="x|y@1")])
    (_, failures), (_, scenarios) = read_tables(page)
    assert len(failures) == len(scenarios) == 1
    assert "<img" not in page
    assert "&lt;img src=x&gt;" in page
    assert "\x1b" not in page
    assert "\r" not in page
    assert not re.search(r"(?<!\\)\*bold", page)
    assert "```python -m tracecore run --agent 'a`b``c.py' --task 'x|y@1' --seed 42```" in page


def test_a_page_that_would_be_too_large_loses_scenarios_first(make_row):
    rows = [make_row(index, task_ref=f"task_number_{index}@1") for index in range(200)]
    page = page_of([*rows, make_row(200, error="x")], bytes_most=10_000)
    assert len(page.encode()) <= 10_000
    assert "1 of 201 episodes failed" in page
    assert re.search(r"and \d+ more scenario rows, in the metrics file", page)
    assert page.rstrip().endswith("</details>")


# --- annotations and outputs


def test_reasons_are_errors_and_warnings_are_warnings(make_row):
    document, metrics = judged([make_row(0)], "episodes > 3")
    document["verdict"]["warnings"] = ["50% of it\r\nis odd"]
    lines = annotations_of(view_of_slice(document, MANIFEST, metrics, PATHS))
    assert all("\n" not in line and "\r" not in line for line in lines)
    assert [read_command(line) for line in lines] == [
        ("error", {"title": "perf"}, "episodes > 3 does not hold: 1 against 3, off by 2."),
        ("warning", {"title": "perf"}, "50% of it\r\nis odd"),
    ]


def test_five_annotations_of_a_kind_are_shown_the_last_of_them_a_count(make_row):
    view = view_of([make_row(0)], *(f"episodes > {limit}" for limit in range(3, 13)))
    messages = [read_command(line)[2] for line in annotations_of(view)]
    assert len(messages) == 5
    assert messages[-1] == "and 6 more, in the summary"


def test_outputs_tell_the_verdict(make_row):
    paths = {"summary": "out/a\nverdict=pass.json"}
    view = view_of([make_row(0)], "episodes > 3", "episodes > 4", paths=paths)
    values = read_outputs(output_lines(view.outputs))
    assert values == {
        "verdict": "fail",
        "exit_code": "3",
        "regressions": "2",
        "summary": "out/a\\nverdict=pass.json",
    }
    assert view_of([make_row(0)]).outputs["verdict"] == "pass"


# --- where it goes


@pytest.fixture
def tell(make_row, monkeypatch):
    document, metrics = judged([make_row(0)], "episodes > 3")

    def run(step_summary=None, environ=None):
        for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ACTIONS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (environ or {}).items():
            monkeypatch.setenv(name, value)
        stream = io.StringIO()
        show_in_job(
            view_of_slice(document, MANIFEST, metrics, PATHS),
            step_summary,
            Console(stream, {}).write_line,
        )
        return stream.getvalue()

    return run


def test_in_a_job_everything_is_told_and_appended(tell, tmp_path: pathlib.Path):
    page, values = tmp_path / "page.md", tmp_path / "outputs"
    page.write_text("before\n")
    files = {"GITHUB_STEP_SUMMARY": str(page), "GITHUB_OUTPUT": str(values)}
    said = tell(environ={**files, "GITHUB_ACTIONS": "true"})
    assert read_command(said.strip())[0] == "error"
    assert page.read_text("utf-8").startswith("before\n### Perf: FAIL")
    assert read_outputs(values.read_text())["exit_code"] == "3"


def test_off_is_off_and_an_own_path_wins(tell, tmp_path: pathlib.Path):
    assert tell() == ""
    environ = {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "page.md"),
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
    }
    assert tell("off", environ) == ""
    assert list(tmp_path.iterdir()) == []
    tell(str(tmp_path / "own.md"), environ)
    assert {path.name for path in tmp_path.iterdir()} == {"own.md", "outputs"}
    assert "cannot be written" in tell(str(tmp_path / "missing" / "page.md"))
