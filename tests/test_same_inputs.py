"""The same agent, task, seed and runtime give the same artifact, however and wherever the harness
was started.
"""

import json
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from helpers.faults import PLAIN_TASK

ROOT = pathlib.Path(__file__).parent.parent
SEED = 42

NOSY = """\
import datetime, decimal, locale, math, os, random, sys, time

class Agent:
    def reset(self, task_spec):
        self.llm_trace = []

    def observe(self, observation):
        self.step = observation["step"]

    def act(self):
        words = {"anna", "bert", "carla", "dora", "emil", "friedrich", "gustav", "heinrich"}
        tried = [hash("word"), list(words), repr({b"a", b"b", b"c"})]
        tried += [time.tzname, time.timezone, time.localtime(0)[:6]]
        tried += [datetime.datetime.fromtimestamp(0).isoformat(), locale.setlocale(locale.LC_ALL)]
        tried += [time.strftime("%x %X", time.gmtime(0)), sorted(os.environ.items())]
        tried += [sys.argv, sys.orig_argv]
        tried += [sys.getfilesystemencoding(), sys.flags.hash_randomization]
        tried += [sys.getdefaultencoding()]
        tried += [sys.flags.optimize, sys.flags.utf8_mode, sys.getrecursionlimit(), __name__]
        tried += [str(decimal.Decimal(1) / 3), math.fsum([0.1] * 9), random.Random(7).random()]
        tried += [sys.stdout.encoding]
        response = {"timestamp": str(time.time())}
        self.llm_trace.append({"request": {"prompt": repr(words)}, "response": response})
        return [{"type": "say", "args": {"text": tried}}, {"type": "finish"}][self.step - 1]
"""
RAISES = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self):
        raise ValueError(f"{object()} {Agent} { {'a', 'b', 'c', 'd'} } {__file__}")
"""
NO_ACTION = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self):
        return object()
"""
CUT_WORDS = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self):
        # cut after 500 characters, in the middle of the address
        raise ValueError("x" * 477 + repr(object()))
"""
CUT_REPR = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self):
        return ["x" * 172, object()]  # as above, after 200
"""
DEEP = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self):
        args = {}
        for _ in range(60):
            args = {"deeper": args}
        return {"type": "say", "args": args}
