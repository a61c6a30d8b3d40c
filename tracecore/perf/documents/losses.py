"""What a slice has lost since its episodes finished: artifacts that are not what their rows say."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tracecore.record import replace
from tracecore.records import EpisodeResult

NAMED: Final = 3  # in a sentence


class Losses:
    """Looks after the artifacts of rows that pass by.

    Args:
        folder: Where they lie; None where that is on other machines, and cannot be looked at.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._gone: list[str] = []
        self._changed: list[str] = []

    def check(self, rows: Iterable[EpisodeResult]) -> Iterator[EpisodeResult]:
        """Pass the rows on; one whose artifact has vanished says that it has none."""
        for row in rows:
            yield (
                row
                if self._folder is None or self._is_kept(row, self._folder)
                else replace(row, artifact=None)
            )

    def sentence(self, unread: Sequence[int]) -> str | None:
        """What is lost; None where nothing is.

        Args:
            unread: Indices of episodes whose rows could not be read back.
        """
        parts = [
            _named("run artifacts have vanished", self._gone),
            _named("run artifacts are not as they were written", self._changed),
            _named("rows of the journal are damaged", [f"episode {i + 1}" for i in unread]),
        ]
        return "; ".join(filter(None, parts)) or None

    def _is_kept(self, row: EpisodeResult, folder: str) -> bool:
        if row.artifact is None:
            return True
        try:
            with open(os.path.join(folder, row.artifact), "rb") as file:
                data = file.read(row.artifact_bytes + 1)
        except OSError:
            self._gone.append(row.artifact)
            return False
        # Without hashing it again, which costs more than the episode's own bookkeeping did.
        if len(data) != row.artifact_bytes or row.artifact_hash.encode() not in data:
            self._changed.append(row.artifact)
        return True


def _named(words: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {words}: {shown}{more}"
