"""What is said of a task's folder to its author."""

import pathlib
from collections.abc import Callable

import pytest

from tracecore.runtime.task.catalog import PACKAGE_FOLDER
from tracecore.runtime.task.check import check_task_folder

GOOD = {
    "setup.py": "def setup(seed, env):\n    env.write_file('/app/seed', 'x')\n",
    "actions.py": (
        "def set_env(env):\n    global ENV\n    ENV = env\n\n"
        "def look(path: str) -> str:\n    return ENV.read_file(path)\n\n"
        "def finish() -> None:\n    ENV.set_agent_output('done', True)\n"
    ),
    "validate.py": "def validate(env):\n    return {'ok': env.get_agent_output('done') is True}\n",
}


@pytest.fixture
def problems_of(make_task: Callable[..., pathlib.Path]) -> Callable[..., list[str]]:
    """What is wrong with a good task in which some files are others."""

    def check(*, edit: Callable[[str], str] = str, **files: str) -> list[str]:
        contents = GOOD | {f"{name}.py": text for name, text in files.items()}
        return check_task_folder(str(make_task(files=dict(contents), edit=edit)))

    return check


def test_bundled_tasks_and_a_good_one_have_nothing_wrong(problems_of):
    assert problems_of() == []
    for folder in sorted((pathlib.Path(PACKAGE_FOLDER) / "tasks").iterdir()):
        if (folder / "task.toml").exists():
            assert check_task_folder(str(folder)) == []


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"setup": "def setup(env, seed):\n    pass\n"}, "setup(env, seed) has its parameters the wrong way round"),
        ({"setup": "def setup(seed):\n    pass\n"}, "setup(seed) cannot be called with 2 arguments"),
        ({"setup": "def set_up(seed, env):\n    pass\n"}, "setup.py: there is no function setup, expected setup(seed, env)"),
        ({"setup": "def setup(seed, env):\n    1 / 0\n"}, 'setup raised ZeroDivisionError: division by zero File "setup.py", line 2, in setup 1 / 0'),
        ({"setup": "def setup(seed, env):\n    env.write_file('/etc/x', '')\n"}, "setup raised SandboxViolation: write_file /etc/x"),
        ({"setup": "import time\ndef setup(seed, env):\n    env.set_hidden_state('t', time.monotonic_ns())\n"}, "two worlds of one seed differ in hidden state"),
        ({"setup": "import uuid\ndef setup(seed, env):\n    env.write_file('/app/x', str(uuid.uuid4()))\n"}, "two worlds of one seed differ in files"),
        ({"setup": "def setup(seed, env):\n    env.write_file('/app/x', str(seed))\n"}, "task.toml: seed_behavior: found 'fixed', but seeds 0, 1 and 2 make different worlds"),
        ({"setup": "while True: pass\n"}, "loading the task had not finished within the time limit of 0.5 s"),
        ({"actions": "def look(path: str) -> str: return path\n"}, "actions.py: there is no set_env(env)"),
        ({"actions": GOOD["actions.py"] + "def go(path, *, n: int = 1): pass\n"}, "actions.py: line 10: go has no annotation for path"),
        ({"actions": GOOD["actions.py"] + "async def go() -> None: pass\n"}, "an async function or a generator"),
        ({"actions": "def set_env(env): pass\n"}, "actions.py: there is no action"),
        ({"validate": "def validate(env):\n    return {'ok': False}\n"}, "validate.py: validate can never say ok"),
        ({"validate": "def validate(env):\n    found = {}\n    found['ok'] = None\n    return found\n"}, "validate.py: validate can never say ok"),
        ({"validate": "def validate(env):\n    return env.get_agent_output('done')\n"}, "validate.py: validate can never say ok"),
        ({"validate": "def validate(env):\n    return {'ok': True}\n"}, "validate.py: validate says ok before any step was taken"),
        ({"validate": "def validate(env):\n    return {'ok': env.get_agent_output('done')}\n"}, "validate gave {'ok': None}, not a dict with a bool ok"),
        ({"validate": "def validate(:\n"}, "validate.py: line 1: found 'invalid syntax', expected Python that compiles"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(problems_of, monkeypatch, files: dict[str, str], found: str):
    monkeypatch.setattr(
        "tracecore.runtime.task.check.TIME_LIMIT_S", 0.5 if "while" in str(files) else 60
    )
    problems = problems_of(**files)
    assert [line for line in problems if found in line], problems


def test_all_that_is_wrong_is_said_at_once(problems_of):
    problems = problems_of(
        edit=lambda _: 'id = "world"\nversion = "1"\n',
        setup="def setup(env, seed):\n    pass\n",
        actions="def look(path): return path\n",
        validate="def validate(env):\n    return {'ok': False}\n",
    )
    for words in (
        "task.toml: version: found '1', expected a whole number",
        "task.toml: budgets: found nothing, expected a table",
        "task.toml: setup.py is never run without a table setup",
        "setup(env, seed) has its parameters the wrong way round",
        "there is no set_env(env)",
        "look has no annotation for path",
        "validate can never say ok",
    ):
        assert [line for line in problems if words in line], words
    assert len(problems) == len(set(problems))


def test_a_folder_without_a_manifest_is_checked_all_the_same(problems_of):
    problems = problems_of(edit=lambda _: "id = [", actions="def go(x: int): pass\n")
    assert problems[0].startswith("task.toml: found 'Invalid value")
    assert "actions.py: there is no set_env(env), so that no action can reach the world" in problems


def test_seeds_that_make_no_difference_are_no_stochastic_task(problems_of):
    problems = problems_of(edit=lambda text: text.replace('"fixed"', '"stochastic"'))
    assert problems == [
        "task.toml: seed_behavior: found 'stochastic', but seeds 0, 1 and 2 make the same world"
    ]
