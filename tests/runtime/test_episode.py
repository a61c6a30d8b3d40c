import contextlib
import json
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tracecore import canon
from tracecore.errors import TaskError
from tracecore.records import AgentSource, Job, JsonObject, Outcome, Settings
from tracecore.runtime import episode, spec
from tracecore.runtime.endings import FAILURE_TYPE_OF, AgentViolation, End, InvalidAction
from tracecore.runtime.episode import run_episode
from tracecore.runtime.replay import read_artifact
from tracecore.runtime.task.catalog import find_task
from tracecore.runtime.task.task import compile_task

ACTIONS = """\
def set_env(env):
    global ENV
    ENV = env
    env.exists('/app/from_set_env')

def look(path='/app/seed'):
    return {'there': ENV.exists(path)}

def read(path):
    return ENV.read_file(path)

def list_dir(path='/app'):
    return {'ok': True, 'files': ENV.list_dir(path)}

def finish():
    ENV.set_agent_output('done', True)
    return {'ok': True}
"""
VALIDATE = """\
def validate(env):
    env.exists('/app/from_validate')
    return {'ok': env.get_agent_output('done') is True}
"""
LOOK: JsonObject = {"type": "look"}
FINISH: JsonObject = {"type": "finish", "args": {}}
Run = Callable[..., JsonObject]


