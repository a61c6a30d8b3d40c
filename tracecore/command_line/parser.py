"""A parser made of :class:`~tracecore.command_line.options.Option`, with commands, that raises
instead of leaving.
"""

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tracecore.command_line.options import APPEND, EXTEND, Option, quote
from tracecore.errors import UsageError

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
        version: str = "",
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
            self.add_argument(
                "-h",
                action=_ShortHelp,
                nargs=0,
                default=argparse.SUPPRESS,
                help="the options of every day",
            )
            self.add_argument("--help", action="help", help="all options")
        else:
            self.add_argument("-h", "--help", action="help", help="this text")
        if version:
            self.add_argument("--version", action="version", version=version, help="the version")

    def add_command(
        self, name: str, do: Callable[..., Any], summary: str, description: str, epilog: str = ""
    ) -> "Parser":
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
        is_named = one.flag.startswith("-")
        flags = [word for word in (one.short, one.flag) if word] if is_named else []
        more = {
            "type": one.read,
            "metavar": one.metavar,
            "nargs": one.nargs,
            "const": one.bare,
            "default": list(one.default) if one.action in {APPEND, EXTEND} else one.default,
            "required": one.is_required if is_named else None,
        }
        action = group.add_argument(
            *flags,
            dest=name,
            action=one.action,
            help=one.explained().replace("%", "%%"),
            **{key: value for key, value in more.items() if value is not None},
        )
        self._flags += flags
        if one.is_required:
            values = f"{one.metavar} ..." if one.nargs == "+" else str(one.metavar)
            self._required.append(f"{one.flag} {values}" if is_named else values)
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

    def format_help(self) -> str:
        self.usage = self._usage_line().replace("%", "%%")
        return super().format_help()

    def _usage_line(self) -> str:
        own = " ".join([self.prog, *self._required, "[option ...]"])
        below = (command._usage_line() for command in self._commands.values())  # noqa: SLF001
        return "\n       ".join([own, *below])

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

    def __call__(self, parser: Any, *_arguments: Any) -> None:
        print(parser.format_short_help(), end="")
        parser.exit()


def _unknown(word: str, what: str, known: Iterable[str]) -> str:
    """That there is no such thing, and the nearest that there is."""
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
