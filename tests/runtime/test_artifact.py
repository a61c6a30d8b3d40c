import copy
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from helpers.batches import make_job
from helpers.faults import PLAIN_TASK
from helpers.tables import rows
from jsonschema import Draft202012Validator

from tracecore import canon
from tracecore.errors import OutputError
from tracecore.record import replace
from tracecore.records import (
    SPEC_VERSION,
    AgentSource,
    Allowance,
    Job,
    JsonObject,
    Outcome,
)
from tracecore.runtime import spec
from tracecore.runtime.artifact import (
    EpisodeFacts,
    artifact_hash,
    artifact_path,
    build_outcome,
    publish,
    result_row,
    trace_hash,
)
from tracecore.runtime.endings import InvalidAction
from tracecore.runtime.episode import run_episode

SCHEMA = json.loads(
    (pathlib.Path(spec.__file__).parent.parent / "schema" / "run-artifact.schema.json").read_text(
        "utf-8"
    )
)
JUDGE = Draft202012Validator(SCHEMA)
LOOK: JsonObject = {"type": "look"}
WHO = {"provider": "acme", "model": "m-1"}
ASKED = WHO | {"prompt": "?", "shim_used": True, "metadata": {"version": "3"}}
GIVEN = {"completion": "é\ud800", "tokens_used": 5, "timestamp": "2026-01-31T12:00:00Z"}
FLY: JsonObject = {"type": "fly", "args": {"é": [1.5, -0.0, 1e300, 2**63 - 1]}}
SAY: JsonObject = {"type": "say", "args": {"text": "\ud800 \ud83d\ude00 \x00 é"}}
ANSWERS: dict[str, list[Any]] = {  # how an episode ends -> what its agent answers
    "success": [LOOK, SAY, {"type": "finish", "args": None}],
    "steps_exhausted": [LOOK],
    "invalid_action": [LOOK, FLY],
    "no action": [InvalidAction("action_must_be_dict", "act returned int", "7")],
    "action_exception": [{"type": "look", "args": {"path": 7}}],
    "sandbox_violation": [{"type": "look", "args": {"path": "/etc/passwd"}}],
}


class Plan:
    """An agent that gives these answers, the last one for ever; the first step comes with a model
    call.
    """

    def __init__(self, answers: list[Any]) -> None:
        self.answers, self.given = answers, 0

    def reset(self, task_spec: JsonObject, deadline_s: float) -> None:
        pass

    def step(self, _observation: bytes, _deadline_s: float) -> tuple[JsonObject, Any]:
        answer = self.answers[min(self.given, len(self.answers) - 1)]
        self.given += 1
        if isinstance(answer, Exception):
            raise answer
        return answer, [{"request": ASKED, "response": GIVEN}] if self.given == 1 else []

    def close(self) -> str | None:
        return None


@pytest.fixture
def job(tmp_path: pathlib.Path) -> Job:
    agent = tmp_path / "agent.py"
    agent.touch()
    (tmp_path / "runs").mkdir()
    return make_job(3, agent, PLAIN_TASK, tmp_path / "runs")


def play(job: Job, how: str = "success") -> Outcome:
    return run_episode(job, lambda _job: Plan(ANSWERS[how]))


def with_settings(job: Job, **settings: Any) -> Job:
    return replace(job, settings=replace(job.settings, **settings))


# --- what an artifact is ---


def mute(job: Job) -> Outcome:
    facts = EpisodeFacts(
        started_at="2026-01-31T12:00:00.000000Z", completed_at="2026-01-31T12:00:01.000000Z"
    )
    facts.failure_reason = "the episode process was killed by SIGKILL"
    return build_outcome(job, facts)