class Plan:
    """An agent that gives the listed answers, the last one for ever; an answer that is an exception
    is raised.
    """

    def __init__(
        self, *answers: Any, llm_trace: Any = None, at_reset: Exception | None = None
    ) -> None:
        self.answers, self.llm_trace, self.at_reset = answers, llm_trace, at_reset
        self.task_spec: JsonObject | None = None
        self.observations: list[JsonObject] = []
        self.closed = 0

    def reset(self, task_spec: JsonObject, deadline_s: float) -> None:
        del deadline_s
        self.task_spec = json.loads(canon.encode(task_spec))
        if self.at_reset:
            raise self.at_reset

    def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
        del deadline_s
        self.observations.append(canon.decode(observation))
        answer = self.answers[min(len(self.observations), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return canon.decode(canon.encode(answer)), self.llm_trace

    def close(self) -> str | None:
        self.closed += 1
        return None


@pytest.fixture
def outcome_of(make_task, tmp_path: pathlib.Path) -> Iterator[Callable[..., Outcome]]:
    jobs = []

    def run(
        agent: Any,
        *,
        edit=str,
        timeout_s: float = 30.0,
        start: Any = None,
        under: str = "",
        **files: str,
    ) -> Outcome:
        contents = {
            "actions.py": ACTIONS,
            "validate.py": VALIDATE,
            **{f"{name}.py": text for name, text in files.items()},
        }
        folder = make_task("world", contents, edit=edit, under=under or f"tasks_{len(jobs)}")
        source = find_task("world@1", tasks_dirs=(str(folder.parent),))
        settings = Settings(runs_dir=str(tmp_path / "runs"), timeout_s=timeout_s)
        jobs.append(
            Job(
                0,
                "0" * 32,
                AgentSource("plan.py", "/plan.py", "sha256:" + "0" * 64),
                source,
                9,
                settings,
            )
        )
        return run_episode(jobs[-1], start or (lambda _job: agent))

    yield run
    for job in jobs:
        with contextlib.suppress(TaskError):  # one that does not compile has installed nothing
            compile_task(job.task).modules.uninstall()


@pytest.fixture
def artifact_of(outcome_of) -> Run:
    """Run an episode; gives its artifact, which is valid and says what the outcome says."""

    def run(agent: Any = None, **how: Any) -> JsonObject:
        outcome = outcome_of(agent, **how)
        artifact = json.loads(outcome.artifact)
        assert spec.problems(artifact) == []
        for key in (
            "termination_reason",
            "failure_type",
            "failure_reason",
            "steps_used",
            "tool_calls_used",
        ):
            assert artifact[key] == getattr(outcome, key)
        if isinstance(agent, Plan):
            assert agent.closed <= 1
            assert len(agent.observations) - len(artifact["action_trace"]) in {0, 1}
        return artifact

    return run


def budgets(steps: int, tool_calls: int) -> Callable[[str], str]:
    return lambda text: text.replace("steps = 5", f"steps = {steps}").replace(
        "tool_calls = 4", f"tool_calls = {tool_calls}"
    )


def end_of(artifact: JsonObject) -> tuple[str, str | None, int, int]:
    """Reason, failure type, steps and tool calls used."""
    return (
        artifact["termination_reason"],
        artifact["failure_type"],
        artifact["steps_used"],
        artifact["tool_calls_used"],
    )


def action_code(body: str) -> str:
    return ACTIONS + f"\ndef act(*, n=0):\n    {body}\n"


def validator_code(body: str) -> str:
    return f"def validate(env):\n    {body}\n"


ACT: JsonObject = {"type": "act"}
ODD_TEXT = "type('Text', (str,), {'__len__': lambda self: 1 / 0})('odd')"


# --- every termination reason ---


@pytest.mark.parametrize(
    ("agent", "how", "reason", "failure_type", "words"),
    [
        (Plan(LOOK, FINISH), {}, "success", None, None),
        (
            Plan(LOOK),
            {"edit": budgets(2, 4)},
            "steps_exhausted",
            "budget_exhausted",
            "all 2 steps were used",
        ),
        (
            Plan(LOOK),
            {"edit": budgets(5, 2)},
            "tool_calls_exhausted",
            "budget_exhausted",
            "all 2 tool calls were used",
        ),
        (
            Plan({"type": "fly"}),
            {},
            "invalid_action",
            "invalid_action",
            "unknown_action: there is no action fly",
        ),
        (
            Plan(InvalidAction("action_must_be_dict", "act returned int", "7")),
            {},
            "invalid_action",
            "invalid_action",
            "action_must_be_dict: act returned int",
        ),
        (
            Plan({"type": "read", "args": {"path": "/app/none"}}),
            {},
            "action_exception",
            "invalid_action",
            "action read raised FileNotFoundError",
        ),
        (
            Plan({"type": "read", "args": {"path": "/etc/passwd"}}),
            {},
            "sandbox_violation",
            "sandbox_violation",
            "read_file /etc/passwd",
        ),
        (
            Plan(AgentViolation("open /etc/passwd")),
            {},
            "sandbox_violation",
            "sandbox_violation",
            "agents may not",
        ),
        (Plan(End("timeout", "step 1 was late")), {}, "timeout", "timeout", "step 1 was late"),
        (
            Plan(End("agent_exception", "act raised")),
            {},
            "agent_exception",
            "logic_failure",
            "act raised",
        ),
        (Plan(End("agent_crashed", "it died")), {}, "agent_crashed", "logic_failure", "it died"),
        (
            Plan(LOOK, at_reset=End("agent_exception", "no")),
            {},
            "agent_exception",
            "logic_failure",
            "no",
        ),
        (
            Plan(LOOK),
            {"setup": "def setup(seed, env):\n    raise KeyError(seed)\n"},
            "task_exception",
            "logic_failure",
            "setup raised KeyError: 9",
        ),
        (
            Plan(LOOK),
            {"setup": "def setup(seed, env):\n    env.read_file('/etc/x')\n"},
            "task_exception",
            "logic_failure",
            "setup raised SandboxViolation",
        ),
        (
            Plan(LOOK),
            {"actions": "def set_env(env):\n    raise SystemExit(3)\n"},
            "task_exception",
            "logic_failure",
            "set_env raised SystemExit: 3",
        ),
        (
            Plan(LOOK),
            {"actions": "import nowhere_to_be_found\n"},
            "task_exception",
            "logic_failure",
            "loading the task raised ModuleNotFoundError",
        ),
        (
            Plan(LOOK),
            {"validate": validator_code("raise KeyboardInterrupt")},
            "validator_exception",
            "logic_failure",
            "validate raised KeyboardInterrupt",
        ),
        (
            Plan(LOOK),
            {"validate": validator_code("return {'ok': False, 'terminal': True}")},
            "logic_failure",
            "logic_failure",
            "the validator ended the episode",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value in FAILURE_TYPE_OF else "",
)
def test_every_ending_has_its_reason_and_failure_type(
    artifact_of: Run, agent, how, reason, failure_type, words
):
    artifact = artifact_of(agent, **how)
    assert end_of(artifact)[:2] == (reason, failure_type)
    assert artifact["success"] is (reason == "success")
    assert (
        artifact["failure_reason"] is None if words is None else words in artifact["failure_reason"]
    )


@pytest.mark.parametrize(
    "files",
    [
        {"actions": "def act(:\n"},
        {"validate": "validat = 1\n"},
        {"actions": "def act(path, /): pass\n"},
        {"setup": "def setup(seed, env):\n    open(__file__ + 'x')\n"},
        {"setup": "def setup(seed, env):\n    raise ValueError('-' * 460 + __file__)\n"},
    ],
    ids=["no Python", "no function", "no action", "no such file", "cut"],
)
def test_where_a_task_lies_is_in_no_artifact(artifact_of: Run, files):
    here, there = (
        artifact_of(Plan(LOOK), under=under, **files) for under in ("here", "some/where/else")
    )
    assert here["termination_reason"] == "task_exception"
    assert "world@1/" in here["failure_reason"]
    assert here["artifact_hash"] == there["artifact_hash"]


@pytest.mark.parametrize("how", [{"setup": "def setup(seed, env):\n    1 / 0\n"}, {}])
def test_an_agent_that_was_started_is_closed_however_the_episode_ends(artifact_of: Run, how):
    agent = Plan(LOOK, End("agent_crashed", "it died"))
    artifact_of(agent, **how)
    assert agent.closed == 1


def test_an_agent_that_cannot_be_started_is_an_ending_too(artifact_of: Run):
    def start(_job: Job) -> Any:
        raise End("agent_crashed", "no process could be had")

    assert end_of(artifact_of(start=start)) == ("agent_crashed", "logic_failure", 0, 0)


def test_an_agent_that_fails_in_its_step_has_spent_none(artifact_of: Run):
    artifact = artifact_of(Plan(LOOK, End("agent_exception", "no")))
    assert end_of(artifact) == ("agent_exception", "logic_failure", 1, 1)
    assert len(artifact["action_trace"]) == 1


# --- the order of checks, and what is spent ---


def test_steps_are_checked_before_an_observation_is_given(artifact_of: Run):
    agent = Plan(LOOK)
    assert end_of(artifact_of(agent, edit=budgets(1, 4))) == (
        "steps_exhausted",
        "budget_exhausted",
        1,
        1,
    )
    assert len(agent.observations) == 1


def test_an_invalid_action_is_told_before_the_tool_calls_are(artifact_of: Run):
    artifact = artifact_of(Plan(LOOK, {"type": "fly"}), edit=budgets(5, 1))
    assert end_of(artifact) == ("invalid_action", "invalid_action", 2, 1)


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ({"type": "fly", "args": {}}, {"type": "fly", "args": {}}),
        (InvalidAction("action_must_be_dict", "act returned int", "7"), {"repr": "7"}),
        (
            InvalidAction("action_not_json", "no", "<object object at 0x7f0011223344>"),
            {"repr": "<object object at 0x…>"},
        ),
    ],
)
def test_an_invalid_action_spends_a_step_and_no_tool_call_and_has_an_entry(
    artifact_of: Run, answer, action
):
    artifact = artifact_of(Plan(LOOK, answer))
    assert end_of(artifact) == ("invalid_action", "invalid_action", 2, 1)
    entry = artifact["action_trace"][1]
    assert (entry["action"], entry["result"]) == (action, None)
    assert (entry["budget_after_step"], entry["budget_delta"]) == (
        {"steps": 3, "tool_calls": 3},
        {"steps": 1, "tool_calls": 0},
    )
    assert entry["telemetry"]["action_metrics"]["error"] == artifact["failure_reason"]


def test_no_action_runs_when_no_tool_call_is_left(artifact_of: Run):
    artifact = artifact_of(Plan(LOOK, FINISH), edit=budgets(5, 1))
    assert end_of(artifact) == ("tool_calls_exhausted", "budget_exhausted", 2, 1)
    entry = artifact["action_trace"][1]
    assert (entry["action"], entry["result"], entry["io_audit"]) == (FINISH, None, [])
    assert entry["budget_delta"] == {"steps": 1, "tool_calls": 0}


def test_a_task_without_tool_calls_lets_no_action_run(artifact_of: Run):
    artifact = artifact_of(Plan(FINISH), edit=budgets(5, 0))
    assert end_of(artifact) == ("tool_calls_exhausted", "budget_exhausted", 1, 0)
    assert artifact["action_trace"][0]["result"] is None
    assert artifact["validator"] == {}


def test_a_task_without_steps_asks_the_agent_nothing(artifact_of: Run):
    agent = Plan(FINISH)
    assert end_of(artifact_of(agent, edit=budgets(0, 4))) == (
        "steps_exhausted",
        "budget_exhausted",
        0,
        0,
    )
    assert agent.task_spec is not None
    assert agent.observations == []


def test_the_last_step_may_succeed_with_the_last_tool_call(artifact_of: Run):
    artifact = artifact_of(Plan(LOOK, FINISH), edit=budgets(2, 2))
    assert end_of(artifact) == ("success", None, 2, 2)
    assert artifact["action_trace"][1]["budget_after_step"] == {"steps": 0, "tool_calls": 0}
    assert artifact["metrics"]["steps_used"] == artifact["metrics"]["tool_calls_used"] == 2


# --- what the agent is told ---


def test_the_task_is_told_exactly(artifact_of: Run):
    agent = Plan(FINISH)
    artifact_of(agent)
    assert agent.task_spec == {
        "id": "world",
        "description": "A task for tests.",
        "budgets": {"steps": 5, "tool_calls": 4},
        "actions": {"look": ["path"], "read": ["path"], "list_dir": ["path"], "finish": []},
        "sandbox": {
            "filesystem_roots": ["/app"],
            "network_hosts": ["api.example.org", "*.example.com"],
        },
    }


def test_an_observation_is_told_exactly(artifact_of: Run):
    agent = Plan(
        {"type": "list_dir", "args": None}, {"type": "look", "args": {"path": "/app/x"}}, FINISH
    )
    artifact = artifact_of(agent)
    task = {"id": "world", "description": "A task for tests."}
    seen = {"files_seen": ["/app/seed"]}
    assert agent.observations == [
        {
            "step": 1,
            "task": task,
            "last_action": None,
            "last_action_result": None,
            "visible_state": {"files_seen": []},
            "budget_remaining": {"steps": 5, "tool_calls": 4},
        },
        {
            "step": 2,
            "task": task,
            "last_action": {"type": "list_dir", "args": None},
            "last_action_result": {"ok": True, "files": ["/app/seed"]},
            "visible_state": seen,
            "budget_remaining": {"steps": 4, "tool_calls": 3},
        },
        {
            "step": 3,
            "task": task,
            "last_action": {"type": "look", "args": {"path": "/app/x"}},
            "last_action_result": {"there": False},
            "visible_state": seen,
            "budget_remaining": {"steps": 3, "tool_calls": 2},
        },
    ]
    assert [entry["observation"] for entry in artifact["action_trace"]] == agent.observations
    assert [entry["step"] for entry in artifact["action_trace"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("listing", "seen"),
    [
        ("{'ok': True, 'files': ['/app/b', '/app/a']}", ["/app/a", "/app/b"]),
        ("{'files': ['/app/a', '/app/a']}", ["/app/a"]),
        ("{'files': ('/app/a', 7, None, '/app/b')}", ["/app/a", "/app/b"]),
        ("{'ok': False, 'files': ['/app/a']}", []),
        ("{'ok': True, 'files': '/app/a'}", []),
        ("['/app/a']", []),
        ("None", []),
        ("type('Liar', (dict,), {'get': lambda *a: 1 / 0})(files=['/app/a'])", ["/app/a"]),
    ],
)
def test_only_what_a_successful_listing_names_counts_as_seen(artifact_of: Run, listing, seen):
    agent = Plan({"type": "list_dir"}, FINISH)
    artifact = artifact_of(agent, actions=ACTIONS + f"\ndef list_dir():\n    return {listing}\n")
    assert artifact["success"]
    assert agent.observations[1]["visible_state"] == {"files_seen": seen}


def test_what_a_task_marks_as_seen_is_told(artifact_of: Run):
    agent = Plan(ACT, FINISH)
    artifact_of(agent, actions=action_code("ENV.mark_seen(['/app/z', '/app/é']); return n"))
    assert agent.observations[1]["visible_state"] == {"files_seen": ["/app/z", "/app/é"]}


# --- the world ---


def test_setup_has_the_seed_and_the_actions_have_their_world_before_the_first_step(
    artifact_of: Run,
):
    artifact = artifact_of(Plan({"type": "read", "args": {"path": "/app/seed"}}, FINISH))
    assert artifact["action_trace"][0]["result"] == "9"


def test_a_task_may_do_without_setup_and_set_env(artifact_of: Run):
    artifact = artifact_of(
        Plan(FINISH),
        actions="def finish():\n    return 1\n",
        validate=validator_code("return {'ok': True}"),
        edit=lambda text: text.replace('[setup]\nentrypoint = "setup.py:setup"\n', ""),
    )
    assert end_of(artifact) == ("success", None, 1, 1)


def test_a_step_has_the_calls_of_its_action_alone(artifact_of: Run):
    artifact = artifact_of(Plan(LOOK, {"type": "fly"}))
    look = {"type": "fs", "op": "exists", "path": "/app/seed"}
    assert [entry["io_audit"] for entry in artifact["action_trace"]] == [[look], []]


def test_a_refused_call_is_in_the_audit_of_its_step(artifact_of: Run):
    artifact = artifact_of(Plan(LOOK, {"type": "read", "args": {"path": "/app/../etc"}}))
    assert artifact["termination_reason"] == "sandbox_violation"
    assert artifact["action_trace"][1]["io_audit"] == [
        {"type": "fs", "op": "read_file", "path": "/app/../etc"}
    ]


@pytest.mark.parametrize(
    ("attempt", "entry"),
    [
        ("open /etc/passwd", {"type": "fs", "op": "open", "path": "/etc/passwd"}),
        ("connect example.org", {"type": "net", "host": "example.org"}),
        ("exec /bin/sh", {"type": "process", "op": "exec", "target": "/bin/sh"}),
        ("kill", {"type": "process", "op": "kill", "target": ""}),
    ],
)
def test_what_an_agent_tried_is_in_the_audit_of_its_step(artifact_of: Run, attempt, entry):
    artifact = artifact_of(Plan(LOOK, AgentViolation(attempt)))
    assert end_of(artifact) == ("sandbox_violation", "sandbox_violation", 2, 1)
    assert artifact["action_trace"][1]["io_audit"] == [entry]


def test_a_violation_that_the_task_caught_is_one_all_the_same(artifact_of: Run):
    body = (
        "try: ENV.require_network('evil.example.net')\n    except Exception: pass\n    return 'all"
        " is well'"
    )
    artifact = artifact_of(Plan(ACT, FINISH), actions=action_code(body))
    assert end_of(artifact) == ("sandbox_violation", "sandbox_violation", 1, 1)
    (entry,) = artifact["action_trace"]
    assert entry["result"] == "all is well"
    assert entry["io_audit"] == [{"type": "net", "host": "evil.example.net"}]


def test_what_setup_and_the_validator_tried_and_caught_is_no_violation_of_an_action(
    artifact_of: Run,
):
    trying = "try: env.read_file('/etc/x')\n    except Exception: pass\n    "
    artifact = artifact_of(
        Plan(LOOK, FINISH),
        setup=f"def setup(seed, env):\n    {trying}\n",
        validate=validator_code(f"{trying}return {{'ok': env.get_agent_output('done') is True}}"),
    )
    assert end_of(artifact) == ("success", None, 2, 2)


# --- actions ---


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('no')", "action act raised ValueError: no"),
        ("raise SystemExit", "action act raised SystemExit"),
        ("raise BaseException('no')", "action act raised BaseException: no"),
        ("raise ValueError(object())", "action act raised ValueError: <object object at 0x…>"),
        (
            "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})",
            "action act raised Mute: (its message cannot",
        ),
        ("return {1, 2}", "action act raised TypeError"),
        ("return float('nan')", "action act raised ValueError"),
        ("return object()", "action act raised TypeError"),
        ("x = []; x.append(x); return x", "action act raised ValueError"),
        ("return 10 ** 5000", "action act raised ValueError"),
        ("return {'a': 1, 2: 3}", "action act raised TypeError"),
        (
            "def sink():\n        return sink()\n    return sink()",
            "action act raised RecursionError",
        ),
    ],
)
def test_an_action_that_raises_or_gives_no_json_ends_the_episode_and_has_an_entry(
    artifact_of: Run, body, words
):
    artifact = artifact_of(Plan(LOOK, ACT), actions=action_code(body))
    assert end_of(artifact) == ("action_exception", "invalid_action", 2, 2)
    assert words in artifact["failure_reason"]
    entry = artifact["action_trace"][1]
    assert (entry["action"], entry["result"]) == (ACT, None)
    assert entry["budget_delta"] == {"steps": 1, "tool_calls": 1}
    assert entry["telemetry"]["action_metrics"]["error"] == artifact["failure_reason"]


def test_what_a_task_changes_later_does_not_change_the_trace(artifact_of: Run):
    code = """
KEPT = []
def keep(items):
    result = {'items': items, 'own': [1]}
    KEPT.append((items, result))
    return result
def spoil():
    for items, result in KEPT:
        items.clear()
        result.clear()
    return list(KEPT)
"""
    keep = {"type": "keep", "args": {"items": [1, 2]}}
    agent = Plan(keep, {"type": "spoil"}, FINISH)
    artifact = artifact_of(agent, actions=ACTIONS + code)
    first, second, _ = artifact["action_trace"]
    assert (first["action"], first["result"]) == (keep, {"items": [1, 2], "own": [1]})
    assert second["observation"]["last_action"] == agent.observations[1]["last_action"] == keep
    assert second["observation"]["last_action_result"] == {"items": [1, 2], "own": [1]}


# --- the validator ---


def test_the_validator_is_asked_after_each_action_and_its_last_verdict_is_kept(artifact_of: Run):
    code = (
        "N = []\ndef validate(env):\n    N.append(1)\n    return {'ok': len(N) == 3, 'message':"
        " f'call {len(N)}', 'x': N}\n"
    )
    artifact = artifact_of(Plan(LOOK), validate=code)
    assert end_of(artifact) == ("success", None, 3, 3)
    assert artifact["validator"] == {"ok": True, "message": "call 3"}


def test_a_validator_that_is_not_satisfied_lets_the_episode_go_on(artifact_of: Run):
    verdict = (
        "{'ok': False, 'terminal': False, 'termination_reason': 'gave_up', 'error': 'not yet'}"
    )
    artifact = artifact_of(
        Plan(LOOK), validate=validator_code(f"return {verdict}"), edit=budgets(2, 4)
    )
    assert end_of(artifact) == ("steps_exhausted", "budget_exhausted", 2, 2)
    assert artifact["validator"] == {
        "ok": False,
        "terminal": False,
        "termination_reason": "gave_up",
        "error": "not yet",
    }


@pytest.mark.parametrize(
    ("verdict", "reason", "failure_type", "words"),
    [
        ("", "logic_failure", "logic_failure", "the validator ended the episode"),
        (
            (
                "'termination_reason': 'gave_up', 'failure_type': 'non_termination',"
                " 'failure_reason': 'why', 'error': 'e'"
            ),
            "gave_up",
            "non_termination",
            "why",
        ),
        (
            "'termination_reason': 'gave_up', 'error': 'e', 'message': 'm'",
            "gave_up",
            "logic_failure",
            "e",
        ),
        (
            "'failure_type': 'sandbox_violation', 'message': 'm'",
            "sandbox_violation",
            "sandbox_violation",
            "m",
        ),
        (
            "'failure_type': 'budget_exhausted'",
            "budget_exhausted",
            "budget_exhausted",
            "the validator ended",
        ),
        ("'failure_type': 'nonsense'", "logic_failure", "logic_failure", "the validator ended"),
        (
            "'termination_reason': 'gave_up', 'failure_type': 'nonsense'",
            "gave_up",
            "logic_failure",
            "the validator ended",
        ),
        (
            "'termination_reason': 'timeout', 'failure_type': 'logic_failure'",
            "timeout",
            "timeout",
            "the validator ended",
        ),
        (
            "'termination_reason': 'success'",
            "logic_failure",
            "logic_failure",
            "the validator ended",
        ),
        (
            "'termination_reason': 'success', 'failure_type': 'timeout'",
            "logic_failure",
            "logic_failure",
            "the validator ended",
        ),
        (
            "'termination_reason': '', 'failure_reason': None",
            "logic_failure",
            "logic_failure",
            "the validator ended",
        ),
        ("'termination_reason': 7, 'failure_reason': ['a', 1]", "7", "logic_failure", "['a', 1]"),
        ("'failure_reason': object()", "logic_failure", "logic_failure", "<object object at 0x…>"),
        ("'failure_reason': 'x' * 10**6", "logic_failure", "logic_failure", "xxx"),
        (
            "'failure_reason': type('Text', (str,), {'__len__': lambda self: 1 / 0})('odd')",
            "logic_failure",
            "logic_failure",
            "odd",
        ),
    ],
)
def test_a_terminal_verdict_ends_the_episode_for_its_own_reasons(
    artifact_of: Run, verdict, reason, failure_type, words
):
    code = validator_code(f"return {{'ok': False, 'terminal': True, {verdict}}}")
    artifact = artifact_of(Plan(LOOK), validate=code)
    assert end_of(artifact) == (reason, failure_type, 1, 1)
    assert words in artifact["failure_reason"]
    assert artifact["validator"]["terminal"] is True
    assert not artifact["success"]


@pytest.mark.parametrize("terminal", ["1", "'yes'", "None", "[1]", "object()"])
def test_terminal_is_true_or_nothing(artifact_of: Run, terminal):
    artifact = artifact_of(
        Plan(LOOK),
        validate=validator_code(f"return {{'ok': False, 'terminal': {terminal}}}"),
        edit=budgets(1, 4),
    )
    assert artifact["termination_reason"] == "steps_exhausted"
    assert artifact["validator"] == {"ok": False}


def test_ok_wins_over_terminal(artifact_of: Run):
    code = validator_code(
        "return {'ok': True, 'terminal': True, 'termination_reason': 'gave_up', 'failure_type':"
        " 'timeout'}"
    )
    artifact = artifact_of(Plan(LOOK), validate=code)
    assert end_of(artifact) == ("success", None, 1, 1)
    assert artifact["failure_reason"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", "validate gave None, not a dict with a bool ok"),
        ("return True", "validate gave True, not a dict with a bool ok"),
        ("return {}", "validate gave {}, not a dict with a bool ok"),
        ("return {'ok': 1}", "validate gave {'ok': 1}, not a dict with a bool ok"),
        ("return [('ok', True)]", "not a dict with a bool ok"),
        ("return 'x' * 10**6", "not a dict with a bool ok"),
        ("return object()", "validate gave <object object at 0x…>, not"),
        ("raise ValueError('no')", "validate raised ValueError: no"),
        ("env.read_file('/etc/passwd')", "validate raised SandboxViolation"),
        ("raise SystemExit(0)", "validate raised SystemExit"),
        (
            "return type('Mute', (), {'__repr__': lambda self: 1 / 0})()",
            "validate raised ZeroDivisionError",
        ),
        (
            "return type('Liar', (dict,), {'__getitem__': lambda *a: 1 / 0})(ok=True)",
            "validate raised ZeroDivisionError",
        ),
        (
            "return {'ok': False, 'error': type('Mute', (), {'__repr__': lambda self: 1 / 0})()}",
            "raised ZeroDivisionError",
        ),
    ],
)
def test_a_validator_that_raises_or_gives_no_verdict_ends_the_episode_with_its_trace(
    artifact_of: Run, body, words
):
    artifact = artifact_of(Plan(LOOK), validate=validator_code(body))
    assert end_of(artifact) == ("validator_exception", "logic_failure", 1, 1)
    assert words in artifact["failure_reason"]
    assert artifact["validator"] == {}
    assert artifact["action_trace"][0]["result"] == {"there": True}


