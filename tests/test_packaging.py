"""The wheel holds what is there, and what is installed from it runs."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers.slices import ROOT, commit_all

pytest.importorskip("setuptools", minversion="70.1")
BUILD = "import sys; sys.path.insert(0, 'scripts/dev'); import build_backend as b; b.build_{}({!r})"
DATA_SUFFIXES = {".py", ".toml", ".json", ".html", ".typed"}


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "clone"
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "built_from.json")
    for name in ("scripts", "tracecore"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    commit_all(folder)
    return folder


def build(clone: pathlib.Path, kind: str = "wheel") -> pathlib.Path:
    out = clone.parent / "dist"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [sys.executable, "-c", BUILD.format(kind, str(out))]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


def packed(wheel: pathlib.Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("tracecore/")}


def lying(clone: pathlib.Path) -> set[str]:
    return {
        str(path.relative_to(clone))
        for path in (clone / "tracecore").rglob("*")
        if path.suffix in DATA_SUFFIXES
    }


@pytest.mark.slow
def test_a_wheel_holds_the_package_as_it_is_now_and_its_commit(clone: pathlib.Path) -> None:
    gone = clone / "tracecore" / "gone.py"
    gone.write_text("")
    assert packed(build(clone)) == lying(clone) | {"tracecore/built_from.json"}
    gone.unlink()
    assert packed(build(clone)) == lying(clone) | {"tracecore/built_from.json"}
    assert not (clone / "tracecore" / "built_from.json").exists()


@pytest.mark.slow
def test_a_wheel_of_the_source_archive_is_the_same(clone: pathlib.Path) -> None:
    from_clone = packed(build(clone))
    source = build(clone, "sdist")
    shutil.unpack_archive(source, clone.parent / "source", filter="data")
    (folder,) = (clone.parent / "source").iterdir()
    assert packed(build(folder)) == from_clone


@pytest.mark.slow
def test_what_is_installed_runs_in_an_empty_folder_under_the_commit_of_its_clone(
    clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    wheel = build(clone)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    bin_ = environment / "bin"
    pip = [sys.executable, "-m", "pip", "--python", bin_ / "python"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    slice_ = [bin_ / "perf_harness.py", "--episodes", "2", "--workers", "1", "--strict-spec"]
    done = subprocess.run(slice_, cwd=empty, check=True, capture_output=True, text=True)
    assert "commit is not known" not in done.stderr
    artifacts = sorted((empty / ".agent_bench" / "runs").iterdir())
    check = [bin_ / "tracecore", "check", *artifacts]
    subprocess.run(check, cwd=empty, check=True, capture_output=True)
