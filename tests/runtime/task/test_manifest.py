import pathlib
from collections.abc import Callable

import pytest
from helpers.tables import rows

from tracecore.errors import TaskError
from tracecore.records import Budgets
from tracecore.runtime.task.manifest import Entrypoint, read_manifest

MakeTask = Callable[..., pathlib.Path]


def replacing(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


def test_a_manifest_is_read_field_by_field(make_task: MakeTask) -> None:
    manifest = read_manifest(str(make_task("a-task_1", version=3)))
    assert manifest.ref == "a-task_1@3"
    assert manifest.suite == "tests"
    assert manifest.description == "A task for tests."
    assert manifest.deterministic is True
    assert manifest.seed_behavior == "fixed"
    assert manifest.budgets == Budgets(steps=5, tool_calls=4)
    assert manifest.action_source == "actions.py"
    assert manifest.validator == Entrypoint("validate.py", "validate")
    assert manifest.setup == Entrypoint("setup.py", "setup")
    assert manifest.filesystem_roots == ("/app",)
    assert manifest.network_hosts == ("api.example.org", "*.example.com")


def test_setup_and_the_schema_of_actions_may_be_absent_and_lines_end_as_on_windows(
    make_task: MakeTask,
) -> None:
    folder = make_task(edit=replacing('[setup]\nentrypoint = "setup.py:setup"\n', ""))
    assert read_manifest(str(folder)).setup is None
    folder = make_task("other", edit=lambda text: text.replace('schema = "signature"\n', ""))
    assert read_manifest(str(folder)).action_source == "actions.py"
    folder = make_task("windows", edit=lambda text: text.replace("\n", "\r\n"))
    assert read_manifest(str(folder)).id == "windows"


def test_a_bare_file_means_its_function_of_the_tables_name(make_task: MakeTask) -> None:
    folder = make_task(
        edit=lambda text: text.replace("py:validate", "py").replace("py:setup", "py")
    )
    manifest = read_manifest(str(folder))
    assert manifest.validator == Entrypoint("validate.py", "validate")
    assert manifest.setup == Entrypoint("setup.py", "setup")
    files = {"validate.py": "def validator(env):\n    return {'ok': True}\n"}
    edit = replacing("validate.py:validate", "validate.py")
    folder = make_task("very_name", files=files, edit=edit)
    assert read_manifest(str(folder)).validator == Entrypoint("validate.py", "validator")


def test_all_that_is_wrong_is_in_one_error_each_field_once(make_task: MakeTask) -> None:
    folder = make_task(edit=lambda _: 'id = 3\nnmae = "x"\nversion = "1"\n[budgets]\nsteps = 2\n')
    with pytest.raises(TaskError) as caught:
        read_manifest(str(folder))
    message = str(caught.value)
    assert message.startswith(f"{folder}/task.toml: nmae: found 'x', expected no such field")
    for clause in (
        "; budgets.tool_calls: found nothing, expected a whole number",
        "; id: found 3, expected lower-case letters",
        "; suite: found nothing, expected a string",
        "; version: found '1', expected a whole number",
        "; deterministic: found nothing, expected true or false",
        "; action_surface: found nothing, expected a table with source, schema",
        "; validator: found nothing, expected a table with entrypoint",
        "; sandbox: found nothing, expected a table with filesystem_roots, network_hosts",
    ):
        assert message.count(clause) == 1, clause
    assert message.count("found") == 11


WRONG = r"""
    id = "world" | - | id | nothing | lower-case letters
    id = "world" | id = "World" | id | 'World' | lower-case letters
    id = "world" | id = "wörld" | id | 'wörld' | lower-case letters
    id = "world" | id = "other" | id | 'other' | the name of its folder, 'world'
    suite = "tests" | suite = 3 | suite | 3 | a string that is not empty
    version = 1 | version = true | version | True | a whole number from 0
    version = 1 | version = 1.0 | version | 1.0 | a whole number
    version = 1 | version = "1" | version | '1' | a whole number
    version = 1 | version = -1 | version | -1 | a whole number
    description = "A task for tests." | - | description | nothing | a string
    deterministic = true | deterministic = 1 | deterministic | 1 | true or false
    seed_behavior = "fixed" | seed_behavior = "any" | seed_behavior | 'any' | fixed, stochastic
    seed_behavior = "fixed" | seed_behavior = [[]] | seed_behavior | [[]] | fixed, stochastic
    steps = 5 | steps = -5 | budgets.steps | -5 | a whole number from 0
    steps = 5 | - | budgets.steps | nothing | a whole number
    steps = 5 | stepz = 5 | budgets.stepz | 5 | no such field, only steps, tool_calls
    tool_calls = 4 | tool_calls = false | budgets.tool_calls | False | a whole number
    [budgets] | [budget] | budget | {'steps' | no such field, only id, suite
    [budgets]\nsteps = 5\ntool_calls = 4 | - | budgets | nothing | a table with steps, tool_calls
    suite = | extra = 1\nsuite = | extra | 1 | no such field
    source = "actions.py" | source = "none.py" | action_surface.source | 'none.py' | .py file
    source = "actions.py" | source = "../a.py" | action_surface.source | '../a.py' | .py file
    source = "actions.py" | source = "task.toml" | action_surface.source | 'task.toml' | .py file
    schema = "signature" | schema = "" | action_surface.schema | '' | a string that is not empty
    "validate.py:validate" | "validate.py:" | validator.entrypoint | 'validate.py:' | file.py for
    "validate.py:validate" | "validate.py:a b" | validator.entrypoint | 'validate.py:a b' | file.py
    "validate.py:validate" | "none.py:validate" | validator.entrypoint | 'none.py: | in the folder
    "setup.py:setup" | "/tmp/setup.py:setup" | setup.entrypoint | '/tmp/ | file.py:function
    "setup.py:setup" | 3 | setup.entrypoint | 3 | file.py:function
    ["/app"] | ["app"] | sandbox.filesystem_roots | ['app'] | absolute POSIX paths
    ["/app"] | ["/app/../etc"] | sandbox.filesystem_roots | ['/app/../etc'] | without `..`
    ["/app"] | "/app" | sandbox.filesystem_roots | '/app' | a list
    ["/app"] | ["/app", 3] | sandbox.filesystem_roots | ['/app', 3] | a list
    "*.example.com"] | "*"] | sandbox.network_hosts | ['api.example.org', '*'] | host names
    "*.example.com"] | 1] | sandbox.network_hosts | ['api.example.org', 1] | host names
"""


@pytest.mark.parametrize(
    ("old", "new", "field", "found", "expected"),
    [
        *(tuple(cell.replace("\\n", "\n") for cell in row) for row in rows(WRONG)),
        ('id = "world"', f'id = "{"a" * 81}"', "id", "'aaa", "at most 80"),
        (
            "version = 1",
            "version = 0x" + "f" * 5000,
            "version",
            "a value too large to show",
            "a whole number",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found_and_expected(
    make_task: MakeTask, old: str, new: str, field: str, found: str, expected: str
) -> None:
    folder = make_task(edit=replacing(old, "" if new == "-" else new))
    with pytest.raises(TaskError) as caught:
        read_manifest(str(folder))
    assert caught.value.path == str(folder / "task.toml")
    assert caught.value.field == field
    message = str(caught.value)
    assert message.startswith(f"{folder / 'task.toml'}: {field}: found ")
    assert found in message
    assert expected in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xef\xbb\xbfid = 'world'", "a byte order mark"),
        (b"id = '\xff'", r"byte 6: found b'.xff'"),
        ("id = 'world'".encode("utf-16"), r"byte 0: found b'.xff'"),
        (b"id = x", "Invalid value .at line 1, column 6."),
        (b"id = 'a'\nid = 'b'", "Cannot overwrite a value"),
        (b"version = " + b"1" * 5000, "expected valid TOML"),
        (b"x = " + b"[" * 5000, "very deep nesting"),
        (b"#" * (1 << 20) + b"#", "1048577 bytes"),
        (b"", "budgets: found nothing"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(
    make_task: MakeTask, data: bytes, words: str
) -> None:
    folder = make_task(files={"task.toml": data})
    with pytest.raises(TaskError, match=words):
        read_manifest(str(folder))


def test_a_missing_or_irregular_manifest_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TaskError, match=r"task\.toml: found 'No such file or directory'"):
        read_manifest(str(tmp_path))
    (tmp_path / "task.toml").mkdir()
    with pytest.raises(TaskError, match="a regular file"):
        read_manifest(str(tmp_path))
