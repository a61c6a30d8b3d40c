"""What the agent can do: look around, read a log or search it, answer."""

_env = None


def set_env(env) -> None:
    """Take the episode's environment; called once, before the first step."""
    global _env  # noqa: PLW0603 - this module is executed anew for every episode
    _env = env


def list_dir(path: str) -> dict:
    """The full paths of what lies in a folder."""
    paths = _env.list_dir(path)
    return {"ok": True, "files": paths} if paths else {"ok": False, "error": f"no such folder: {path}"}


def read_file(path: str) -> dict:
    """The text of a log."""
    try:
        return {"ok": True, "content": _env.read_file(path)}
    except OSError:
        return {"ok": False, "error": f"no such file: {path}"}


def search_file(path: str, text: str) -> dict:
    """The lines of a log that contain a text."""
    try:
        lines = _env.read_file(path).splitlines()
    except OSError:
        return {"ok": False, "error": f"no such file: {path}"}
    return {"ok": True, "lines": [line for line in lines if text in line]}


def set_output(key: str, value: str) -> dict:
    """Answer: the value is judged at once."""
    _env.set_agent_output(key, value)
    return {"ok": True}
