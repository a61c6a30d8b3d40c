"""The commands that are printed for a user: to finish a slice, to run it again, and to repeat one
of its episodes.

They name the very interpreter and script that were used, by paths that work from the working
directory: where nothing is installed, there may be no ``python`` and no module ``tracecore``.
"""

import functools
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Final

from tracecore.command_line.options import words_of
from tracecore.perf.slice.options import RunOptions, SliceOptions
from tracecore.record import as_dict
from tracecore.records import EpisodeResult, JsonObject

REDACTION_VARIABLE: Final = "TRACECORE_LLM_TRACE_REDACTION"
SCRIPT: Final = "perf_harness.py"
PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def resume_command(options: SliceOptions, stamp: str) -> str:
    """The command that finishes the slice of ``stamp``."""
    return slice_command(options, "--resume", stamp)


def slice_command(options: SliceOptions, *first: str) -> str:
    """The command that runs such a slice again, with ``first`` before its options."""
    words = [*_redaction_words(None), *script_words(), *first]
    for part in (options.run, options.judge, options.output, options.cluster):
        words += words_of(part)
    return as_command(words)


def repro_of(options: RunOptions) -> Callable[[EpisodeResult | JsonObject], str]:
    """What makes the command that repeats an episode of a slice alone."""
    return functools.partial(repro_command, options=words_of(options, of_episode=True))


def repro_command(
    row: EpisodeResult | JsonObject, *, options: Sequence[str] = (), redaction: str | None = None
) -> str:
    """The command that runs the episode of ``row`` again, alone: same agent, task, seed and
    allowance.

    Args:
        row: As it came from the episode, or a row of the series document.
        options: The options of the slice that decide what one episode does, in words.
        redaction: How prompts and completions were redacted, which shows in artifacts; None for
            what this process's environment asks for.
    """
    given = row if isinstance(row, dict) else as_dict(row)
    words = [*_redaction_words(redaction), *module_words(), "run"]
    words += ["--agent", str(given["agent"]), "--task", str(given["task_ref"])]
    seed = int(given["seed"])
    # Joined by "=": a negative seed would pass for an option.
    words += [f"--seed={seed}"] if seed < 0 else ["--seed", str(seed)]
    words += options
    allow = given.get("allow") or {}
    for path in allow.get("read", ()):
        words += ["--allow-read", as_typed(path)]
    for host in allow.get("network", ()):
        words += ["--allow-network", host]
    if limits := given.get("model_limits"):
        words += ["--model-limits", ",".join(f"{name}={most}" for name, most in limits.items())]
    return as_command(words)


def show_command(path: str) -> str:
    """The command that shows the episode of an artifact step by step."""
    return as_command([*module_words(), "show", path])


def _redaction_words(redaction: str | None) -> list[str]:
    redaction = os.environ.get(REDACTION_VARIABLE) if redaction is None else redaction
    return [f"{REDACTION_VARIABLE}={redaction}"] if redaction and redaction != "off" else []


def script_words() -> list[str]:
    """How the harness is started here."""
    script = sys.argv[0] if sys.argv else ""
    if os.path.basename(script) != SCRIPT:
        beside = os.path.join(os.path.dirname(sys.executable), SCRIPT)
        clone = os.path.join(os.path.dirname(PACKAGE), "scripts", SCRIPT)
        script = clone if os.path.exists(clone) else beside
    return [_interpreter(), as_typed(script)]


def module_words() -> list[str]:
    """How ``tracecore`` is started here: as a module where it is installed, else by its folder."""
    root = os.path.dirname(PACKAGE)
    is_installed = os.path.basename(root) in {"site-packages", "dist-packages"}
    package = ["-m", "tracecore"] if is_installed else [as_typed(PACKAGE)]
    return [_interpreter(), *package]


def _interpreter() -> str:
    """The word that starts this interpreter here: ``python`` where the search path finds it by
    that, so that a command that is published can be typed on another machine as well.
    """
    found = shutil.which("python")
    # Not the file behind it: an environment of its own is known by its path.
    return "python" if found == sys.executable else as_typed(sys.executable)


def as_command(words: Sequence[str]) -> str:
    """``words`` as one types them into a shell, on one line whatever they hold."""
    return " ".join(map(_as_word, words))


def _as_word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # Newlines, and bytes that are no text, would go through no terminal as they are: $'...' names
    # each byte to the shell.
    escaped = (_as_bytes(c) if not c.isprintable() or c in "'\\" else c for c in word)
    return f"$'{''.join(escaped)}'"


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
