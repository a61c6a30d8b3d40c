"""What holds for every test: it leaves no process and no descriptor behind, and random examples are
drawn under the project's own profile.
"""

import functools
import gc
import multiprocessing.resource_tracker
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator

import pytest
from helpers.slices import ROOT, commit_all, wait_for_no_orphans
from hypothesis import HealthCheck, settings

from tracecore import descendants

PATIENCE_S = 60.0  # a safety net: what was killed is gone within milliseconds on a quiet machine

# Hundreds of interpreters start below the tests, and each would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No time limits: how long an example takes depends on what else the machine does.
settings.register_profile(
    "quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=150)
settings.load_profile("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep the cases of a test in one process, and files whose tests share a fixture: each process
    would make its own, or wait for another's.
    """
    from xdist.scheduler import LoadScopeScheduling

    @functools.cache
    def shared_fixture(path: str) -> str:
        text = (config.rootpath / path).read_text("utf-8")
        if "python_with_packages" in text:
            return "python_with_packages"
        return path if 'scope="module"' in text else ""

    class ByFunctionOrFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            shared = shared_fixture(nodeid.partition("::")[0])
            return shared or nodeid.partition("[")[0]

    return ByFunctionOrFile(config, log)


@pytest.fixture(scope="session")
def harness_clone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A clone of one commit: its files and its commit stay what they are while the tests run."""
    folder = tmp_path_factory.mktemp("harness_clone")
    for name in ("tracecore", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / ".gitignore").write_text("__pycache__/\n")
    commit_all(folder)
    return folder


@pytest.fixture
def adopting() -> Iterator[None]:
    """Orphans of a killed harness come to this process, which can then tell whether there
    are any.
    """
    descendants.become_subreaper()
    yield
    wait_for_no_orphans()
    descendants.become_subreaper(yes=False)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # it stays, and belongs to no test
    before = _held()
    yield
    deadline_s = time.monotonic() + PATIENCE_S
    while (after := _held()) != before and any(new := _more(before, after)):
        gc.collect()
        assert time.monotonic() < deadline_s, (
            f"left behind: processes {[_command(pid) for pid in new[0]]},"
            f" descriptors {[_target(fd) for fd in new[1]]}"
        )
        time.sleep(0.02)


def _held() -> tuple[str, list[str]]:
    """Ids of children and numbers of descriptors: two short reads, for they frame every test."""
    with open("/proc/thread-self/children") as file:
        return file.read(), os.listdir("/proc/self/fd")


def _more(before: tuple[str, list[str]], after: tuple[str, list[str]]) -> tuple[set[str], set[str]]:
    tracker = multiprocessing.resource_tracker._resource_tracker._pid
    children = set(after[0].split()) - set(before[0].split()) - {str(tracker)}
    return children, set(after[1]) - set(before[1])


def _command(pid: str) -> str:
    try:
        return f"{pid} {pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()[:100]!r}"
    except OSError:
        return pid


def _target(fd: str) -> str:
    try:
        return f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}"
    except OSError:
        return fd
