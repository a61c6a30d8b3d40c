"""Packages that are imported once for many episodes, in a virtual environment with packages of the
tests' own.
"""

import json
import os
import pathlib
import subprocess
import sys
import venv
from typing import Any

import pytest

from tracecore.runtime.agent.preload import FEW_EPISODES

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="agents are forked on Linux alone"),
    pytest.mark.timeout(300),
]
PACKAGES = {
    "calm": "import os\nBORN_IN = os.getpid()\nVALUE = 7\n",
    "threaded": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n",
    "opening": "import os\nKEPT = os.open(os.devnull, os.O_RDONLY)\n",
    "handling": "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)\n",
    "raising": "raise ValueError('not here')\n",
    "starting": "import os\nos.system('true')\n",
    "leaving": "import os\nos._exit(3)\n",
}  # fmt: skip
WHY = {
    "threaded": "it starts threads",
    "opening": "it opens descriptors",
    "handling": "it changes signal handlers",
    "raising": "its import raised ValueError",
    "starting": "it would exec true",
    "leaving": "its process exited with code 3",
}
AGENT = """\
import os
{imports}
class Agent:
    def reset(self, spec):
        pass
    def observe(self, observation):
        pass
    def act(self):
        return {{"type": "list_dir", "args": {{"path": "/app/" + str({said})}}}}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter in whose environment the packages are installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name, source in PACKAGES.items():
        (folder / "lib" / version / "site-packages" / f"{name}.py").write_text(source)
    return str(folder / "bin" / "python")


def run(python: str, folder: pathlib.Path, agents: dict[str, str], **row: Any) -> tuple[Any, Any]:
    """So many episodes of each agent that imports pay; the summary's ``preload`` and the series."""
    rows = []
    for name, source in agents.items():
        (folder / f"{name}.py").write_text(source)
        rows.append({"agent": f"{name}.py", "task_ref": "filesystem_hidden_config@1", **row})
    (folder / "scenario.json").write_text(json.dumps(rows))
    command = [python, str(ROOT / "scripts" / "perf_harness.py"), "--scenario=scenario.json"]
    command += [f"--episodes={(FEW_EPISODES + 1) * len(rows)}", "--workers=2", "--progress=never"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    end = json.loads(done.stdout)
    series = json.loads((folder / end["artifacts"]["series"]).read_text())
    return end["summary"]["preload"], series


def test_a_package_that_is_quiet_while_imported_is_imported_once_and_changes_no_hash(
    python: str, tmp_path: pathlib.Path
) -> None:
    agents = {
        "born": AGENT.format(imports="import calm", said="calm.BORN_IN == os.getpid()"),
        "same": AGENT.format(imports="from calm import VALUE\nimport sibling", said="sibling.SAID"),
    }
    (tmp_path / "sibling.py").write_text("import calm\nSAID = calm.VALUE\n")
    hashes = []
    for wanted, row in (("False", {}), ("True", {"preload": False})):
        preload, series = run(python, tmp_path, agents, **row)
        assert {episode["success"] for episode in series} == {False}
        said = {
            trace_of(tmp_path, episode)[0]["action"]["args"]["path"]
            for episode in series
            if episode["agent"] == "born.py"
        }
        assert said == {f"/app/{wanted}"}
        quiet = {"packages": ["calm"], "left_to_the_episode": {}}
        assert preload == ({} if row else {"born.py": quiet, "same.py": quiet})
        hashes.append([one["artifact_hash"] for one in series if one["agent"] == "same.py"])
    assert hashes[0] == hashes[1]


def test_what_would_disturb_other_episodes_is_left_to_each_and_the_reason_is_named(
    python: str, tmp_path: pathlib.Path
) -> None:
    agents = {
        name: AGENT.format(imports=f"import calm\nimport {name}", said="calm.VALUE") for name in WHY
    }
    preload, series = run(python, tmp_path, agents)
    left = {name: preload[f"{name}.py"]["left_to_the_episode"][name] for name in WHY}
    assert left == WHY
    assert {tuple(found["packages"]) for found in preload.values()} == {("calm",)}
    ends = {row["agent"]: str(row["error"]) for row in series}
    assert "raised ValueError: not here" in ends["raising.py"]
    assert "exec true: agents may not" in ends["starting.py"]
    assert "exited with code 3" in ends["leaving.py"]


def trace_of(folder: pathlib.Path, episode: dict[str, Any]) -> Any:
    path = os.path.join(".agent_bench", "runs", f"{episode['run_id']}.json")
    return json.loads((folder / path).read_text())["action_trace"]
