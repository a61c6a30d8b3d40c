import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.episodes import ACTIONS, VALIDATE, Plan, Run
from helpers.folders import write_task

from tracecore.errors import TaskError
from tracecore.records import AgentSource, Job, JsonObject, Outcome, Settings
from tracecore.runtime import spec
from tracecore.runtime.episode import run_episode
from tracecore.runtime.task.catalog import find_task
from tracecore.runtime.task.task import compile_task

MakeTask = Callable[..., pathlib.Path]
PLAN_SOURCE = AgentSource("plan.py", "/plan.py", "sha256:" + "0" * 64)
OUTCOME_KEYS = (
    *("termination_reason", "failure_type", "failure_reason"),
    *("steps_used", "tool_calls_used"),
)


@pytest.fixture
def make_task(tmp_path: pathlib.Path) -> MakeTask:
    """Write a task's folder below the test's own, and give it back."""

    def make(
        task_id: str = "world",
        files: dict[str, str | bytes] | None = None,
        *,
        under: str = "tasks_dir",
        **options: object,
    ) -> pathlib.Path:
        return write_task(tmp_path / under / task_id, files, **options)

    return make


@pytest.fixture
def outcome_of(make_task, tmp_path: pathlib.Path) -> Iterator[Callable[..., Outcome]]:
    """Run an episode of an agent in the small world, some of whose ``files`` are others."""
    jobs = []

    def run(
        agent: Any,
        *,
        edit=str,
        timeout_s: float = 300.0,
        start: Any = None,
        under="",
        is_debugged=False,
        **files: str,
    ) -> Outcome:
        contents = {"actions": ACTIONS, "validate": VALIDATE, **files}
        contents = {f"{name}.py": text for name, text in contents.items()}
        folder = make_task("world", contents, edit=edit, under=under or f"tasks_{len(jobs)}")
        source = find_task("world@1", tasks_dirs=(str(folder.parent),))
        settings = Settings(runs_dir=str(tmp_path / "runs"), timeout_s=timeout_s)
        jobs.append(Job(0, "0" * 32, PLAN_SOURCE, source, 9, settings))
        return run_episode(jobs[-1], start or (lambda _job: agent), is_debugged=is_debugged)

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
        for key in OUTCOME_KEYS:
            assert artifact[key] == getattr(outcome, key)
        if isinstance(agent, Plan):
            assert agent.closed <= 1
            assert len(agent.observations) - len(artifact["action_trace"]) in {0, 1}
        return artifact

    return run
