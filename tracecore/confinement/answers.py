"""What packages ask of the machine they run on: answered the same on every machine, as far as
Python lets it be.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, Final

# Programs and files that are answered as if none were there.
PROGRAMS: Final = frozenset(("uname", "lsb_release", "ldconfig", "gcc", "cc", "ld", "objdump"))
FILES: Final = frozenset(
    ("/etc/os-release", "/usr/lib/os-release", "/etc/lsb-release", "/proc/meminfo", "/proc/stat")
)
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
        # There is nobody to trust, and reading certificates takes each HTTP client 30 ms.
        os.environ["SSL_CERT_DIR"] = "/nonexistent"


def forget_mime_types() -> None:
    """Have ``mimetypes`` know what Python knows alone, where it could see more."""
    import mimetypes  # noqa: PLC0415 - 500 KB, on some machines alone

    mimetypes.knownfiles.clear()


class Finder:
    """For the begin of ``sys.meta_path``: what it has to say of modules that are about to be
    imported.

    Args:
        missing: The kernel's layers without which native code is refused; packages that can do
            without ctypes find that there is none, and others learn why.
        advice: What helps.
    """

    def __init__(self, missing: str, advice: str) -> None:
        self._missing, self._advice = missing, advice
        for name in [name for name in sys.modules if missing and _top(name) in BEHIND_PYTHON]:
            del sys.modules[name]

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """What import calls."""
        if self._missing and name in BEHIND_PYTHON:
            words = f"{name} is native code, without {self._missing} {self._advice}"
            raise ImportError(words, name=name)
        return self._with_temporary_folder() if name == "tempfile" else None

    def _with_temporary_folder(self) -> ModuleSpec | None:
        """It looks for a folder by writing, which is an attempt; naming one is none."""
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("tempfile")
        sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_name(module: ModuleType) -> None:
            execute(module)
            module.tempdir = TEMPORARY_FOLDER  # type: ignore[attr-defined]

        loader: Any = SimpleNamespace(create_module=lambda _spec: None)
        loader.exec_module = execute_and_name
        spec.loader = loader
        return spec


def _top(name: str) -> str:
    return name.partition(".")[0]
