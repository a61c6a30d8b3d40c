"""Builds the distribution: setuptools, with nothing left over from an earlier build, and the commit
that it is built from.

Named in ``pyproject.toml`` as the build backend. setuptools copies into ``build/lib`` and packs
what it finds there, modules that have been deleted since included.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.sdist import sdist

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OWN_PATH = os.path.relpath(__file__, ROOT)


def build_wheel(
    wheel_directory: str,
    config_settings: Any = None,
    metadata_directory: str | None = None,
) -> str:
    """As PEP 517 has it."""
    shutil.rmtree(os.path.join(ROOT, "build", "lib"), ignore_errors=True)
    with commit_written():
        return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """As PEP 517 has it; the archive holds what builds it."""
    add_defaults = sdist.add_defaults

    def add_defaults_and_this(self: Any) -> None:
        add_defaults(self)
        self.filelist.append(OWN_PATH)

    sdist.add_defaults = add_defaults_and_this
    try:
        with commit_written():
            return str(build_meta.build_sdist(sdist_directory, config_settings))
    finally:
        sdist.add_defaults = add_defaults


@contextlib.contextmanager
def commit_written() -> Iterator[None]:
    """Have the package hold the commit of its clone for as long as it is packed; outside of a
    clone it keeps what it has.
    """
    sys.path.insert(0, ROOT)
    try:
        from tracecore.perf.host import provenance  # noqa: PLC0415  (not on the path before)
    finally:
        sys.path.remove(ROOT)
    state = provenance.git_state()
    path = os.path.join(ROOT, "tracecore", provenance.BUILT_FROM)
    if state["git_sha"] is None or os.path.exists(path):
        yield
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(state, file)
        yield
    finally:
        os.unlink(path)
