"""Several slices in one invocation, and the one that is to be finished."""

import json
import pathlib

import pytest
from helpers import slices

from tracecore.errors import OptionError
from tracecore.perf.repeat import document_of, summary_of
from tracecore.perf.resume import find_stamp
from tracecore.perf.slice.options import OutputOptions, RunOptions, SliceOptions

ROW = ("--task", "filesystem_hidden_config", "--agent", "agents/toy_agent.py", "--seed", "5")


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_slice_has_a_set_of_its_own_and_all_have_one_summary(here: pathlib.Path) -> None:
    done = slices.call("--repeat", "2", "--episodes", "2", "--workers", "1", *ROW)
    assert done.exit_code == 0, done.stderr
    document = done.document
    assert len(set(document["stamps"])) == 2
    hashes = []
    for one in document["slices"]:
        series = json.loads((here / one["artifacts"]["series"]).read_text())
        assert [row["seed"] for row in series] == [5, 6]
        hashes.append([row["artifact_hash"] for row in series])
    assert hashes[0] == hashes[1]
    summary = document["summary"]
    assert (summary["slices"], summary["episodes"], summary["success_count"]) == (2, 4, 4)
    assert len(summary["p50_wall_clock_s"]["values"]) == 2
    assert f"stamps      {', '.join(document['stamps'])}" in done.stderr


def made(p50_s: float | None, exit_code: int = 0) -> dict[str, object]:
    figures = {"p50_wall_clock_s": p50_s, "p95_wall_clock_s": p50_s, "throughput_eps": 1.0}
    counts = {"episodes": 4, "success_count": 3, "failure_count": 1}
    summary = {"summary": figures, **counts}
    return {"stamp": "x", "exit_code": exit_code, "artifacts": {}, "summary": summary}


def test_figures_have_their_median_and_spread_and_missing_ones_stay_so() -> None:
    summary = summary_of([made(p50_s)["summary"] for p50_s in (1.0, 3.0, 2.0, None)], 5)  # type: ignore[misc]
    assert summary["p50_wall_clock_s"] == {"values": [1.0, 3.0, 2.0], "median": 2.0, "spread": 1.0}
    assert (summary["slices"], summary["slices_asked"], summary["failure_count"]) == (4, 5, 4)
    nothing = summary_of([], 2)["throughput_eps"]
    assert nothing == {"values": [], "median": None, "spread": None}


def test_the_gravest_end_is_that_of_all_and_a_slice_that_is_missing_is_not_good() -> None:
    assert document_of([made(1.0), made(1.0, 3), made(1.0, 1)], 3)["exit_code"] == 1
    assert document_of([made(1.0), made(1.0, 130)], 3)["exit_code"] == 130
    cut_short = document_of([made(1.0)], 2)
    assert (cut_short["exit_code"], cut_short["ok"]) == (0, False)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--repeat", "2", "--resume", "x"), "--repeat: found '2', expected one of the two"),
        (("--task", "x"), "--task: found 'x', expected --agent with it"),
        (("--agent", "x.py"), "--agent: found 'x.py', expected --task with it"),
        (("--seed", "3"), "--seed: found '3', expected --task and --agent with it"),
        ((*ROW, "--scenario", "s.toml"), "--scenario: found 's.toml', expected one of the two"),
        (("--resume",), "--resume: found 'no unfinished slice', expected one in deliverables/perf"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_runs(
    here: pathlib.Path, words: tuple[str, ...], complaint: str
) -> None:
    done = slices.call(*words)
    assert done.exit_code == 2
    assert done.document["error"].startswith(complaint)
    assert not (here / ".agent_bench").exists()


def test_without_a_stamp_the_one_unfinished_slice_is_meant_and_latest_the_newest(
    here: pathlib.Path,
) -> None:
    def found(asked: str) -> str | None:
        output = OutputOptions(output_dir=str(here))
        return find_stamp(SliceOptions(run=RunOptions(resume=asked), output=output)).run.resume

    (here / ".perf-journal-20260101T000000Z.jsonl").write_text("begun")
    (here / ".perf-journal-20260103T000000Z.jsonl").touch()  # reserved, and never begun
    assert found("unfinished") == found("latest") == "20260101T000000Z"
    (here / ".perf-journal-20260102T000000Z.jsonl").write_text("begun")
    assert found("latest") == "20260102T000000Z"
    assert found("20260101T000000Z") == "20260101T000000Z"
    with pytest.raises(OptionError, match="found '2 unfinished slices', expected one of 20260101T"):
        found("unfinished")
