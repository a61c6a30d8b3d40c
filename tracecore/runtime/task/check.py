"""All that is wrong with a task's folder, at once: for its author, before an agent meets it."""

import ast
import os
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any, Final

from tracecore import canon
from tracecore.clock import monotonic_s
from tracecore.errors import MISSING, InputError, TaskError, describe
from tracecore.record import record, replace
from tracecore.records import TaskSource
from tracecore.runtime.endings import End
from tracecore.runtime.env import snapshot
from tracecore.runtime.foreign.stable_text import cut_words
from tracecore.runtime.task.calls import TaskCalls, ask_validator
from tracecore.runtime.task.folder import MANIFEST_NAME, compile_source, read_folder
from tracecore.runtime.task.manifest import Entrypoint, Manifest, parse_toml, read_fields
from tracecore.runtime.task.task import Task, TaskCode, TaskModules

TIME_LIMIT_S: Final = 30.0  # of all that is executed
SEEDS: Final = (0, 1, 2)
TABLES: Final = frozenset(("action_surface", "validator", "setup", "sandbox"))
World = dict[str, Any]


@record
class _Source:
    """One of a task's files."""

    tree: ast.Module
    code: CodeType

    def function(self, name: str) -> ast.FunctionDef | None:
        functions = (node for node in self.tree.body if isinstance(node, ast.FunctionDef))
        return next((node for node in functions if node.name == name), None)


Sources = dict[str, _Source]  # by the names of the files, of those that are Python


def check_task_folder(folder: str) -> list[str]:
    """What is wrong with the task in ``folder``, a line each; empty if nothing is found.

    Manifest and files are read, then the task's own code is run in this process: two worlds of one
    seed are made and compared, and the validator is asked about them.

    Raises:
        TaskError: The folder cannot be read.
    """
    folder = os.path.abspath(folder)
    content = read_folder(folder)
    manifest, problems = _check_manifest(folder, content.kept.pop(MANIFEST_NAME, None))
    sources: Sources = {}
    for name, data in content.kept.items():
        try:
            code = compile_source(os.path.join(folder, name), data, TaskError)
            sources[name] = _Source(ast.parse(data), code)
        except TaskError as error:
            problems.append(_inside(folder, error))
    if manifest.setup is not None:
        problems += _check_entrypoint(sources, manifest.setup, ("seed", "env"))
    problems += _check_actions(sources, manifest.action_source)
    problems += _check_validator(sources, manifest.validator)
    wanted = {manifest.action_source, manifest.validator.file}
    if sources.keys() == content.kept.keys() >= wanted:
        task = TaskSource(manifest.ref, folder, content.sha256)
        codes = {name: source.code for name, source in sources.items()}
        problems += _check_running(TaskCode(task, manifest, TaskModules(manifest.id, codes)))
    return problems


