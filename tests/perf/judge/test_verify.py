import hashlib
import json
import os
import shutil

import pytest

from tracecore.canon import digest
from tracecore.errors import InputError
from tracecore.perf.documents.files import write_documents, write_series
from tracecore.perf.documents.metrics import metrics_document
from tracecore.perf.documents.rows import Rows, series_chunks, series_row
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.judge.aggregates import evaluate
from tracecore.perf.judge.gate import Gate, series_fields, summary_paths
from tracecore.perf.judge.thresholds import parse_threshold
from tracecore.perf.judge.verdicts import Evidence, judge, verdict_document
from tracecore.perf.judge.verify import verify_sets
from tracecore.record import replace
from tracecore.strict import read_row

STAMP = "20260131T235959Z"
SAMPLES = {"available": False, "provider": None}


def hash_artifact(artifact):
    return digest({"all": artifact["agent"]}), digest({"trace": artifact["agent"]})


def write_artifacts(rows, folder):
    folder.mkdir()
    for row in rows:
        artifact = {
            name: getattr(row, name)
            for name in ("run_id", "agent", "task_ref", "seed", "termination_reason")
        }
        artifact |= {"steps_used": row.steps_used, "tool_calls_used": row.tool_calls_used}
        artifact |= dict(zip(("artifact_hash", "trace_hash"), hash_artifact(artifact), strict=True))
        (folder / row.artifact).write_text(json.dumps(artifact))


@pytest.fixture
def slice_of(tmp_path, make_row):
    """Writes a slice of ten episodes, one of them failed, and its artifacts; gives its folder."""
    made_of = {"agent": "agents/toy_agent.py"}
    hashes = dict(zip(("artifact_hash", "trace_hash"), hash_artifact(made_of), strict=True))
    rows = [make_row(index, error="no" if index == 4 else None, **hashes) for index in range(10)]
    runs = tmp_path / "runs"
    write_artifacts(rows, runs)
    rows = [
        make_row(
            row.episode_index,
            error=row.error,
            artifact_bytes=os.path.getsize(runs / row.artifact),
            **hashes,
        )
        for row in rows
    ]
    out = tmp_path / "out"
    out.mkdir()
    table = Rows(rows)
    write_series(str(out), STAMP, series_chunks(rows))
    manifest = {
        "stamp": STAMP,
        "episodes": 10,
        "workers": 2,
        "strict_spec": False,
        "system_samples": SAMPLES,
    }
    manifest["scenario"] = [{"agent": rows[0].agent, "task_ref": rows[0].task_ref, "seed": 42}]
    facts = SliceFacts(
        episodes_requested=10, workers=2, runs_root=str(runs), system_samples=SAMPLES, elapsed_s=1.7
    )
    document = summary_document(table, facts)
    write_documents(
        str(out),
        STAMP,
        manifest=manifest,
        summary=document,
        metrics=metrics_document(table),
        compress=True,
    )
    return out


def path_of(folder, kind):
    return folder / f"perf-{kind}-{STAMP}.json"


def change(folder, kind, edit):
    document = json.loads(path_of(folder, kind).read_text())
    edit(document)
    text = json.dumps(document)
    if kind == "series":  # a row on every line
        text = "[\n" + ",\n".join(map(json.dumps, document)) + "\n]\n"
    path_of(folder, kind).write_text(text)


def verify(path, runs_dir=None):
    return verify_sets(str(path), hash_artifact, None if runs_dir is None else str(runs_dir))


@pytest.fixture
def judged(slice_of, make_row):
    """The slice with a verdict: one threshold holds, one is broken, one has no data, one warns."""
    texts = [
        "success:rate >= 0.5",
        "failure_count == 0",
        "seed{task_ref=x@1}:max > 0",
        "wall_clock_s:p(95) < 0.1",
    ]
    paths, fields = summary_paths(), series_fields()
    thresholds = [parse_threshold(text, "a test", paths=paths, fields=fields) for text in texts]
    thresholds[3] = replace(thresholds[3], severity="warn")
    rows = Rows(make_row(index, error="no" if index == 4 else None) for index in range(10))

    def judge_it(summary):
        statuses = tuple(evaluate(threshold, summary, rows) for threshold in thresholds)
        verdict = judge(summary, Evidence(statuses=statuses))
        summary["verdict"] = verdict_document(verdict, Gate(tuple(thresholds)))
        summary["finding_counts"] = {"late_drift": None, "cold_start": 1}
        summary["findings"] = [{"id": "cold_start"}]
        summary["determinism"] = {"differing": 1, "differences": [{}]}

    change(slice_of, "summary", judge_it)
    (slice_of / f"perf-artifacts-{STAMP}.zip").unlink()
    return slice_of


