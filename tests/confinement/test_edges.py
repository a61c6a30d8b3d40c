import contextlib
import os
import pathlib
import subprocess
import sys

import pytest

from tracecore.confinement import namespaces
from tracecore.confinement.kernel import Kernel
from tracecore.confinement.readable import (
    Reach,
    Readable,
    landlock_paths,
    readable,
    secret_folders,
)

ROOT = pathlib.Path(__file__).parent.parent.parent
RUDE = """\
class Agent:
    def reset(self, task_spec):
        raise ValueError("\\x1b]0;owned\\x07\\x1b[2J\\r=cmd|' /C calc'!A0\\u202e<script>")
    def observe(self, observation): pass
    def act(self): pass
"""


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
    found = [path for path in folders if path.startswith(str(tmp_path))]
    assert found == [str(tmp_path / name) for name in ("a", "runs")]


def test_the_machines_own_file_is_covered_and_never_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "hosts").write_text("the machine's")
    hosts, folder, layers = str(tmp_path / "hosts"), str(tmp_path), namespaces.FLAGS
    found = Readable(folders=(folder,), files=frozenset(), hidden=(), native=(), folder=folder)
    pid = os.fork()
    if pid == 0:
        seen = ""
        with contextlib.suppress(Exception):
            kernel = Kernel()
            seen = "not permitted"
            if all(left is True for left in namespaces.enter(kernel, layers).values()):
                namespaces.enter_private_root(kernel, found, {hosts: "the agents'"})
                seen = pathlib.Path(hosts).read_text()
        os._exit({"the agents'": 0, "not permitted": 3}.get(seen, 1))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 3:
        pytest.skip("this machine permits no mount namespace")
    assert code == 0
    assert (tmp_path / "hosts").read_text() == "the machine's"


def test_an_agents_words_reach_the_terminal_as_plain_text(tmp_path: pathlib.Path) -> None:
    (tmp_path / "rude.py").write_text(RUDE)
    (tmp_path / "s.json").write_text('[{"agent": "rude.py", "task_ref": "rate_limited_api@1"}]')
    options = ["--episodes=2", "--workers=1", "--scenario=s.json", "--progress=always"]
    command = [sys.executable, str(ROOT / "scripts" / "perf_harness.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    for stream in (done.stdout, done.stderr):
        assert b"\x1b]" not in stream
        assert b"\x07" not in stream
        assert "\u202e".encode() not in stream
    assert b"owned" in done.stderr
