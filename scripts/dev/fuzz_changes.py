"""The changes that are made to good inputs; see ``fuzz.py``."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import time
import zipfile
from typing import Any, Final

HUGE_BYTES: Final = 300 << 20  # more than any reader takes; a file of holes
MEDDLE_BY_S: Final = 30.0  # a journal that has not got so far by then stays as it is
PIECES: Final = (
    *(
        b"\x00 \xff \xef\xbb\xbf \xed\xa0\x80 \n \r\n \t { } [ ] [[ ]] , : = \" ' \\ # . .. - + e"
        b" E1 @ *. / //"
    ).split(b" "),
    *(
        b"NaN Infinity -Infinity 1e999 -0.0 0x1F 1_0 true null inf nan \\ud800 \\u0000 <= >= < > =="
    ).split(b" "),
    *(
        b"summary.failed metrics[agent=x].p95 success_rate seed agent task_ref allow scenario"
        b" network read"
    ).split(b" "),
    b"9" * 30,
    b"9" * 5000,
    b"[" * 400,
    b"{" * 40,
    b'{"a":' * 2000,
    b"a.b." * 300,
    b"\xe2\x80\xae",
)
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1.5, 10**30, 1e300, "", "x", "\u202e\n", [], {}, [None], {"a": {}},
)  # fmt: skip


def mutate(chance: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """One input."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[place:place] = chance.choice(PIECES)
            case 1:
                del data[place : place + chance.choice((1, 2, 8, 64))]
            case 2:
                data[place : place + 1] = bytes((chance.randrange(256),))
            case 3:
                piece = data[place : place + chance.randrange(1, 40)]
                data[place:place] = piece * chance.choice((1, 1, 2, 50))
            case 4:
                other = chance.choice(seeds)
                data[place:] = other[chance.randrange(len(other) + 1) :]
            case _:
                found = chance.choice(PIECES)
                data[place : place + len(found)] = found
    return bytes(data)


def change_file(chance: random.Random, path: pathlib.Path) -> None:
    """Change the bytes of a file, a value of its JSON, or now and then what lies in its place."""
    if chance.random() < 0.1:
        change_place(chance, path)
    else:
        path.write_bytes(changed(chance, path.read_bytes()))


def changed(chance: random.Random, data: bytes) -> bytes:
    """The bytes of a file, changed: as bytes, or a value of its JSON."""
    if chance.random() < 0.5:
        return mutate(chance, (data,))
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    try:
        document = json.loads(data)
    except ValueError:
        with contextlib.suppress(ValueError):
            line = json.loads(lines[place].rstrip(b","))
            lines[place] = json.dumps(odd(chance, line)).encode()
        return b"\n".join(lines)
    if lines[1:2] and lines[1].startswith(b'{"episode"'):  # a series: its rows stay on their lines
        place = chance.randrange(1, len(lines) - 2)
        row = odd(chance, json.loads(lines[place].rstrip(b",")))
        lines[place] = json.dumps(row).encode() + lines[place][len(lines[place].rstrip(b",")) :]
        return b"\n".join(lines)
    return json.dumps(odd(chance, document)).encode()


def odd(chance: random.Random, value: Any) -> Any:
    """The same JSON value with one odd part."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: odd(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], odd(chance, value[place]), *value[place + 1 :]]
    return chance.choice([*ODD, chance.choice(PIECES).decode("latin-1")])


def change_place(chance: random.Random, path: pathlib.Path) -> None:
    """Put something else where a file or folder was, or nothing."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    match chance.randrange(8):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(path.name)
        case 3:
            path.symlink_to("nowhere")
        case 4:
            path.symlink_to(chance.choice(("/dev/full", "/dev/zero", "/dev/null")))
        case 5:
            path.touch()
        case 6:
            path.touch()
            os.truncate(path, HUGE_BYTES)


def change_zip(chance: random.Random, path: pathlib.Path) -> None:
    """Change the bytes of a zip, or what is in it."""
    if chance.random() < 0.4:
        change_file(chance, path)
        return
    with zipfile.ZipFile(path) as whole:
        members = [(name, whole.read(name)) for name in whole.namelist()]
    place = chance.randrange(len(members))
    name, data = members[place]
    match chance.randrange(6):
        case 0:
            members.append((name, b"{}"))
        case 1:
            members.append((chance.choice(("../x", "/etc/x", "x" * 65_535, "\n", "")), b"x"))
        case 2:
            members[place] = (name, bytes(64 << 20))
        case 3:
            del members[place]
        case _:
            members[place] = (name, changed(chance, data))
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    with (
        contextlib.suppress(ValueError, IndexError),
        zipfile.ZipFile(path, "w", chance.choice(methods)) as new,
    ):
        for name, data in members:
            new.writestr(name, data)


def change_folder(chance: random.Random, path: pathlib.Path) -> None:
    """Change, add and remove files of a folder."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        inside = sorted(one for one in path.iterdir() if one.is_file() and not one.is_symlink())
        if not inside or chance.random() < 0.05:
            change_place(chance, path)
            return
        one = chance.choice(inside)
        match chance.randrange(6):
            case 0:
                change_place(chance, one)
            case 1:
                shutil.copy(one, path / one.name.replace("Z.", "Z9.").replace("t", "T", 1))
            case 2 if not any(place.stat().st_size == HUGE_BYTES for place in inside):
                shutil.copytree(path, path / "below", symlinks=True)
            case 3:
                one.rename(path / chance.choice(("perf-summary-.json", "x", "perf-series-\n.json")))
            case 4:
                for number in range(3000):
                    (path / f"perf-summary-{number}.json").touch()
            case _ if one.suffix == ".zip":
                change_zip(chance, one)
            case _:
                change_file(chance, one)


def change_soon(chance: random.Random, folder: pathlib.Path) -> None:
    """Change the journal of the slice that is about to run there, from a process beside it, when a
    few rows are in it.
    """
    rows, seed = chance.randrange(12), chance.random()
    if os.fork():
        return
    code = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        meddle(random.Random(seed), folder, rows)  # noqa: S311 - repeatable, and no secret
        code = 0
    finally:
        os._exit(code)


def meddle(chance: random.Random, folder: pathlib.Path, rows: int) -> None:
    """Change a journal once it has so many rows."""
    deadline_s = time.monotonic() + MEDDLE_BY_S
    while time.monotonic() < deadline_s:
        time.sleep(0.002)
        with contextlib.suppress(OSError):
            for path in folder.glob(".perf-journal-*.jsonl"):
                data = path.read_bytes()
                if data.count(b"\n") > rows:
                    spoil(chance, path, data)
                    return


def spoil(chance: random.Random, path: pathlib.Path, data: bytes) -> None:
    """Change a journal in place, behind its writer's back."""
    match chance.randrange(6):
        case 0:
            path.unlink()
        case 1:
            os.truncate(path, chance.randrange(len(data) + 1))
        case 2:
            with path.open("ab") as file:
                file.write(mutate(chance, (data,)))
        case 3:
            lines = data.splitlines(keepends=True)
            with path.open("ab") as file:  # a row once more, or half of one
                file.write(chance.choice(lines)[: chance.choice((None, 9))])
        case 4:
            path.rename(path.with_suffix(".moved"))
            path.write_bytes(data)
        case _:
            at = chance.randrange(len(data))
            with path.open("r+b") as file:
                file.seek(at)
                file.write(changed(chance, data[at : at + 400]))
