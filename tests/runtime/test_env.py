from typing import Any

import pytest

from tracecore.runtime.env import Environment
from tracecore.runtime.sandbox import Sandbox, SandboxViolation


def take(env: Environment) -> list[dict[str, object]]:
    """The calls on record, which are taken."""
    taken, env.audit = env.audit, []
    return taken


@pytest.fixture
def env() -> Environment:
    return Environment(Sandbox(["/app"], ["api.example.org"]))


def fs(op: str, path: str) -> dict[str, Any]:
    return {"type": "fs", "op": op, "path": path}


def test_what_was_written_can_be_read_under_any_spelling_of_its_path(env: Environment) -> None:
    env.write_file("app/a//b.txt", "one")
    env.write_file("/app/a/b.txt", "two")
    assert env.read_file("/app/./a/b.txt") == "two"


def test_a_listing_holds_full_paths_of_files_and_folders_sorted(env: Environment) -> None:
    for path in ("/app/z", "/app/a/deep/er/x", "/app/a/y", "/app/B"):
        env.write_file(path, "")
    assert env.list_dir("/app/") == ["/app/B", "/app/a", "/app/z"]
    assert env.list_dir("/app/a") == ["/app/a/deep", "/app/a/y"]


def test_a_folder_is_listed_once_a_file_lies_below_it_but_is_no_file(env: Environment) -> None:
    assert env.list_dir("/app") == []
    assert not env.exists("/app/a")
    env.write_file("/app/a/b", "")
    assert env.list_dir("/app") == ["/app/a"]
    assert not env.exists("/app")
    assert not env.exists("/app/a")
    assert env.exists("/app/a/b")
    assert not env.exists("/app/a/c")
    assert env.list_dir("/app/a/b") == []


def test_nothing_is_file_and_folder_at_once(env: Environment) -> None:
    env.write_file("/app/a/b", "")
    with pytest.raises(IsADirectoryError, match="/app/a"):
        env.write_file("/app/a", "")
    with pytest.raises(IsADirectoryError, match="/app/a"):
        env.read_file("/app/a")
    with pytest.raises(NotADirectoryError, match="'/app/a/b'"):
        env.write_file("/app/a/b/c/d", "")
    assert env.list_dir("/app/a") == ["/app/a/b"]
    with pytest.raises(IsADirectoryError):
        Environment(Sandbox(["/"], [])).write_file("/", "")


def test_every_call_is_on_record_in_order_and_so_is_one_that_fails(env: Environment) -> None:
    env.write_file("app/a", "x")
    env.read_file("/app/a/")
    env.list_dir("/app")
    env.exists("/app/b")
    env.require_network("https://API.example.org/v1")
    with pytest.raises(FileNotFoundError, match="'/app/none'") as caught:
        env.read_file("app/none")
    assert caught.value.filename == "/app/none"
    calls = [("write_file", "a"), ("read_file", "a"), ("list_dir", ""), ("exists", "b")]
    recorded = [fs(op, f"/app/{name}".rstrip("/")) for op, name in calls]
    net = {"type": "net", "host": "api.example.org"}
    assert take(env) == [*recorded, net, fs("read_file", "/app/none")]


def test_a_refused_call_is_on_record_as_it_was_tried(env: Environment) -> None:
    for op in ("read_file", "list_dir", "exists"):
        with pytest.raises(SandboxViolation, match=f"^{op} /app/../etc: "):
            getattr(env, op)("/app/../etc")
    with pytest.raises(SandboxViolation, match=r"^write_file /etc/x: "):
        env.write_file("/etc/x", "")
    with pytest.raises(SandboxViolation, match=r"^connect evil\.net: "):
        env.require_network("evil.net")
    tried = [fs(op, "/app/../etc") for op in ("read_file", "list_dir", "exists")]
    assert take(env) == [*tried, fs("write_file", "/etc/x"), {"type": "net", "host": "evil.net"}]


def test_the_record_of_a_huge_attempt_is_bounded(env: Environment) -> None:
    with pytest.raises(SandboxViolation):
        env.read_file("/app/" + "x" * 1_000_000)
    with pytest.raises(SandboxViolation):
        env.require_network("x" * 1_000_000)
    path, host = take(env)
    assert len(path["path"]) == 4096
    assert len(host["host"]) == 2048


def test_what_is_no_string_is_an_error_without_record(env: Environment) -> None:
    with pytest.raises(TypeError, match="a path is a string, not int"):
        env.read_file(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a host is a string, not NoneType"):
        env.require_network(None)  # type: ignore[arg-type]
    assert take(env) == []
    with pytest.raises(TypeError, match="content of /app/a is a string, not bytes"):
        env.write_file("/app/a", b"x")  # type: ignore[arg-type]
    assert not env.exists("/app/a")


def test_marked_paths_are_visible_sorted_and_once_in_a_copy(env: Environment) -> None:
    env.mark_seen(["/app/b", "/app/a"])
    env.mark_seen(path for path in ["/app/b"])
    env.visible_state()["files_seen"].append("/app/x")
    assert env.visible_state() == {"files_seen": ["/app/a", "/app/b"]}


@pytest.mark.parametrize("paths", ["/app", ["/app", 3], [None]])
def test_only_a_list_of_paths_can_be_marked(env: Environment, paths: Any) -> None:
    with pytest.raises(TypeError, match="a list of paths"):
        env.mark_seen(paths)
    assert env.visible_state() == {"files_seen": []}


def test_hidden_state_and_agent_output_are_kept_apart(env: Environment) -> None:
    env.set_hidden_state("k", {"secret": 1})
    env.set_agent_output("k", "answer")
    assert env.get_hidden_state("k") == {"secret": 1}
    assert env.get_agent_output("k") == "answer"
    assert env.get_hidden_state("none") is None
    assert env.get_agent_output("none", 7) == 7
    assert take(env) == []
