"""Time and identity: the one seam through which a test can hold them still.

Durations and deadlines come from ``monotonic_s`` alone; the wall clock only labels.
"""

import functools
import os
import time

monotonic_s = time.monotonic


def utc_text(epoch_s: float | None = None) -> str:
    """UTC ISO 8601 with microseconds, ``2026-01-31T12:00:00.000000Z``; of now, or of ``epoch_s``
    seconds since 1970.
    """
    if epoch_s is None:
        epoch_s = time.time()
    whole, micro = divmod(round(epoch_s * 1_000_000), 1_000_000)
    return f"{_utc_second(whole)}.{micro:06d}Z"


@functools.lru_cache(maxsize=2)
def _utc_second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def utc_stamp(epoch_s: float | None = None) -> str:
    """UTC ``YYYYMMDDTHHMMSSZ``; of now, or of ``epoch_s`` seconds since 1970."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch_s))


def new_id() -> str:
    """32 random hex digits."""
    return os.urandom(16).hex()
