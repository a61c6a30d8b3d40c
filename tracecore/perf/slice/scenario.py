"""What a slice repeats: rows of agent, task and seed, from a file or built in."""

import difflib
import functools
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tracecore.errors import MISSING, ScenarioError
from tracecore.record import field, record
from tracecore.records import Allowance, JsonObject, ModelLimits
from tracecore.strict import BOOL, LIST, Kind, decode_utf8, json_mistakes, parse_toml, read_file

Mistake = tuple[str, object, str]  # field, what was found, what was expected

MAX_FILE_BYTES: Final = 8 << 20
MIN_SEED: Final = -(1 << 63)
MAX_SEED: Final = (1 << 63) - 1

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_ROWS = "a list of at least one row: {agent, task_ref, seed}"
_KEYS = ("agent", "task_ref", "seed", "allow", "preload", "models")
_ALLOW_KEYS = ("read", "network")
_SEED: Final[Kind] = (
    lambda value: type(value) is int and MIN_SEED <= value <= MAX_SEED,  # True is none
    "an integer of 64 bits: -2**63 to 2**63 - 1",
)
_WHOLE: Final[Kind] = (
    lambda value: type(value) is int and value >= 0,
    "a whole number of at least 0",
)
_LIMITS: Final[dict[str, Kind]] = {
    "calls": _WHOLE,
    "bytes": _WHOLE,
    "wait_s": (
        lambda value: type(value) in {int, float} and 0 <= value < math.inf,
        "a number of at least 0",
    ),
}


@record
class ScenarioRow:
    """One row of a scenario, as it was written."""

    agent: str  # path of an agent file
    task_ref: str  # "<id>@<version>", or "<id>"
    seed: int = 0  # of 64 bits, signed; an episode adds its index
    # as written: paths may be relative to the working directory
    allow: Allowance = field(default_factory=Allowance)
    preload: bool = True  # whether what the agent imports may be loaded once for many episodes
    models: ModelLimits = field(default_factory=ModelLimits)


DEFAULT_SCENARIO: Final = (
    ScenarioRow("agents/toy_agent.py", "filesystem_hidden_config@1", 42),
    ScenarioRow("agents/rate_limit_agent.py", "rate_limited_api@1", 11),
    ScenarioRow("agents/chain_agent.py", "rate_limited_chain@1", 7),
    ScenarioRow("agents/ops_triage_agent.py", "log_alert_triage@1", 21),
)


