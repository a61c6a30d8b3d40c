"""Options of a command line: what one is, records that are made of them, and readers of values.

An option is declared in one place, as the field of a record::

    @option_record
    class RunOptions:
        episodes: int = option("--episodes", "N", whole_number(1, 9), 3, "how many episodes")

The parser, the record's defaults and the commands that are printed for a user all come from there.
"""

import argparse
import contextlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast, dataclass_transform

from tracecore.errors import OptionError
from tracecore.record import record

T = TypeVar("T")

UNITS: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# 2G and 2GB are what people type for memory; both mean the unit that memory is counted in
SPELLINGS: Final = {
    spelling.lower(): size
    for unit, size in UNITS.items()
    for spelling in {unit, unit.replace("i", ""), unit[:1]}
}
FLAG, ONE, APPEND, EXTEND = "store_true", "store", "append", "extend"


def as_word(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


@record
class Option:
    """One option of a command."""

    flag: str  # "--episodes"; a name without dashes is a positional argument
    metavar: str | None = None
    read: Callable[[str], Any] | None = None
    default: Any = None
    help: str = ""
    # what --help shows of the default where that is not the value itself
    shown: str | None = None
    write: Callable[[Any], str] = as_word  # how a value is typed
    action: str = ONE
    nargs: str | None = None
    bare: Any = None  # the value of the option without one, where that may be left away
    short: str | None = None  # "-q"
    is_required: bool = False
    is_everyday: bool = False  # shown by -h
    is_of_episode: bool = False  # `tracecore run` takes it too: it decides what one episode does
    is_repeated: bool = True  # part of the commands that repeat or finish a slice

    def explained(self) -> str:
        """The help text, with the default."""
        if self.is_required or self.shown == "":
            return self.help
        default = self.shown
        if default is None:
            default = "off" if self.action == FLAG else self.write(self.default) or "none"
        return f"{self.help} (default: {default})"

    def words(self, value: Any) -> list[str]:
        """What to type to give ``value``; nothing where that is the default."""
        if value == self.default:
            return []
        if self.action == FLAG:
            return [self.flag]
        values = map(self.write, [value] if self.action == ONE else value)
        return [word for text in values for word in (self.flag, text)]


def option(
    flag: str, metavar: str, read: Callable[[str], T], default: T, help_text: str, **more: Any
) -> T:
    """An option with a value; its field in a record of options.

    ``more`` are further fields of :class:`Option`.
    """
    return cast("T", Option(flag, metavar, read, default, help_text, **more))


def repeated(
    flag: str, metavar: str, read: Callable[[str], T | tuple[T, ...]], help_text: str, **more: Any
) -> tuple[T, ...]:
    """An option that may be given several times; its field, a tuple of the values."""
    more = {"action": APPEND, **more}
    return cast("tuple[T, ...]", Option(flag, metavar, read, (), help_text, **more))


def switch(flag: str, help_text: str, **more: Any) -> Any:
    """An option without a value; as the field of a record, whether it was given."""
    return Option(flag, None, None, False, help_text, action=FLAG, **more)


@dataclass_transform(frozen_default=True)
def option_record(cls: type[T]) -> type[T]:
    """A record whose fields are options; those that are not are left as they are."""
    table = {name: value for name, value in vars(cls).items() if isinstance(value, Option)}
    for name, one in table.items():
        setattr(cls, name, one.default)
    built = record(cls)
    built.__options__ = table  # type: ignore[attr-defined]
    return built


def options_of(cls: type) -> Mapping[str, Option]:
    """The options of a record's class, by field."""
    return cast("Mapping[str, Option]", cls.__options__)  # type: ignore[attr-defined]


def fill(cls: type[T], arguments: argparse.Namespace) -> T:
    """A record of ``cls`` with what was given; the default of what the command does not take."""
    given = {name: getattr(arguments, name) for name in options_of(cls) if hasattr(arguments, name)}
    return cls(
        **{name: tuple(one) if isinstance(one, list) else one for name, one in given.items()}
    )


def words_of(options: Any, *, of_episode: bool = False) -> list[str]:
    """What to type to give the values of a record that are not the defaults."""
    return [
        word
        for name, one in options_of(type(options)).items()
        if one.is_repeated and (one.is_of_episode or not of_episode)
        for word in one.words(getattr(options, name))
    ]


def require_packages(option: str, *names: str) -> None:
    """Refuse an option whose packages are not installed, before anything runs.

    Raises:
        OptionError: One is missing; with the command that installs it for this very interpreter.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        install = shlex.join([sys.executable or "python", "-m", "pip", "install", *missing])
        raise OptionError(option, "", f"no {' and no '.join(missing)}", install)


# --- readers of values ------------------------------------------------------------------------


def reader(expected: str, parse: Callable[[str], T | None]) -> Callable[[str], T]:
    """Reads what ``parse`` makes of a text; complains where that is None, or a ValueError."""

    def read(text: str) -> T:
        with contextlib.suppress(ValueError):
            if (value := parse(text)) is not None:
                return value
        raise wrong(text, expected)

    return read


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer from ``low`` to ``high``, written in plain digits."""

    def parse(text: str) -> int | None:
        digits = text.removeprefix("-" if low < 0 else "+")
        # Not int() alone: it takes "1_000" and other scripts' digits, and refuses 5000 digits with
        # words of its own.
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= 20
        return int(text) if is_number and low <= int(text) <= high else None

    return reader(f"a whole number from {low} to {high}", parse)


def seconds(high: int, *, zero: bool = False) -> Callable[[str], float]:
    """Reads a finite number of seconds, more than 0 (or 0 itself, with ``zero``) and at most
    ``high``.
    """

    def parse(text: str) -> float | None:
        value = float(text) if text.isascii() and "_" not in text else -1.0
        return value if 0 < value <= high or (zero and value == 0) else None

    least = "0 or more" if zero else "more than 0"
    return reader(f"a number of seconds, {least} and at most {high}", parse)


def size(low: int, high: int, example: str) -> Callable[[str], int]:
    """Reads bytes, plain or with a unit (``2GiB``, ``2GB`` and ``2G`` are the same), from ``low``
    to ``high``.
    """

    def parse(text: str) -> int | None:
        unit = text.lstrip("0123456789")
        digits = text.removesuffix(unit)
        is_size = unit.lower() in SPELLINGS and 0 < len(digits) <= 20
        count = int(digits) * SPELLINGS[unit.lower()] if is_size else -1
        return count if low <= count <= high else None

    span = f"from {size_text(low)} to {size_text(high)}"
    return reader(f"bytes, or a size such as {example}, {span}", parse)


def size_text(count: int) -> str:
    """Bytes in the largest unit of which they are a whole number."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "") if count % UNITS[unit] == 0)
    return f"{count // UNITS[unit]}{unit}"


def one_of(*words: str) -> Callable[[str], str]:
    """Reads one of ``words``."""
    expected = f"{', '.join(words[:-1])} or {words[-1]}"
    return reader(expected, lambda text: text if text in words else None)


def some_of(*words: str) -> Callable[[str], tuple[str, ...]]:
    """Reads some of ``words``, with commas between them."""

    def parse(text: str) -> tuple[str, ...] | None:
        chosen = tuple(dict.fromkeys(text.split(",")))
        return chosen if set(chosen) <= set(words) else None

    return reader(f"some of {', '.join(words)}, with commas between them", parse)


def wrong(found: str, expected: str) -> argparse.ArgumentTypeError:
    """What a reader raises."""
    return argparse.ArgumentTypeError(f"found {quote(found)}, expected {expected}")


def quote(text: str) -> str:
    """``text`` as a complaint shows it, cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


# a path, of something that need not exist; that of a folder which does
path: Final = reader("a path", lambda text: text if text and "\0" not in text else None)
folder: Final = reader("a folder that exists", lambda text: text if os.path.isdir(text) else None)
