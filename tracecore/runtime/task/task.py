"""A task's code: compiled once per process, executed afresh for every episode."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from itertools import accumulate
from types import CodeType, ModuleType
from typing import Any, cast

from tracecore.errors import MISSING, TaskError
from tracecore.record import record
from tracecore.records import TaskSource
from tracecore.runtime.env import Environment
from tracecore.runtime.sandbox import Sandbox
from tracecore.runtime.task.actions import ActionSurface, public_functions
from tracecore.runtime.task.folder import MANIFEST_NAME, compile_source, read_folder
from tracecore.runtime.task.manifest import Entrypoint, Manifest, parse_manifest

_ROOT = "tasks"
_RESERVED = sys.stdlib_module_names | {"tracecore", _ROOT, "__main__", "__init__"}


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

    def make_world(self, seed: int, call: Callable[..., object]) -> Environment:
        """The world of a seed as setup leaves it, and as the actions have been given it; ``call``
        is the way into task code.
        """
        env = Environment(Sandbox(self.manifest.filesystem_roots, self.manifest.network_hosts))
        if self.setup is not None:
            call("task_exception", "setup", self.setup, seed, env)
        if self.set_env is not None:
            call("task_exception", "set_env", self.set_env, env)
        return env


@record
class TaskCode:
    """A task that has been read and compiled; none of its code has run."""

    source: TaskSource
    manifest: Manifest
    modules: "TaskModules"

    def execute(self) -> Task:
        """Execute the task's modules afresh. They stay importable until another task is executed,
        or ``close``.

        Whatever the task's code raises on import is passed on.

        Raises:
            TaskError: A function that the manifest names is not there, or an action cannot be
                called by name.
        """
        manifest, file = self.manifest, self.manifest.action_source
        self.modules.install()
        try:
            setup = self._function(manifest.setup) if manifest.setup else None
            actions = self.modules.load(file)
            has_set_env = hasattr(actions, "set_env")
            return Task(
                manifest=manifest,
                setup=setup,
                set_env=self._function(Entrypoint(file, "set_env")) if has_set_env else None,
                surface=ActionSurface(public_functions(actions)),
                validate=self._function(manifest.validator),
                close=self.modules.uninstall,
            )
        except BaseException:
            self.modules.uninstall()
            raise

    def _function(self, entrypoint: Entrypoint) -> Callable[..., Any]:
        file, name = entrypoint.file, entrypoint.function
        value = getattr(self.modules.load(file), name, MISSING)
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
    return _compile_task(source.ref, source.folder, source.sha256)


@functools.cache
def _compile_task(ref: str, folder: str, sha256: str) -> TaskCode:
    content = read_folder(folder)
    if content.sha256 != sha256:
        expected = f"{sha256}, as it was when it was found"
        raise TaskError(folder, "sha256", content.sha256, expected)
    manifest = parse_manifest(folder, content.kept.get(MANIFEST_NAME, b""))
    codes = {
        name: compile_source(os.path.join(folder, name), data, TaskError)
        for name, data in content.kept.items()
        if name != MANIFEST_NAME
    }
    for entrypoint in filter(None, (manifest.setup, manifest.validator)):
        code = codes[entrypoint.file]
        # The module's top level mentions what it can hold, or imports `*`.
        if entrypoint.function not in code.co_names and ("*",) not in code.co_consts:
            path = os.path.join(folder, entrypoint.file)
            raise TaskError(path, entrypoint.function, MISSING, "a function of that name")
    return TaskCode(TaskSource(ref, folder, sha256), manifest, TaskModules(manifest.id, codes))


class TaskModules:
    """A task's own modules, imported from code objects in memory under
    ``tasks.<task_id>.<module>``: their finder and loader. The disk is never touched, and no
    bytecode written.

    While a task's modules are installed, all of these reach the file beside the importing one::

        from tasks.<task_id>.shared import x
        from . import shared
        from .shared import x
        import shared                # unless the standard library has a module of that name
        import folder.module         # likewise

    The modules of at most one task are installed at a time, so that two tasks with a ``shared.py``
    each never meet.

    Args:
        task_id: The task's id.
        codes: Relative POSIX path of each of its files, to its code object.
    """

    def __init__(self, task_id: str, codes: Mapping[str, CodeType]) -> None:
        self._package = f"{_ROOT}.{task_id}"
        self._codes, packages = _name_modules(self._package, codes)
        self._aliases = _name_aliases(self._package, packages | self._codes.keys())
        loader = cast("Any", self)  # typeshed still asks loaders for the load_module of old
        self._specs = {
            name: ModuleSpec(name, loader, is_package=name in packages)
            for name in (*packages, *self._codes, *self._aliases)
        }
        self._displaced: dict[str, ModuleType] = {}

    def load(self, file: str) -> ModuleType:
        """The module of one of the task's files, executed if it has not been since ``install``;
        raises what its code does.
        """
        return self._load(f"{self._package}.{file.removesuffix('.py')}")

    def install(self) -> None:
        """Make the task's modules importable, none executed yet; those of another task go."""
        for finder in tuple(sys.meta_path):
            if isinstance(finder, TaskModules):
                finder.uninstall()
        self._displaced = {name: sys.modules.pop(name) for name in self._taken_names()}
        sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Take the task's modules out of the interpreter again, and put back what stood in their
        place.
        """
        if self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        for name in self._specs:
            sys.modules.pop(name, None)
        sys.modules.update(self._displaced)
        self._displaced = {}

    def find_spec(self, name: str, *_place: object) -> ModuleSpec | None:
        """What the import system asks of every finder."""
        return self._specs.get(name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the import system asks of every loader; None means an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """What the import system asks of every loader: fill the new module."""
        name = module.__name__
        if name in self._aliases:
            # One module under two names, not two modules: the import system hands out what it finds
            # here afterwards.
            sys.modules[name] = import_module(self._aliases[name])
        elif name in self._codes:
            code = self._codes[name]
            module.__file__ = code.co_filename
            exec(code, module.__dict__)  # noqa: S102 - running the task is the point

    # What import_module does, without its locks and its search: those cost a fresh fork more than
    # the task's own code.
    def _load(self, name: str) -> ModuleType:
        if name in sys.modules:
            return sys.modules[name]
        parent, _, stem = name.rpartition(".")
        if parent:
            self._load(parent)
        spec = self._specs[name]
        module = ModuleType(name)
        module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, spec.parent
        if spec.submodule_search_locations is not None:
            module.__path__ = []
        sys.modules[name] = module
        try:
            self.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        if parent:
            setattr(sys.modules[parent], stem, module)
        return module

    def _taken_names(self) -> list[str]:
        # In a worker none is taken, and a walk through sys.modules would touch (and so copy) pages
        # of its parent's.
        tops = [name for name in (_ROOT, *self._aliases) if name in sys.modules]
        if not tops:
            return []
        prefixes = tuple(f"{name}." for name in tops)
        return [name for name in sys.modules if name in tops or name.startswith(prefixes)]


def _name_modules(
    package: str, codes: Mapping[str, CodeType]
) -> tuple[dict[str, CodeType], set[str]]:
    """The modules and the packages that the files are: ``shared.py`` is ``<package>.shared``,
    ``lib/__init__.py`` and the folder of ``lib/deep.py`` are ``<package>.lib``.
    """
    modules, packages = {}, {_ROOT, package}
    for path, code in codes.items():
        *folders, stem = path.removesuffix(".py").split("/")
        # what no import statement can name is no module
        if all(part.isidentifier() for part in (*folders, stem)):
            lying_in = list(accumulate([package, *folders], "{}.{}".format))
            packages.update(lying_in)
            modules[lying_in[-1] if stem == "__init__" else f"{lying_in[-1]}.{stem}"] = code
    return modules, packages


def _name_aliases(package: str, names: set[str]) -> dict[str, str]:
    """The plain names of what lies in the package, at any depth, but those that mean something else
    already.
    """
    start = f"{package}."
    plain = [name.removeprefix(start) for name in names if name.startswith(start)]
    return {name: start + name for name in plain if name.partition(".")[0] not in _RESERVED}
