"""Packages that agents use, from the package index, each imported and put to use by a confined
agent.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any, Final

import pytest
from arena import write_secret
from helpers.packages import python_with_packages
from helpers.slices import ROOT

PAGE: Final = ROOT / "docs" / "security.md"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's"),
    pytest.mark.timeout(1800),
]
TIKTOKEN: Final = (
    "tiktoken.Encoding('x', pat_str='.', mergeable_ranks={bytes([n]): n for n in range(256)},"
    " special_tokens={}).encode('hi')"
)
HTTPX: Final = (
    "httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text='x')))"
    ".get('http://x').text"
)
COMPLETE: Final = (
    "litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': '?'}],"
    " mock_response='hello').choices[0].message.content"
)
# Name, memory limit in MiB that it needs, what is imported, an expression and what it gives.
PACKAGES: Final[tuple[tuple[str, int, str, str, str], ...]] = (
    ("numpy", 256, "import numpy", "numpy.linalg.inv(numpy.eye(3)).sum()", "3.0"),
    ("scipy", 256, "from scipy import optimize",
     "round(optimize.brentq(lambda x: x * x - 2, 0, 2), 6)", "1.414214"),
    ("pandas", 256, "import pandas",
     "int(pandas.DataFrame({'a': [1, 2, 2]}).groupby('a').size().max())", "2"),
    ("pydantic", 256, "from pydantic import create_model",
     "create_model('M', n=(int, ...))(n='4').n + 1", "5"),
    ("orjson", 256, "import orjson", "orjson.dumps({'a': [1]}).decode()", '{"a":[1]}'),
    ("lxml", 256, "from lxml import etree", "etree.fromstring('<a><b/></a>')[0].tag", "b"),
    ("tokenizers", 256, "from tokenizers import Tokenizer, models",
     "Tokenizer(models.WordLevel({'a': 3, '?': 0}, unk_token='?')).encode('a').ids", "[3]"),
    ("tiktoken", 256, "import tiktoken", TIKTOKEN, "[104, 105]"),
    ("httpx", 256, "import httpx", HTTPX, "x"),
    ("requests", 256, "import requests", "requests.Request('GET', 'http://x/').prepare().url",
     "http://x/"),
    ("openai", 256, "import openai", "openai.OpenAI(api_key='x').base_url.host", "api.openai.com"),
    ("anthropic", 256, "import anthropic", "anthropic.Anthropic(api_key='x').base_url.host",
     "api.anthropic.com"),
    ("langchain-core", 256, "from langchain_core.prompts import ChatPromptTemplate as Template",
     "Template.from_template('hi {x}').invoke({'x': 'you'}).to_string()", "Human: hi you"),
    ("litellm", 512, "import litellm", COMPLETE, "hello"),
    ("cffi", 256, "import cffi", "cffi.FFI().new('int[]', [1, 2])[1]", "2"),
)  # fmt: skip
AGENT: Final = """\
{imports}

class Agent:
    def reset(self, spec):
        pass

    def observe(self, observation):
        pass

    def act(self):
        return {{"type": "answer", "args": {{"text": str({said})}}}}
"""


@pytest.fixture(scope="module")
def python(pytestconfig: pytest.Config) -> str:
    return python_with_packages(pytestconfig)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("packages")
    task = folder / "tasks" / "secret"
    task.mkdir(parents=True)
    write_secret(task, "x")
    return folder


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package[0])
def test_a_confined_agent_uses(
    package: tuple[str, int, str, str, str], python: str, folder: pathlib.Path
) -> None:
    name, memory_mib, imports, said, expected = package
    agent = f"{name}.agent.py"
    (folder / agent).write_text(AGENT.format(imports=imports, said=said))
    (folder / "scenario.json").write_text(json.dumps([{"agent": agent, "task_ref": "secret@1"}]))
    # Enough episodes for the package to be imported before their agents are forked.
    words = ("--scenario=scenario.json", "--tasks-dir=tasks", "--episodes=6", "--workers=1")
    command = [python, str(ROOT / "scripts" / "perf_harness.py"), *words]
    command.append(f"--memory-limit={memory_mib}MiB")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    end = json.loads(done.stdout)
    series = json.loads((folder / end["artifacts"]["series"]).read_text())
    found = [answer_of(folder, row) for row in series]
    assert found == [expected] * 6, end["summary"]["preload"].get(agent)
    assert f"| {name} | {memory_mib} MiB |" in PAGE.read_text()


def answer_of(folder: pathlib.Path, row: dict[str, Any]) -> str:
    """What the agent of an episode answered; or how the episode ended."""
    path = folder / ".agent_bench" / "runs" / f"{row['run_id']}.json"
    trace = json.loads(path.read_text())["action_trace"]
    answers = [entry["action"]["args"]["text"] for entry in trace if entry["action"].get("args")]
    return str(answers[0] if answers else row["error"])
