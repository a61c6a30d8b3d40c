"""Which models agents may call, as a file says: TOML with ``[[model]]`` tables."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tracecore.errors import MISSING, InputError
from tracecore.record import record
from tracecore.strict import Kind, parse_toml, read_file

FORM: Final = "a TOML file with [[model]] tables"
FILE_BYTES_MOST: Final = 1 << 20
NAME: Final = re.compile("(?=.{1,40}$)[-_]*[a-z0-9][a-z0-9_-]*")
NEEDED: Final = ("name", "upstream")
VARIABLE: Final[Kind] = (
    lambda value: isinstance(value, str) and value.isidentifier(),
    "the name of an environment variable",
)
KINDS: Final[dict[str, Kind]] = {
    "name": (
        lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None,
        "lower-case letters, digits, - and _",
    ),
    "upstream": (
        lambda value: isinstance(value, str) and _is_url(value),
        "a URL such as https://api.openai.com/v1",
    ),
    "key_env": VARIABLE,
    "base_url_env": VARIABLE,
    "api_key_env": VARIABLE,
}


@record
class Model:
    """One API that agents may call."""

    name: str  # part of the address that an agent calls
    upstream: str  # base URL of the API, without a slash at its end
    key_env: str | None  # variable of the harness's environment that holds the key
    base_url_env: str  # variable in which the agent finds the gateway's address
    api_key_env: str  # variable in which the agent finds the token of its episode


def read_models(path: str) -> tuple[Model, ...]:
    """The models that a file lists.

    Raises:
        InputError: It cannot be read, or a table of it is wrong; all that is wrong is named.
    """
    document = parse_toml(path, read_file(path, FILE_BYTES_MOST, FORM))
    tables = document.get("model")
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise InputError(path, "model", tables or MISSING, "[[model]] tables")
    mistakes = [
        (f"model {number}: {field}", found, expected)
        for number, table in enumerate(tables, 1)
        for field, found, expected in _mistakes(table)
    ]
    names = [table.get("name", MISSING) for table in tables]
    mistakes += [
        (f"model {number}: name", name, "a name of its own")
        for number, name in enumerate(names, 1)
        if name in names[: number - 1]
    ]
    if mistakes:
        raise InputError.of_all(path, mistakes)
    return tuple(map(_model, tables))


def keys_of(
    models: tuple[Model, ...], environment: Mapping[str, str], path: str
) -> dict[str, str | None]:
    """The key of each model, by its name; ``None`` for one that takes none.

    Raises:
        InputError: A variable that should hold a key is not set.
    """
    for model in models:
        if model.key_env is not None and not environment.get(model.key_env):
            raise InputError(
                path, f"{model.name}: key_env", model.key_env, "a variable that is set"
            )
    return {model.name: environment[model.key_env] if model.key_env else None for model in models}


def _mistakes(table: dict[str, Any]) -> list[tuple[str, Any, str]]:
    found = [
        (key, table.get(key, MISSING), expected)
        for key, (is_of_kind, expected) in KINDS.items()
        if (key in table or key in NEEDED) and not is_of_kind(table.get(key))
    ]
    unknown = f"one of {', '.join(sorted(KINDS))}"
    return found + [(key, table[key], unknown) for key in table if key not in KINDS]


def _model(table: dict[str, Any]) -> Model:
    name: str = table["name"]
    prefix = name.upper().replace("-", "_")
    return Model(
        name=name,
        upstream=table["upstream"].rstrip("/"),
        key_env=table.get("key_env"),
        base_url_env=table.get("base_url_env", f"{prefix}_BASE_URL"),
        api_key_env=table.get("api_key_env", f"{prefix}_API_KEY"),
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query
