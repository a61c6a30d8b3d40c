#!/usr/bin/env python3
"""Feeds mutated inputs to everything that reads what others wrote: a fifth of the time to the
readers themselves, the rest to the commands, which read whole files and folders.

Whatever the input, a reader takes it or refuses it in one printable line, and a command ends with a
documented exit code, without a traceback; both within their time and memory. Anything else is a
finding: it is printed with its input, and makes the exit code 1. The last line of stdout is one
JSON object of all counts.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import fuzz_commands
import fuzz_readers

READERS_SHARE = 0.2


def main(argv: list[str] | None = None) -> int:
    """Fuzz readers and commands; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same inputs (%(default)s)"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*fuzz_readers.names(), *fuzz_commands.names()],
        help="only this reader or command's input; may be repeated",
    )
    options = parser.parse_args(argv)
    chosen = options.only or parser_choices()
    readers = [name for name in fuzz_readers.names() if name in chosen]
    targets = [name for name in fuzz_commands.names() if name in chosen]
    readers_s = options.seconds * (READERS_SHARE if targets else 1) if readers else 0.0
    counts = [
        fuzz_readers.fuzz(name, options.seed, seconds=readers_s / len(readers)) for name in readers
    ]
    if targets:
        counts += fuzz_commands.fuzz(targets, options.seed, seconds=options.seconds - readers_s)
    inputs, findings = (sum(one[name] for one in counts) for name in ("inputs", "findings"))
    print(json.dumps({"inputs": inputs, "findings": findings, "targets": counts}))
    return 1 if findings else 0


def parser_choices() -> list[str]:
    """Every reader and every command's input."""
    return [*fuzz_readers.names(), *fuzz_commands.names()]


if __name__ == "__main__":
    sys.exit(main())
