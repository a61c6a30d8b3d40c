"""What packages ask of the machine they run on: answered the same on every machine, as far as
Python lets it be.
"""

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

# Programs and files that are answered as if none were there.
PROGRAMS: Final = frozenset(("uname", "lsb_release", "ldconfig", "gcc", "cc", "ld", "objdump"))
FILES: Final = frozenset(
    ("/etc/os-release", "/usr/lib/os-release", "/etc/lsb-release", "/proc/meminfo", "/proc/stat")
)
HOME: Final = "/nonexistent"  # of agents: what they look for there is not there
# What is bound to learn whether there is such a network.
ADDRESSES: Final = frozenset((("::1", 0),))
# One core and the same sums everywhere; time zones from packages alone.
ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONTZPATH": "",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # not the network's
}
TEMPORARY_FOLDER: Final = "/tmp"  # noqa: S108 - named, and never written
# Modules of Python's own library that do things of which Python raises no event.
BEHIND_PYTHON: Final = frozenset(
    ("ctypes", "_ctypes", "readline", "_dbm", "_gdbm", "_posixshmem", "_testcapi")
)


def prepare(*, has_network: bool) -> None:
    """Before packages are imported.

    Args:
        has_network: Whether hosts may be reached, to which certificates belong.
    """
    os.environ.update(ENVIRONMENT)
    if not has_network:
        # There is no host to trust, and reading certificates takes each HTTP client 30 ms.
        os.environ["SSL_CERT_DIR"] = HOME


def forget_mime_types() -> None:
    """Have ``mimetypes`` know what Python knows alone, where it could see more."""
    import mimetypes  # noqa: PLC0415 - 500 KB, on some machines alone

    mimetypes.knownfiles.clear()


class Finder:
    """For the begin of ``sys.meta_path``.

    Args:
        refusal: Why native code is refused, if it is: packages that can do without ctypes find
            that there is none, and others learn why.
    """

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        for name in list(sys.modules) if refusal else ():
            if name.partition(".")[0] in BEHIND_PYTHON:
                del sys.modules[name]

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """What import calls."""
        if self._refusal and name in BEHIND_PYTHON:
            raise ImportError(f"{name} is {self._refusal}", name=name)
        spec = PathFinder.find_spec(name) if name == "tempfile" else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_name(module: ModuleType) -> None:
                # It would look for a folder by writing, which is an attempt; naming one is none.
                execute(module)
                module.tempdir = TEMPORARY_FOLDER  # type: ignore[attr-defined]

            spec.loader.exec_module = execute_and_name  # type: ignore[method-assign]
        return spec
