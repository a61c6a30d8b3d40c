"""Packages that only one option needs."""

import importlib.util
import shlex
import sys

from tracecore.errors import OptionError


def require_packages(option: str, *names: str) -> None:
    """Refuse an option whose packages are not installed, before anything runs.

    Raises:
        OptionError: One is missing; with the command that installs it for this very interpreter.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        install = shlex.join([sys.executable or "python", "-m", "pip", "install", *missing])
        raise OptionError(option, "", f"no {' and no '.join(missing)}", install)