def _check_manifest(folder: str, data: bytes | None) -> tuple[Manifest, list[str]]:
    """The manifest with what is usual in place of what is wrong, so that the rest can be checked
    too.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    try:
        if data is None:
            raise TaskError(path, "", MISSING, "the task's manifest")  # noqa: TRY301 - as if no TOML
        document, unread = parse_toml(path, data), []
    except TaskError as error:
        document, unread = {}, [_inside(folder, error)]
    _manifest, wrong = read_fields(folder, document)
    problems = unread or [
        f"{MANIFEST_NAME}: {field}: found {describe(found)}, expected {expected}"
        for field, found, expected in wrong
    ]
    # A table with a mistake in it is left out: what is usual stands in the place of the whole.
    broken = {field.partition(".")[0] for field, _found, _expected in wrong} & TABLES
    kept = {name: value for name, value in document.items() if name not in broken}
    manifest, _wrong = read_fields(folder, kept)
    is_never_run = "setup" not in document and os.path.exists(os.path.join(folder, "setup.py"))
    if is_never_run or "setup" in broken:
        manifest = replace(manifest, setup=Entrypoint("setup.py", "setup"))
    if is_never_run and document:
        problems.append(f"{MANIFEST_NAME}: setup.py is never run without a table setup")
    return manifest, problems


def _inside(folder: str, error: InputError) -> str:
    return str(error).removeprefix(os.path.join(folder, ""))


# --- what can be seen without running it ---


def _check_entrypoint(
    sources: Sources, entrypoint: Entrypoint, expected: tuple[str, ...]
) -> Iterator[str]:
    file, name = entrypoint.file, entrypoint.function
    form = f"{name}({', '.join(expected)})"
    if file not in sources:
        return
    function = sources[file].function(name)
    if function is None:
        # it may be imported, or assigned
        if name not in sources[file].code.co_names:
            yield f"{file}: there is no function {name}, expected {form}"
        return
    names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
    where = f"{file}: line {function.lineno}: {name}({', '.join(names)})"
    if names[: len(expected)] == list(reversed(expected)) and len(expected) > 1:
        yield f"{where} has its parameters the wrong way round, expected {form}"
    elif len(names) - len(function.args.defaults) > len(expected) or (
        len(names) < len(expected) and function.args.vararg is None
    ):
        yield f"{where} cannot be called with {len(expected)} arguments, expected {form}"


def _check_actions(sources: Sources, file: str) -> Iterator[str]:
    if file not in sources:
        return
    source = sources[file]
    if "set_env" not in source.code.co_names:
        yield f"{file}: there is no set_env(env), so that no action can reach the world"
    else:
        yield from _check_entrypoint(sources, Entrypoint(file, "set_env"), ("env",))
    actions = [
        node
        for node in source.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and node.name != "set_env"
    ]
    if not actions:
        yield f"{file}: there is no action, expected public functions"
    for action in actions:
        bare = [
            parameter.arg
            for parameter in (*action.args.args, *action.args.kwonlyargs)
            if parameter.annotation is None
        ]
        if bare:
            yield (
                f"{file}: line {action.lineno}: {action.name} has no annotation for"
                f" {', '.join(bare)}: authors of agents read its types there"
            )


def _check_validator(sources: Sources, entrypoint: Entrypoint) -> Iterator[str]:
    yield from _check_entrypoint(sources, entrypoint, ("env",))
    if entrypoint.file not in sources:
        return
    nodes = [node for source in sources.values() for node in ast.walk(source.tree)]
    own = ast.walk(sources[entrypoint.file].tree)
    values = list(_values_of_ok(own)) or list(_values_of_ok(nodes))
    if values:
        may_be = any(not isinstance(value, ast.Constant) or value.value is True for value in values)
    else:
        may_be = any(map(_is_ok, nodes))
    if not may_be:
        yield f"{entrypoint.file}: {entrypoint.function} can never say ok: no step solves the task"


def _values_of_ok(nodes: Iterable[ast.AST]) -> Iterator[ast.expr]:
    for node in nodes:
        match node:
            case ast.Dict(keys=keys, values=values):
                yield from (one for key, one in zip(keys, values, strict=True) if _is_ok(key))
            case ast.keyword(arg="ok", value=value):
                yield value
            case ast.Assign(targets=targets, value=value):
                places = (one.slice for one in targets if isinstance(one, ast.Subscript))
                yield from (value for place in places if _is_ok(place))


def _is_ok(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value == "ok"


# --- what shows when it runs ---


def _check_running(code: TaskCode) -> list[str]:
    deadline_s = monotonic_s() + TIME_LIMIT_S
    calls = TaskCalls(code.source, TIME_LIMIT_S, deadline_s)
    try:
        with calls:
            return list(_check_worlds(code, calls))
    except End as end:
        place = (end.traceback or "").splitlines()[-3:-1]
        return [" ".join([str(end.words), *(line.strip() for line in place)])]


def _check_worlds(code: TaskCode, calls: TaskCalls) -> Iterator[str]:
    first, second = (_make_world(code, calls, SEEDS[0]) for _ in range(2))
    if parts := [part for part, value in first.items() if value != second[part]]:
        yield f"two worlds of one seed differ in {', '.join(parts)}: setup may read the seed alone"
        return
    others = [_make_world(code, calls, seed) for seed in SEEDS[1:]]
    are_equal = all(world == first for world in others)
    behavior = code.manifest.seed_behavior
    if are_equal is (behavior == "stochastic"):
        found = "the same world" if are_equal else "different worlds"
        yield (
            f"{MANIFEST_NAME}: seed_behavior: found {behavior!r}, but seeds 0, 1 and 2 make {found}"
        )
    if first["verdict"].get("ok"):
        entrypoint = code.manifest.validator
        yield f"{entrypoint.file}: {entrypoint.function} says ok before any step was taken"


def _make_world(code: TaskCode, calls: TaskCalls, seed: int) -> World:
    """All that setup leaves of ``seed``, and what the validator gives for it."""
    task: Task = calls("task_exception", "loading the task", code.execute)
    try:
        env = task.make_world(seed, calls)
        world = {part: _plain(value) for part, value in snapshot(env).items()}
        arguments = (ask_validator, task.validate, env)
        world["verdict"] = calls("validator_exception", "validate", *arguments)
        return world
    finally:
        task.close()


def _plain(value: Any) -> Any:
    """A value in a form that compares by what it holds."""
    try:
        return canon.encode_foreign(value)
    except (TypeError, ValueError, RecursionError):
        return cut_words(repr(value), 1 << 16)
