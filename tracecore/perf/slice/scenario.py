"""What a slice repeats: rows of agent, task and seed, from a file or built in, and the plan that
makes jobs of them.
"""

import difflib
import functools
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from tracecore.confinement.readable import is_below, is_of_task, secret_folders
from tracecore.errors import MISSING, InputError, ScenarioError
from tracecore.record import field, record
from tracecore.records import AgentSource, Allowance, Job, JsonObject, Settings, TaskSource
from tracecore.runtime.sandbox import Sandbox, SandboxViolation
from tracecore.runtime.task.catalog import AGENT_REFERENCE, TASK_REFERENCE
from tracecore.runtime.task.manifest import read_manifest

MAX_FILE_BYTES: Final = 8 << 20
MIN_SEED: Final = -(1 << 63)
MAX_SEED: Final = (1 << 63) - 1

Source = TypeVar("Source", AgentSource, TaskSource)

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_ROWS = "a list of at least one row: {agent, task_ref, seed}"
_KEYS = ("agent", "task_ref", "seed", "allow")
_ALLOW_KEYS = ("read", "network")
_SEEDS = "an integer of 64 bits: -2**63 to 2**63 - 1"


@record
class ScenarioRow:
    """One row of a scenario, as it was written."""

    agent: str  # path of an agent file
    task_ref: str  # "<id>@<version>", or "<id>"
    seed: int = 0  # of 64 bits, signed; an episode adds its index
    # as written: paths may be relative to the working directory
    allow: Allowance = field(default_factory=Allowance)


DEFAULT_SCENARIO: Final = (
    ScenarioRow("agents/toy_agent.py", "filesystem_hidden_config@1", 42),
    ScenarioRow("agents/rate_limit_agent.py", "rate_limited_api@1", 11),
    ScenarioRow("agents/chain_agent.py", "rate_limited_chain@1", 7),
    ScenarioRow("agents/ops_triage_agent.py", "log_alert_triage@1", 21),
)


@record
class Plan:
    """Every episode of a slice, made on demand: a million of them take no more memory than one.

    Episode ``index`` (0-based) takes row ``index`` modulo the number of rows; its seed is the row's
    plus ``index``.
    """

    rows: tuple[ScenarioRow, ...]
    sources: tuple[tuple[AgentSource, TaskSource], ...]  # of each row
    allowances: tuple[Allowance, ...]  # of each row, with absolute paths
    episodes: int
    settings: Settings
    # makes the run ids: the same slice and index give the same id, another slice another
    slice_id: str

    def job(self, index: int) -> Job:
        """Episode ``index``.

        Raises:
            IndexError: The slice has no such episode.
        """
        if not 0 <= index < self.episodes:
            raise IndexError(f"episode {index} of a slice of {self.episodes}")
        place = index % len(self.rows)
        agent, task = self.sources[place]
        return Job(
            index=index,
            run_id=hashlib.sha256(f"{self.slice_id}:{index}".encode("ascii")).hexdigest()[:32],
            agent=agent,
            task=task,
            seed=self.rows[place].seed + index,
            settings=self.settings,
            allow=self.allowances[place],
        )

    def jobs(self, indices: Iterable[int] | None = None) -> Iterator[Job]:
        """The episodes of ``indices``, in that order; of the whole slice when there are none given."""
        return map(self.job, range(self.episodes) if indices is None else indices)

    def scenario_document(self) -> list[JsonObject]:
        """The rows as the manifest tells them: what was run, and the hashes of what it was."""
        return [
            {
                "agent": agent.ref,
                "task_ref": task.ref,
                "seed": row.seed,
                "agent_hash": agent.sha256,
                "task_hash": task.sha256,
                **({} if (shown := allow.as_json()) is None else {"allow": shown}),
            }
            for row, (agent, task), allow in zip(
                self.rows, self.sources, self.allowances, strict=True
            )
        ]


def plan(
    rows: tuple[ScenarioRow, ...],
    episodes: int,
    settings: Settings,
    find_agent: Callable[[str], AgentSource],
    find_task: Callable[[str], TaskSource],
    *,
    slice_id: str,
    scenario: str = "the default scenario",
) -> Plan:
    """Find every agent and task of the scenario, each once, before anything runs.

    Args:
        rows: The scenario; at least one row.
        episodes: How many episodes the slice has; at least 1.
        settings: What all episodes share.
        find_agent: From an agent's reference to its file.
        find_task: From a task's reference to its folder.
        slice_id: 16 hex digits that no other slice has.
        scenario: What errors call the scenario: its file, usually.

    Raises:
        ScenarioError: A reference means nothing, or a seed plus its episode's index does not fit
            into 64 bits.
        InputError: Whatever ``find_agent`` and ``find_task`` raise of the files that they find.
    """
    for place, row in enumerate(rows):
        _check_last_seed(scenario, place, row.seed, len(rows), episodes)
    agents = _find_all(find_agent, [row.agent for row in rows], scenario, "agent")
    tasks = _find_all(find_task, [row.task_ref for row in rows], scenario, "task_ref")
    sources = tuple((agents[row.agent], tasks[row.task_ref]) for row in rows)
    secret = secret_folders((), settings.runs_dir, *(task.folder for task in tasks.values()))
    allowances = tuple(
        resolve_allowance(
            row.allow,
            tasks[row.task_ref],
            secret,
            functools.partial(_refuse_allowance, scenario, place),
        )
        for place, row in enumerate(rows)
    )
    return Plan(rows, sources, allowances, episodes, settings, slice_id)


