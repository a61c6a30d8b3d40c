"""The smallest task that the runtime takes, written once: a test adds what it is about."""

import pathlib
from collections.abc import Callable

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
        "def set_env(env):\n    global ENV\n    ENV = env\n\n"
        "def look(path):\n    return ENV.read_file(path)\n"
    ),
    "validate.py": "def validate(env):\n    return {'ok': True}\n",
}


def write_task(
    folder: pathlib.Path,
    files: dict[str, str | bytes] | None = None,
    *,
    version: int = 1,
    edit: Callable[[str], str] = str,
) -> pathlib.Path:
    """Write a task that works into ``folder``, after which it is called, and give that back;
    ``files`` come beside it or in its place, and ``edit`` changes the text of the manifest.
    """
    contents = {
        "task.toml": edit(MANIFEST.format(id=folder.name, version=version)),
        **FILES,
        **(files or {}),
    }
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