# --- the time limit ---

FOREVER = "while True: pass"


@pytest.fixture
def alarm() -> Iterator[list[int]]:
    """A handler and a timer that were there before; gives the rings that the handler had."""
    rings: list[int] = []
    handler_before = signal.signal(signal.SIGALRM, lambda number, _frame: rings.append(number))
    timer_before = signal.setitimer(signal.ITIMER_REAL, 500.0, 7.0)
    handler = signal.getsignal(signal.SIGALRM)
    yield rings
    assert signal.getsignal(signal.SIGALRM) is handler
    left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, *timer_before)
    signal.signal(signal.SIGALRM, handler_before)
    assert 400 < left_s <= 500
    assert interval_s == 7.0


@pytest.mark.parametrize(
    ("answers", "how", "what", "steps"),
    [
        (
            (LOOK, ACT),
            {"actions": action_code(FOREVER)},
            "action act had not finished within the time limit of 0.3 s",
            2,
        ),
        ((LOOK,), {"validate": validator_code(FOREVER)}, "validate had not finished", 1),
        (
            (LOOK,),
            {
                "validate": (
                    validator_code(
                        "return type('Slow', (), {'__repr__': lambda self: forever()})()"
                    )
                    + f"def forever():\n    {FOREVER}\n"
                )
            },
            "validate had not finished",
            1,
        ),
        (
            (LOOK,),
            {"setup": f"def setup(seed, env):\n    {FOREVER}\n"},
            "setup had not finished",
            0,
        ),
        ((LOOK,), {"actions": FOREVER}, "loading the task had not finished", 0),
        (
            (LOOK, ACT),
            {"actions": action_code("try:\n        while True: pass\n    except Exception: pass")},
            "action act had",
            2,
        ),
    ],
)
def test_task_code_that_loops_past_the_time_limit_leaves_the_trace_so_far(
    artifact_of: Run, alarm, answers, how, what, steps
):
    artifact = artifact_of(Plan(*answers), timeout_s=0.3, **how)
    assert end_of(artifact)[:3] == ("timeout", "timeout", steps)
    assert what in artifact["failure_reason"]
    assert [entry["step"] for entry in artifact["action_trace"]] == list(range(1, steps + 1))
    assert artifact["wall_clock_elapsed_s"] >= 0.3
    assert artifact["budgets"]["steps"] == (0 if "loading" in what else 5)
    assert alarm == []