def _find_all(
    find: Callable[[str], Source], refs: list[str], scenario: str, field: str
) -> dict[str, Source]:
    """What each reference means; where one means nothing, the first row that holds it is named."""
    found: dict[str, Source] = {}
    for place, ref in enumerate(refs):
        if ref in found:
            continue
        try:
            found[ref] = find(ref)
        except InputError as error:
            if error.path not in {AGENT_REFERENCE, TASK_REFERENCE}:
                raise  # it names a file of its own
            raise ScenarioError(
                scenario, f"scenario[{place}].{field}", error.found, error.expected
            ) from error
    return found


def resolve_allowance(
    allow: Allowance,
    task: TaskSource,
    secret: tuple[str, ...],
    refuse: Callable[[str, int, str, str], InputError],
) -> Allowance:
    """What is allowed beside the usual, as the agent gets it: paths absolute, hosts in their one
    normal form.

    Args:
        allow: As written.
        task: Whose own hosts bound those that can be allowed.
        secret: Folders that no agent may read.
        refuse: Makes the error, of ``read`` or ``network``, the place in it, what was found, and
            what is expected.

    Raises:
        InputError: What ``refuse`` makes.
    """
    paths = tuple(os.path.abspath(path) for path in allow.read)
    for place, path in enumerate(paths):
        if not os.path.exists(path):
            raise refuse("read", place, allow.read[place], "a file or folder that exists")
        if is_below(
            os.path.realpath(path), [*secret, *map(os.path.realpath, secret)]
        ) or is_of_task(path):
            expected = "no folder of tasks or runs: those are closed to every agent"
            raise refuse("read", place, allow.read[place], expected)
    hosts = []
    if allow.network:
        allowed = read_manifest(task.folder).network_hosts
        sandbox = Sandbox((), allowed)
        for place, host in enumerate(allow.network):
            try:
                hosts.append(sandbox.check_host(host))
            except SandboxViolation as violation:
                expected = (
                    f"a host that {task.ref} allows ({', '.join(allowed) or 'it allows none'})"
                )
                raise refuse("network", place, host, expected) from violation
    return Allowance(paths, tuple(hosts))


def _refuse_allowance(
    scenario: str, row: int, part: str, place: int, found: str, expected: str
) -> InputError:
    return ScenarioError(scenario, f"scenario[{row}].allow.{part}[{place}]", found, expected)


def _check_last_seed(scenario: str, place: int, seed: int, row_count: int, episodes: int) -> None:
    last_index = episodes - 1 - (episodes - 1 - place) % row_count
    if last_index >= place and seed + last_index > MAX_SEED:
        expected = (
            f"at most {MAX_SEED - last_index}: episode {last_index} adds its index, and seeds have"
            " 64 bits"
        )
        raise ScenarioError(scenario, f"scenario[{place}].seed", seed, expected)


