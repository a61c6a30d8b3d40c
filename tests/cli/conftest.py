import pathlib
import shutil
from collections.abc import Iterator

import pytest
from helpers.slices import ROOT, wait_for_no_orphans

from tracecore import descendants


@pytest.fixture(scope="session")
def harness_clone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A clone without a history: its files and its commit stay what they are while the tests run."""
    folder = tmp_path_factory.mktemp("harness_clone")
    for name in ("tracecore", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def adopting() -> Iterator[None]:
    """Orphans of a killed harness come to this process, which can then tell whether there are any."""
    descendants.become_subreaper()
    yield
    wait_for_no_orphans()
    descendants.become_subreaper(yes=False)
