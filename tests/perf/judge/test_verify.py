import hashlib
import json
import os
import shutil

import pytest
from helpers.tables import rows

from tracecore.canon import digest
from tracecore.errors import InputError
from tracecore.perf.documents.files import write_documents, write_series
from tracecore.perf.documents.metrics import metrics_document
from tracecore.perf.documents.rows import Rows, series_chunks
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.judge import verify_files
from tracecore.perf.judge.aggregates import evaluate
from tracecore.perf.judge.gate import Gate, series_fields, summary_paths
from tracecore.perf.judge.thresholds import parse_threshold
from tracecore.perf.judge.verdicts import Evidence, judge, verdict_document
from tracecore.perf.judge.verify import agreement, verify_sets
from tracecore.record import replace

STAMP = "20260131T235959Z"
SAMPLES = {"available": False, "provider": None}
AGENT = "agents/toy_agent.py"


def hash_of(artifact):
    return digest({"all": artifact["agent"]})


def hash_of_trace(artifact):
    return digest({"trace": artifact["agent"]})


WHOLE = {"agent": AGENT}
HASHES = {"artifact_hash": hash_of(WHOLE), "trace_hash": hash_of_trace(WHOLE)}


@pytest.fixture(autouse=True)
def plain_hashes(monkeypatch):
    """Of artifacts that are no whole ones."""
    monkeypatch.setattr(verify_files, "artifact_hash", hash_of)
    monkeypatch.setattr(verify_files, "trace_hash", hash_of_trace)


def write_artifact(row, folder):
    """The run artifact of a row; gives the row with its size."""
    names = ("run_id", "agent", "task_ref", "seed", "termination_reason")
    artifact = {name: getattr(row, name) for name in (*names, "steps_used", "tool_calls_used")}
    (folder / row.artifact).write_text(json.dumps({**artifact, **HASHES}))
    return replace(row, artifact_bytes=os.path.getsize(folder / row.artifact))


@pytest.fixture
def slice_of(tmp_path, make_row):
    """Writes a slice of ten episodes, one of them failed, and its artifacts; gives its folder."""
    runs, out = tmp_path / "runs", tmp_path / "out"
    runs.mkdir()
    out.mkdir()
    rows = [make_row(index, error="no" if index == 4 else None, **HASHES) for index in range(10)]
    rows = [write_artifact(row, runs) for row in rows]
    table = Rows(rows)
    write_series(str(out), STAMP, series_chunks(rows))
    facts = SliceFacts(
        episodes_requested=10, workers=2, runs_root=str(runs), system_samples=SAMPLES, elapsed_s=1.7
    )
    write_documents(
        str(out),
        STAMP,
        manifest={
            "stamp": STAMP,
            "episodes": 10,
            "workers": 2,
            "strict_spec": False,
            "system_samples": SAMPLES,
            "scenario": [{"agent": AGENT, "task_ref": rows[0].task_ref, "seed": 42}],
        },
        summary=summary_document(table, facts),
        metrics=metrics_document(table),
        compress=True,
    )
    return out


def path_of(folder, kind):
    return folder / f"perf-{kind}-{STAMP}.json"


def change(folder, kind, edit):
    """Edit a document by a function, or: path = JSON, path + JSON (to append), del path."""
    document = json.loads(path_of(folder, kind).read_text())
    if callable(edit):
        edit(document)
    else:
        change_at(document, edit)
    text = json.dumps(document)
    if kind == "series":  # a row on every line
        text = "[\n" + ",\n".join(map(json.dumps, document)) + "\n]\n"
    path_of(folder, kind).write_text(text)


def change_at(document, edit):
    path, sign, value = edit.partition(" = ") if " = " in edit else edit.partition(" + ")
    *above, last = (int(key) if key.isdigit() else key for key in path.split()[-1].split("."))
    for key in above:
        document = document[key]
    if not sign:
        del document[last]
    elif sign == " = ":
        document[last] = json.loads(value)
    else:
        document[last].append(json.loads(value))


def verify(path, runs_dir=None):
    return verify_sets(str(path), None if runs_dir is None else str(runs_dir))


@pytest.fixture
def judged(slice_of, make_row):
    """The slice with a verdict: one threshold holds, one is broken, one has no data, one warns."""
    texts = rows("""
        success:rate >= 0.5
        failure_count == 0
        seed{task_ref=x@1}:max > 0
        wall_clock_s:p(95) < 0.1
    """)
    paths, fields = summary_paths(), series_fields()
    thresholds = [parse_threshold(text, "a test", paths=paths, fields=fields) for (text,) in texts]
    thresholds[3] = replace(thresholds[3], severity="warn")
    table = Rows(make_row(index, error="no" if index == 4 else None) for index in range(10))

    def judge_it(summary):
        statuses = tuple(evaluate(threshold, summary, table) for threshold in thresholds)
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
    for broken in (1, 2):  # what only warns calls for no exit code
        change(judged, "summary", f'verdict.thresholds.{broken}.severity = "warn"')
    assert any("says [1, 3], should be [1]" in problem for problem in verify(judged)[0])


