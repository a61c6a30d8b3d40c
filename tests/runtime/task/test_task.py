import pathlib
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.tables import rows

from tracecore import canon
from tracecore.errors import TaskError
from tracecore.records import TaskSource
from tracecore.runtime.env import Environment
from tracecore.runtime.task.folder import hash_folder
from tracecore.runtime.task.manifest import read_manifest
from tracecore.runtime.task.task import Task, compile_task

MakeTask = Callable[..., pathlib.Path]


@pytest.fixture(autouse=True)
def _the_interpreter_is_left_as_it_was() -> Iterator[None]:
    modules, finders = set(sys.modules), list(sys.meta_path)
    yield
    assert sys.meta_path == finders
    assert {
        name
        for name in set(sys.modules) - modules
        if name.split(".")[0] in {"tasks", "shared", "actions"}
    } == set()


@pytest.fixture
def execute(make_task: MakeTask) -> Iterator[Callable[..., Task]]:
    """Write a task and execute it; it is closed when the test ends."""
    opened = []

    def run(task_id: str = "world", files: dict[str, str] | None = None, **options: Any) -> Task:
        task = compile_task(source_of(make_task(task_id, files, **options))).execute()
        opened.append(task)
        return task

    yield run
    for task in opened:
        task.close()


def source_of(folder: pathlib.Path) -> TaskSource:
    return TaskSource(ref=f"{folder.name}@1", folder=str(folder), sha256=hash_folder(str(folder)))


def world(task: Task, seed: int = 7) -> Environment:
    return task.make_world(seed, lambda _reason, _what, function, *args: function(*args))


def test_a_task_sets_its_world_up_acts_and_validates(execute: Callable[..., Task]) -> None:
    task = execute()
    env = world(task, seed=7)
    assert task.surface.parameters == {"look": ["path"]}
    assert canon.decode(task.surface.call({"type": "look", "args": {"path": "/app/seed"}})) == "7"
    assert task.validate(env) == {"ok": True}
    bare = execute(
        files={"actions.py": "def go(): return 1"},
        edit=lambda text: text.replace('[setup]\nentrypoint = "setup.py:setup"\n', ""),
    )
    assert bare.setup is bare.set_env is None


def test_every_execution_starts_afresh(make_task: MakeTask) -> None:
    code = compile_task(
        source_of(
            make_task(
                files={
                    "actions.py": "made = []\ndef go():\n    made.append(1)\n    return len(made)"
                }
            )
        )
    )
    for _ in range(3):
        task = code.execute()
        assert canon.decode(task.surface.call({"type": "go"})) == 1
    task.close()


def value(task: Task) -> Any:
    """What its action ``go`` gives."""
    return canon.decode(task.surface.call({"type": "go"}))


def values_of_tasks(
    execute: Callable[..., Task], actions: str, module: str, files: dict[str, str] | None = None
) -> list[str]:
    """What tasks find in a module that each has in the same place, where the first is run again."""
    found = []
    for task_id in ("one", "two", "one"):
        own = {module: f"VALUE = '{task_id}'", "actions.py": actions.replace("{id}", task_id)}
        found.append(value(execute(task_id, {**(files or {}), **own})))
    return found


@pytest.mark.parametrize(
    "line",
    [
        "from tasks.{id}.shared import VALUE",
        "import tasks.{id}.shared as shared; VALUE = shared.VALUE",
        "from tasks.{id} import shared; VALUE = shared.VALUE",
        "from . import shared; VALUE = shared.VALUE",
        "from .shared import VALUE",
        "import shared; VALUE = shared.VALUE",
        "from shared import VALUE",
        "import importlib; VALUE = importlib.import_module('tasks.{id}.shared').VALUE",
    ],
)
def test_siblings_are_imported_in_every_spelling_and_never_another_tasks(
    execute: Callable[..., Task], line: str
) -> None:
    for actions in (f"{line}\ndef go(): return VALUE", f"def go():\n    {line}\n    return VALUE"):
        assert values_of_tasks(execute, actions, "shared.py") == ["one", "two", "one"]


