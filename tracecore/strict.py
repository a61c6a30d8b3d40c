"""Foreign JSON and TOML, read strictly: bounded before it is parsed, every key once, numbers that a
double can hold, and every field of its type.
"""

import contextlib
import io
import itertools
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

from tracecore.errors import MISSING, InputError
from tracecore.record import field_names, has_default
from tracecore.records import EpisodeResult, JsonObject

# tomllib takes the square of the parts of a dotted key; nothing of ours has more than two
TOML_KEY_PARTS: Final = 32

Kind = tuple[Callable[[Any], bool], str]  # whether a value is of it, and its name for people


def read_file(
    path: str, most_bytes: int, expected: str, *, error: type[InputError] = InputError
) -> bytes:
    """The bytes of a regular file that holds no more than ``most_bytes``.

    Raises:
        InputError: As ``error``: it cannot be read, is no regular file, or is larger.
    """
    with open_regular(path, expected, error=error) as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as cause:
            raise error(path, "", cause.strerror or str(cause), expected) from cause
    if len(data) > most_bytes:
        raise error(path, "", f"more than {most_bytes} bytes", f"at most {most_bytes} bytes")
    return data


def open_regular(
    path: str, expected: str, *, error: type[InputError] = InputError
) -> io.BufferedReader:
    """A regular file, open for reading.

    Raises:
        InputError: As ``error``: it cannot be opened, or is something else.
    """
    try:
        # Without waiting: a pipe under such a name would hold the reader for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        found = getattr(cause, "strerror", None) or str(cause)
        raise error(path, "", found, expected) from cause
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise error(path, "", "no regular file", expected)
    return open(fd, "rb")