MAKERS: dict[str, Callable[[Job], Outcome]] = {
    **{how: lambda job, how=how: play(job, how) for how in ANSWERS},
    "mute": mute,
    "late": lambda job: play(with_settings(job, timeout_s=1e-9)),
    "allowed": lambda job: play(
        replace(job, allow=Allowance(read=("/srv",), network=("example.org",)))
    ),
    "git and seed": lambda job: play(with_settings(replace(job, seed=-(2**63)), git_sha="0" * 40)),
    "half a second": lambda job: play(with_settings(job, timeout_s=10.5)),
    "redacted": lambda job: play(with_settings(job, redaction="partial")),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_an_artifact_is_canonical_valid_and_hashed_as_it_reads(job: Job, make):
    outcome = make(job)
    artifact = json.loads(outcome.artifact)
    assert canon.encode(artifact) + b"\n" == outcome.artifact
    assert artifact_hash(artifact) == artifact["artifact_hash"]
    assert trace_hash(artifact) == artifact["trace_hash"]
    assert {**outcome.head, "action_trace": artifact["action_trace"]} == artifact
    assert spec.problems(artifact) == []
    assert list(JUDGE.iter_errors(artifact)) == []


def test_an_artifact_says_what_was_run(job: Job):
    artifact = json.loads(play(job).artifact)
    expected = {
        "spec_version": SPEC_VERSION,
        "run_id": job.run_id,
        "trace_id": job.run_id,
        "agent": job.agent.ref,
        "agent_ref": job.agent.ref,
        "agent_hash": job.agent.sha256,
        "task_id": "plain",
        "version": 1,
        "task_ref": "plain@1",
        "task_hash": job.task.sha256,
        "seed": 7,
        "evidence_links": {"bundle_dir": None, "bundle_manifest": None},
    }
    assert {name: artifact[name] for name in expected} == expected
    assert artifact["determinism"]["seed"] == 7
    assert artifact["budgets"]["wall_clock_seconds"] == job.settings.timeout_s
    first_s = artifact["action_trace"][0]["action_ts"]
    assert artifact["started_at"] <= first_s <= artifact["completed_at"]


# --- what a hash covers ---


def fields(text: str) -> list[tuple[list[str | int], Any]]:
    """The place and another value of each field of a table."""
    return [
        ([int(key) if key.isdigit() else key for key in place.split(".")], json.loads(value))
        for place, value in rows(text)
    ]


VOLATILE = fields("""
    run_id                                 | "f"
    trace_id                               | "f"
    started_at                             | "2027-01-01T00:00:00Z"
    completed_at                           | "2027-01-01T00:00:00Z"
    wall_clock_elapsed_s                   | 99.5
    budgets.wall_clock_seconds             | 99
    budgets.wall_clock_seconds             | null
    artifact_hash                          | "sha256:f"
    agent                                  | "some/where/else/agent.py"
    agent_ref                              | "./agent.py"
    error_traceback                        | "Traceback"
    output                                 | {"agent": "words", "task": null}
    action_trace.0.action_ts               | "2027-01-01T00:00:00Z"
    action_trace.1.telemetry.action_metrics.latency_ms | 99.5
    action_trace.0.llm_trace.0.response.timestamp | "2027-01-01T00:00:00Z"
""")
RUN = fields("""
    spec_version                           | "tracecore-spec-v1.1"
    runtime_identity.name                  | "other"
    runtime_identity.version               | "99"
    runtime_identity.git_sha               | "f"
    harness_version                        | "99"
    agent                                  | "other.py"
    agent_ref                              | "other.py"
    agent_hash                             | "sha256:f"
    task_id                                | "other"
    version                                | 2
    task_ref                               | "other@2"
    task_hash                              | "sha256:f"
    seed                                   | 8
    budgets.steps                          | 99
    budgets.tool_calls                     | 99
    sandbox.filesystem_roots               | ["/other"]
    sandbox.network_hosts                  | ["example.net"]
    determinism.seed                       | 8
    determinism.tooling.models             | []
    determinism.tooling.mocks              | []
    validator.ok                           | false
    metrics.steps_used                     | 99
    metrics.tokens_used                    | 99
    evidence_links.bundle_dir              | "/bundle"
    trace_hash                             | "sha256:f"
""")
BEHAVIOUR = fields("""
    success                                | false
    termination_reason                     | "gave_up"
    failure_type                           | "timeout"
    failure_reason                         | "why"
    steps_used                             | 99
    tool_calls_used                        | 99
    action_trace                           | []
    action_trace.0.step                    | 9
    action_trace.0.observation.step        | 9
    action_trace.0.action.type             | "say"
    action_trace.0.result                  | null
    action_trace.0.io_audit                | []
    action_trace.0.budget_after_step.steps | 9
    action_trace.0.budget_delta.tool_calls | 9
    action_trace.0.llm_trace               | null
    action_trace.0.llm_trace.0.request.prompt | "!"
    action_trace.0.llm_trace.0.response.tokens_used | 6
    action_trace.0.telemetry.action_metrics.error | "why"
""")


def changed(artifact: JsonObject, place: list[str | int], value: Any) -> JsonObject:
    new = copy.deepcopy(artifact)
    target: Any = new
    for key in place[:-1]:
        target = target[key]
    assert target[place[-1]] != value
    target[place[-1]] = value
    return new


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> JsonObject:
    folder = tmp_path_factory.mktemp("artifact")
    (folder / "agent.py").touch()
    return json.loads(play(make_job(0, folder / "agent.py", PLAIN_TASK, folder)).artifact)


@pytest.mark.parametrize(("place", "value"), VOLATILE)
def test_what_may_differ_between_two_runs_changes_no_hash(artifact: JsonObject, place, value):
    new = changed(artifact, place, value)
    assert artifact_hash(new) == artifact["artifact_hash"]
    assert trace_hash(new) == artifact["trace_hash"]


@pytest.mark.parametrize(("place", "value"), [*RUN, *BEHAVIOUR])
def test_everything_else_changes_the_artifact_hash_and_what_was_done_the_trace_hash(
    artifact: JsonObject, place, value
):
    new = changed(artifact, place, value)
    assert artifact_hash(new) != artifact["artifact_hash"]
    assert (trace_hash(new) == artifact["trace_hash"]) is ((place, value) in RUN)


def test_every_field_of_an_artifact_is_either_stable_or_not(artifact: JsonObject):
    places = [place for place, _ in [*VOLATILE, *RUN, *BEHAVIOUR]]
    assert {place[0] for place in places} == set(artifact)
    of_steps = {place[2] for place in places if place[0] == "action_trace" and len(place) > 2}
    assert of_steps == set(artifact["action_trace"][0])
    assert artifact_hash({**artifact, "added later": 1}) != artifact["artifact_hash"]


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout_s": 20.0, "runs_dir": "/elsewhere"},
        {"strict_spec": True, "keep_runs": "none", "fsync": True},
    ],
)
def test_how_and_where_it_was_run_changes_no_hash(job: Job, settings):
    moved = replace(
        job,
        index=8,
        run_id="e" * 32,
        agent=AgentSource(job.agent.ref, "/elsewhere.py", job.agent.sha256),
    )
    outcome = play(with_settings(moved, **settings))
    assert outcome.head["artifact_hash"] == play(job).head["artifact_hash"]