def test_task_code_that_swallows_the_interruption_and_returns_is_late_all_the_same(
    artifact_of: Run, alarm
):
    body = "import time\n    try: time.sleep(600)\n    except BaseException: return 'late'"
    artifact = artifact_of(Plan(ACT), actions=action_code(body), timeout_s=0.3)
    assert end_of(artifact) == ("timeout", "timeout", 1, 1)
    assert artifact["action_trace"][0]["result"] == "late"
    assert alarm == []


def test_an_agent_that_is_late_is_told_before_the_next_step(artifact_of: Run, alarm):
    class Slow(Plan):
        def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
            while time.monotonic() < deadline_s:
                time.sleep(0.02)
            return super().step(observation, deadline_s)

    artifact = artifact_of(Slow(LOOK), timeout_s=0.3)
    assert end_of(artifact)[:2] == ("timeout", "timeout")
    assert len(artifact["action_trace"]) == 1
    assert alarm == []


def test_handler_and_timer_are_as_before_after_a_good_episode_too(artifact_of: Run, alarm):
    assert artifact_of(Plan(FINISH))["success"]
    assert alarm == []


def test_without_a_timer_before_there_is_none_afterwards(artifact_of: Run):
    before = signal.setitimer(signal.ITIMER_REAL, 0)
    artifact_of(Plan(FINISH))
    assert signal.setitimer(signal.ITIMER_REAL, *before) == (0.0, 0.0)


