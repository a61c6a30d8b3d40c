"""A task's code: compiled once per process, executed afresh for every episode."""

import os
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any

from tracecore.errors import MISSING, TaskError
from tracecore.record import record
from tracecore.records import TaskSource
from tracecore.runtime.env import Environment
from tracecore.runtime.task.actions import ActionSurface, public_functions
from tracecore.runtime.task.folder import MANIFEST_NAME, read_folder
from tracecore.runtime.task.manifest import Entrypoint, Manifest, parse_manifest
from tracecore.runtime.task.modules import TaskModules
from tracecore.runtime.task.sources import compile_source

_compiled: "dict[tuple[str, str, str], TaskCode]" = {}


@record
class Task:
    """A task whose modules have been executed: ready for one episode."""

    manifest: Manifest
    setup: Callable[[int, Environment], object] | None  # makes the world of a seed
    set_env: Callable[[Environment], object] | None  # gives the actions their world
    surface: ActionSurface
    validate: Callable[[Environment], object]
    # takes the task's modules out of the interpreter; needed only if the process lives on
    close: Callable[[], None]


@record
class TaskCode:
    """A task that has been read and compiled; none of its code has run."""

    source: TaskSource
    manifest: Manifest
    modules: TaskModules

    def execute(self) -> Task:
        """Execute the task's modules afresh. They stay importable until another task is executed,
        or ``close``.

        Whatever the task's code raises on import is passed on.

        Raises:
            TaskError: A function that the manifest names is not there, or an action cannot be
                called by name.
        """
        self.modules.install()
        try:
            return self._load()
        except BaseException:
            self.modules.uninstall()
            raise

    def _load(self) -> Task:
        setup = self._load_function(self.manifest.setup) if self.manifest.setup else None
        actions = self._load_module(self.manifest.action_source)
        has_set_env = hasattr(actions, "set_env")
        return Task(
            manifest=self.manifest,
            setup=setup,
            set_env=self._function(actions, "set_env", self.manifest.action_source)
            if has_set_env
            else None,
            surface=ActionSurface(public_functions(actions)),
            validate=self._load_function(self.manifest.validator),
            close=self.modules.uninstall,
        )

    def _load_function(self, entrypoint: Entrypoint) -> Callable[..., Any]:
        return self._function(
            self._load_module(entrypoint.file), entrypoint.function, entrypoint.file
        )

    def _load_module(self, file: str) -> ModuleType:
        return self.modules.load(file.removesuffix(".py"))

    def _function(self, module: ModuleType, name: str, file: str) -> Callable[..., Any]:
        value = getattr(module, name, MISSING)
        if not callable(value):
            # The reference, not the folder's path, and the type, not the value: these words may end
            # up in an artifact, which is the same on every machine.
            found = value if value is MISSING else type(value)
            raise TaskError(f"{self.source.ref}/{file}", name, found, "a function")
        return value  # type: ignore[no-any-return]


def compile_task(source: TaskSource) -> TaskCode:
    """The task's code, which is read once per process. Executes nothing.

    Raises:
        TaskError: The folder has changed since it was found, its manifest is wrong, one of its
            files is not Python (file and line are named), or one never mentions the function that
            the manifest wants from it.
    """
    key = (source.ref, source.folder, source.sha256)
    code = _compiled.get(key)
    if code is None:
        code = _compiled[key] = _read_task(source)
    return code


def _read_task(source: TaskSource) -> TaskCode:
    content = read_folder(source.folder)
    if content.sha256 != source.sha256:
        raise TaskError(
            source.folder, "sha256", content.sha256, f"{source.sha256}, as it was when it was found"
        )
    if MANIFEST_NAME not in content.kept:
        raise TaskError(
            os.path.join(source.folder, MANIFEST_NAME), "", MISSING, "the task's manifest"
        )
    manifest = parse_manifest(source.folder, content.kept[MANIFEST_NAME])
    codes = {
        name: compile_source(os.path.join(source.folder, *name.split("/")), data, TaskError)
        for name, data in content.kept.items()
        if name != MANIFEST_NAME
    }
    for entrypoint in filter(None, (manifest.setup, manifest.validator)):
        if not _may_define(codes[entrypoint.file], entrypoint.function):
            path = os.path.join(source.folder, entrypoint.file)
            raise TaskError(path, entrypoint.function, MISSING, "a function of that name")
    return TaskCode(source, manifest, TaskModules(manifest.id, codes))


def _may_define(code: CodeType, name: str) -> bool:
    """Whether a module with this code can hold ``name``: its top level mentions it, or imports
    ``*``.
    """
    return name in code.co_names or ("*",) in code.co_consts
