"""What agents and tasks print, and where they fail, in real processes."""

import json
import os
import pathlib
from typing import Any

import pytest
from helpers.batches import make_job, run_jobs
from helpers.faults import PLAIN_TASK

from tracecore.runtime.foreign.printed import CHARACTERS_MOST, PipeTail, Tail, as_text

HEAD = """
import os, sys, threading
class Agent:
    def reset(self, spec): print("reset")
    def observe(self, seen): pass
    def act(self):
"""


def artifact_of(tmp_path: pathlib.Path, act: str, method: str = "fork", **task: str) -> Any:
    agent = tmp_path / "agents" / "agent.py"
    agent.parent.mkdir()
    agent.write_text(HEAD + "".join(f"        {line}\n" for line in act.split("\n")))
    folder = tmp_path / "tasks" / "plain"
    folder.mkdir(parents=True)
    for file in PLAIN_TASK.iterdir():
        if file.is_file():
            source = file.read_text()
            (folder / file.name).write_text(source + task.get(file.stem, ""))
    (tmp_path / "runs").mkdir()
    job = make_job(0, agent, folder, tmp_path / "runs")
    run_jobs([job], workers=1, method=method)
    return json.loads((tmp_path / "runs" / f"{0:032x}.json").read_bytes())


@pytest.mark.parametrize(
    ("act", "printed"),
    [
        ("print('é', file=sys.stderr); return {'type': 'none'}", "reset\né\n"),
        ("os.write(1, b'raw'); os._exit(3)", "reset\nraw"),
        ("print('before'); os.kill(os.getpid(), 9)", "reset\nbefore\n"),
        ("print('x' * 100_000_000 + 'end'); return {'type': 'none'}", "xxend\n"),
        ("sys.stdout.close(); return {'type': 'none'}", "reset\n"),
        ("os.close(1); os.close(2); return {'type': 'none'}", "reset\n"),
        (
            (
                "t = threading.Thread(target=lambda: [print('y' * 999) for _ in range(9999)])\n"
                "t.start()\nt.join()\nreturn {'type': 'none'}"
            ),
            "yyy\n",
        ),
    ],
)
def test_the_end_of_what_an_agent_prints_is_kept_however_it_goes_on(tmp_path, act, printed):
    artifact = artifact_of(tmp_path, act)
    assert artifact["termination_reason"] in {"invalid_action", "agent_crashed"}
    assert artifact["output"]["agent"].endswith(printed)
    assert len(artifact["output"]["agent"]) <= CHARACTERS_MOST
    assert artifact["output"]["task"] is None


def test_what_a_task_prints_and_where_it_fails_is_kept_beside_what_the_agent_prints(tmp_path):
    setup = (
        "\nmake_world = setup\ndef setup(seed, env):\n    print('world', seed)\n    return help()\n"
    )
    setup += "def help():\n    return 1 / 0\n"
    artifact = artifact_of(tmp_path, "return {}", setup=setup)
    assert artifact["failure_reason"] == "setup raised ZeroDivisionError: division by zero"
    assert artifact["output"] == {"agent": None, "task": "world 7\n"}
    assert artifact["error_traceback"].splitlines()[-3:] == [
        artifact["error_traceback"].splitlines()[-3],
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]
    assert 'File "setup.py", line ' in artifact["error_traceback"]
    assert str(tmp_path) not in json.dumps(artifact["error_traceback"])


def test_what_is_printed_is_in_no_hash(tmp_path):
    hashes = set()
    for n, words in enumerate(("print(os.getpid())", "pass")):
        folder = tmp_path / str(n)
        folder.mkdir()
        artifact = artifact_of(folder, f"{words}\nreturn {{'type': 'none'}}")
        hashes.add(artifact["trace_hash"])
    assert len(hashes) == 1


def test_a_spawned_agent_is_heard_too(tmp_path):
    artifact = artifact_of(tmp_path, "raise KeyError('no')", "spawn")
    assert artifact["output"]["agent"] == "reset\n"
    assert 'File "agent.py", line 7, in act' in artifact["error_traceback"]


def test_a_tail_keeps_the_last_characters_of_any_text():
    tail = Tail()
    stream = as_text(tail)
    assert tail.text() is None
    for n in range(10_000):
        print("é€😀", n, file=stream)
    text = tail.text()
    assert text is not None
    assert text.endswith("é€😀 9998\né€😀 9999\n")
    assert len(text) == CHARACTERS_MOST
    stream.buffer.write(b"\xff")
    assert (tail.text() or "").endswith("9999\n\ufffd")


def test_a_pipe_that_is_kept_open_by_others_is_not_waited_for():
    read_fd, write_fd = os.pipe()
    tail = PipeTail(read_fd)
    os.write(write_fd, b"words")
    assert tail.drain()
    assert tail.drain()  # there is nothing, and it may come
    assert tail.text() == "words"
    os.close(write_fd)
    assert not tail.drain()
    os.close(read_fd)