# --- publish ---


def files(job: Job) -> list[str]:
    return sorted(path.name for path in pathlib.Path(job.settings.runs_dir).iterdir())


def test_an_artifact_is_published_under_its_run_id_byte_for_byte(job: Job):
    outcome = play(job)
    row = publish(job, outcome)
    assert files(job) == [row.artifact] == [f"{job.run_id}.json"]
    assert pathlib.Path(artifact_path(job)).read_bytes() == outcome.artifact
    expected = {
        "success": True,
        "error": None,
        "artifact_bytes": len(outcome.artifact),
        "artifact_hash": outcome.head["artifact_hash"],
        "trace_hash": outcome.head["trace_hash"],
        "steps_used": 3,
        "steps_budget": 4,
        "tool_calls_used": 3,
        "tool_calls_budget": 4,
        "llm_trace_entries": 1,
        "prompt_bytes": 1,
        "completion_bytes": 5,
        "tokens_used": 5,
        "episode_index": 3,
        "agent": job.agent.ref,
        "task_ref": "plain@1",
        "seed": 7,
        "episode_s": outcome.head["wall_clock_elapsed_s"],
    }
    assert {name: getattr(row, name) for name in expected} == expected


def test_the_first_artifact_stays_and_a_second_publish_gives_its_row(job: Job):
    first_outcome = play(job)
    first = publish(job, first_outcome)
    for how in ("success", "steps_exhausted"):
        assert publish(job, play(job, how)) == first
    assert publish(job, mute(job)) == first
    assert files(job) == [first.artifact]
    assert pathlib.Path(artifact_path(job)).read_bytes() == first_outcome.artifact