@pytest.mark.parametrize(
    ("edit", "told"),
    rows(f"""
    verdict.exit_code = 0                      | verdict.exit_code: says 0, should be 1
    verdict.exit_codes = [1]                   | exit_codes: says [1], should be [1, 3]
    verdict.thresholds.0.observed = 1.0        | 0.5: observed: says 1.0, should be 0.9
    verdict.thresholds.1.status = "passed"     | status: says 'passed', should be 'failed'
    verdict.thresholds.1.limit = 9.0           | limit: says 9.0, should be 0.0
    verdict.thresholds.2.observed = 7          | observed: says 7.0, should be None
    verdict.thresholds.1.observed = {10**400}  | observed: says 1000
    verdict.thresholds = []                    | exit_codes: says [1, 3], should be [1]
    findings = []                              | finding_counts.cold_start: says 1, should be 0
    findings + {{"id": "late_drift"}}          | finding_counts.late_drift: says None, should be 1
    determinism.differing = 0                  | determinism.differing: says 0, should be 1
    """),
)
def test_a_verdict_that_does_not_follow_from_its_series_is_named(judged, edit, told):
    change(judged, "summary", edit)
    problems, _ = verify(judged)
    assert any(told in problem for problem in problems), problems


def test_a_threshold_of_another_version_is_noted_and_decides_nothing(judged):
    change(judged, "summary", 'verdict.thresholds.1.text = "heat_k <= 3"')
    change(judged, "summary", "del verdict.thresholds.2")
    problems, verified = verify(judged)
    assert problems == []
    assert verified["sets"][0]["notes"] == [
        "a threshold of another version was not checked: heat_k <= 3"
    ]


def test_a_breach_of_a_comparison_calls_for_its_exit_code_too(judged):
    change(judged, "summary", "verdict.exit_codes = [1]")
    change(judged, "summary", "verdict.thresholds = []")
    assert verify(judged)[0] == []
    change(judged, "summary", 'comparison = {"breaches": ["slower"]}')
    assert "exit_codes: says [1], should be [1, 3]" in verify(judged)[0][0]
    change(judged, "summary", "verdict.gate_off = true")
    assert verify(judged)[0] == []


def test_a_slice_as_it_was_written_agrees_with_itself_and_is_said_to(slice_of):
    problems, verified = verify(slice_of)
    assert problems == []
    assert verified["sets"][0]["checked"] == {"episodes": 10, "run_artifacts": 10, "files": 4}
    agrees = (
        "everything agrees: summary, metrics and verdict recomputed from 10 episodes of 1 slice"
    )
    assert agreement(verified) == f"{agrees}; 4 files and 10 run artifacts checked by their bytes"
    verified["sets"][0]["checked"]["run_artifacts"] = 0
    bare = "4 files and no run artifact, since none is here checked by their bytes"
    assert agreement({**verified, "indexed_files": 0}) == f"{agrees}; {bare}"


@pytest.mark.parametrize(
    ("kind", "edit", "told"),
    rows("""
    summary  | summary.p50_wall_clock_s = 0.1 | summary.summary.p50_wall_clock_s: says 0.1
    summary  | summary.throughput_eps = 9.0   | throughput_eps: 9.0 for 1.7 s come to 15 episodes
    summary  | summary.throughput_eps = 0.2   | throughput_eps: 0.2 for 1.7 s come to 0 episodes
    summary  | failure_reasons.no = 2         | summary.failure_reasons.no: says 2, should be 1
    summary  | failure_reasons.more = 1       | failure_reasons.more: the series does not give it
    summary  | verdict = {"exit_code": 0}     | verdict.exit_code: says 0, should be 1
    summary  | del telemetry_verbosity.artifact_bytes_max | artifact_bytes_max: the file lacks it
    metrics  | 0.run_count = 9                | metrics[0].run_count: says 9, should be 10
    metrics  | del 0                          | metrics: says
    manifest | workers = 3                    | manifest.workers: says 3, should be 2
    manifest | episodes = 9                   | manifest.episodes: says 9, should be 10
    manifest | stamp = "x"                    | manifest.stamp: says 'x', should be '2026
    manifest | system_samples.provider = 1    | manifest.system_samples.provider: says 1, should be
    manifest | scenario.0.seed = 43           | series, episode 1.seed: says 42, should be 43
    manifest | scenario.0.agent = "x"         | series, episode 1.agent: says 'agents/toy_agent.py'
    series   | 3.wall_clock_s = 99.0          | max_wall_clock_s: says 0.25, should be 99.0
    series   | 3.error = "hm"                 | episode 4: success is True, error is 'hm'
    series   | 4.error = null                 | episode 5: success is False, error is None
    series   | 3.episode = 7                  | series, episode 4.episode: says 7, should be 4
    series   | del 9                          | 9 rows
    series   | del 3.steps_budget             | steps_budget: found nothing
    """),
)
def test_whatever_is_changed_afterwards_is_named(slice_of, kind, edit, told):
    change(slice_of, kind, edit)
    problems, _ = verify(slice_of / f"perf-summary-{STAMP}.json")
    assert any(told in problem for problem in problems), problems
    assert all(problem.startswith(f"{STAMP}: ") for problem in problems)


