"""The traceback of an exception of agent or task code: its author's own frames, and no path of this
machine.
"""

import os
from types import FrameType, TracebackType
from typing import Final

from tracecore.runtime.foreign.stable_text import PACKAGE_FOLDER, describe_error

FRAMES_MOST: Final = 20
TRACEBACK_MOST: Final = 4_000  # characters
LINE_MOST: Final = 160  # characters of a line of source
HEAD: Final = "Traceback (most recent call last):\n"


def own_traceback(error: BaseException, folder: str) -> str | None:
    """The frames of code below ``folder``, the last of them, and the exception; ``None`` if there
    are none.

    Args:
        error: The exception, which carries its traceback.
        folder: Of the agent's file, or of the task. Paths are relative to it.
    """
    frames = [
        _frame_text(frame, line, path)
        for frame, line in _walk(error.__traceback__)
        if (path := _own_path(frame.f_code.co_filename, folder))
    ]
    if not frames:
        return None
    kind, message = describe_error(error, [(folder, "")])
    last = f"{kind}: {message}" if message else kind
    kept = frames[-FRAMES_MOST:]
    while len(HEAD) + sum(map(len, kept)) + len(last) > TRACEBACK_MOST and len(kept) > 1:
        kept.pop(0)
    return (HEAD + "".join(kept) + last)[:TRACEBACK_MOST]


def _walk(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


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
            for place, text in enumerate(file, 1):
                if place == number:
                    return text.strip()[:LINE_MOST]
    except OSError:
        pass
    return ""