def decode_utf8(name: str, data: bytes, *, error: type[InputError] = InputError) -> str:
    """``data`` as text.

    Raises:
        InputError: As ``error``: it is no UTF-8, or begins with a byte order mark.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise error(name, "byte 0", "a byte order mark", "UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise error(
            name, f"byte {cause.start}", bytes(data[cause.start : cause.end]), "UTF-8 text"
        ) from cause


def parse_json(name: str, data: bytes, *, where: str = "") -> Any:
    """The value of a JSON text as the standard has it: no NaN, no number beyond a double, no key
    twice.

    Args:
        name: What errors call the text: its file, usually.
        data: UTF-8; the caller bounds its size.
        where: Its place in what ``name`` means.

    Raises:
        InputError: It is none.
    """
    text = decode_utf8(name, data)
    with json_mistakes(name, where):
        return _StrictDecoder(name, where).decode(text)


@contextlib.contextmanager
def json_mistakes(
    name: str, where: str = "", *, error: type[InputError] = InputError
) -> Iterator[None]:
    """Put what a parser of JSON complains of inside into words.

    Raises:
        InputError: As ``error``: the text is no JSON.
    """
    try:
        yield
    except json.JSONDecodeError as cause:
        found = f"{cause.msg} at line {cause.lineno}, column {cause.colno}"
        raise error(name, where, found, "valid JSON") from cause
    except RecursionError as cause:
        raise error(name, where, "very deep nesting", "JSON that is nested less") from cause
    except ValueError as cause:  # an integer of more digits than Python converts
        raise error(name, where, "a number of thousands of digits", "a shorter one") from cause


class _StrictDecoder(json.JSONDecoder):
    """Refuses what JSON has not got, and names the place."""

    def __init__(self, name: str, where: str) -> None:
        self._name, self._where = name, where
        super().__init__(
            object_pairs_hook=self._read_object,
            parse_constant=self._refuse_constant,
            parse_float=self._read_float,
        )

    def _refuse_constant(self, text: str) -> NoReturn:
        raise InputError(self._name, self._where, text, "a number that JSON has")

    def _read_float(self, text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise InputError(self._name, self._where, text, "a number that a double can hold")
        return value

    def _read_object(self, pairs: list[tuple[str, Any]]) -> JsonObject:
        document = dict(pairs)
        if len(document) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            place = ".".join(filter(None, [self._where, twice]))
            raise InputError(self._name, place, "this key twice", "every key once")
        return document


# Where a key may begin, and so many parts of one behind it. Every repetition is possessive and no
# part can begin in the middle of another, so that looking takes time in proportion to the text.
_LONG_KEY: Final = re.compile(
    r"(?:^|[\[{,])[ \t]*+(?:(?>[A-Za-z0-9_-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+)"
    rf"{{{TOML_KEY_PARTS}}}",
    re.MULTILINE,
)


def parse_toml(name: str, data: bytes, *, error: type[InputError] = InputError) -> JsonObject:
    """The tables of a TOML text; its numbers may be infinite or no numbers, as TOML has those.

    Raises:
        InputError: As ``error``: it is none, or a key of it has more than 32 dotted parts.
    """
    text = decode_utf8(name, data, error=error)
    if match := _LONG_KEY.search(text):
        line = text.count("\n", 0, match.start()) + 1
        found = f"a key of more than {TOML_KEY_PARTS} dotted parts"
        raise error(name, f"line {line}", found, "a shorter key")
    try:
        return tomllib.loads(text)
    except RecursionError as cause:
        raise error(name, "", "very deep nesting", "TOML that is nested less") from cause
    except ValueError as cause:  # also for numbers of more digits than Python converts
        raise error(name, "", str(cause), "valid TOML") from cause


# --- fields ------------------------------------------------------------------------------------


def _is_integer(value: Any) -> bool:
    return type(value) is int  # True is an int to isinstance


TEXT: Final[Kind] = (lambda value: isinstance(value, str), "text")
BOOL: Final[Kind] = (lambda value: isinstance(value, bool), "true or false")
INTEGER: Final[Kind] = (_is_integer, "an integer")
COUNT: Final[Kind] = (lambda value: _is_integer(value) and value >= 0, "a whole number, 0 or more")
AMOUNT: Final[Kind] = (
    lambda value: type(value) in {int, float} and 0 <= value < 1e300,
    "a number, 0 or more",
)
NUMBER: Final[Kind] = (
    lambda value: type(value) in {int, float} and abs(value) < 1e300,
    "a number",
)
OBJECT: Final[Kind] = (lambda value: isinstance(value, dict), "an object")
LIST: Final[Kind] = (lambda value: isinstance(value, list), "a list")


def or_null(kind: Kind) -> Kind:
    """``kind`` or null."""
    is_of_kind, expected = kind
    return lambda value: value is None or is_of_kind(value), f"{expected} or null"


def list_of(kind: Kind) -> Kind:
    """A list of values that are all of ``kind``."""
    is_of_kind, expected = kind
    return (
        lambda value: isinstance(value, list) and all(map(is_of_kind, value)),
        f"a list, each of which is {expected}",
    )


def object_of(kind: Kind) -> Kind:
    """An object whose values are all of ``kind``."""
    is_of_kind, expected = kind
    return (
        lambda value: isinstance(value, dict) and all(map(is_of_kind, value.values())),
        f"an object, each value of which is {expected}",
    )


def check_fields(
    name: str,
    where: str,
    document: Any,
    needed: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
) -> JsonObject:
    """``document``, an object that has the ``needed`` fields, all of their kind, and of the
    ``optional`` ones only such as are of theirs. Other fields may be anything.

    Raises:
        InputError: It is not; the first field that is wrong is named.
    """
    if not isinstance(document, dict):
        raise InputError(name, where, document, "an object")
    for field, (is_of_kind, expected) in itertools.chain(needed.items(), (optional or {}).items()):
        value = document.get(field, MISSING)
        if not is_of_kind(value) and (value is not MISSING or field in needed):
            raise InputError(name, f"{where}.{field}" if where else field, value, expected)
    return document


# --- the row of an episode ---------------------------------------------------------------------

_KIND_OF_TYPE: Final[dict[Any, Kind]] = {
    str: TEXT,
    str | None: or_null(TEXT),
    bool: BOOL,
    int: COUNT,
    int | None: or_null(COUNT),
    float: AMOUNT,
    JsonObject | None: or_null(OBJECT),
}
_ROW_KINDS: Final = {
    **{name: _KIND_OF_TYPE[kind] for name, kind in EpisodeResult.__annotations__.items()},
    "seed": INTEGER,
    "tokens_used": INTEGER,  # agents claim any number
}
_NEEDED: Final = {
    name: kind for name, kind in _ROW_KINDS.items() if not has_default(EpisodeResult, name)
}
_OPTIONAL: Final = {name: kind for name, kind in _ROW_KINDS.items() if name not in _NEEDED}
_ALLOWANCE: Final = {"read": list_of(TEXT), "network": list_of(TEXT)}


def read_row(name: str, where: str, document: Any) -> EpisodeResult:
    """The row that an object of a series, or the fields of a line of a journal, hold.

    Raises:
        InputError: A field is missing, or not of its type; fields of no row are passed over.
    """
    check_fields(name, where, document, _NEEDED, _OPTIONAL)
    if document.get("allow") is not None:
        check_fields(name, f"{where}.allow", document["allow"], {}, _ALLOWANCE)
    return EpisodeResult(
        **{field: document[field] for field in field_names(EpisodeResult) if field in document}
    )
