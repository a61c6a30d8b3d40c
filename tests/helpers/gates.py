"""Gates by the words of the command line that asks for them."""

from collections.abc import Sequence

from tracecore.perf.judge import gate
from tracecore.perf.slice.options import JudgeOptions


def read_gate(
    *,
    episodes: int,
    files: Sequence[str] = (),
    expressions: Sequence[str] = (),
    keep_runs: str = "all",
    **asked: object,
) -> gate.Gate:
    """The gate of so many episodes; ``asked`` are further fields of :class:`JudgeOptions`."""
    options = JudgeOptions(thresholds=tuple(files), threshold=tuple(expressions), **asked)  # type: ignore[arg-type]
    return gate.read_gate(options, episodes=episodes, keep_runs=keep_runs)
