r"""Canonical JSON: one byte string for one value, and its sha256.

Keys sorted, no spaces, UTF-8, no NaN or Infinity. A lone surrogate, which UTF-8 cannot hold, is
written as its ``\uXXXX`` escape, so that whatever text an agent sends survives into its artifact.
"""

import hashlib
import json
from json import encoder
from typing import Any

# The standard library's own encoder and scanner in C, held ready: its `encode` and `decode` make
# them anew, or look at what stands around, each time.
_open: dict[int, Any] = {}  # the containers that are being encoded, which finds circles
_chunks = encoder.c_make_encoder(  # type: ignore[attr-defined]
    _open,
    json.JSONEncoder().default,
    encoder.encode_basestring,
    None,  # indent
    ":",
    ",",
    True,  # keys sorted
    False,  # and none skipped
    False,  # no NaN
)
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def encode(value: Any) -> bytes:
    """The canonical JSON of ``value``, whose keys are strings; see :func:`encode_foreign` for one
    that may have others.

    Raises:
        ValueError: It holds NaN or Infinity, or contains itself.
        TypeError: It holds something that JSON has no form for.
        RecursionError: It is nested deeper than the interpreter follows.
    """
    try:
        return "".join(_chunks(value, 0)).encode()
    except UnicodeEncodeError:
        # Two surrogates that make a pair are read back as one character: they are joined before
        # anything is sorted or hashed.
        paired = "".join(_chunks(value, 0)).encode("utf-16-le", "surrogatepass")
        joined = json.loads(paired.decode("utf-16-le", "surrogatepass"))
        return "".join(_chunks(joined, 0)).encode("utf-8", "backslashreplace")
    except BaseException:
        _open.clear()  # what was left in it would be taken for a circle
        raise


def encode_foreign(value: Any) -> bytes:
    """The canonical JSON of a value from code that is not ours; raises as :func:`encode` does.

    Keys may be numbers: they are sorted as the strings that they become, 10 before 9.
    """
    try:
        text = "".join(_chunks(value, 0))
    except BaseException:
        _open.clear()
        raise
    return encode(_scan(text, 0)[0])


def decode(data: bytes) -> Any:
    """The value of JSON that this project has written.

    Raises:
        ValueError: It is no JSON.
    """
    text = data.decode()
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"no JSON value at character {error.value}") from None
    if end != len(text) and text[end:].strip():
        raise ValueError(f"more than one JSON value: the first ends at character {end}")
    return value


def splice(name: bytes, value: bytes, rest: dict[str, Any]) -> bytes:
    """The canonical JSON of ``{name: value, **rest}`` where ``value`` is canonical already.

    ``name`` must sort before every key of ``rest``, which must have one: then it comes first, and
    nothing is parsed.
    """
    return b'{"%b":%b,%b' % (name, value, encode(rest)[1:])


def sha256(data: bytes) -> str:
    """``sha256:<hex>`` of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """``sha256:<hex>`` of the canonical JSON of ``value``; raises as :func:`encode` does."""
    return sha256(encode(value))