@pytest.mark.parametrize("how", ["success", "steps_exhausted"])
@pytest.mark.parametrize("keep_runs", ["all", "failed", "none"])
def test_what_is_not_kept_leaves_no_file_and_its_row_all_the_same(job: Job, keep_runs, how):
    kept = keep_runs == "all" or (keep_runs, how) == ("failed", "steps_exhausted")
    job = with_settings(job, keep_runs=keep_runs)
    outcome = play(job, how)
    artifact = f"{job.run_id}.json" if kept else None
    expected = replace(result_row(job, outcome.head, outcome.artifact), artifact=artifact)
    assert publish(job, outcome) == expected
    assert files(job) == ([artifact] if artifact else [])


@pytest.mark.parametrize(
    "error",
    [
        "steps_exhausted: all 4 steps were used",
        "invalid_action: unknown_action: there is no action fly, expected one of look, say, finish",
    ],
)
def test_a_row_has_the_failure_in_words(job: Job, error):
    row = publish(job, play(job, error.partition(":")[0]))
    assert (row.success, row.error) == (False, error)


def test_a_reason_that_has_no_other_words_is_told_once(job: Job):
    outcome = build_outcome(job, EpisodeFacts(failure_reason="episode_crashed"))
    assert result_row(job, outcome.head, outcome.artifact).error == "episode_crashed"


@pytest.mark.parametrize("runs_dir", ["missing", "agent.py"])
def test_an_artifact_that_cannot_be_written_is_an_output_error(
    job: Job, tmp_path: pathlib.Path, runs_dir
):
    job = with_settings(job, runs_dir=str(tmp_path / runs_dir))
    with pytest.raises(OutputError, match="cannot be written"):
        publish(job, play(job))


# --- strict spec ---


@pytest.mark.parametrize("how", ["success", "steps_exhausted"])
def test_an_invalid_artifact_is_a_failure_under_strict_spec_alone_and_kept_as_one(
    job: Job, monkeypatch: pytest.MonkeyPatch, how
):
    checked = []
    monkeypatch.setattr(
        spec, "problems", lambda artifact: checked.append(artifact) or ["$.a: wrong", "$.b: wrong"]
    )
    strict = with_settings(job, strict_spec=True, keep_runs="failed")
    outcome = play(strict, how)
    plain_row = result_row(job, outcome.head, outcome.artifact)
    assert checked == []
    row = publish(strict, outcome)
    assert row == replace(plain_row, success=False, error="strict-spec: $.a: wrong; $.b: wrong")
    assert checked == [json.loads(outcome.artifact)]
    assert [row.artifact] == files(job)


def test_an_artifact_of_an_earlier_attempt_is_checked_as_it_stands(job: Job):
    pathlib.Path(artifact_path(job)).write_bytes(
        canon.encode({**json.loads(play(job).artifact), "agent": 7})
    )
    row = publish(with_settings(job, strict_spec=True), play(job))
    assert row.success is False
    assert row.error == "strict-spec: $.agent: found 7, expected a string"