def read_scenario(path: str) -> tuple[ScenarioRow, ...]:
    """The rows of a scenario file: a list, or an object with one under ``scenario``; TOML has
    ``[[scenario]]`` tables.

    Args:
        path: Relative to the working directory, else inside the package; ends in ``.json`` or
            ``.toml``.

    Raises:
        ScenarioError: It names the file, the row and the field, what was found there and what was
            expected.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _PARSERS:
        raise ScenarioError(path, "", suffix or MISSING, "a file whose name ends in .json or .toml")
    text = _decode(path, _read_bytes(path))
    try:
        document = _PARSERS[suffix](path, text)
    except RecursionError as error:
        raise ScenarioError(path, "", _Words("very deep nesting"), _ROWS) from error
    rows = _find_rows(path, document, allow_list=suffix == ".json")
    return tuple(_check_row(path, f"scenario[{place}]", row) for place, row in enumerate(rows))


def _read_bytes(path: str) -> bytes:
    try:
        with open(_find_file(path), "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        words = _Words(str(getattr(error, "strerror", error)))
        raise ScenarioError(path, "", words, "a readable scenario file") from error
    if len(data) > MAX_FILE_BYTES:
        raise ScenarioError(path, "", _Words("a larger file"), f"at most {MAX_FILE_BYTES} bytes")
    return data


def _find_file(path: str) -> str:
    """Where ``path`` leads: as it is given, else to a file that the package brings along."""
    if os.path.exists(path) or os.path.isabs(path) or ".." in path.split(os.sep):
        return path
    bundled = os.path.join(_PACKAGE, path)
    return bundled if os.path.isfile(bundled) else path


def _decode(path: str, data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise ScenarioError(path, "byte 0", _Words("a byte order mark"), "UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError(
            path, f"byte {error.start}", data[error.start : error.end], "UTF-8 text"
        ) from error


def _parse_json(path: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_mark_repeated)
    except json.JSONDecodeError as error:
        raise _syntax_error(path, text, "JSON", error.msg, error.lineno, error.colno) from error
    except ValueError as error:
        raise _number_error(path) from error


def _parse_toml(path: str, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        complaint, _, place = str(error).rpartition(" (at ")
        line, column = map(int, re.findall(r"\d+", place)) if "line" in place else _end_of(text)
        raise _syntax_error(path, text, "TOML", complaint, line, column) from error
    except ValueError as error:
        raise _number_error(path) from error


_PARSERS: Final[dict[str, Callable[[str, str], Any]]] = {".json": _parse_json, ".toml": _parse_toml}


def _number_error(path: str) -> ScenarioError:
    """The one ValueError that both parsers let through: an integer of more digits than Python
    converts.
    """
    return ScenarioError(
        path, "", _Words("a number of thousands of digits"), f"a seed to be {_SEEDS}"
    )


def _end_of(text: str) -> tuple[int, int]:
    lines = text.split("\n")
    return len(lines), len(lines[-1]) + 1


def _syntax_error(
    path: str, text: str, language: str, complaint: str, line: int, column: int
) -> ScenarioError:
    rest = text.split("\n")[line - 1][column - 1 :]
    found = rest.strip()[:20] or _Words("the end of the line")
    return ScenarioError(
        path, f"line {line}, column {column}", found, f"valid {language} ({complaint})"
    )


def _find_rows(path: str, document: Any, *, allow_list: bool) -> list[Any]:
    rows, field = document, ""
    if isinstance(document, dict):
        _check_keys(path, "", document, ("scenario",))
        rows, field = document.get("scenario", MISSING), "scenario"
    elif not allow_list:
        rows = MISSING
    if not isinstance(rows, list) or not rows:
        raise ScenarioError(path, field, rows, _ROWS)
    return rows


def _check_row(path: str, where: str, row: Any) -> ScenarioRow:
    if not isinstance(row, dict):
        raise ScenarioError(path, where, row, "an object: {agent, task_ref, seed}")
    _check_keys(path, where, row, _KEYS)
    return ScenarioRow(
        agent=_check_text(
            path, f"{where}.agent", row.get("agent", MISSING), "the path of an agent file"
        ),
        task_ref=_check_text(
            path, f"{where}.task_ref", row.get("task_ref", MISSING), "<task id>@<version>"
        ),
        seed=_check_seed(path, f"{where}.seed", row.get("seed", 0)),
        allow=_check_allow(path, f"{where}.allow", row.get("allow", {})),
    )


def _check_allow(path: str, where: str, value: Any) -> Allowance:
    if not isinstance(value, dict):
        raise ScenarioError(path, where, value, "an object: {read, network}")
    _check_keys(path, where, value, _ALLOW_KEYS)
    return Allowance(
        read=_check_texts(
            path, f"{where}.read", value.get("read", []), "the path of a file or folder"
        ),
        network=_check_texts(path, f"{where}.network", value.get("network", []), "a host name"),
    )


def _check_texts(path: str, where: str, value: Any, meaning: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ScenarioError(path, where, value, "a list")
    return tuple(
        _check_text(path, f"{where}[{place}]", text, meaning) for place, text in enumerate(value)
    )


def _check_keys(path: str, where: str, table: JsonObject, known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {nearest[0]}?)" if nearest else ""
            raise ScenarioError(
                path, where, _Words(f"the key {key[:60]!r}"), f"only {', '.join(known)}{hint}"
            )


def _check_text(path: str, where: str, value: Any, meaning: str) -> str:
    # Control characters and lone surrogates are in no file's name, and the calls that look for one
    # answer them oddly.
    if (
        not isinstance(value, str)
        or not value.strip()
        or any(c < " " or "\ud800" <= c <= "\udfff" for c in value)
    ):
        raise ScenarioError(path, where, value, f"{meaning}, as text")
    return value


def _check_seed(path: str, where: str, value: Any) -> int:
    if type(value) is not int or not MIN_SEED <= value <= MAX_SEED:  # True is an int to isinstance
        raise ScenarioError(path, where, value, _SEEDS)
    return value


def _mark_repeated(pairs: list[tuple[str, Any]]) -> JsonObject:
    """An object whose repeated keys keep no value, so that the row that holds them fails its check
    and is named.
    """
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                table[key] = _Words("the key twice")
            seen.add(key)
    return table


class _Words:
    """What was found, where a quoted value would not tell it."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words