def test_a_verdict_as_it_was_given_agrees_with_its_series(judged):
    assert verify(judged)[0] == []


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda d: d["verdict"].update(exit_code=0), "verdict.exit_code: says 0, should be 1"),
        (lambda d: d["verdict"].update(exit_codes=[1]), "exit_codes: says [1], should be [1, 3]"),
        (
            lambda d: d["verdict"]["thresholds"][0].update(observed=1.0),
            "success:rate >= 0.5: observed: says 1.0, should be 0.9",
        ),
        (
            lambda d: d["verdict"]["thresholds"][1].update(status="passed"),
            "status: says 'passed', should be 'failed'",
        ),
        (
            lambda d: d["verdict"]["thresholds"][1].update(limit=9.0),
            "limit: says 9.0, should be 0.0",
        ),
        (
            lambda d: d["verdict"]["thresholds"][2].update(observed=7),
            "observed: says 7.0, should be None",
        ),
        (lambda d: d["verdict"]["thresholds"][1].update(observed=10**400), "observed: says 1000"),
        (lambda d: d["verdict"].update(thresholds=[]), "exit_codes: says [1, 3], should be [1]"),
        (lambda d: d.update(findings=[]), "finding_counts.cold_start: says 1, should be 0"),
        (
            lambda d: d["findings"].append({"id": "late_drift"}),
            "finding_counts.late_drift: says None, should be 1",
        ),
        (
            lambda d: d["determinism"].update(differing=0),
            "determinism.differing: says 0, should be 1",
        ),
    ],
)
def test_a_verdict_that_does_not_follow_from_its_series_is_named(judged, edit, told):
    change(judged, "summary", edit)
    problems, _ = verify(judged)
    assert any(told in problem for problem in problems), problems


def test_a_threshold_of_another_version_is_noted_and_decides_nothing(judged):
    change(judged, "summary", lambda d: d["verdict"]["thresholds"][1].update(text="heat_k <= 3"))
    change(judged, "summary", lambda d: d["verdict"]["thresholds"].pop(2))
    problems, told = verify(judged)
    assert problems == []
    assert told["sets"][0]["notes"] == [
        "a threshold of another version was not checked: heat_k <= 3"
    ]


def test_a_breach_of_a_comparison_calls_for_its_exit_code_too(judged):
    change(judged, "summary", lambda d: d["verdict"].update(exit_codes=[1], thresholds=[]))
    assert verify(judged)[0] == []
    change(judged, "summary", lambda d: d.update(comparison={"breaches": ["slower"]}))
    assert "exit_codes: says [1], should be [1, 3]" in verify(judged)[0][0]
    change(judged, "summary", lambda d: d["verdict"].update(gate_off=True))
    assert verify(judged)[0] == []


def test_a_slice_as_it_was_written_agrees_with_itself(slice_of):
    problems, told = verify(slice_of)
    assert problems == []
    assert told["sets"][0]["checked"] == {"episodes": 10, "run_artifacts": 10, "files": 4}


def test_a_resumed_slice_of_which_nothing_was_left_to_run_has_no_throughput(slice_of):
    change(slice_of, "summary", lambda summary: summary["summary"].update(throughput_eps=None))
    assert not [problem for problem in verify(slice_of)[0] if "throughput" in problem]


def test_a_row_survives_the_way_into_the_series_and_back(make_row):
    row = make_row(3, error="no", allow={"read": ["/x"]})
    assert read_row("series", "[0]", json.loads(json.dumps(series_row(row)))) == row


@pytest.mark.parametrize(
    ("kind", "edit", "told"),
    [
        (
            "summary",
            lambda d: d["summary"].update(p50_wall_clock_s=0.1),
            "summary.summary.p50_wall_clock_s: says 0.1",
        ),
        (
            "summary",
            lambda d: d["summary"].update(throughput_eps=9.0),
            "summary.summary.throughput_eps",
        ),
        (
            "summary",
            lambda d: d["failure_reasons"].update(no=2),
            "summary.failure_reasons.no: says 2, should be 1",
        ),
        (
            "summary",
            lambda d: d["failure_reasons"].update(more=1),
            "summary.failure_reasons.more: the series does not give it",
        ),
        (
            "summary",
            lambda d: d.update(verdict={"exit_code": 0, "exit_codes": [0]}),
            "verdict.exit_code: says 0, should be 1",
        ),
        (
            "summary",
            lambda d: d["telemetry_verbosity"].pop("artifact_bytes_max"),
            "artifact_bytes_max: the file lacks it",
        ),
        (
            "metrics",
            lambda d: d[0].update(run_count=9),
            "metrics[0].run_count: says 9, should be 10",
        ),
        ("metrics", lambda d: d.append(d[0]), "metrics: says"),
        ("manifest", lambda d: d.update(workers=3), "manifest.workers: says 3, should be 2"),
        (
            "manifest",
            lambda d: d["scenario"][0].update(seed=43),
            "series, episode 1.seed: says 42, should be 43",
        ),
        (
            "series",
            lambda d: d[3].update(wall_clock_s=99.0),
            "summary.max_wall_clock_s: says 0.25, should be 99.0",
        ),
        (
            "series",
            lambda d: d[3].update(error="hm"),
            "series, episode 4: success is True, error is 'hm'",
        ),
        (
            "series",
            lambda d: d[3].update(episode=7),
            "series, episode 4.episode: says 7, should be 4",
        ),
        ("series", lambda d: d.pop(), "9 rows"),
        ("series", lambda d: d[3].pop("steps_budget"), "steps_budget: found nothing"),
    ],
)
def test_whatever_is_changed_afterwards_is_named(slice_of, kind, edit, told):
    change(slice_of, kind, edit)
    problems, _ = verify(slice_of / f"perf-summary-{STAMP}.json")
    assert any(told in problem for problem in problems), problems
    assert all(problem.startswith(f"{STAMP}: ") for problem in problems)


