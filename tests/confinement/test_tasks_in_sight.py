"""Tasks that lie in the way of an agent: in its own folder, beside it, in other installations. None
of them can be read.
"""

import pathlib
import shutil
import sys

import pytest
from arena import artifact_of, let_loose, open_arena
from hostile import does

from tracecore import __main__ as command
from tracecore.confinement.layers import LAYERS
from tracecore.confinement.readable import installed_tasks
from tracecore.perf.slice.plan import resolve_allowance
from tracecore.records import Allowance, Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
HOOK_ALONE = Limits(
    layers_off=",".join(layer for layer in LAYERS if layer not in {"audit_hook", "own_session"})
)
OTHER = "T.AGENTS + '/pack/other"
TABLE = (
    does(
        "reads another task's setup", f"open({OTHER}/setup.py').read()", "open pack/other/setup.py"
    ),
    does("lists another task", f"os.listdir({OTHER}')", "list pack/other"),
    does("reads below another task", f"open({OTHER}/data/words').read()", "open pack/other/data"),
    does("reads it by a link", "open(T.AGENTS + '/by_link/setup.py').read()", "open by_link"),
)
TELLS = """\
class Agent:
    def reset(self, spec): pass
    def observe(self, o): pass
    def act(self): {}
"""


def add_task(folder: pathlib.Path) -> None:
    (folder / "data").mkdir(parents=True)
    for name in ("task.toml", "setup.py", "data/words"):
        (folder / name).write_text("canary-0123456789abcdef")


@pytest.mark.parametrize("limits", [Limits(), HOOK_ALONE], ids=["every layer", "the hook alone"])
def test_a_task_in_an_agents_own_folder_is_closed_to_it(
    limits: Limits, tmp_path: pathlib.Path
) -> None:
    with open_arena(tmp_path / "x", TABLE) as arena:
        add_task(arena.agents / "pack" / "other")
        (arena.agents / "by_link").symlink_to(arena.agents / "pack" / "other")
        rows = let_loose(arena, TABLE, limits=limits)
        for agent in TABLE:
            assert str(rows[agent.name].error).startswith(
                "sandbox_violation: " + arena.words(str(agent.attempt))
            )


def test_with_the_hook_off_the_kernel_closes_it(tmp_path: pathlib.Path) -> None:
    with open_arena(tmp_path / "x", TABLE[:1]) as arena:
        add_task(arena.agents / "pack" / "other")
        rows = let_loose(arena, TABLE[:1], limits=Limits(layers_off="audit_hook"))
        (entry,) = artifact_of(arena, rows[TABLE[0].name])["action_trace"]
        assert entry["action"]["args"]["text"].startswith("failed: ")


def test_the_bundled_tasks_of_every_installation_in_a_library_are_hidden(
    tmp_path: pathlib.Path,
) -> None:
    places = ("site-packages/tracecore/tasks", "lib/python3/dist-packages/tracecore/tasks")
    for place in places:
        (tmp_path / place).mkdir(parents=True)
    found = installed_tasks([str(tmp_path / "site-packages"), str(tmp_path / "lib")])
    assert {str(tmp_path / place) for place in places} < set(found)


def test_one_episode_by_hand_hides_the_other_tasks_of_its_folder_too(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tmp_path / "tasks"
    add_task(tasks / "other")
    bundled = pathlib.Path(command.__file__).parent / "tasks" / "rate_limited_api"
    shutil.copytree(bundled, tasks / "rate_limited_api")
    attempt = f"return {{'type': open({str(tasks / 'other' / 'setup.py')!r}).read()}}"
    (tasks / "agent.py").write_text(TELLS.format(attempt))
    monkeypatch.chdir(tmp_path)
    line = "run --agent tasks/agent.py --task rate_limited_api@1 --tasks-dir tasks --runs-dir runs"
    assert command.main(line.split()) == 1
    assert "open other/setup.py: agents may not" in capsys.readouterr().out


def test_a_row_cannot_allow_what_lies_in_a_task(tmp_path: pathlib.Path) -> None:
    add_task(tmp_path / "task")
    allow = Allowance(read=(str(tmp_path / "task" / "data"),))
    _allowance, ((_where, _found, expected),) = resolve_allowance(allow, ())
    assert expected.startswith("no folder of tasks")
