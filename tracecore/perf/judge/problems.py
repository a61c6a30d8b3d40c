"""What verifying a set has come to: everything in which two accounts of one slice differ."""

import math
from typing import Any, Final

from tracecore.errors import describe, one_line
from tracecore.record import field, mutable_record

PROBLEMS_SHOWN: Final = 50
# of sums of doubles, which may have been added up in another order
RELATIVE_TOLERANCE: Final = 1e-9


@mutable_record
class Problems:
    """What verifying a set has come to."""

    sentences: list[str] = field(default_factory=list)
    hidden: int = 0  # further problems, beyond those that are shown
    episodes: int = 0  # rows of the series
    artifacts: int = 0  # run artifacts whose hashes were computed again
    files: int = 0  # files compared byte for byte, or by their hash in an index
    notes: list[str] = field(default_factory=list)  # what could not be checked, and why

    def complain(self, text: str) -> None:
        """Take down something that does not agree."""
        if len(self.sentences) < PROBLEMS_SHOWN:
            self.sentences.append(one_line(text))
        else:
            self.hidden += 1

    def compare(self, name: str, recorded: Any, recomputed: Any) -> None:
        """Take down every leaf in which the two differ."""
        if isinstance(recorded, dict) and isinstance(recomputed, dict):
            for key in {**recomputed, **recorded}:
                if key not in recorded or key not in recomputed:
                    lacks = "the file lacks it", "the series does not give it"
                    self.complain(f"{name}.{key}: {lacks[key in recorded]}")
                else:
                    self.compare(f"{name}.{key}", recorded[key], recomputed[key])
        elif (
            isinstance(recorded, list)
            and isinstance(recomputed, list)
            and len(recorded) == len(recomputed)
        ):
            for place, (one, other) in enumerate(zip(recorded, recomputed, strict=True)):
                self.compare(f"{name}[{place}]", one, other)
        elif not _agree(recorded, recomputed):
            self.complain(f"{name}: says {describe(recorded)}, should be {describe(recomputed)}")


def _agree(said: Any, again: Any) -> bool:
    if isinstance(said, float) and isinstance(again, float):
        return math.isclose(said, again, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return type(said) is type(again) and bool(said == again)
