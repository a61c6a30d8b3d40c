"""What a slice repeats: rows of agent, task and seed, from a file or built in."""

import difflib
import functools
import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tracecore.errors import MISSING, ScenarioError
from tracecore.record import field, record
from tracecore.records import Allowance, JsonObject, ModelLimits
from tracecore.strict import decode_utf8, json_mistakes, parse_toml, read_file

Mistake = tuple[str, object, str]  # field, what was found, what was expected

MAX_FILE_BYTES: Final = 8 << 20
MIN_SEED: Final = -(1 << 63)
MAX_SEED: Final = (1 << 63) - 1

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_ROWS = "a list of at least one row: {agent, task_ref, seed}"
_KEYS = ("agent", "task_ref", "seed", "allow", "preload", "models")
_ALLOW_KEYS = ("read", "network")
_LIMITS = {
    "calls": ((int,), "a whole number"),
    "bytes": ((int,), "a whole number"),
    "wait_s": ((int, float), "a number"),
}
_SEEDS = "an integer of 64 bits: -2**63 to 2**63 - 1"


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
    found = [_Row(f"scenario[{place}]", row, mistakes).read() for place, row in enumerate(rows)]
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


class _Row:
    """Reads a row; what is wrong with it goes into ``mistakes``, and the row is of no use then."""

    def __init__(self, where: str, row: Any, mistakes: list[Mistake]) -> None:
        self._where, self._row, self._mistakes = where, row, mistakes

    def read(self) -> ScenarioRow:
        row = self._table(self._where, self._row, _KEYS)
        if row is None:
            return ScenarioRow("", "")
        where = self._where
        agent = row.get("agent", MISSING)
        task_ref = row.get("task_ref", MISSING)
        seed, preload = row.get("seed", 0), row.get("preload", True)
        # True is an int to isinstance
        is_seed = type(seed) is int and MIN_SEED <= seed <= MAX_SEED
        return ScenarioRow(
            agent=self._text(f"{where}.agent", agent, "the path of an agent file"),
            task_ref=self._text(f"{where}.task_ref", task_ref, "<task id>@<version>"),
            seed=self._checked(f"{where}.seed", seed, is_seed, _SEEDS),
            allow=self._allowance(f"{where}.allow", row.get("allow", {})),
            preload=self._checked(
                f"{where}.preload", preload, isinstance(preload, bool), "true or false"
            ),
            models=self._limits(f"{where}.models", row.get("models", {})),
        )

    def _allowance(self, where: str, value: Any) -> Allowance:
        table = self._table(where, value, _ALLOW_KEYS) or {}
        read, network = table.get("read", []), table.get("network", [])
        return Allowance(
            read=self._texts(f"{where}.read", read, "the path of a file or folder"),
            network=self._texts(f"{where}.network", network, "a host and a port"),
        )

    def _limits(self, where: str, value: Any) -> ModelLimits:
        table = self._table(where, value, tuple(_LIMITS)) or {}
        for key, one in table.items():
            kinds, words = _LIMITS[key]
            is_limit = type(one) in kinds and 0 <= one < float("inf")
            self._checked(f"{where}.{key}", one, is_limit, f"{words} of at least 0")
        return ModelLimits(**table)

    def _texts(self, where: str, value: Any, meaning: str) -> tuple[str, ...]:
        self._checked(where, value, isinstance(value, list), "a list")
        texts = value if isinstance(value, list) else ()
        return tuple(
            self._text(f"{where}[{place}]", text, meaning) for place, text in enumerate(texts)
        )

    def _table(self, where: str, table: Any, known: tuple[str, ...]) -> JsonObject | None:
        """``table`` without keys that are not known; None where it is none."""
        if not isinstance(table, dict):
            self._mistakes.append((where, table, f"an object: {{{', '.join(known)}}}"))
            return None
        self._mistakes += [_unknown_key(where, key, known) for key in table if key not in known]
        return {key: value for key, value in table.items() if key in known}

    def _text(self, where: str, value: Any, meaning: str) -> Any:
        # Control characters and lone surrogates are in no file's name, and the calls that look for
        # one answer them oddly.
        is_text = (
            isinstance(value, str)
            and value.strip() != ""
            and not any(c < " " or "\ud800" <= c <= "\udfff" for c in value)
        )
        return self._checked(where, value, is_text, f"{meaning}, as text")

    def _checked(self, where: str, value: Any, is_right: bool, expected: str) -> Any:
        if not is_right:
            self._mistakes.append((where, value, expected))
        return value


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