@pytest.mark.parametrize("kind", ["manifest", "summary", "metrics", "series"])
def test_a_document_that_is_not_the_one_in_the_zip_is_named(slice_of, kind):
    path = path_of(slice_of, kind)
    path.write_text(path.read_text().replace(": ", ":  ", 1))
    assert [problem for problem in verify(slice_of)[0] if "differ" in problem and kind in problem]


def test_a_zip_alone_is_verified_too(slice_of, tmp_path):
    bundle = slice_of / f"perf-artifacts-{STAMP}.zip"
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.move(bundle, alone)
    problems, told = verify(alone / bundle.name)
    assert problems == []
    assert told["sets"][0]["checked"]["files"] == 0


def test_a_changed_run_artifact_is_named(slice_of, tmp_path):
    path = tmp_path / "runs" / f"{3:032x}.json"
    path.write_text(path.read_text().replace("toy_agent", "tox_agent"))
    problems, _ = verify(slice_of)
    assert any(f"{3:032x}.json: artifact_hash in the series" in problem for problem in problems)
    assert any(
        f"{3:032x}.json.agent: says 'agents/tox_agent.py'" in problem for problem in problems
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"agent": 1'])
def test_a_run_artifact_that_is_none_is_named(slice_of, tmp_path, text):
    (tmp_path / "runs" / f"{3:032x}.json").write_text(text)
    assert any("cannot be read as a run artifact" in problem for problem in verify(slice_of)[0])


def test_a_missing_run_artifact_is_named(slice_of, tmp_path):
    (tmp_path / "runs" / f"{3:032x}.json").unlink()
    assert any("1 run artifacts are not in" in problem for problem in verify(slice_of)[0])


def test_run_artifacts_that_are_gone_altogether_are_a_note_unless_their_folder_was_named(
    slice_of, tmp_path
):
    shutil.rmtree(tmp_path / "runs")
    problems, told = verify(slice_of)
    assert problems == []
    assert "not there" in told["sets"][0]["notes"][0] or "any more" in told["sets"][0]["notes"][0]
    assert verify(slice_of, runs_dir=tmp_path)[0]


def test_an_index_holds_the_files_to_their_hashes(slice_of):
    name = f"perf-summary-{STAMP}.json"
    sha256 = hashlib.sha256((slice_of / name).read_bytes()).hexdigest()
    index = slice_of / "index.json"
    index.write_text(json.dumps({"files": {name: {"sha256": sha256}}}))
    assert verify(slice_of) == ([], {**verify(slice_of)[1], "indexed_files": 1})
    index.write_text(
        json.dumps(
            {"files": {name: {"sha256": "0" * 64}, "gone": {"sha256": ""}, "../x": {"sha256": ""}}}
        )
    )
    problems, _ = verify(slice_of)
    assert len(problems) == 3
    assert "the index says '000" in problems[0]


def test_an_index_that_is_none_is_bad_input(slice_of):
    (slice_of / "index.json").write_text("[]")
    with pytest.raises(InputError, match="an object from file names"):
        verify(slice_of)


def test_hundreds_of_differences_are_told_in_fifty(slice_of):
    change(
        slice_of,
        "series",
        lambda d: [row.update(episode=0, seed=-1, agent="x", task_ref="y") for row in d * 5],
    )
    change(
        slice_of, "summary", lambda d: d["failure_reasons"].update({f"r{i}": 1 for i in range(200)})
    )
    problems, _ = verify(slice_of)
    assert len(problems) == 51
    assert problems[-1].startswith(f"{STAMP}: and ")
