"""All that is wrong with a task's folder, at once: for its author, before an agent meets it."""

import ast
import os
from collections.abc import Iterator
from types import CodeType
from typing import Any, Final

from tracecore import canon
from tracecore.clock import monotonic_s
from tracecore.errors import InputError, TaskError, describe
from tracecore.record import record, replace
from tracecore.records import TaskSource
from tracecore.runtime.endings import End
from tracecore.runtime.env import Environment, snapshot
from tracecore.runtime.foreign.stable_text import cut_words
from tracecore.runtime.sandbox import Sandbox
from tracecore.runtime.task.calls import TaskCalls, ask_validator
from tracecore.runtime.task.folder import MANIFEST_NAME, compile_source, read_folder
from tracecore.runtime.task.manifest import (
    Entrypoint,
    Manifest,
    is_task_id,
    parse_toml,
    read_fields,
)
from tracecore.runtime.task.task import Task, TaskCode, TaskModules

TIME_LIMIT_S: Final = 30.0  # of all that is executed
SEEDS: Final = (0, 1, 2)
World = dict[str, Any]


@record
class _Sources:
    """A task's files as they were read."""

    folder: str
    manifest: Manifest
    trees: dict[str, ast.Module]
    codes: dict[str, CodeType]


def check_task_folder(folder: str) -> list[str]:
    """What is wrong with the task in ``folder``, a line each; empty if nothing is found.

    Manifest and files are read, then the task's own code is run in this process: two worlds of one
    seed are made and compared, and the validator is asked about them.

    Raises:
        TaskError: The folder cannot be read.
    """
    folder = os.path.abspath(folder)
    content = read_folder(folder)
    manifest, problems = _check_manifest(folder, content.kept.get(MANIFEST_NAME))
    trees, codes = {}, {}
    for name, data in content.kept.items():
        if name != MANIFEST_NAME:
            try:
                codes[name] = compile_source(os.path.join(folder, name), data, TaskError)
                trees[name] = ast.parse(data)
            except TaskError as error:
                problems.append(_inside(folder, error))
    sources = _Sources(folder, manifest, trees, codes)
    do_all_compile = len(codes) == len(content.kept.keys() - {MANIFEST_NAME})
    if manifest.setup is not None:
        problems += _check_entrypoint(sources, manifest.setup, ("seed", "env"))
    problems += _check_actions(sources)
    problems += _check_validator(sources)
    wanted = {manifest.action_source, manifest.validator.file}
    if do_all_compile and wanted <= codes.keys():
        source = TaskSource(f"{manifest.id}@{manifest.version}", folder, content.sha256)
        problems += _check_running(TaskCode(source, manifest, TaskModules(manifest.id, codes)))
    return problems


def _check_manifest(folder: str, data: bytes | None) -> tuple[Manifest, list[str]]:
    """The manifest with what is usual in place of what is wrong, so that the rest can be checked
    too.
    """
    problems: list[str] = []
    document: dict[str, Any] = {}
    try:
        if data is None:
            problems.append(f"{MANIFEST_NAME}: found nothing, expected the task's manifest")
        else:
            document = parse_toml(os.path.join(folder, MANIFEST_NAME), data)
    except TaskError as error:
        problems.append(_inside(folder, error))
    manifest, wrong = read_fields(folder, document)
    if document or not problems:
        problems += [
            f"{MANIFEST_NAME}: {field}: found {describe(found)}, expected {expected}"
            for field, found, expected in wrong
        ]
    fields = {field.partition(".")[0] for field, _found, _expected in wrong}
    has_setup = os.path.exists(os.path.join(folder, "setup.py"))
    if manifest.setup is None and has_setup and "setup" not in fields:
        fields.add("setup")
        if document:
            problems.append(f"{MANIFEST_NAME}: setup.py is never run without a table setup")
    name = os.path.basename(folder)
    usual: dict[str, dict[str, Any]] = {
        "id": {"id": name if is_task_id(name) else "task"},
        "action_surface": {"action_source": "actions.py"},
        "validator": {"validator": Entrypoint("validate.py", "validate")},
        "setup": {"setup": Entrypoint("setup.py", "setup")},
        "sandbox": {"filesystem_roots": ("/",), "network_hosts": ()},
    }
    for field in fields & usual.keys():
        manifest = replace(manifest, **usual[field])
    return manifest, problems


def _inside(folder: str, error: InputError) -> str:
    return str(error).removeprefix(os.path.join(folder, ""))


# --- what can be seen without running it ---


def _function(sources: _Sources, file: str, name: str) -> ast.FunctionDef | None:
    tree = sources.trees.get(file)
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)] if tree else []
    return next((node for node in found if node.name == name), None)


def _check_entrypoint(
    sources: _Sources, entrypoint: Entrypoint, expected: tuple[str, ...]
) -> Iterator[str]:
    file, name = entrypoint.file, entrypoint.function
    form = f"{name}({', '.join(expected)})"
    if file not in sources.trees:
        return
    function = _function(sources, file, name)
    if function is None:
        # it may be imported, or assigned
        if name not in sources.codes[file].co_names:
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


def _check_actions(sources: _Sources) -> Iterator[str]:
    file = sources.manifest.action_source
    if file not in sources.trees:
        return
    names = sources.codes[file].co_names
    if "set_env" not in names:
        yield f"{file}: there is no set_env(env), so that no action can reach the world"
    elif _function(sources, file, "set_env") is not None:
        yield from _check_entrypoint(sources, Entrypoint(file, "set_env"), ("env",))
    actions = [
        node
        for node in sources.trees[file].body
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


def _check_validator(sources: _Sources) -> Iterator[str]:
    entrypoint = sources.manifest.validator
    yield from _check_entrypoint(sources, entrypoint, ("env",))
    trees = sources.trees.values()
    values = [value for tree in trees for value in _values_of_ok(tree)]
    is_there = any(
        isinstance(node, ast.Constant) and node.value == "ok"
        for tree in trees
        for node in ast.walk(tree)
    )
    file = sources.trees.get(entrypoint.file)
    own = [] if file is None else list(_values_of_ok(file))
    never = [isinstance(value, ast.Constant) and value.value is not True for value in own or values]
    if file is not None and ((never and all(never)) or not (values or is_there)):
        yield f"{entrypoint.file}: {entrypoint.function} can never say ok: no step solves the task"


def _values_of_ok(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "ok":
                    yield value
        elif isinstance(node, ast.keyword) and node.arg == "ok":
            yield node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                place = target.slice if isinstance(target, ast.Subscript) else None
                if isinstance(place, ast.Constant) and place.value == "ok":
                    yield node.value


# --- what shows when it runs ---


def _check_running(code: TaskCode) -> list[str]:
    deadline_s = monotonic_s() + TIME_LIMIT_S
    calls = TaskCalls(code.source, TIME_LIMIT_S, deadline_s)
    calls.arm()
    try:
        return list(_check_worlds(code, calls))
    except End as end:
        place = (end.traceback or "").splitlines()[-3:-1]
        return [" ".join([str(end.words), *(line.strip() for line in place)])]
    finally:
        calls.disarm()


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
    manifest = code.manifest
    env = Environment(Sandbox(manifest.filesystem_roots, manifest.network_hosts))
    task: Task = calls("task_exception", "loading the task", code.execute)
    try:
        if task.setup is not None:
            calls("task_exception", "setup", task.setup, seed, env)
        if task.set_env is not None:
            calls("task_exception", "set_env", task.set_env, env)
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
