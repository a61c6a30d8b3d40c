"""A parser made of :class:`~tracecore.command_line.options.Option`, with commands, that raises
instead of leaving. Can be imported by any Python 3, as :mod:`tracecore.command_line.run` can.
"""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tracecore.command_line.options import Option

# an unknown word is near a known one from here: --probe and --progress share 0.7
NEAR, NEAR_COMMAND = 0.75, 0.6
# what other programs call an option of ours
SYNONYMS = {
    "--jobs": "--workers",
    "--parallel": "--workers",
    "--concurrency": "--workers",
    "--threads": "--workers",
    "--processes": "--workers",
    "-j": "--workers",
    "-n": "--episodes",
    "--count": "--episodes",
    "--output": "--output-dir",
    "-o": "--output-dir",
    "--config": "--scenario",
    "--max-time": "--timeout",
    "--verbose": "--progress",
    "--silent": "--quiet",
}
# complaints of argparse, in the form that all others have
REWORDED = {
    "expected one argument": "found no value, expected one",
    "expected at least one argument": "found no value, expected one or more",
}


class Parser(argparse.ArgumentParser):
    """The parser of a command line, or of a command of it.

    With ``short_help``, ``-h`` shows the everyday options and ``--help`` all; else both are the
    same.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        epilog: str = "",
        *,
        short_help: bool = False,
        **_: object,
    ) -> None:  # CPython 3.14 hands a command's parser more than that, such as colours
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.color = False  # help looks the same on every Python
        self._flags: list[str] = ["-h", "--help", "--version"]
        self._rare: list[argparse.Action] = []
        self._commands: dict[str, Parser] = {}
        self._required: list[str] = []
        self._choice: Any = None
        if short_help:
            self.add_argument("-h", action=_ShortHelp, help="the options of every day")
            self.add_argument("--help", action="help", help="all options")
        else:
            self.add_argument("-h", "--help", action="help", help="this text")

    def add_version(self, version: str) -> None:
        """Add ``--version``."""
        self.add_argument("--version", action="version", version=version, help="the version")

    def add_command(
        self, name: str, do: Callable[..., Any], summary: str, description: str, epilog: str = ""
    ) -> Parser:
        """Add a command, which ``do`` does; its parser, for its own options."""
        if self._choice is None:
            self._choice = self.add_subparsers(title="commands", metavar="COMMAND", dest="command")
        command: Parser = self._choice.add_parser(
            name, help=summary, description=description, epilog=epilog
        )
        command.set_defaults(do=do)
        self._commands[name] = command
        return command

    def add_options(self, options: Mapping[str, Option], title: str | None = None) -> None:
        """Add options, by the attribute that each sets."""
        group = self.add_argument_group(title) if title else self
        for name, one in options.items():
            self._add(group, name, one)

    def _add(self, group: Any, name: str, one: Option) -> None:
        more: dict[str, Any] = {"action": one.action, "help": one.explained().replace("%", "%%")}
        if one.read is not None:
            more |= {"type": one.read, "metavar": one.metavar}
        if one.nargs is not None:
            more["nargs"] = one.nargs
        typed = f"{one.metavar} ..." if one.nargs == "+" else str(one.metavar)
        if one.flag.startswith("-"):
            more |= {"dest": name, "required": one.is_required}
            more["default"] = (
                list(one.default) if one.action in {"append", "extend"} else one.default
            )
            if one.bare is not None:
                more["const"] = one.bare
            flags = [one.short, one.flag] if one.short else [one.flag]
            action = group.add_argument(*flags, **more)
            self._flags += flags
            typed = f"{one.flag} {typed}"
        else:
            action = group.add_argument(name, **more)
        if one.is_required:
            self._required.append(typed)
        if not one.is_everyday:
            self._rare.append(action)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The command and its options, each checked by itself.

        Raises:
            UsageError: One of them is wrong, or unknown.
            SystemExit: ``--help`` or ``--version`` was asked for, and has been printed.
        """
        first = argv[0] if argv else ""
        if self._commands and first and first[0] != "-" and first not in self._commands:
            self.error(_unknown(first, "no such command", self._commands))
        parser = self._commands.get(first, self)
        parser._refuse_unknown(argv[1:] if parser is not self else argv)  # noqa: SLF001
        arguments = self.parse_args(argv)
        found = getattr(arguments, "command", None)
        if found not in {None, first}:
            self.error(f"{found}: found a command behind options, expected it before them")
        if not hasattr(arguments, "do"):
            self.error(f"found no command, expected one of {', '.join(self._commands)}")
        return arguments

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        """Complain of an option that there is not, and of a value ``--``, which argparse would
        drop.
        """
        for word in words:
            if word == "--":
                return
            name, _, value = word.partition("=")
            if name.startswith("--") and value == "--":
                self.error(f"{name}: found '--', expected a value")
            if name.startswith("-") and not _is_number(name) and name not in self._flags:
                self.error(_unknown(name, "no such option", self._flags))

    def format_usage(self) -> str:
        return f"usage: {self._usage_line()}\n"

    def format_help(self) -> str:
        self.usage = self._usage_line().replace("%", "%%")
        return super().format_help()

    def _usage_line(self) -> str:
        words = [self.prog, *self._required, "[option ...]"]
        line = " ".join(words)
        for command in self._commands.values():
            line += f"\n       {command._usage_line()}"  # noqa: SLF001
        return line

    def format_short_help(self) -> str:
        """What ``-h`` prints; it can be asked for once."""
        for action in self._rare:
            action.help = argparse.SUPPRESS
        self.epilog = f"{len(self._rare)} further options, and the exit codes: --help"
        return self.format_help()

    def error(self, message: str) -> Any:
        """Called by argparse with its complaint.

        Raises:
            UsageError: Always.
        """
        from tracecore.errors import UsageError  # noqa: PLC0415  (see the top)

        raise UsageError(f"{self._reword(message)}; try --help")

    def _reword(self, message: str) -> str:
        """A complaint of argparse's own, in the form that all others have."""
        message = message.removeprefix("argument ")
        place, _, rest = message.partition(": ")
        if rest in REWORDED:
            return f"{place}: {REWORDED[rest]}"
        if rest.startswith("ignored explicit argument"):
            return message.replace("ignored explicit argument", "expected no value, found")
        if place == "COMMAND" and rest.startswith("invalid choice"):
            word = rest[len("invalid choice: ") : rest.rindex(" (choose")]
            return _unknown(word[1:-1], "no such command", self._commands)
        if place == "unrecognized arguments":
            return f"{rest.split(' ')[0]!r}: found a word too many"
        return message


class _ShortHelp(argparse.Action):
    """``-h``: the everyday options."""

    def __init__(self, option_strings: Sequence[str], **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=more["help"])

    def __call__(self, parser: Any, *_arguments: Any) -> None:
        print(parser.format_short_help(), end="")
        parser.exit()


def _unknown(word: str, what: str, known: Iterable[str]) -> str:
    """That there is no such thing, and the nearest that there is."""
    from tracecore.command_line.options import quote  # noqa: PLC0415  (see the top)

    names = list(known)
    near = [SYNONYMS[word]] if SYNONYMS.get(word) in names else []
    near += [name for name in names if len(word) >= len("--xx") and name.startswith(word)]
    # commands are short, and a slip of the finger weighs more in them
    cutoff = NEAR if word.startswith("-") else NEAR_COMMAND
    near += difflib.get_close_matches(word, names, n=1, cutoff=cutoff)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{quote(word)}: found {what}{hint}"


def _is_number(word: str) -> bool:
    return word == "-" or word[1:].replace(".", "", 1).isdigit()
