import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "tracecore"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in {"agents", "tasks"})
ALLOWED = {  # floor -> floors it may import; "" is the ground
    "": {""},
    "runtime": {"", "runtime"},
    "batch": {"", "batch"},
    "perf": {"", "perf", "runtime", "batch"},
    "scripts": {"", "perf"},
}
JOIN_RUNTIME_TO_BATCH = {"tracecore.perf.harness", "tracecore.perf.node_runner"}  # of this machine, of a cluster's node
# Rooms that only an option opens: whoever needs one imports it where it is needed, so that a slice without it starts sooner.
ON_REQUEST = {f"tracecore.perf.{name}" for name in ("baseline", "bundle", "cluster_run", "compare", "report", "verify")}
FRONT_DOOR = "tracecore.__main__"  # `python -m tracecore`: a command line, which stands above every floor


def name_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "scripts":
        return "scripts"
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def imports_of(path: pathlib.Path, *, nested: bool) -> set[str]:
    """The modules that a file imports at its top level, or (nested) inside its functions."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(child) for function in functions for child in ast.walk(function)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if (id(node) in inside) is not nested:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which floor it reaches"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / (full.replace(".", "/") + ".py")).exists() or (ROOT / full.replace(".", "/")).is_dir()
                found.add(full if is_module else str(node.module))
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_its_own_floor_and_those_below(path: pathlib.Path) -> None:
    module = name_of(path)
    if module == FRONT_DOOR:
        return
    allowed = ALLOWED[floor_of(module)]
    own = {name for name in imports_of(path, nested=False) if name.split(".")[0] == "tracecore"}
    assert {name for name in own if floor_of(name) not in allowed} == set()


@pytest.mark.parametrize("path", [p for p in MODULES if floor_of(name_of(p)) == "perf"], ids=name_of)
def test_runtime_meets_batch_in_two_places_alone(path: pathlib.Path) -> None:
    floors = {floor_of(name) for name in imports_of(path, nested=False)}
    assert name_of(path) in JOIN_RUNTIME_TO_BATCH or not {"runtime", "batch"} <= floors


@pytest.mark.parametrize("path", [p for p in MODULES if floor_of(name_of(p)) in {"", "runtime", "batch"}], ids=name_of)
def test_the_lower_floors_need_the_standard_library_alone(path: pathlib.Path) -> None:
    outside = {name.split(".")[0] for name in imports_of(path, nested=False)} - {"tracecore"}
    assert outside <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_records_are_our_own(path: pathlib.Path) -> None:
    assert "dataclasses" not in imports_of(path, nested=False), "use tracecore.record, which loads a tenth of it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_import_only_rooms_that_an_option_opens(path: pathlib.Path) -> None:
    nested = {name for name in imports_of(path, nested=True) if name.split(".")[0] == "tracecore"}
    assert nested <= ON_REQUEST or name_of(path) == FRONT_DOOR


def test_a_plain_slice_loads_no_room_that_only_an_option_needs() -> None:
    code = f"import sys, tracecore.perf.harness; print(sorted({ON_REQUEST!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_the_imports_have_no_cycle() -> None:
    graph = {name_of(path): imports_of(path, nested=False) for path in MODULES}
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
    names = imports_of(path, nested=False) | imports_of(path, nested=True)
    own = {name for name in names if name.split(".")[0] == "tracecore"}
    assert {name for name in own if floor_of(name) not in ALLOWED["scripts"]} == set()