"""
NO_PYTHON = "class Agent:\n    def act(self: return {}\n"
NO_CLASS = "class Nothing:\n    pass\n"
NO_IMPORT = "from json import nothing_of_that_name\n"
AGENTS = {
    "nosy.py": (NOSY, "success"),
    "raises.py": (RAISES, "agent_exception"),
    "no_action.py": (NO_ACTION, "invalid_action"),
    "cut_words.py": (CUT_WORDS, "agent_exception"),
    "cut_repr.py": (CUT_REPR, "invalid_action"),
    "deep.py": (DEEP, "invalid_action"),
    "no_python.py": (NO_PYTHON, "agent_exception"),
    "no_class.py": (NO_CLASS, "agent_exception"),
    "no_import.py": (NO_IMPORT, "agent_exception"),
}
BUNDLED = {
    "agents/toy_agent.py": "filesystem_hidden_config@1",
    "agents/scripted_llm_agent.py": "filesystem_hidden_config@1",
    "agents/ops_triage_agent.py": "log_alert_triage@1",
}
PAIRS = [*((name, "plain@1") for name in AGENTS), *BUNDLED.items()]
KINDS = [name for name, _ in PAIRS]
# Those whose words could show the interpreter: its settings, addresses, order of sets.
LOOK_AROUND = {"nosy.py", "raises.py", "no_action.py", "no_import.py", "agents/toy_agent.py"}


@dataclass(frozen=True)
class Surroundings:
    """How a slice is started; none of it may show."""

    folder: str
    runs: int  # of each agent that looks around; of each other one there is one
    workers: int
    method: str
    environment: dict[str, str]


PLACES = [
    Surroundings("here", 3, 1, "fork", {}),
    Surroundings("far/away", 3, 3, "fork", {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}),
    Surroundings(
        "last/ä ö",
        3,
        3,
        "fork",
        {
            "LC_ALL": "C.utf8",
            "PYTHONHASHSEED": "random",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "x",
        },
    ),
    Surroundings(
        "spawned",
        1,
        3,
        "spawn",
        {
            "PYTHONHASHSEED": "77",
            "LC_ALL": "POSIX",
            "TZ": "America/St_Johns",
            "PYTHONUTF8": "0",
            "HOME": "/nowhere",
        },
    ),
]


def write_inputs(folder: pathlib.Path, place: Surroundings) -> int:
    """Agents and a scenario in which every episode has the same seed; gives the number of
    episodes.
    """
    for name, (text, _) in AGENTS.items():
        (folder / name).write_text(text)
    looking = [pair for pair in PAIRS if pair[0] in LOOK_AROUND]
    pairs = looking * place.runs
    if place.method == "fork":
        pairs += [pair for pair in PAIRS if pair not in looking]
    rows = [
        {"agent": agent, "task_ref": task, "seed": SEED - index}
        for index, (agent, task) in enumerate(pairs)
    ]
    (folder / "scenario.json").write_text(json.dumps(rows))
    return len(rows)


def run_slice(folder: pathlib.Path, place: Surroundings) -> list[dict[str, Any]]:
    """The artifacts of one slice, which was started in ``folder``."""
    folder.mkdir(parents=True)
    episodes = write_inputs(folder, place)
    command = [sys.executable, str(ROOT / "scripts" / "perf_harness.py"), "--strict-spec"]
    command += ["--episodes", str(episodes), "--scenario", "scenario.json"]
    command += ["--tasks-dir", str(PLAIN_TASK.parent), "--workers", str(place.workers)]
    command += ["--start-method", place.method, "--runs-dir", "runs", "--output-dir", "out"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **place.environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # some of the agents fail on purpose
    return [json.loads(path.read_bytes()) for path in (folder / "runs").iterdir()]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Those of three or ten episodes of each agent, from everywhere."""
    folder = tmp_path_factory.mktemp("places")
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for place in PLACES:
        for artifact in run_slice(folder / place.folder / "slice", place):
            found[artifact["agent"]].append(artifact)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_of_one_job_gives_one_hash(artifacts: dict[str, list[dict[str, Any]]], kind: str):
    same = artifacts[kind]
    runs = 10 if kind in LOOK_AROUND else 3
    assert len(same) == runs
    assert {artifact["seed"] for artifact in same} == {SEED}
    wanted = AGENTS[kind][1] if kind in AGENTS else "success"
    assert {artifact["termination_reason"] for artifact in same} == {wanted}, same[0][
        "failure_reason"
    ]
    assert {artifact["failure_reason"] for artifact in same} == {same[0]["failure_reason"]}
    # where a file lies is no business of an artifact's
    assert "/" not in (same[0]["failure_reason"] or "")
    for first, *others in zip(*(artifact["action_trace"] for artifact in same), strict=True):
        assert {json.dumps(other["action"]) for other in others} == {json.dumps(first["action"])}
    assert len({artifact["artifact_hash"] for artifact in same}) == 1
    assert len({artifact["trace_hash"] for artifact in same}) == 1
    assert len({artifact["run_id"] for artifact in same}) == runs


def test_the_agent_that_looks_around_did_look(artifacts: dict[str, list[dict[str, Any]]]):
    tried = artifacts["nosy.py"][0]["action_trace"][0]["action"]["args"]["text"]
    assert "anna" in tried[1]
    assert tried[5] == [1970, 1, 1, 0, 0, 0]
    assert tried[6] == "1970-01-01T00:00:00"
    assert tried.count(["tracecore"]) == 2  # what its process takes itself for, wherever that lies