def test_an_id_with_a_dash_imports_relatively(execute: Callable[..., Task]) -> None:
    files = {"shared.py": "V = 1", "actions.py": "from .shared import V\ndef go(): return V"}
    assert value(execute("with-dash", files)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from tasks.{id}.lib.deep import VALUE",
        "from .lib.deep import VALUE",
        "from .lib import deep; VALUE = deep.VALUE",
        "from lib.deep import VALUE",
        "from lib import deep; VALUE = deep.VALUE",
        "import lib.deep; VALUE = lib.deep.VALUE",
        "import lib.deep, tasks.{id}.lib.deep as same; VALUE = same is lib.deep and same.VALUE",
    ],
)
@pytest.mark.parametrize("files", [{"lib/__init__.py": ""}, {}], ids=["package", "folder"])
def test_modules_in_a_folder_below_are_imported_in_every_spelling_too(
    execute: Callable[..., Task], line: str, files: dict[str, str]
) -> None:
    actions = f"{line}\ndef go(): return VALUE"
    assert values_of_tasks(execute, actions, "lib/deep.py", files) == ["one", "two", "one"]


def test_one_module_is_one_module_under_all_its_names(execute: Callable[..., Task]) -> None:
    files = {
        "shared.py": "state = []",
        "setup.py": "import shared\ndef setup(seed, env): shared.state.append(seed)",
        "actions.py": (
            "from . import shared\nimport actions\ndef set_env(env): pass\ndef go(): return"
            " [shared.state, actions.go is go, shared.__name__, shared.__spec__.name]"
        ),
    }
    task = execute(files=files)
    world(task, seed=5)
    name = "tasks.world.shared"
    assert value(task) == [[5], True, name, name]


def test_siblings_may_import_each_other_in_a_circle(execute: Callable[..., Task]) -> None:
    files = {
        "left.py": "import right\nL = 1\ndef total(): return L + right.R",
        "right.py": "import left\nR = 2",
        "actions.py": "import left\ndef go(): return left.total()",
    }
    assert value(execute(files=files)) == 3


def test_folders_below_are_packages(execute: Callable[..., Task]) -> None:
    files = {
        "lib/__init__.py": "NAME = __name__",
        "lib/part.py": "from ..shared import V\nfrom . import NAME",
        "plain/part.py": "W = 4",
        "shared.py": "V = 3",
        "actions.py": (
            "from .lib.part import V, NAME\nimport tasks.world.plain.part as again\n"
            "def go(): return [V, NAME, again.W]"
        ),
    }
    assert value(execute(files=files)) == [
        3,
        "tasks.world.lib",
        4,
    ]


def test_the_standard_library_keeps_its_names(execute: Callable[..., Task]) -> None:
    files = {
        "random.py": "MINE = True",
        "actions.py": (
            "import random\nfrom . import random as mine\ndef go(): return [hasattr(random,"
            " 'Random'), mine.MINE]"
        ),
    }
    assert value(execute(files=files)) == [True, True]


def test_a_module_knows_its_file_but_reads_and_writes_no_disk(make_task: MakeTask) -> None:
    folder = make_task(
        files={"actions.py": "import shared\ndef go(): return shared.__file__", "shared.py": ""}
    )
    code = compile_task(source_of(folder))
    names = sorted(path.name for path in folder.iterdir())
    for path in folder.iterdir():
        path.write_text("raise RuntimeError('read again')")
    task = code.execute()
    assert value(task) == str(folder / "shared.py")
    assert sorted(path.name for path in folder.iterdir()) == names
    task.close()