@pytest.mark.parametrize(
    ("edit", "is_named"),
    [
        # of a resumed slice of which nothing was left to run
        ("summary.throughput_eps = null", False),
        (f"summary.throughput_eps = {1 / 1.7}", False),  # and where one was left
        # what the first version wrote
        ("del episodes_requested", False),
        ("elapsed_s = null", True),
    ],
)
def test_what_an_episode_or_an_old_version_has_not_is_not_missed(slice_of, edit, is_named):
    change(slice_of, "summary", edit)
    (slice_of / f"perf-artifacts-{STAMP}.zip").unlink()
    problems = [problem for problem in verify(slice_of)[0] if "episodes_requested" not in problem]
    assert bool(problems) is is_named


def test_an_episode_whose_artifact_was_not_kept_has_none_to_check(slice_of):
    change(slice_of, "series", "3.artifact = null")
    problems, verified = verify(slice_of)
    assert verified["sets"][0]["checked"]["run_artifacts"] == 9
    assert not any("are not in" in problem for problem in problems)


def test_a_document_that_is_not_the_one_in_the_zip_is_named(slice_of):
    kinds = ("manifest", "summary", "metrics", "series")
    for kind in kinds:
        path = path_of(slice_of, kind)
        path.write_text(path.read_text().replace(": ", ":  ", 1))
    differing = [problem for problem in verify(slice_of)[0] if "differ" in problem]
    assert all(any(kind in problem for problem in differing) for kind in kinds)


def test_a_zip_alone_is_verified_too(slice_of, tmp_path):
    (tmp_path / "alone").mkdir()
    bundle = shutil.move(slice_of / f"perf-artifacts-{STAMP}.zip", tmp_path / "alone")
    problems, verified = verify(bundle)
    assert problems == []
    assert verified["sets"][0]["checked"]["files"] == 0


# --- run artifacts


def test_a_changed_run_artifact_is_named(slice_of, tmp_path):
    path = tmp_path / "runs" / f"{3:032x}.json"
    path.write_text(path.read_text().replace("toy_agent", "tox_agent") + " ")
    problems = "\n".join(verify(slice_of)[0])
    for words in (
        "json: artifact_hash in the series: says",
        "json: trace_hash in the artifact: says",
        "json.agent: says 'agents/tox_agent.py'",
        "json: its size: says",
    ):
        assert f"{3:032x}.{words}" in problems
    for text in ("", "[]", "{}", '{"agent": 1'):
        path.write_text(text)
        assert "cannot be read as a run artifact" in "\n".join(verify(slice_of)[0])


def test_run_artifacts_that_are_gone_altogether_are_a_note_unless_their_folder_was_named(
    slice_of, tmp_path
):
    shutil.rmtree(tmp_path / "runs")
    problems, verified = verify(slice_of)
    assert problems == []
    assert "any more" in verified["sets"][0]["notes"][0]
    assert "10 run artifacts are not in" in verify(slice_of, runs_dir=tmp_path)[0][0]
    (slice_of / "index.json").write_text("[]")
    with pytest.raises(InputError, match="an object from file names"):
        verify(slice_of)


# --- an index


def test_an_index_holds_the_files_to_their_hashes(slice_of):
    name = f"perf-summary-{STAMP}.json"
    sha256 = hashlib.sha256((slice_of / name).read_bytes()).hexdigest()
    index = slice_of / "index.json"
    index.write_text(json.dumps({"files": {name: {"sha256": sha256}}}))
    problems, verified = verify(slice_of)
    assert (problems, verified["indexed_files"]) == ([], 1)
    files = {name: {"sha256": "0" * 64}, "gone": {"sha256": ""}, "../x": {"sha256": ""}}
    index.write_text(json.dumps({"files": files}))
    changed, gone, elsewhere = verify(slice_of)[0]
    assert "the index says '000" in changed
    assert "gone cannot be read" in gone
    assert "'../x' is no name of a file beside it" in elsewhere


def test_of_hundreds_of_differences_fifty_are_shown(slice_of):
    change(slice_of, "summary", lambda d: d["failure_reasons"].update(dict.fromkeys(range(200), 1)))
    problems, _ = verify(slice_of)
    assert len(problems) == 51
    assert problems[-1] == f"{STAMP}: and 151 more"  # the zip differs, too
