"""The file of models, and what an agent finds in its environment."""

import pathlib

import pytest

from tracecore.errors import InputError
from tracecore.gateway.client import environment_of
from tracecore.gateway.models import Model, keys_of, read_models

GOOD = """\
[[model]]
name = "openai"
upstream = "https://api.openai.com/v1/"
key_env = "REAL_KEY"

[[model]]
name = "local-one"
upstream = "http://127.0.0.1:8765/v1"
base_url_env = "LOCAL_URL"
"""


def write(folder: pathlib.Path, text: str) -> str:
    path = folder / "models.toml"
    path.write_text(text)
    return str(path)


def test_names_give_the_variables_unless_they_are_given(tmp_path: pathlib.Path) -> None:
    upstream, local = "https://api.openai.com/v1", "http://127.0.0.1:8765/v1"
    assert read_models(write(tmp_path, GOOD)) == (
        Model("openai", upstream, "REAL_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
        Model("local-one", local, None, "LOCAL_URL", "LOCAL_ONE_API_KEY"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "model: found nothing, expected [[model]] tables"),
        ("model = 1", "model: found 1, expected [[model]] tables"),
        ("[[model]]\n", "model 1: name: found nothing, expected lower-case letters"),
        ("[[model]]\n", "model 1: upstream: found nothing, expected a URL"),
        ("[[model]]\nname = 'A b'\nupstream = 'ftp://x'\n", "model 1: upstream: found 'ftp://x'"),
        (GOOD + "key = 1\n", "model 2: key: found 1, expected one of api_key_env"),
        (GOOD + "key_env = 'a b'\n", "model 2: key_env: found 'a b', expected the name of an"),
        (GOOD.replace("local-one", "openai"), "model 2: name: found 'openai', expected a name of"),
        ("[[model", "expected valid TOML"),
    ],
)
def test_all_that_is_wrong_with_a_file_is_named(
    tmp_path: pathlib.Path, text: str, words: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_models(path)
    assert str(caught.value).startswith(path)
    assert words in str(caught.value)


def test_a_key_that_is_not_set_is_named_before_anything_runs(tmp_path: pathlib.Path) -> None:
    models = read_models(write(tmp_path, GOOD))
    assert keys_of(models, {"REAL_KEY": "k"}, "m.toml") == {"openai": "k", "local-one": None}
    with pytest.raises(InputError, match=r"m.toml: openai: key_env: found 'REAL_KEY', expected a"):
        keys_of(models, {"REAL_KEY": ""}, "m.toml")


def test_an_agent_finds_address_and_token_of_each_model() -> None:
    models = (("openai", "OPENAI_BASE_URL", "OPENAI_API_KEY"),)
    assert environment_of(models, "127.0.0.1:8000", "t") == {
        "OPENAI_BASE_URL": "http://127.0.0.1:8000/openai",
        "OPENAI_API_KEY": "t",
    }