def test_modules_that_stood_in_the_way_are_put_back(
    execute: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {
        name: types.ModuleType(name) for name in ("tasks", "tasks.common", "shared", "shared.part")
    }
    for name, module in users.items():
        monkeypatch.setitem(sys.modules, name, module)
    files = {
        "shared.py": "V = 1",
        "actions.py": (
            "import shared\nfrom tasks.world.shared import V\nimport sys\ndef go(): return"
            " [shared.V, 'tasks.common' in sys.modules, 'shared.part' in sys.modules]"
        ),
    }
    task = execute(files=files)
    assert value(task) == [1, False, False]
    task.close()
    assert {name: sys.modules.get(name) for name in users} == users
    assert "tasks.world" not in sys.modules
    task.close()  # once more does no harm
    assert {name: sys.modules.get(name) for name in users} == users


def test_the_next_task_takes_the_place_of_the_one_before(execute: Callable[..., Task]) -> None:
    first = execute("one", {"shared.py": "", "actions.py": "import shared\ndef go(): pass"})
    second = execute("two", {"actions.py": "def go():\n    import shared"})
    assert not {"tasks.one", "tasks.one.shared", "tasks.one.actions", "shared"} & set(sys.modules)
    with pytest.raises(ModuleNotFoundError, match="shared"):
        second.surface.call({"type": "go"})
    first.close()  # is no longer the one in place
    assert "tasks.two.actions" in sys.modules


@pytest.mark.parametrize("kind", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_what_the_tasks_code_raises_is_passed_on_and_nothing_stays(
    execute: Callable[..., Task], kind: str
) -> None:
    with pytest.raises(BaseException, match="at import") as caught:
        execute(files={"validate.py": f"def validate(env): pass\nraise {kind}('at import')"})
    assert type(caught.value).__name__ == kind
    assert not [name for name in sys.modules if name.startswith("tasks.world")]


@pytest.mark.parametrize(
    ("file", "code", "message"),
    rows("""
    validate.py | validate = 3       | validate: found <class 'int'>, expected a function
    validate.py | other = validate = 3; del validate | validate: found nothing
    setup.py    | setup = object()   | setup: found <class 'object'>, expected a function
    actions.py  | set_env = None     | set_env: found <class 'NoneType'>
    actions.py  | def go(a, /): pass | go: found 'positional-only parameters'
    """),
)
def test_a_function_that_is_none_is_named(
    execute: Callable[..., Task], file: str, code: str, message: str
) -> None:
    with pytest.raises(TaskError) as caught:
        execute(files={file: code})
    assert f"{file}: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        (
            "actions.py",
            "x = 1\ndef (:",
            "actions.py: line 2: found 'invalid syntax', expected Pyt",
        ),
        ("lib/extra.py", "class", "lib/extra.py: line 1"),
        ("validate.py", "x = 1", "validate.py: validate: found nothing, expected a function"),
        ("setup.py", "", "setup.py: setup: found nothing"),
    ],
)
def test_a_check_finds_mistakes_without_running_anything(
    make_task: MakeTask, file: str, code: str, message: str
) -> None:
    compile_task(source_of(make_task("good", files={"actions.py": "raise SystemExit"})))
    star = {"validate.py": "from .shared import *", "shared.py": "raise SystemExit"}
    compile_task(source_of(make_task("star", files=star)))
    folder = make_task(files={"shared.py": "raise SystemExit", file: code})
    with pytest.raises(TaskError) as caught:
        compile_task(source_of(folder))
    assert f"{folder}/{message}" in str(caught.value)


def test_a_task_is_read_once_per_process_and_not_from_a_folder_that_has_changed(
    make_task: MakeTask,
) -> None:
    folder = make_task()
    source = source_of(folder)
    code = compile_task(source)
    (folder / "actions.py").unlink()
    assert compile_task(source) is code
    assert code.manifest == read_manifest(str(make_task()))
    other = make_task("other")
    source = source_of(other)
    (other / "data.txt").touch()
    with pytest.raises(TaskError, match="sha256"):
        compile_task(source)


def test_loading_tasks_takes_no_module_that_only_finding_them_needs() -> None:
    script = "import sys, tracecore.runtime.task.task; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    unneeded = {"difflib", "logging", "random", "threading", "subprocess"}
    assert not {"tracecore.runtime.task.catalog", *unneeded} & set(loaded)
