"""What the agent can do: look around, read, take a value out of a text, answer."""

_env = None


def set_env(env) -> None:
    """Take the episode's environment; called once, before the first step."""
    global _env  # noqa: PLW0603 - this module is executed anew for every episode
    _env = env


def list_dir(path: str) -> dict:
    """The full paths of what lies in a folder, hidden files included."""
    paths = _env.list_dir(path)
    return {"ok": True, "files": paths} if paths else {"ok": False, "error": f"no such folder: {path}"}


def read_file(path: str) -> dict:
    """The text of a file."""
    try:
        return {"ok": True, "content": _env.read_file(path)}
    except OSError:
        return {"ok": False, "error": f"no such file: {path}"}


def extract_value(content: str, key: str) -> dict:
    """The value of the line ``key=value`` in a text that the agent passes in."""
    for line in content.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip() == key:
            return {"ok": True, "value": value.strip()}
    return {"ok": False, "error": f"no line {key}=..."}


def set_output(key: str, value: str) -> dict:
    """Answer: the value is judged at once."""
    _env.set_agent_output(key, value)
    return {"ok": True}