def test_an_alarm_that_was_due_in_the_meantime_rings_afterwards(artifact_of: Run, alarm):
    before = signal.setitimer(signal.ITIMER_REAL, 0.1)
    artifact_of(Plan(ACT), actions=action_code(FOREVER), timeout_s=0.3)
    for _ in range(500):
        if alarm:
            break
        time.sleep(0.01)
    assert alarm == [signal.SIGALRM]
    signal.setitimer(signal.ITIMER_REAL, *before)


# --- what the agent notes ---


def test_model_calls_are_in_the_entry_of_their_step_and_in_the_sums(artifact_of: Run):
    call = {
        "request": {
            "provider": "acme",
            "model": "m-1",
            "prompt": "?",
            "shim_used": True,
            "metadata": {"version": "3"},
        },
        "response": {"completion": "!!", "tokens_used": 5},
    }
    artifact = artifact_of(Plan(LOOK, FINISH, llm_trace=[call]))
    assert [entry["llm_trace"] for entry in artifact["action_trace"]] == [[call], [call]]
    assert artifact["determinism"]["tooling"] == {
        "models": [{"provider": "acme", "model": "m-1", "version": "3"}],
        "mocks": ["acme"],
    }
    sums = {
        key: artifact["metrics"][key]
        for key in ("llm_trace_entries", "prompt_bytes", "completion_bytes", "tokens_used")
    }
    assert sums == {
        "llm_trace_entries": 2,
        "prompt_bytes": 2,
        "completion_bytes": 4,
        "tokens_used": 10,
    }


