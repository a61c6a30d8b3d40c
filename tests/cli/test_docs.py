"""The page on tasks and agents, done exactly as it is written."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from helpers.pages import PAGES, lines_of
from helpers.slices import ROOT

from tracecore.runtime.agent.client import INVALID_REASONS
from tracecore.runtime.endings import FAILURE_TYPE_OF
from tracecore.runtime.env import Environment
from tracecore.runtime.task.actions import ActionSurface

PAGE = PAGES["tasks-and-agents.md"]
HARNESS = "python <clone>/scripts/perf_harness.py"
FILES = re.compile(r"^`my-bench/(\S+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of the worked example, with the files that the page shows."""
    folder = tmp_path / "my-bench"
    for name, text in FILES.findall(PAGE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def commands() -> list[str]:
    return lines_of("tasks-and-agents.md")


def do(
    bench: pathlib.Path, command: str, files: list[pathlib.Path] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of the page, as somebody would who reads it."""
    words = []
    for word in shlex.split(command.replace("<clone>", str(ROOT))):
        words += [str(file) for file in files or ()] if word in {"FILE", "FILE..."} else [word]
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=bench,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def artifacts(bench: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.relative_to(bench) for path in (bench / ".agent_bench" / "runs").iterdir())


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first heading is ``heading``, as the code words of each of their
    cells.
    """
    lines = PAGE[PAGE.index(f"\n| {heading} |") :].strip().splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append(line.strip("|").split(" | "))
    return rows


def words_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_tree_that_the_page_draws_is_the_one_that_it_fills() -> None:
    tree = PAGE[PAGE.index("```text\n") :].partition("```\n")[0]
    drawn = set(re.findall(r"── (\w+\.\w+)", tree))
    assert drawn == {name.rpartition("/")[2] for name, _ in FILES.findall(PAGE)}


def test_every_command_of_the_page_is_tried_below() -> None:
    starts = [
        "python -m tracecore run",
        "python -m tracecore show",
        "python -m tracecore check",
        "python -m tracecore replay",
        HARNESS,
        "python -m tracecore check-task",
        "python -m tracecore run --debug",
    ]
    assert [any(command.startswith(start) for start in starts) for command in commands()] == [
        True
    ] * len(starts)


def test_one_episode_is_run_checked_and_replayed(bench: pathlib.Path) -> None:
    run, show, check, replay, *_ = commands()
    done = do(bench, run)
    assert (done.returncode, done.stderr) == (0, "")
    (file,) = artifacts(bench)
    assert done.stdout.splitlines()[-1].endswith(str(file))
    told = do(bench, show, [file]).stdout
    assert "  task        The files in /books hold one amount per line." in told
    assert "  ended       success: the total is right" in told
    assert json.loads((bench / file).read_text())["success"] is True
    done = do(bench, check, [file, file])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{file}: valid"] * 2 + ["2 files: 2 valid"]
    done = do(bench, replay, [file])
    assert (done.returncode, done.stderr) == (0, "")
    assert artifacts(bench) == [file]


def test_a_task_is_checked_and_an_episode_debugged(bench: pathlib.Path) -> None:
    *_, check_task, debug = commands()
    done = do(bench, check_task)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "tasks/ledger_total: nothing wrong was found\n"
    done = do(bench, debug)
    assert (done.returncode, done.stderr) == (0, "")
    (file,) = artifacts(bench)
    assert json.loads((bench / file).read_text())["debug"] is True


def test_the_slice_passes_as_promised(bench: pathlib.Path) -> None:
    (harness,) = (command for command in commands() if command.startswith(HARNESS))
    done = do(bench, harness)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] is True
    assert document["summary"]["success_count"] == 10
    assert len(artifacts(bench)) == 10
    assert all(
        path.startswith("deliverables/perf/") and (bench / path).is_file()
        for path in document["artifacts"].values()
    )
    rows = json.loads((bench / document["artifacts"]["series"]).read_text())
    assert [row["seed"] for row in rows] == [5, 1001, 7, 1003, 9, 1005, 11, 1007, 13, 1009]


def test_an_agent_that_adds_up_wrongly_fails_for_the_reason_that_the_validator_gives(
    bench: pathlib.Path,
) -> None:
    agent = bench / "agents" / "clerk.py"
    agent.write_text(agent.read_text().replace("self.total = 0", "self.total = 1"))
    done = do(bench, commands()[0])
    assert done.returncode == 1
    assert done.stdout.startswith("failed: logic_failure\n  because     the total is wrong\n")


# --- a shared.py in each of two tasks ------------------------------------------------------------

IMPORTS = [
    "from tasks.{id} import shared",
    "from . import shared",
    "import shared",
    "from tasks.{id}.shared import NAME",
]
ACTIONS = "{imported}\n\ndef tell():\n    return {{'name': {name}}}\n"
VALIDATE = """\
{imported}

def setup(seed, env):
    env.set_hidden_state("name", {name})

def validate(env):
    return {{"ok": {name} == "{id}" == env.get_hidden_state("name"), "terminal": True}}
"""
TELLER = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self): return {"type": "tell"}
"""


def test_tasks_with_a_shared_module_each_do_not_see_each_others(bench: pathlib.Path) -> None:
    manifest = (bench / "tasks/ledger_total/task.toml").read_text()
    manifest = manifest.replace("setup.py:setup", "validate.py:setup")
    tasks = [f"{place}_{number}" for number in range(len(IMPORTS)) for place in ("north", "south")]
    for task_id in tasks:
        imported = IMPORTS[int(task_id[-1])]
        name = "NAME" if "NAME" in imported else "shared.NAME"
        words = {"imported": imported.format(id=task_id), "name": name, "id": task_id}
        folder = bench / "tasks" / task_id
        folder.mkdir()
        (folder / "task.toml").write_text(manifest.replace("ledger_total", task_id))
        (folder / "shared.py").write_text(f"NAME = {task_id!r}\n")
        (folder / "actions.py").write_text(ACTIONS.format(**words))
        (folder / "validate.py").write_text(VALIDATE.format(**words))
    (bench / "agents" / "teller.py").write_text(TELLER)
    rows = [{"agent": "agents/teller.py", "task_ref": f"{task_id}@1"} for task_id in tasks]
    (bench / "all.json").write_text(json.dumps(rows))
    done = do(
        bench,
        f"{HARNESS} --scenario all.json --tasks-dir tasks --episodes {2 * len(tasks)} --workers 1"
        " --strict-spec",
    )
    assert done.returncode == 0, done.stderr
    ended = [json.loads((bench / path).read_text()) for path in artifacts(bench)]
    assert [run["action_trace"][0]["result"] for run in ended] == [
        {"name": run["task_id"]} for run in ended
    ]
    assert sorted(run["task_id"] for run in ended) == sorted(2 * tasks)


# --- the tables ----------------------------------------------------------------------------------


def test_the_page_lists_every_way_an_episode_ends() -> None:
    listed = {}
    for reasons, kind, _ in table("`termination_reason`"):
        for reason in words_in(reasons):
            listed[reason] = (words_in(kind) or [None])[0]
    assert listed == FAILURE_TYPE_OF


def test_the_page_lists_every_reason_why_an_action_is_invalid() -> None:
    def greet(name):
        return name

    surface = ActionSurface({"greet": greet})
    actions = [None, {}, {"type": "x"}, {"type": "greet", "args": 1}, {"type": "greet"}]
    actions.append({"type": "greet", "args": {"name": 1, "x": 1}})
    reasons = {surface.why_invalid(action)[0] for action in actions}
    assert {words_in(row[0])[0] for row in table("reason")} == reasons | INVALID_REASONS


def test_the_page_lists_every_call_of_env() -> None:
    listed = {word.partition("(")[0] for row in table("call") for word in words_in(row[0])}
    offered = {
        name
        for name, value in vars(Environment).items()
        if callable(value) and not name.startswith("_")
    }
    assert listed == offered


def test_the_page_lists_every_field_of_the_manifest(bench: pathlib.Path) -> None:
    manifest = tomllib.loads((bench / "tasks/ledger_total/task.toml").read_text())
    fields = set()
    for key, value in manifest.items():
        fields |= {f"{key}.{name}" for name in value} if isinstance(value, dict) else {key}
    assert {word for row in table("field") for word in words_in(row[0])} == fields
