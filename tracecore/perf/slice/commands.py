"""The command that repeats one episode by hand."""

import os
import shlex
from collections.abc import Sequence
from typing import Any, Final

from tracecore.records import EpisodeResult, JsonObject

REDACTION_VARIABLE: Final = "TRACECORE_LLM_TRACE_REDACTION"


def repro_command(
    row: EpisodeResult | JsonObject, *, options: Sequence[str] = (), redaction: str | None = None
) -> str:
    """What to type to run the episode of ``row`` again, alone: same agent, task, seed and
    allowance.

    Args:
        row: As it came from the episode, or a row of the series document.
        options: What else the slice was told that an episode can tell, in words: see
            ``options.episode_words``.
        redaction: What the slice's environment said of prompts and completions, which shows in
            artifacts; None for what this process's own says.
    """
    redaction = os.environ.get(REDACTION_VARIABLE) if redaction is None else redaction
    words = [f"{REDACTION_VARIABLE}={redaction}"] if redaction and redaction != "off" else []
    words += ["python", "-m", "tracecore", "run"]
    words += ["--agent", str(_value(row, "agent")), "--task", str(_value(row, "task_ref"))]
    # Joined by "=": a negative seed would pass for an option.
    words += (
        [f"--seed={_value(row, 'seed')}"]
        if int(_value(row, "seed")) < 0
        else ["--seed", str(_value(row, "seed"))]
    )
    words += options
    allow = _value(row, "allow") or {}
    for path in allow.get("read", ()):
        words += ["--allow-read", as_typed(path)]
    for host in allow.get("network", ()):
        words += ["--allow-network", host]
    return as_command(words)


def as_command(words: Sequence[str]) -> str:
    """``words`` as one types them into a shell, on one line whatever they hold."""
    return " ".join(map(_as_word, words))


def _as_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # Newlines, and bytes that are no text, would go through no terminal as they are: $'...' names
    # each byte to the shell.
    return (
        "$'" + "".join(_as_bytes(c) if not c.isprintable() or c in "'\\" else c for c in word) + "'"
    )


def _as_bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def as_typed(path: str) -> str:
    """A path as one would type it here: relative where it is below the working directory, else as
    it is.
    """
    if not os.path.isabs(path):
        return path
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working directory is gone; another drive
        return path
    return path if relative.split(os.sep, 1)[0] == os.pardir else relative


def _value(row: EpisodeResult | JsonObject, name: str) -> Any:
    return row.get(name) if isinstance(row, dict) else getattr(row, name)
