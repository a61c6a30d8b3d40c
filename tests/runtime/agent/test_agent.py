import hashlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tracecore.errors import AgentError
from tracecore.runtime.agent.agent import compile_agent, execute_agent

METHODS = """
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self): return {}
"""


@pytest.fixture(autouse=True)
def _a_process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(tmp_path: pathlib.Path, source: str | bytes, name: str = "agent.py") -> tuple[str, str]:
    path = tmp_path / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return str(path), "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def load(tmp_path: pathlib.Path, source: str) -> object:
    path, sha256 = write(tmp_path, source)
    return execute_agent(compile_agent(path, sha256), path)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (f"class First:{METHODS}\nclass Agent:{METHODS}", "Agent"),
        (f"class Half:\n  act = reset = print\nclass Z:{METHODS}\nclass A:{METHODS}", "Z"),
        (f"class A:{METHODS}\n    act = 3\nclass B(A):\n    def act(self): return {{}}", "B"),
        ("from sibling import Agent, Base\nclass Mine(Base):\n  pass", "Mine"),
    ],
)
def test_the_agent_is_the_class_of_that_name_or_else_the_first_of_the_file_with_all_methods(
    tmp_path: pathlib.Path, source: str, name: str
) -> None:
    write(tmp_path, f"class Agent:{METHODS}\nclass Base:{METHODS}", "sibling.py")
    assert type(load(tmp_path, source)).__name__ == name


def test_an_imported_agent_is_taken_when_the_file_has_none_of_its_own(
    tmp_path: pathlib.Path,
) -> None:
    write(tmp_path, f"class Agent:{METHODS}", "sibling_agent.py")
    assert type(load(tmp_path, "from sibling_agent import Agent")).__module__ == "sibling_agent"


def test_siblings_are_importable_but_for_names_of_the_standard_library_and_leave_no_bytecode(
    tmp_path: pathlib.Path,
) -> None:
    write(tmp_path, "VALUE = 3", "sibling_value.py")
    write(tmp_path, "raise RuntimeError('taken')", "colorsys.py")
    value = "    value = sibling_value.VALUE"
    agent = load(tmp_path, f"import colorsys, sibling_value\nclass Agent:{METHODS}\n{value}")
    assert agent.value == 3  # type: ignore[attr-defined]
    assert not (tmp_path / "__pycache__").exists()


def test_the_module_knows_its_file_and_its_classes_their_module(tmp_path: pathlib.Path) -> None:
    source = f"""
import dataclasses
@dataclasses.dataclass
class Agent:
    count: "int" = 0
    file = __file__
    name = __name__
{METHODS}"""
    agent = load(tmp_path, source)
    assert agent.file == str(tmp_path / "agent.py")  # type: ignore[attr-defined]
    assert agent.name == "tracecore_agent"  # type: ignore[attr-defined]


def test_every_execution_starts_afresh(tmp_path: pathlib.Path) -> None:
    path, sha256 = write(
        tmp_path,
        f"made = []\nclass Agent:{METHODS}\n    def __init__(self): made.append(1); self.n ="
        " len(made)",
    )
    code = compile_agent(path, sha256)
    assert [execute_agent(code, path).n for _ in range(3)] == [1, 1, 1]  # type: ignore[attr-defined]


NO_CLASS = "found nothing, expected a class Agent, or a class with reset, observe and act"
HALF = "class Agent:\n  def act(self): pass"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        *((source, NO_CLASS) for source in ("", "def act(): pass", "Agent = 3")),
        (HALF, "Agent: found 'no method reset, observe', expected reset, observe and act"),
    ],
)
def test_a_file_without_an_agent_is_refused(
    tmp_path: pathlib.Path, source: str, found: str
) -> None:
    with pytest.raises(AgentError, match=found):
        load(tmp_path, source)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_the_agents_code_raises_is_passed_on(
    tmp_path: pathlib.Path, kind: type[BaseException]
) -> None:
    with pytest.raises(kind):
        load(tmp_path, f"raise {kind.__name__}")
    with pytest.raises(kind):
        load(tmp_path, f"class Agent:{METHODS}\n    def __init__(self): raise {kind.__name__}")


def test_compiling_reads_once_and_executes_nothing(tmp_path: pathlib.Path) -> None:
    path, sha256 = write(tmp_path, "raise RuntimeError")
    code = compile_agent(path, sha256)
    pathlib.Path(path).unlink()
    assert compile_agent(path, sha256) is code


def test_a_file_that_has_changed_is_refused(tmp_path: pathlib.Path) -> None:
    path, sha256 = write(tmp_path, "a = 1")
    write(tmp_path, "a = 2")
    with pytest.raises(AgentError, match="sha256"):
        compile_agent(path, sha256)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\nclass :", "line 2"),
        (b"\xff = 1", "Python that compiles"),
        (b"a\0b", "null bytes"),
        ("(" * 5000, "too many nested parentheses"),
    ],
)
def test_what_is_not_python_is_refused_with_its_line(
    tmp_path: pathlib.Path, source: str | bytes, words: str
) -> None:
    path, sha256 = write(tmp_path, source)
    with pytest.raises(AgentError, match=words) as caught:
        compile_agent(path, sha256)
    assert caught.value.path == path


def test_a_syntax_warning_stays_silent(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    compile_agent(*write(tmp_path, "assert 1 is 1, '\\d'"))
    assert capfd.readouterr() == ("", "")


def test_a_missing_or_irregular_file_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AgentError, match="No such file"):
        compile_agent(str(tmp_path / "none.py"), "sha256:0")
    with pytest.raises(AgentError, match="a regular file"):
        compile_agent(str(tmp_path), "sha256:0")


def test_the_agents_process_loads_no_module_that_only_tasks_need() -> None:
    script = "import sys, tracecore.runtime.agent.agent; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    unneeded = {"tracecore.runtime.task.task", "tracecore.runtime.env"}
    assert not {"tomllib", "difflib", "logging", *unneeded} & set(loaded)
