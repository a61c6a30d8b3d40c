"""What agents and tasks say of their failures, in words that are the same in every run."""

import re
from typing import Final

ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")
ADDRESS_IN_BYTES: Final = re.compile(ADDRESS.pattern.encode())
WORDS_MOST: Final = 600
LOOKED_AT_MOST: Final = 1 << 16  # characters: what lies beyond is cut off anyway


def cut_words(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, without memory addresses.

    These are taken out before it is cut: what is left of one that is cut through would differ from
        run to run.
    """
    return ADDRESS.sub("0x…", text[:LOOKED_AT_MOST])[:most]


def stable_words(text: str) -> str:
    """A failure in words that are the same in every run: no memory address, bounded length."""
    text = cut_words(text, WORDS_MOST + 1)
    return text if len(text) <= WORDS_MOST else text[: WORDS_MOST - 1] + "…"


def cut_bytes(data: bytes, most: int) -> bytes:
    """The same of what is no text."""
    return ADDRESS_IN_BYTES.sub(b"0x...", data[:LOOKED_AT_MOST])[:most]


def without_strings(data: bytes) -> bytes:
    """JSON without what stands in its strings, or between two quotes of what is none."""
    parts = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    return b"".join(parts[::2])
