"""What is said of a task's folder to its author."""

import pathlib
from collections.abc import Callable

import pytest

from tracecore.runtime.task import check
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

    def problems(*, edit: Callable[[str], str] = str, **files: str) -> list[str]:
        contents = GOOD | {f"{name}.py": text for name, text in files.items()}
        return check_task_folder(str(make_task(files=dict(contents), edit=edit)))

    return problems


def test_bundled_tasks_and_a_good_one_have_nothing_wrong(problems_of):
    assert problems_of() == []
    for folder in sorted((pathlib.Path(PACKAGE_FOLDER) / "tasks").iterdir()):
        if (folder / "task.toml").exists():
            assert check_task_folder(str(folder)) == []


SETUP = "def setup(seed, env):\n    "
VALIDATE = "def validate(env):\n    "


@pytest.mark.parametrize(
    ("file", "code", "found"),
    [
        (
            "setup",
            "def setup(env, seed): pass",
            "setup(env, seed) has its parameters the wrong way",
        ),
        ("setup", "def setup(seed): pass", "setup(seed) cannot be called with 2 arguments"),
        ("setup", "def set_up(seed, env): pass", "setup.py: there is no function setup, expected"),
        ("setup", SETUP + "1 / 0", 'ZeroDivisionError: division by zero File "setup.py", line 2'),
        ("setup", SETUP + "env.write_file('/etc/x', '')", "setup raised SandboxViolation: write_f"),
        (
            "setup",
            "import time\n" + SETUP + "env.set_hidden_state('t', time.monotonic_ns())",
            "two worlds of one seed differ in hidden state",
        ),
        (
            "setup",
            "import uuid\n" + SETUP + "env.write_file('/app/x', str(uuid.uuid4()))",
            "two worlds of one seed differ in files",
        ),
        (
            "setup",
            SETUP + "env.write_file('/app/x', str(seed))",
            "task.toml: seed_behavior: found 'fixed', but seeds 0, 1 and 2 make different worlds",
        ),
        ("setup", "while True: pass", "loading the task had not finished within the time limit"),
        ("actions", "def look(path: str): return path", "actions.py: there is no set_env(env)"),
        ("actions", GOOD["actions.py"] + "def go(x, *, n: int = 1): pass", "no annotation for x:"),
        ("actions", GOOD["actions.py"] + "async def go(): pass", "an async function or a gen"),
        ("actions", "def set_env(env): pass", "actions.py: there is no action"),
        ("validate", VALIDATE + "return {'ok': False}", "validate.py: validate can never say ok"),
        ("validate", VALIDATE + "x = {}; x['ok'] = None; return x", "validate can never say ok"),
        ("validate", VALIDATE + "return env.get_agent_output('x')", "validate can never say ok"),
        ("validate", VALIDATE + "return {'ok': True}", "validate says ok before any step"),
        (
            "validate",
            VALIDATE + "return {'ok': env.get_agent_output('done')}",
            "validate gave {'ok': None}, not a dict with a bool ok",
        ),
        ("validate", "def validate(:", "validate.py: line 1: found 'invalid syntax', expected Py"),
    ],
)
def test_a_mistake_is_named(problems_of, monkeypatch, file: str, code: str, found: str):
    if "while" in code:
        monkeypatch.setattr(check, "TIME_LIMIT_S", 0.5)
    problems = problems_of(**{file: code + "\n"})
    assert [line for line in problems if found in line], problems


def test_all_that_is_wrong_is_found_at_once_and_without_a_manifest_too(problems_of):
    problems = problems_of(
        edit=lambda _: 'id = "world"\nversion = "1"\n',
        setup="def setup(env, seed):\n    pass\n",
        actions="def look(path): return path\n",
        validate="def validate(env):\n    return {'ok': False}\n",
    )
    no_set_env = "actions.py: there is no set_env(env), so that no action can reach the world"
    for words in (
        "task.toml: version: found '1', expected a whole number",
        "task.toml: budgets: found nothing, expected a table",
        "task.toml: setup.py is never run without a table setup",
        "setup(env, seed) has its parameters the wrong way round",
        no_set_env,
        "look has no annotation for path",
        "validate can never say ok",
    ):
        assert [line for line in problems if words in line], words
    assert len(problems) == len(set(problems))
    problems = problems_of(edit=lambda _: "id = [", actions="def go(x: int): pass\n")
    assert problems[0].startswith("task.toml: found 'Invalid value")
    assert no_set_env in problems


def test_seeds_that_make_no_difference_are_no_stochastic_task(problems_of):
    problems = problems_of(edit=lambda text: text.replace('"fixed"', '"stochastic"'))
    assert problems == [
        "task.toml: seed_behavior: found 'stochastic', but seeds 0, 1 and 2 make the same world"
    ]
