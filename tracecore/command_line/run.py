"""The way of both command lines: streams, a parser, a command, and errors that become exit codes.

This module and both command lines can be imported by any Python 3, so that a wrong one is refused
in one line; what needs Python 3.11 is imported once that is known.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracecore.command_line.parser import Parser

PYTHON_NEEDED = (3, 11)
# the reader of stdout wanted to keep what it holds, and has not got it
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def run_command_line(
    program: str,
    build_parser: Callable[[], Parser],
    argv: Sequence[str] | None,
    *,
    errors_on_stdout: bool,
) -> int:
    """Do what the command line asks; the exit code.

    Args:
        program: How a complaint begins.
        build_parser: Makes the parser. Each command sets ``do``, a function of the parsed arguments
            that gives the exit code and what stdout is to hold: a document, a text, or None.
        argv: The words; None for those of this process, whose streams and signals are then taken
            care of as well.
        errors_on_stdout: Whether a complaint is a document on stdout, too.
    """
    is_process = argv is None
    if is_process:
        open_closed_streams()
    words = sys.argv[1:] if argv is None else list(argv)
    refusal = refuse_surroundings()
    exit_code, text, complaint = (2, "", refusal) if refusal else _attempt(build_parser, words)
    if complaint:
        from tracecore.errors import one_line  # noqa: PLC0415  (see the top)

        write(sys.stderr, f"{program}: {one_line(complaint)}\n")
        if errors_on_stdout:
            text = _as_text({"ok": False, "exit_code": exit_code, "error": complaint})
    if is_process and not refusal:
        # all is done and written: what is printed of it, and the exit code, shall agree with that
        ignore_interrupts()
    if (trouble := write(sys.stdout, text)) in NO_ROOM and errors_on_stdout:
        exit_code = 4
        write(sys.stderr, f"{program}: stdout: cannot be written: {os.strerror(trouble)}\n")
    # Whatever stderr still holds is tried now: a failure at interpreter exit would replace the exit
    # code by 120.
    write(sys.stderr, "")
    return exit_code


def refuse_surroundings() -> str | None:
    """Why nothing can run here, in one line; None where it can."""
    found = tuple(sys.version_info[:2])
    if found < PYTHON_NEEDED:
        needed = ".".join(map(str, PYTHON_NEEDED))
        return f"found Python {found[0]}.{found[1]} ({sys.executable}), expected {needed} or later"
    if sys.platform != "linux":
        return f"found the operating system {sys.platform!r}, expected 'linux'"
    return None


def _attempt(
    build_parser: Callable[[], Parser], argv: Sequence[str]
) -> tuple[int, str, str | None]:
    """Exit code, text for stdout, and complaint; the one place where an error becomes a code."""
    from tracecore import exit_codes  # noqa: PLC0415  (see the top)
    from tracecore.errors import InputError, TracecoreError, UsageError  # noqa: PLC0415

    try:
        arguments = build_parser().parse(argv)
        exit_code, answer = arguments.do(arguments)
        return exit_code, _as_text(answer), None
    except SystemExit as leaving:  # --help and --version have printed what they had to
        return int(leaving.code or 0), "", None
    except (UsageError, InputError) as error:
        return exit_codes.EXIT_BAD_INPUT, "", str(error)
    except TracecoreError as error:
        return exit_codes.EXIT_UNWRITTEN, "", str(error)
    except KeyboardInterrupt:
        return exit_codes.EXIT_INTERRUPTED, "", "interrupted"
    # whatever it is, the caller gets one line and a known exit code
    except Exception as error:
        write(sys.stderr, traceback.format_exc())
        return exit_codes.EXIT_UNWRITTEN, "", f"unexpected {type(error).__name__}: {error}"


def _as_text(answer: Any) -> str:
    """What stdout holds: a document in ASCII, which any terminal, pipe and locale carries; for a
    person it is indented.
    """
    if answer is None:
        return ""
    if isinstance(answer, str):
        return f"{answer}\n"
    indent = 2 if sys.stdout.isatty() else None
    return json.dumps(answer, allow_nan=False, indent=indent) + "\n"


# --- streams ----------------------------------------------------------------------------------


def program_name() -> str:
    """How complaints of ``tracecore`` begin: as it was started."""
    is_script = os.path.basename(sys.argv[0]) == "tracecore"
    return "tracecore" if is_script else "python -m tracecore"


def open_closed_streams() -> None:
    """Point stdin, stdout and stderr at nothing where they are closed, and let none of them fail on
    a character.

    Otherwise the next file to be opened takes a closed one's number, and is written into by
    whatever means stdout.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (it lives as long as we do)
        getattr(sys, name).reconfigure(errors="backslashreplace")


def ignore_interrupts() -> None:
    """Ignore the signals that ask for an end; Python keeps this up until its process has ended."""
    with contextlib.suppress(ValueError):  # not in the main thread: signals are the caller's
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def write_line(line: str) -> None:
    """Write a line to stderr."""
    write(sys.stderr, f"{line}\n")


def write(stream: Any, text: str) -> int:
    """Write and flush; a stream without a reader is pointed at nothing, since the results are in
    their files.

    Gives the number of the error, or 0.
    """
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return getattr(error, "errno", None) or 0
    return 0
