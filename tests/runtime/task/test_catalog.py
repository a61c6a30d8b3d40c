import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest
from helpers.tables import words

from tracecore.errors import AgentError, TaskError
from tracecore.runtime.task import catalog
from tracecore.runtime.task.catalog import find_agent, find_task
from tracecore.runtime.task.folder import hash_folder

MakeTask = Callable[..., pathlib.Path]


@pytest.fixture
def bundle(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty package folder in the place of the real one."""
    package = tmp_path / "package"
    (package / "agents").mkdir(parents=True)
    (package / "tasks").mkdir()
    monkeypatch.setattr(catalog, "PACKAGE_FOLDER", str(package))
    return package


def test_a_task_is_found_by_its_full_reference_or_its_id_alone(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_task("world", version=2)
    monkeypatch.chdir(folder.parent.parent)
    for ref, tasks_dir in (("world@2", str(folder.parent)), ("world", "tasks_dir")):
        source = find_task(ref, [tasks_dir])
        assert (source.ref, source.folder) == ("world@2", str(folder))
        assert source.sha256 == hash_folder(str(folder))


def test_the_first_folder_wins_and_the_bundled_one_comes_last(
    make_task: MakeTask, bundle: pathlib.Path
) -> None:
    shutil.copytree(make_task("world", under="x"), bundle / "tasks" / "world")
    first, second = make_task("world", under="first"), make_task("world", under="second")
    assert find_task("world@1", [str(first.parent), str(second.parent)]).folder == str(first)
    assert find_task("world", [str(second.parent), str(first.parent)]).folder == str(second)
    assert find_task("world").folder == str(bundle / "tasks" / "world")


def test_of_several_versions_the_wanted_one_is_found_and_none_is_guessed(
    make_task: MakeTask,
) -> None:
    one, two = (
        make_task("world", version=1, under="one"),
        make_task("world", version=2, under="two"),
    )
    places = [str(one.parent), str(two.parent)]
    assert find_task("world@2", places).folder == str(two)
    with pytest.raises(TaskError, match="expected a version: world@1 or world@2"):
        find_task("world", places)


def test_an_unknown_task_names_the_nearest_known_ones(
    make_task: MakeTask, bundle: pathlib.Path
) -> None:
    places = [
        str(make_task("filesystem_hidden_config").parent),
        str(make_task("rate_limited_api").parent),
    ]
    make_task("broken", edit=lambda _: "")
    with pytest.raises(
        TaskError, match=r"found 'filesystem_hiden_config@1'.*nearest: filesystem_hidden_config@1"
    ):
        find_task("filesystem_hiden_config@1", places)
    with pytest.raises(TaskError, match="nearest: rate_limited_api@1"):
        find_task("rate_limited_api@2", places)
    with pytest.raises(TaskError, match="there is none"):
        find_task("world")
    assert list((bundle / "tasks").iterdir()) == []


MALFORMED = words(r"""
    @1 world@ world@x world@1@1 world@-1 world@01 ../world@1 ..@1 a/b@1 a\b@1 /abs@1 World@1 wörld@1
    a.b
    """)
UNPRINTABLE = ["world\0@1", "world\n@1", "world@1\n", " world@1"]
TOO_LONG = ["a" * 81, "world@" + "1" * 81]


@pytest.mark.parametrize("ref", ["", *MALFORMED, *UNPRINTABLE, *TOO_LONG, "world@\u0661"])
def test_a_malformed_reference_is_refused_in_one_line(make_task: MakeTask, ref: str) -> None:
    with pytest.raises(TaskError, match="expected <id>@<version> or <id>") as caught:
        find_task(ref, [str(make_task("world").parent)])
    assert str(caught.value).isprintable()


def test_a_folder_of_tasks_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    for place in (str(tmp_path / "none"), __file__, "nul\0"):
        with pytest.raises(TaskError, match="expected a folder of task folders") as caught:
            find_task("world", [str(tmp_path), place])
        assert caught.value.path == place


def test_a_broken_manifest_is_told_rather_than_passed_over(make_task: MakeTask) -> None:
    folder = make_task("world", edit=lambda text: text.replace("steps = 5", "steps = 'five'"))
    with pytest.raises(TaskError, match=r"budgets\.steps"):
        find_task("world", [str(folder.parent)])


def test_a_folder_that_cannot_be_looked_into_is_told_rather_than_passed_over(
    tmp_path: pathlib.Path,
) -> None:
    # a circle, which nobody can follow, whoever runs the tests
    (tmp_path / "world").symlink_to("world")
    with pytest.raises(TaskError, match="expected a folder that can be read") as caught:
        find_task("world", [str(tmp_path)])
    assert caught.value.path == str(tmp_path / "world")


def test_an_agent_is_found_relative_to_the_working_directory_and_else_in_the_package(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, bundle: pathlib.Path
) -> None:
    for name in ("mine.py", "toy_agent.py"):
        (bundle / "agents" / name).write_text("bundled")
    mine = tmp_path / "agents" / "mine.py"
    mine.parent.mkdir()
    mine.write_text("x = 1")
    monkeypatch.chdir(tmp_path)
    source = find_agent("agents/mine.py")
    assert (source.ref, source.path) == ("agents/mine.py", str(mine))
    assert source.sha256 == "sha256:" + hashlib.sha256(b"x = 1").hexdigest()
    assert find_agent(str(mine)).path == source.path
    assert find_agent("agents/toy_agent.py").path == str(bundle / "agents" / "toy_agent.py")


def test_an_unknown_agent_names_the_nearest_bundled_ones_and_siblings(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, bundle: pathlib.Path
) -> None:
    (bundle / "agents" / "toy_agent.py").write_text("")
    (tmp_path / "my_bots").mkdir()
    (tmp_path / "my_bots" / "fast.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        AgentError, match=r"found 'agents/toy_agnt\.py'.*nearest: agents/toy_agent\.py"
    ):
        find_agent("agents/toy_agnt.py")
    with pytest.raises(AgentError, match=r"nearest: my_bots/fast\.py"):
        find_agent("my_bots/fst.py")


def test_no_reference_climbs_out_of_the_package(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, bundle: pathlib.Path
) -> None:
    (bundle.parent / "outside.py").write_text("")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    with pytest.raises(AgentError, match="one that exists"):
        find_agent("../outside.py")


@pytest.mark.parametrize(
    "ref", ["", "agents/toy", "agents/toy.txt", "a\0.py", "a\n.py", "a\x1b.py", "a" * 5000 + ".py"]
)
def test_a_malformed_agent_reference_is_refused_in_one_line(ref: str) -> None:
    with pytest.raises(AgentError, match=r"expected the path of a Python file") as caught:
        find_agent(ref)
    assert str(caught.value).isprintable()


def test_an_agent_must_be_a_regular_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "broken.py").symlink_to("nothing")
    for name in ("folder.py", "pipe.py"):
        with pytest.raises(AgentError, match="expected a regular file"):
            find_agent(str(tmp_path / name))
    with pytest.raises(AgentError, match="No such file"):
        find_agent(str(tmp_path / "broken.py"))


def test_a_bundled_agent_has_one_name_wherever_it_is_looked_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pathlib.Path(catalog.PACKAGE_FOLDER)
    whole = str(package / "agents" / "toy_agent.py")
    for folder in (package.parent, package, tmp_path):
        monkeypatch.chdir(folder)
        for ref in ("agents/toy_agent.py", whole):
            assert find_agent(ref).ref == "agents/toy_agent.py"
