r"""Canonical JSON: one byte string for one value, and its sha256.

Keys sorted, no spaces, UTF-8, no NaN or Infinity. A lone surrogate, which UTF-8 cannot hold, is
written as its ``\uXXXX`` escape, so that whatever text an agent sends survives into its artifact.
"""

import hashlib
import json
from typing import Any

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode
_decode = json.JSONDecoder().decode


def encode(value: Any) -> bytes:
    """The canonical JSON of ``value``, whose keys are strings; see :func:`encode_foreign` for one
    that may have others.

    Raises:
        ValueError: It holds NaN or Infinity, or contains itself.
        TypeError: It holds something that JSON has no form for.
        RecursionError: It is nested deeper than the interpreter follows.
    """
    text = _encode(value)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # Two surrogates that make a pair are read back as one character: they are joined before
        # anything is sorted or hashed.
        paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return _encode(_decode(paired)).encode("utf-8", "backslashreplace")


def encode_foreign(value: Any) -> bytes:
    """The canonical JSON of a value from code that is not ours; raises as :func:`encode` does.

    Keys may be numbers: they are sorted as the strings that they become, 10 before 9.
    """
    data = encode(value)
    return data if _has_text_keys(value) else encode(decode(data))


def _has_text_keys(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(child) for key, child in value.items())
    if isinstance(value, list | tuple):
        return all(map(_has_text_keys, value))
    return True


def decode(data: bytes) -> Any:
    """The value of JSON that this project has written; faster than ``json.loads``, which guesses at
    encodings first.
    """
    return _decode(data.decode("utf-8"))


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
