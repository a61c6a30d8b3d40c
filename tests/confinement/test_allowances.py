import importlib.util
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from helpers.tables import rows

from tracecore.errors import ScenarioError
from tracecore.perf.harness import run_slice
from tracecore.perf.slice.commands import repro_command
from tracecore.perf.slice.options import OutputOptions, RunOptions, SliceOptions
from tracecore.perf.slice.plan import Finders, plan
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO, ScenarioRow, read_scenario
from tracecore.records import Allowance, Settings
from tracecore.runtime.task.catalog import find_agent, find_task

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")

READER = """\
class Agent:
    def reset(self, task_spec):
        self.key = open({path!r}).read()
    def observe(self, observation):
        pass
    def act(self):
        return {{"type": "list_dir", "args": {{"path": "/app"}}}}
"""


def run(tmp_path: pathlib.Path, rows: list[dict], **options: object) -> tuple[list[dict], dict]:
    (tmp_path / "scenario.json").write_text(json.dumps(rows))
    document = run_slice(
        SliceOptions(
            run=RunOptions(
                episodes=len(rows),
                workers=1,
                scenario=str(tmp_path / "scenario.json"),
                runs_dir=str(tmp_path / "runs"),
                **options,  # type: ignore[arg-type]
            ),
            output=OutputOptions(output_dir=str(tmp_path / "out"), progress="never"),
        )
    )
    paths = document["artifacts"]
    return [json.loads(pathlib.Path(paths[name]).read_text()) for name in ("series", "manifest")]  # type: ignore[return-value]


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "data" / "words.txt"
    for folder in ("data", "agents"):
        (tmp_path / folder).mkdir()
    path.write_text("words")
    (tmp_path / "agents" / "reader.py").write_text(READER.format(path=str(path)))
    return path