@pytest.mark.parametrize(("limit", "most"), [("TRACE_BYTES_MOST", 800), ("TRACE_COMMAS_MOST", 30)])
def test_a_trace_that_grows_too_large_ends_the_episode_and_is_kept(
    limit: str, most: int, artifact_of: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode, limit, most)
    artifact = artifact_of(Plan(LOOK))
    assert artifact["termination_reason"] == "logic_failure"
    assert "the trace has grown to more than" in artifact["failure_reason"]
    assert len(artifact["action_trace"]) == artifact["steps_used"] > 1


def test_commas_in_text_do_not_count_as_values(
    artifact_of: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode, "TRACE_COMMAS_MOST", 200)
    look = {"type": "look", "args": {"path": "/app/" + "a," * 500}}
    assert artifact_of(Plan(look, look, FINISH))["success"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 'x' * (100 << 20)", "step 1 left more than 16 MiB or 2000000 values"),
        ("return [1] * 3_000_000", "step 1 left more than"),
        ("[ENV.exists('/app/' + 'd' * 4000) for _ in range(5000)]", "step 1 left more than"),
        (
            "ENV.mark_seen([f'/app/{n:0200}' for n in range(80_000)])",
            "the next observation would have more than 12 MiB",
        ),
        ("return 'x' * (13 << 20)", "the next observation would have more than 12 MiB"),
    ],
)
def test_what_a_step_leaves_can_be_read_again(artifact_of: Run, tmp_path, body: str, words: str):
    artifact = artifact_of(Plan(ACT), actions=action_code(body))
    assert end_of(artifact)[:2] == ("logic_failure", "logic_failure")
    assert words in artifact["failure_reason"]
    assert len(artifact["action_trace"]) == 1
    path = tmp_path / "artifact.json"
    path.write_bytes(canon.encode(artifact))
    assert read_artifact(str(path)) == (artifact, [])


def test_commas_in_text_are_no_values(artifact_of: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(episode, "TRACE_COMMAS_MOST", 200)
    artifact = artifact_of(Plan(ACT), actions=action_code("return ',' * 500"))
    assert artifact["termination_reason"] == "tool_calls_exhausted"


def deep(reached: str) -> str:
    return f"def dig(n=0):\n    return 1 + dig(n - 1) if n else 1\n{reached}"


@pytest.mark.parametrize("below", [0, 300])
def test_task_code_may_call_as_deep_whatever_stands_below_it(artifact_of: Run, below: int):
    actions = ACTIONS + deep("def act(*, n=0):\n    return dig(960)\n")

    def at(depth: int) -> JsonObject:
        if depth:
            return at(depth - 1)
        return artifact_of(Plan(ACT, FINISH), actions=actions, under=f"below_{below}")

    assert at(below)["success"]
    too_deep = ACTIONS + deep("def act(*, n=0):\n    return dig(1_010)\n")
    artifact = artifact_of(Plan(ACT), actions=too_deep, under=f"deep_{below}")
    assert "RecursionError" in artifact["failure_reason"]
