import dis
import gc
import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

from tracecore.confinement import audit_hook, path_check
from tracecore.confinement.readable import Reach, Readable, landlock_paths, readable, secret_folders

ROOT = pathlib.Path(__file__).parent.parent.parent
RUDE = """\
class Agent:
    def reset(self, task_spec):
        raise ValueError("\\x1b]0;owned\\x07\\x1b[2J\\r=cmd|' /C calc'!A0\\u202e<script>")
    def observe(self, observation): pass
    def act(self): pass
"""


def functions_of(
    function: types.FunctionType, seen: dict[int, types.FunctionType]
) -> dict[int, types.FunctionType]:
    """A function and those of this project that it can reach by its cells, sealed or not."""
    if id(function) not in seen and function.__module__ in {
        audit_hook.__name__,
        path_check.__name__,
    }:
        seen[id(function)] = function
        for cell in function.__closure__ or ():
            for inner in (cell.cell_contents, *gc.get_referents(cell.cell_contents)):
                if isinstance(inner, types.FunctionType):
                    functions_of(inner, seen)
    return seen


def a_hook() -> types.FunctionType:
    found = Readable(("/usr",), ("/home/agent",), frozenset(("/dev/null",)), ("/home/agent/tasks",))
    tell, _address_it, spared = audit_hook._make_teller()
    originals = audit_hook.Originals(os.stat, os.readlink)
    judge = audit_hook._make_judge(tell, found, frozenset(), frozenset(), originals)
    return audit_hook._make_hook(judge, spared)  # type: ignore[return-value]


def test_the_hook_looks_up_no_name_that_an_agent_could_change() -> None:
    functions = functions_of(a_hook(), {})
    assert len(functions) >= 12
    for function in functions.values():
        looked_up = {
            i.argval
            for i in dis.get_instructions(function)
            if i.opname in {"LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME"}
        }
        assert looked_up == set(), function.__qualname__


def test_what_the_hook_holds_cannot_be_changed_in_place() -> None:
    for function in functions_of(a_hook(), {}).values():
        values = [cell.cell_contents for cell in function.__closure__ or ()]
        # A plain function in a frame's names has cells that can be changed.
        assert [
            value
            for value in values
            if isinstance(value, list | dict | set | bytearray | types.FunctionType)
        ] == []


@pytest.mark.skipif(sys.platform == "win32", reason="paths of another kind")
def test_around_a_hidden_folder_its_neighbours_stay_open(tmp_path: pathlib.Path) -> None:
    for name in ("own/lib", "own/tasks/secret", "own/tasks/other"):
        (tmp_path / name).mkdir(parents=True)
    own, hidden = str(tmp_path / "own"), str(tmp_path / "own" / "tasks" / "secret")
    whole, listed = landlock_paths(readable(Reach(own, (), (), (), (hidden,))))
    assert {path for path in whole if path.startswith(own)} == {f"{own}/lib", f"{own}/tasks/other"}
    assert {path for path in listed if path.startswith(own)} == {own, f"{own}/tasks"}


def test_agents_may_lie_beside_tasks(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "task.toml").write_text("")
    (tmp_path / "agents").mkdir()
    folders = secret_folders((str(tmp_path),), str(tmp_path / "runs"))
    assert [path for path in folders if path.startswith(str(tmp_path))] == [
        str(tmp_path / "a"),
        str(tmp_path / "runs"),
    ]


def test_an_agents_words_reach_the_terminal_as_plain_text(tmp_path: pathlib.Path) -> None:
    (tmp_path / "rude.py").write_text(RUDE)
    (tmp_path / "s.json").write_text(
        json.dumps([{"agent": "rude.py", "task_ref": "rate_limited_api@1"}])
    )
    command = [
        sys.executable,
        str(ROOT / "scripts" / "perf_harness.py"),
        "--episodes=2",
        "--workers=1",
        "--scenario=s.json",
    ]
    done = subprocess.run(
        [*command, "--progress=always"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 1
    for stream in (done.stdout, done.stderr):
        assert b"\x1b]" not in stream
        assert b"\x07" not in stream
        assert "\u202e".encode() not in stream
    assert b"owned" in done.stderr
