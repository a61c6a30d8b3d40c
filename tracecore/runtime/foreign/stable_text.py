"""The failures of agents and tasks, in words that are the same in every run, wherever
agent, task and interpreter lie; and of a traceback, its author's own frames.
"""

import itertools
import os
import re
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Final

import tracecore
from tracecore.errors import one_line

ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")
ADDRESS_IN_BYTES: Final = re.compile(ADDRESS.pattern.encode())
WORDS_MOST: Final = 600
MESSAGE_MOST: Final = 500  # characters of an exception's message
LOOKED_AT_MOST: Final = 1 << 16  # characters: what lies beyond is cut off anyway
FRAMES_MOST: Final = 20
TRACEBACK_MOST: Final = 4_000  # characters
LINE_MOST: Final = 160  # characters of a line of source
HEAD: Final = "Traceback (most recent call last):\n"
PACKAGE_FOLDER: Final = os.path.dirname(os.path.abspath(tracecore.__file__))

Place = tuple[str, str]  # a folder, and what stands for it


def cut_words(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, without memory addresses.

    These are taken out before it is cut: what is left of one that is cut through would differ from
    run to run.
    """
    return ADDRESS.sub("0x…", text[:LOOKED_AT_MOST])[:most]


def stable_words(text: str) -> str:
    """A failure in words that are the same in every run: no memory address, bounded length."""
    if len(text) <= WORDS_MOST and "0x" not in text:
        return text
    text = cut_words(text, WORDS_MOST + 1)
    return text if len(text) <= WORDS_MOST else text[: WORDS_MOST - 1] + "…"


def cut_bytes(data: bytes, most: int) -> bytes:
    """The same of what is no text."""
    return ADDRESS_IN_BYTES.sub(b"0x...", data[:LOOKED_AT_MOST])[:most]


def describe_error(error: BaseException, places: Iterable[Place]) -> tuple[str, str]:
    """Type and message of an exception, whatever its ``__str__`` does; the folders of ``places``
    and of the interpreter go by what stands for them.
    """
    kind = type(error).__name__[:80]
    try:
        words = str(error)[:LOOKED_AT_MOST]
        if isinstance(error, ImportError) and error.path:
            words = words.replace(f" ({error.path})", "")
        # cut last, so that the length of a folder's name does not show
        return kind, cut_words(without_places(words, places), MESSAGE_MOST)
    except BaseException:  # the class is not ours
        return kind, "(its message cannot be read)"


def without_places(text: str, places: Iterable[Place]) -> str:
    """``text`` with what stands for each folder in its place; ``""`` makes the paths below relative
    ones.
    """
    if "/" not in text:
        return text
    for folder, name in (*places, *library_places()):
        if len(folder) < 2:
            continue  # everything lies below the root
        spellings = {folder, os.path.realpath(folder)}
        # a message may have made one line of it, or shown its repr
        spellings |= {shown for path in spellings for shown in (one_line(path), repr(path)[1:-1])}
        for spelling in sorted(spellings, key=len, reverse=True):
            whole = r"(?<![\w.])" + re.escape(spelling)
            inner = f"{name}/" if name else ""
            text = re.sub(whole + "/", lambda _match, inner=inner: inner, text)  # type: ignore[misc]
            text = re.sub(whole + r"(?![\w.\-])", lambda _match, name=name: name or ".", text)  # type: ignore[misc]
    return text


def library_places() -> list[Place]:
    """Where this package, the interpreter's library and installed packages lie."""
    installed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return [
        *((path, "site-packages") for path in installed),
        (os.path.dirname(os.path.abspath(os.__file__)), "lib"),
        (PACKAGE_FOLDER, "tracecore"),
    ]


def without_strings(data: bytes) -> bytes:
    """JSON without what stands in its strings, or between two quotes of what is none."""
    parts = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    return b"".join(parts[::2])


def own_traceback(error: BaseException, folder: str) -> str | None:
    """The frames of code below ``folder``, the last of them, and the exception; ``None`` if there
    are none.

    Args:
        error: The exception, which carries its traceback.
        folder: Of the agent's file, or of the task. Paths are relative to it.
    """
    frames: list[str] = []
    entry = error.__traceback__
    while entry is not None:
        if path := _own_path(entry.tb_frame.f_code.co_filename, folder):
            frames.append(_frame_text(entry.tb_frame, entry.tb_lineno, path))
        entry = entry.tb_next
    if not frames:
        return None
    kind, message = describe_error(error, [(folder, "")])
    last = f"{kind}: {message}" if message else kind
    kept = frames[-FRAMES_MOST:]
    while len(HEAD) + sum(map(len, kept)) + len(last) > TRACEBACK_MOST and len(kept) > 1:
        kept.pop(0)
    return (HEAD + "".join(kept) + last)[:TRACEBACK_MOST]


def _own_path(path: str, folder: str) -> str:
    """``path`` below ``folder``; "" for what lies elsewhere, and for libraries and the runtime."""
    if not path.startswith(os.path.join(folder, "")):
        return ""
    relative = path[len(os.path.join(folder, "")) :]
    is_ours = path.startswith(f"{PACKAGE_FOLDER}/") and not f"{folder}/".startswith(
        f"{PACKAGE_FOLDER}/"
    )
    is_library = "site-packages/" in relative or path.startswith(f"{os.path.dirname(os.__file__)}/")
    return "" if is_ours or is_library else relative


def _frame_text(frame: FrameType, line: int, path: str) -> str:
    source = _line_of(frame.f_code.co_filename, line)
    head = f'  File "{path}", line {line}, in {frame.f_code.co_name}\n'
    return head + (f"    {source}\n" if source else "")


def _line_of(path: str, number: int) -> str:
    # `linecache` reads as much, and brings `tokenize` and `re` into every agent that fails.
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next(itertools.islice(file, number - 1, None), "").strip()[:LINE_MOST]
    except OSError:
        return ""
