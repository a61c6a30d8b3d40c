"""What an agent may use, as it meets it."""

import json
import os
import pathlib
from typing import Any

import pytest
from helpers.faults import PLAIN_TASK

from tracecore.confinement import doctor
from tracecore.perf.harness import run_slice
from tracecore.perf.slice.options import OutputOptions, RunOptions, SliceOptions
from tracecore.records import Limits

TALKS = """\
class Agent:
    def reset(self, task_spec):
        self.steps = 0
    def observe(self, observation):
        self.steps += 1
    def act(self):
        large = {"type": "say", "args": {"text": "x" * 100_000}}
        return large if self.steps == 1 else {"type": "finish"}
"""
AGENT = """\
import os, threading

class Agent:
    def reset(self, task_spec):
        pass
    def observe(self, observation):
        pass
    def act(self):
"""
OPENS_FILES = (
    AGENT
    + """\
        last = 0
        try:
            while True:
                last = max(last, os.dup(0))
        except OSError as error:
            raise OSError(f"{error}: the last was {last}")
"""
)
STARTS_THREADS = (
    AGENT
    + """\
        threading.stack_size(1 << 16)
        for started in range(3000):
            try:
                threading.Thread(target=threading.Event().wait, daemon=True).start()
            except RuntimeError:
                raise ValueError(f"no more than {started}")
        raise ValueError("no end of threads")
"""
)


def run(tmp_path: pathlib.Path, agent: str, **options: Any) -> dict[str, Any]:
    (tmp_path / "agent").mkdir(exist_ok=True)
    (tmp_path / "agent" / "agent.py").write_text(agent)
    rows = [{"agent": str(tmp_path / "agent" / "agent.py"), "task_ref": "plain@1"}]
    (tmp_path / "scenario.json").write_text(json.dumps(rows))
    document = run_slice(
        SliceOptions(
            run=RunOptions(
                episodes=1,
                workers=1,
                scenario=str(tmp_path / "scenario.json"),
                tasks_dirs=(str(PLAIN_TASK.parent),),
                runs_dir=str(tmp_path / "runs"),
                **options,
            ),
            output=OutputOptions(output_dir=str(tmp_path / "out"), progress="never"),
        )
    )
    artifacts = document["artifacts"]
    (row,) = json.loads(pathlib.Path(artifacts["series"]).read_text())
    limits = json.loads(pathlib.Path(artifacts["manifest"]).read_text())["limits"]
    return {**row, "limits": limits}


def test_how_much_an_agent_may_say_at_once_is_an_option(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path, TALKS)["success"]
    for method in ("fork", "spawn"):
        row = run(tmp_path, TALKS, start_method=method, message_limit_bytes=64 << 10)
        assert (
            row["error"] == "invalid_action: action_too_large: act returned more than 65280 bytes,"
            " which is the limit"
        )
        assert row["limits"]["message_bytes"] == 64 << 10


def test_an_agent_has_a_limited_number_of_descriptors(tmp_path: pathlib.Path) -> None:
    words = run(tmp_path, OPENS_FILES)["error"]
    most = Limits().open_files
    assert most is not None
    assert (
        words
        == "agent_exception: act (step 1) raised OSError: [Errno 24] Too many open files: the last"
        f" was {most - 1}"
    )


def test_an_agent_can_start_no_more_threads_than_leave_room_for_others(
    tmp_path: pathlib.Path,
) -> None:
    if not can_count_threads():
        pytest.skip("agents cannot be counted by themselves here")
    before = pathlib.Path("/proc/sys/kernel/pid_max").read_text()
    row = run(tmp_path, STARTS_THREADS)
    words, _, number = row["error"].rpartition(" ")
    assert words == "agent_exception: act (step 1) raised ValueError: no more than"
    most = Limits().processes
    assert most is not None
    assert int(number) < most + 300
    assert pathlib.Path("/proc/sys/kernel/pid_max").read_text() == before


def can_count_threads() -> bool:
    layers = doctor.probe(Limits())
    if os.geteuid() != 0:
        return layers["user_namespace"] is True
    version = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
    return layers["pid_namespace"] is True and version >= (6, 14)
