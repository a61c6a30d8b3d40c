import pathlib
from collections.abc import Callable

import pytest

MANIFEST = """\
id = "{id}"
suite = "tests"
version = {version}
description = "A task for tests."
deterministic = true
seed_behavior = "fixed"

[budgets]
steps = 5
tool_calls = 4

[action_surface]
source = "actions.py"
schema = "signature"

[validator]
entrypoint = "validate.py:validate"

[setup]
entrypoint = "setup.py:setup"

[sandbox]
filesystem_roots = ["/app"]
network_hosts = ["api.example.org", "*.example.com"]
"""
FILES = {
    "setup.py": "def setup(seed, env):\n    env.write_file('/app/seed', str(seed))\n",
    "actions.py": (
        "def set_env(env):\n    global ENV\n    ENV = env\n\ndef look(path):\n    return"
        " ENV.read_file(path)\n"
    ),
    "validate.py": "def validate(env):\n    return {'ok': True}\n",
}

MakeTask = Callable[..., pathlib.Path]


@pytest.fixture
def make_task(tmp_path: pathlib.Path) -> MakeTask:
    """Write a task's folder, a working one unless told otherwise, and give it back."""

    def make(
        task_id: str = "world",
        files: dict[str, str | bytes] | None = None,
        *,
        version: int = 1,
        under: str = "tasks_dir",
        edit: Callable[[str], str] = str,
    ) -> pathlib.Path:
        folder = tmp_path / under / task_id
        contents = {
            "task.toml": edit(MANIFEST.format(id=task_id, version=version)),
            **FILES,
            **(files or {}),
        }
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return make
