"""What a slice has lost since its episodes finished: artifacts that are not what their rows say."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tracecore.errors import InputError
from tracecore.record import replace
from tracecore.records import EpisodeResult
from tracecore.strict import open_regular

NAMED: Final = 3  # in a sentence
GONE: Final = "run artifacts have vanished"
CHANGED: Final = "run artifacts are not as they were written"


class Losses:
    """Looks for the artifacts of rows.

    Args:
        folder: Where they lie; None where that is on other machines, and cannot be looked at.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._found: dict[str, list[str]] = {GONE: [], CHANGED: []}

    def check(self, rows: Iterable[EpisodeResult]) -> Iterator[EpisodeResult]:
        """Pass the rows on; one whose artifact has vanished says that it has none."""
        for row in rows:
            yield replace(row, artifact=None) if self.loss_of(row) == GONE else row

    def loss_of(self, row: EpisodeResult) -> str | None:
        """What has become of the artifact of a row; None where it is there as it was written."""
        if self._folder is None or row.artifact is None:
            return None
        loss = _loss_at(os.path.join(self._folder, row.artifact), row)
        if loss:
            self._found[loss].append(row.artifact)
        return loss

    def sentence(self, unread: Sequence[int] = ()) -> str | None:
        """What is lost; None where nothing is.

        Args:
            unread: Indices of episodes whose rows could not be read back.
        """
        lost = {
            **self._found,
            "rows of the journal are damaged": [f"episode {index + 1}" for index in unread],
        }
        return "; ".join(_named(words, names) for words, names in lost.items() if names) or None


def _loss_at(path: str, row: EpisodeResult) -> str | None:
    try:
        with open_regular(path, "a run artifact") as file:
            data = file.read(row.artifact_bytes + 1)
    except (InputError, OSError):
        return GONE
    # Without hashing it again, which costs more than the episode's own bookkeeping did.
    is_whole = len(data) == row.artifact_bytes and row.artifact_hash.encode() in data
    return None if is_whole else CHANGED


def _named(words: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {words}: {shown}{more}"
