"""Where this interpreter's library lies, and what it is linked to.

The folders are named by the interpreter, never by ``sys.path``: what happens to be importable
(``PYTHONPATH``, the working folder, a ``.pth`` file) is not thereby part of the library.
"""

import contextlib
import os
import site
import sys
from collections.abc import Iterable
from typing import Final

PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOADER_FOLDERS: Final = ("/lib", "/usr/lib")
WIDE_LOADER_FOLDERS: Final = ("/lib64", "/usr/lib64")
LOADER_CACHE: Final = "/etc/ld.so.cache"
LOCAL_LIBRARIES: Final = "/usr/local/lib"  # of which only the shared objects are the loader's


def library_folders() -> list[str]:
    """Python's own library, the packages installed into this interpreter or its virtual
    environment, and this package.
    """
    beside = os.path.dirname(PACKAGE)
    return [
        os.path.dirname(os.__file__),
        *site.getsitepackages(_prefixes()),
        beside if _is_installed_in(beside) else PACKAGE,
    ]


def loader_folders() -> list[str]:
    """Folders of the system's shared objects, as narrow as the system keeps them."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    narrow = [os.path.join(folder, multiarch) for folder in LOADER_FOLDERS if multiarch]
    narrow = [folder for folder in narrow if os.path.isdir(folder)]
    wide = [folder for folder in WIDE_LOADER_FOLDERS if os.path.isdir(folder)]
    return [*(narrow or LOADER_FOLDERS), *wide]


def loader_files() -> list[str]:
    """The loader's cache, and the shared objects that lie beside what agents may not read."""
    folders = {LOCAL_LIBRARIES, *(os.path.join(prefix, "lib") for prefix in _prefixes())}
    folders.add(os.path.join(sys.base_prefix, "lib"))
    return [LOADER_CACHE, *(path for folder in sorted(folders) for path in _shared_objects(folder))]


def installed_tasks(folders: Iterable[str]) -> list[str]:
    """The bundled tasks of every installation of this project in or below library folders."""
    roots = [os.path.dirname(PACKAGE), *folders]
    for folder in folders:
        with contextlib.suppress(OSError):
            pythons = [name for name in sorted(os.listdir(folder)) if name.startswith("python")]
            roots += [os.path.join(folder, name) for name in pythons]
    places = (
        os.path.join(root, part, "tracecore", "tasks")
        for root in roots
        for part in ("", "site-packages", "dist-packages")
    )
    return [place for place in dict.fromkeys(places) if os.path.isdir(place)]


def _prefixes() -> list[str]:
    # A lean interpreter runs without `site`, which before 3.14 is what finds a virtual environment.
    folder = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    try:
        with open(os.path.join(folder, "pyvenv.cfg"), encoding="utf-8") as file:
            words = file.read().lower().replace(" ", "")
    except (OSError, ValueError):
        return list(dict.fromkeys((sys.prefix, sys.exec_prefix)))
    shared = "include-system-site-packages=true" in words
    return list(dict.fromkeys([folder, *([sys.base_prefix, sys.base_exec_prefix] * shared)]))


def _is_installed_in(folder: str) -> bool:
    with contextlib.suppress(OSError):
        return any(
            name.startswith("tracecore-") and name.endswith(".dist-info")
            for name in os.listdir(folder)
        )
    return False


def _shared_objects(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        names = [name for name in sorted(os.listdir(folder)) if ".so" in name]
        return [os.path.join(folder, name) for name in names]
    return []