def test_what_a_row_allows_can_be_read_and_by_the_command_that_repeats_the_episode(
    tmp_path: pathlib.Path, data: pathlib.Path
) -> None:
    row = {
        "agent": str(tmp_path / "agents" / "reader.py"),
        "task_ref": "filesystem_hidden_config@1",
    }
    series, manifest = run(tmp_path, [row, {**row, "allow": {"read": [str(data.parent)]}}])
    assert series[0]["error"] == "sandbox_violation: open ../data/words.txt: agents may not"
    assert series[1]["termination_reason"] != "sandbox_violation"
    shown = {"read": [str(data.parent)], "network": []}
    assert "allow" not in series[0]
    assert "allow" not in manifest["scenario"][0]
    assert series[1]["allow"] == manifest["scenario"][1]["allow"] == shown

    python, *words = shlex.split(repro_command(series[1]))
    # the word alone where it is found on the path, as in an environment that is activated
    assert os.path.abspath(shutil.which(python) or python) == sys.executable
    assert words[-2:] == ["--allow-read", str(data.parent)]
    command = [sys.executable, *words, "--runs-dir", str(tmp_path / "again"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["episode"]["artifact_hash"] == series[1]["artifact_hash"], (
        done.stderr
    )


def test_what_is_importable_is_not_thereby_readable(tmp_path: pathlib.Path) -> None:
    for name in ("agents/spy.py", "working/.env", "on_path/words.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("secret")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{pathlib.Path(__file__).parent.parent.parent}:{tmp_path / 'on_path'}",
    }
    command = [sys.executable, "-m", "tracecore", "run", "--agent=../agents/spy.py"]
    command += ["--task=filesystem_hidden_config@1", "--json"]
    for path in ("../working/.env", "../on_path/words.txt"):
        (tmp_path / "agents" / "spy.py").write_text(READER.format(path=path))
        done = subprocess.run(
            command,
            cwd=tmp_path / "working",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        error = json.loads(done.stdout)["episode"]["error"]
        assert error == f"sandbox_violation: open {path}: agents may not"


def test_an_allowance_stands_in_toml_too(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(
        '[[scenario]]\nagent = "a.py"\ntask_ref = "t"\nallow = {read = ["x"], network ='
        ' ["api.example.org"]}\n'
    )
    assert read_scenario(str(path))[0].allow == Allowance(("x",), ("api.example.org",))


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    rows("""
    read    | /nowhere        | allow.read[0]: found '/nowhere', expected a file or folder that
    read    | {task}          | expected no folder of tasks or runs
    read    | {task}/setup.py | expected no folder of tasks or runs
    network | example.org     | allow.network[0]: found 'example.org', expected a host and a port
    """),
)
def test_an_allowance_has_bounds(
    kind: str, value: str, complaint: str, tmp_path: pathlib.Path
) -> None:
    task = find_task("filesystem_hidden_config@1")
    allow = Allowance(**{kind: (value.format(task=task.folder),)})
    row = ScenarioRow("agents/toy_agent.py", task.ref, 1, allow)
    with pytest.raises(ScenarioError) as error:
        plan((row,), 1, Settings(str(tmp_path)), Finders(find_agent, find_task), slice_id="0" * 16)
    assert complaint in str(error.value)


def test_hashes_are_the_same_with_confinement_and_without(tmp_path: pathlib.Path) -> None:
    """Of the default scenario, and of an agent that uses numpy where there is one."""
    rows = [
        {"agent": row.agent, "task_ref": row.task_ref, "seed": row.seed} for row in DEFAULT_SCENARIO
    ]
    if importlib.util.find_spec("numpy"):
        (tmp_path / "with_numpy.py").write_text(WITH_NUMPY)
        path = str(tmp_path / "with_numpy.py")
        rows.append({"agent": path, "task_ref": "filesystem_hidden_config@1", "seed": 3})
    with_it, _ = run(tmp_path, rows)
    without, manifest = run(tmp_path, rows, confinement="off")
    assert set(manifest["confinement"].values()) == {"switched off"}
    assert [row["artifact_hash"] for row in with_it] == [row["artifact_hash"] for row in without]
    assert all(row["success"] for row in with_it[: len(DEFAULT_SCENARIO)])
    for row in with_it[len(DEFAULT_SCENARIO) :]:
        assert row["termination_reason"] == "invalid_action"
        assert "0.144159613271296" in str(row["error"])


WITH_NUMPY = """\
import numpy as np

class Agent:
    def reset(self, task_spec):
        pass
    def observe(self, observation):
        pass
    def act(self):
        nothing = np.random.default_rng(4).random() * 0
        number = nothing + np.linalg.inv(np.eye(2))[0, 0] * 0.144159613271296
        return {"type": f"say {number}"}
"""


TASK_WITH_A_HOST = {
    "task.toml": """\
id = "caller"
suite = "security"
version = 1
description = "Say what the host said."
deterministic = true
seed_behavior = "ignored"
budgets = {steps = 2, tool_calls = 2}
action_surface = {source = "actions.py", schema = "functions"}
validator = {entrypoint = "validate.py:validate"}
sandbox = {filesystem_roots = ["/app"], network_hosts = ["localhost"]}
""",
    "actions.py": """\
def set_env(env):
    global ENV
    ENV = env

def say(text):
    ENV.set_agent_output('text', text)
""",
    "validate.py": """\
def validate(env):
    return {'ok': env.get_agent_output('text') == 'hello', 'terminal': True}
""",
}
CALLER = """\
import socket

class Agent:
    def reset(self, task_spec):
        pass
    def observe(self, observation):
        pass
    def act(self):
        with socket.create_connection(({host!r}, {port})) as line:
            return {{"type": "say", "args": {{"text": line.recv(5).decode()}}}}
"""


PORT = 8641
CALLS = (  # whom the agent calls, what its row allows, how its episode ends
    ("localhost", ["example.test:1", f"localhost:{PORT}"], "success"),
    ("127.0.0.1", [f"127.0.0.1:{PORT}"], "success"),
    ("localhost", [], "sandbox_violation"),
    ("localhost", ["other.test:80"], "sandbox_violation"),
)


def test_an_allowed_host_is_reached_at_its_port_and_nothing_else_is(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "tasks" / "caller"
    folder.mkdir(parents=True)
    for name, text in TASK_WITH_A_HOST.items():
        (folder / name).write_text(text)
    rows = []
    for place, (host, allow, _) in enumerate(CALLS):
        agent = tmp_path / f"caller_{place}.py"
        agent.write_text(CALLER.format(host=host, port=PORT))
        rows.append({"agent": str(agent), "task_ref": "caller@1", "allow": {"network": allow}})
    try:
        listener = socket.create_server(("127.0.0.1", PORT))
    except OSError:
        pytest.skip("the port is taken, or not ours to take")
    with listener:
        listener.settimeout(20)
        greeter = threading.Thread(target=greet, args=(listener,), daemon=True)
        greeter.start()
        series, _ = run(tmp_path, rows, tasks_dirs=(str(tmp_path / "tasks"),))
        listener.shutdown(socket.SHUT_RDWR)
        greeter.join()
    for found, (host, _, ending) in zip(series, CALLS, strict=True):
        assert found["termination_reason"] == ending
        if ending == "sandbox_violation":
            assert found["error"] == f"sandbox_violation: connect {host}:{PORT}: agents may not"


def greet(listener: socket.socket) -> None:
    """Say hello to whoever connects, until it is closed."""
    try:
        while True:
            line, _address = listener.accept()
            with line:
                line.sendall(b"hello")
    except OSError:
        return