def read_scenario(path: str) -> tuple[ScenarioRow, ...]:
    """The rows of a scenario file: a list, or an object with one under ``scenario``; TOML has
    ``[[scenario]]`` tables.

    Args:
        path: Relative to the working directory, else inside the package; ends in ``.json`` or
            ``.toml``.

    Raises:
        ScenarioError: It names the file, each row that is wrong and its field, what was found there
            and what was expected.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _PARSERS:
        raise ScenarioError(path, "", suffix or MISSING, "a file whose name ends in .json or .toml")
    data = read_file(_find_file(path), MAX_FILE_BYTES, "a scenario file", error=ScenarioError)
    document = _PARSERS[suffix](path, data)
    rows = _find_rows(path, document, allow_list=suffix == ".json")
    mistakes: list[Mistake] = []
    found = [_read_row(f"scenario[{place}]", row, mistakes) for place, row in enumerate(rows)]
    if mistakes:
        raise ScenarioError.of_all(path, mistakes)
    return tuple(found)


def _find_file(path: str) -> str:
    """Where ``path`` leads: as it is given, else to a file that the package brings along."""
    if os.path.exists(path) or os.path.isabs(path) or ".." in path.split(os.sep):
        return path
    bundled = os.path.join(_PACKAGE, path)
    return bundled if os.path.isfile(bundled) else path


def _parse_json(path: str, data: bytes) -> Any:
    text = decode_utf8(path, data, error=ScenarioError)
    with json_mistakes(path, error=ScenarioError):
        return json.loads(text, object_pairs_hook=_mark_repeated)


_PARSERS: Final[dict[str, Callable[[str, bytes], Any]]] = {
    ".json": _parse_json,
    ".toml": functools.partial(parse_toml, error=ScenarioError),
}


def _find_rows(path: str, document: Any, *, allow_list: bool) -> list[Any]:
    rows, field = document, ""
    if isinstance(document, dict):
        for key in document:
            if key != "scenario":
                raise ScenarioError(path, *_unknown_key("", key, ("scenario",)))
        rows, field = document.get("scenario", MISSING), "scenario"
    elif not allow_list:
        rows = MISSING
    if not isinstance(rows, list) or not rows:
        raise ScenarioError(path, field, rows, _ROWS)
    return rows


def _read_row(where: str, row: Any, mistakes: list[Mistake]) -> ScenarioRow:
    """A row; of no use where anything was added to ``mistakes``."""
    top = _Table(where, row, _KEYS, mistakes)
    return ScenarioRow(
        agent=top.take("agent", _text("the path of an agent file")),
        task_ref=top.take("task_ref", _text("<task id>@<version>")),
        seed=top.take("seed", _SEED, 0),
        allow=_read_allowance(top.table("allow", _ALLOW_KEYS)),
        preload=top.take("preload", BOOL, True),
        models=_read_limits(top.table("models", tuple(_LIMITS))),
    )


def _read_allowance(table: "_Table") -> Allowance:
    return Allowance(
        read=table.take_all("read", _text("the path of a file or folder")),
        network=table.take_all("network", _text("a host and a port")),
    )


def _read_limits(table: "_Table") -> ModelLimits:
    given = {key: table.take(key, _LIMITS[key]) for key in table.data if key in _LIMITS}
    return ModelLimits(**given)


def _text(meaning: str) -> Kind:
    # Control characters and lone surrogates are in no file's name, and the calls that look for one
    # answer them oddly.
    return (
        lambda value: (
            isinstance(value, str)
            and value.strip() != ""
            and not any(c < " " or "\ud800" <= c <= "\udfff" for c in value)
        ),
        f"{meaning}, as text",
    )


class _Table:
    """An object of a row, which hands out its fields and notes what is wrong with them."""

    def __init__(
        self, where: str, value: Any, known: tuple[str, ...], mistakes: list[Mistake]
    ) -> None:
        is_table = isinstance(value, dict)
        self.data: JsonObject = value if is_table else {}
        self._where, self._mistakes = where, mistakes if is_table else []
        if not is_table:  # the one mistake: that it lacks fields is none beside it
            mistakes.append((where, value, f"an object: {{{', '.join(known)}}}"))
        self._mistakes += [_unknown_key(where, key, known) for key in self.data if key not in known]

    def table(self, key: str, known: tuple[str, ...]) -> "_Table":
        return _Table(f"{self._where}.{key}", self.data.get(key, {}), known, self._mistakes)

    def take(self, key: str, kind: Kind, default: Any = MISSING) -> Any:
        value = self.data.get(key, default)
        self._check(f"{self._where}.{key}", value, kind)
        return value

    def take_all(self, key: str, kind: Kind) -> tuple[Any, ...]:
        values = self.take(key, LIST, [])
        if not isinstance(values, list):
            return ()
        for place, value in enumerate(values):
            self._check(f"{self._where}.{key}[{place}]", value, kind)
        return tuple(values)

    def _check(self, where: str, value: Any, kind: Kind) -> None:
        is_of_kind, expected = kind
        if not is_of_kind(value):
            self._mistakes.append((where, value, expected))


def _unknown_key(where: str, key: str, known: tuple[str, ...]) -> Mistake:
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return where, _Words(f"the key {key[:60]!r}"), f"only {', '.join(known)}{hint}"


def _mark_repeated(pairs: list[tuple[str, Any]]) -> JsonObject:
    """An object whose repeated keys keep no value, so that the row that holds them fails its check
    and is named.
    """
    counts = Counter(key for key, _ in pairs)
    return {key: value if counts[key] == 1 else _Words("the key twice") for key, value in pairs}


class _Words:
    """What was found, where a quoted value would not show it."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words
