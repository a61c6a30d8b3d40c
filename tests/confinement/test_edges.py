import pathlib
import subprocess
import sys

import pytest

from tracecore.confinement.readable import Reach, landlock_paths, readable, secret_folders

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
