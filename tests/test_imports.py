"""The floors of the house, the order of its wings, and which doors may be opened late."""

import ast
import functools
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "tracecore"
PATHS = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in {"agents", "tasks"}
)
ALLOWED = {  # floor -> floors it may import; "" is the ground
    "": {""},
    "command_line": {"", "command_line"},
    "confinement": {"", "confinement"},
    "gateway": {"", "gateway"},
    "runtime": {"", "confinement", "gateway", "runtime"},
    "batch": {"", "batch"},
    "perf": {"", "command_line", "perf", "confinement", "gateway", "runtime", "batch"},
    "scripts": {"", "command_line", "perf"},
    "commands": {"", "command_line", "commands", "perf", "confinement", "runtime"},
}
WINGS = {  # of perf: a wing imports itself and those of smaller numbers
    "host": 0,
    "slice": 0,
    "documents": 1,
    "cluster": 2,
    "compare": 2,
    "findings": 2,
    "judge": 3,
    "show": 4,
    "local_engine": 5,
    "resume": 5,
    "prepare": 6,
    "reduce": 7,
    "harness": 8,
    "repeat": 9,
}
# Of this machine, and of a cluster's node.
JOIN_RUNTIME_TO_BATCH = {"tracecore.perf.local_engine", "tracecore.perf.cluster.chunk_process"}
# Rooms that only an option opens: whoever needs one imports it where it is needed, so that a slice
# without it starts sooner.
ON_REQUEST = {
    f"tracecore.gateway.{name}" for name in ("process", "server", "session", "upstream")
} | {
    f"tracecore.perf.{name}"
    for name in (
        "cluster.engine",
        "compare.baseline",
        "compare.comparison",
        "judge.verify",
        "show.report",
    )
}
ON_REQUEST |= {f"tracecore.runtime.work.{name}" for name in ("counter", "second_pass")}
# `python -m tracecore`: a command line, which stands above every floor.
FRONT_DOOR = "tracecore.__main__"
# What a wrong Python can import, to be refused in one line.
FOR_ANY_PYTHON = {FRONT_DOOR, "tracecore.command_line.run"}


def name_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "scripts":
        return "scripts"
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def wing_of(module: str) -> str:
    return module.split(".")[2] if module.startswith("tracecore.perf.") else ""


def imports_of(path: pathlib.Path, *, nested: bool) -> frozenset[str]:
    """The modules that a file imports at its top level, or (nested) inside its functions."""
    return read_imports(path)[nested]


@functools.cache
def read_imports(path: pathlib.Path) -> tuple[frozenset[str], frozenset[str]]:
    found: tuple[set[str], set[str]] = (set(), set())
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text("utf-8")), False)]
    while todo:
        node, inside = todo.pop()
        if isinstance(node, ast.Import):
            found[inside].update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which floor it reaches"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                place = ROOT / full.replace(".", "/")
                is_module = place.with_suffix(".py").exists() or place.is_dir()
                found[inside].add(full if is_module else str(node.module))
        elif not isinstance(node, ast.expr):  # no expression holds an import
            inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            todo += [(child, inside) for child in ast.iter_child_nodes(node)]
    return frozenset(found[False]), frozenset(found[True])


def own_imports_of(path: pathlib.Path, *, nested: bool) -> set[str]:
    return {name for name in imports_of(path, nested=nested) if name.split(".")[0] == "tracecore"}


def test_a_module_imports_only_its_own_floor_and_those_below() -> None:
    wrong = {
        (name_of(path), name)
        for path in PATHS
        if name_of(path) != FRONT_DOOR
        for name in own_imports_of(path, nested=False)
        if floor_of(name) not in ALLOWED[floor_of(name_of(path))]
    }
    assert wrong == set()


def test_a_wing_imports_itself_and_those_before_it() -> None:
    wrong = set()
    for path in PATHS:
        wing = wing_of(name_of(path))
        for nested in (False, True):
            for name in own_imports_of(path, nested=nested):
                other = wing_of(name)
                if wing and other and other != wing and WINGS[other] >= WINGS[wing]:
                    wrong.add((name_of(path), name))
    assert wrong == set()


def test_every_room_of_perf_is_in_a_wing() -> None:
    assert {wing_of(name_of(path)) for path in PATHS} - {""} == set(WINGS)


def test_no_folder_is_fuller_than_fourteen_files() -> None:
    folders: dict[pathlib.Path, int] = {}
    for path in PATHS:
        if path.name not in {"__init__.py", "__main__.py"}:
            folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {folder: count for folder, count in folders.items() if count > 14} == {}


def test_runtime_meets_batch_in_two_places_alone() -> None:
    both = set()
    for path in PATHS:
        floors = {floor_of(name) for name in imports_of(path, nested=False)}
        if floor_of(name_of(path)) == "perf" and {"runtime", "batch"} <= floors:
            both.add(name_of(path))
    assert both == JOIN_RUNTIME_TO_BATCH


def test_the_lower_floors_need_the_standard_library_alone() -> None:
    for path in PATHS:
        # The calls themselves need the models extra, in the gateway's own process.
        is_upstream = name_of(path) == "tracecore.gateway.upstream"
        if floor_of(name_of(path)) != "perf" and not is_upstream:
            outside = {name.split(".")[0] for name in imports_of(path, nested=False)}
            assert outside - {"tracecore"} <= set(sys.stdlib_module_names), path


def test_records_are_our_own() -> None:
    # tracecore.record loads a tenth of what dataclasses does.
    assert [path for path in PATHS if "dataclasses" in imports_of(path, nested=False)] == []


def test_functions_import_only_rooms_that_an_option_opens() -> None:
    for path in PATHS:
        if name_of(path) not in FOR_ANY_PYTHON and floor_of(name_of(path)) != "commands":
            assert own_imports_of(path, nested=True) <= ON_REQUEST, path


def test_a_plain_slice_loads_no_room_that_only_an_option_needs() -> None:
    code = f"import sys, tracecore.perf.harness; print(sorted({ON_REQUEST!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


def test_the_imports_have_no_cycle() -> None:
    graph = {name_of(path): imports_of(path, nested=False) for path in PATHS}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module in done or module not in graph:
            return
        for imported in graph[module]:
            visit(imported, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_scripts_import_perf_and_the_ground_alone() -> None:
    path = ROOT / "scripts" / "perf_harness.py"
    names = own_imports_of(path, nested=False) | own_imports_of(path, nested=True)
    assert {name for name in names if floor_of(name) not in ALLOWED["scripts"]} == set()


def test_no_file_is_longer_than_350_lines() -> None:
    lines = {name_of(path): path.read_text("utf-8").count("\n") for path in PATHS}
    assert {name: count for name, count in lines.items() if count > 350} == {}


def test_no_function_takes_more_than_six_parameters() -> None:
    wide = set()
    for path in PATHS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                if len(names) - (names[:1] in (["self"], ["cls"])) > 6:
                    wide.add(f"{name_of(path)}.{node.name}")
    assert wide == set()
