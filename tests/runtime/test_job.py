import json
import os
import pathlib
import resource
from collections.abc import Iterator

import pytest
from helpers.batches import make_job
from helpers.faults import PLAIN_TASK, write_agent

from tracecore.errors import OutputError
from tracecore.record import replace
from tracecore.records import (
    Ended,
    Ending,
    Exited,
    Job,
    JsonObject,
    Raised,
    Returned,
    TimedOut,
    Usage,
    WorkerLost,
)
from tracecore.runtime import spec
from tracecore.runtime.artifact import artifact_hash
from tracecore.runtime.job import run_job_debug, run_job_in_process, settle
from tracecore.runtime.task.catalog import find_agent


@pytest.fixture
def job(tmp_path: pathlib.Path) -> Job:
    (tmp_path / "runs").mkdir()
    return make_job(3, write_agent(None, tmp_path / "good.py"), PLAIN_TASK, tmp_path / "runs")


@pytest.mark.parametrize(
    ("ending", "reason", "words"),
    [
        (Exited(3), "episode_crashed", "exited with code 3 without an answer"),
        (Exited(-11), "episode_crashed", "was killed by SIGSEGV"),
        (TimedOut(2.5), "timeout", "was still running at the time limit of 2.5 s"),
        (Returned(None), "episode_crashed", "gave no result row"),
        (Raised("KeyError", "'x'"), "episode_crashed", "the runtime raised KeyError: 'x'"),
        (
            WorkerLost(2, "was killed by SIGKILL"),
            "episode_crashed",
            "2 workers died while they held the episode",
        ),
    ],
)
def test_a_mute_ending_gets_a_valid_artifact_with_what_happened(
    job: Job, ending: Ending, reason: str, words: str
) -> None:
    row = settle(Ended(job, ending, Usage(wall_clock_s=1.5, attempt=2)))
    artifact = artifact_of(job)
    assert spec.problems(artifact) == []
    assert (row.termination_reason, row.success) == (reason, False)
    assert (row.wall_clock_s, row.attempt) == (1.5, 2)
    has_process = not isinstance(ending, Raised | WorkerLost)
    assert ("the episode process " if has_process else "") + words in artifact["failure_reason"]
    assert artifact["budgets"]["steps"] == 4


def artifact_of(job: Job) -> JsonObject:
    path = pathlib.Path(job.settings.runs_dir) / f"{job.run_id}.json"
    return json.loads(path.read_bytes())


def test_an_artifact_that_stands_already_counts_and_is_left_alone(job: Job) -> None:
    first = run_job_in_process(job)
    path = pathlib.Path(job.settings.runs_dir) / f"{job.run_id}.json"
    before = path.read_bytes()
    row = settle(Ended(job, WorkerLost(2, "was killed by SIGKILL"), Usage(wall_clock_s=1.0)))
    assert (row.success, row.artifact_hash) == (True, first.artifact_hash)
    assert path.read_bytes() == before


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be longer than 60 kB: a disk that has no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_an_artifact_that_could_not_be_written_is_no_failure_of_the_episode(job: Job) -> None:
    message = f"{job.settings.runs_dir}/x.json: cannot be written: No space left on device"
    with pytest.raises(OutputError, match=r"cannot be written: No space left on device$"):
        settle(Ended(job, Raised("OutputError", message), Usage(wall_clock_s=1.0)))
    assert os.listdir(job.settings.runs_dir) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="cannot tell whether there is room")
def test_an_artifact_that_its_own_process_alone_could_not_write_is_one(job: Job) -> None:
    message = f"{job.settings.runs_dir}/x.json: cannot be written: File too large"
    row = settle(Ended(job, Raised("OutputError", message), Usage(wall_clock_s=1.0)))
    assert row.termination_reason == "episode_crashed"
    artifact = artifact_of(job)
    words = "the episode process could not write its artifact: File too large"
    assert artifact["failure_reason"] == words
    assert spec.problems(artifact) == []


def test_in_a_debugger_prints_are_seen_and_the_artifact_says_so(
    job: Job, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = tmp_path / "debugged.py"
    agent.write_text(
        "class Agent:\n    def reset(self, spec): print('words of the agent')\n"
        "    def observe(self, seen): pass\n    def act(self): return {}['no']\n"
    )
    debugged = replace(job, agent=find_agent(str(agent)))
    before = os.getcwd()
    row = run_job_debug(debugged)
    said = capsys.readouterr()
    assert "words of the agent" in said.out
    assert 'debugged.py", line 4, in act' in said.err
    assert "KeyError: 'no'" in said.err
    artifact = artifact_of(job)
    assert artifact["debug"] is True
    assert (row.termination_reason, artifact["output"]) == ("agent_exception", None)
    assert artifact_hash({**artifact, "debug": False}) != artifact["artifact_hash"]
    assert spec.problems(artifact) == []
    assert os.getcwd() == before
