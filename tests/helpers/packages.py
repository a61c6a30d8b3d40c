"""An interpreter with the packages that agents use, from the package index: made once, and kept."""

import fcntl
import hashlib
import os
import pathlib
import subprocess
import sys
import venv

import pytest

NAMES = (
    *("aiohttp", "anthropic", "cffi", "httpx", "langchain-core", "litellm", "lxml", "numpy"),
    *("openai", "orjson", "pandas", "pydantic", "requests", "scipy", "tiktoken"),
    "tokenizers",
)
USED = (
    *("anthropic", "cffi", "httpx", "langchain_core.prompts", "litellm", "lxml.etree", "numpy"),
    *("openai", "orjson", "pandas", "pydantic", "requests", "scipy.optimize", "tiktoken"),
    "tokenizers",
)


def python_with_packages(config: pytest.Config) -> str:
    """Its path; `TRACECORE_TEST_PACKAGES` names an environment that is there already."""
    digest = hashlib.sha256(f"{sys.version} {NAMES}".encode()).hexdigest()[:12]
    kept = os.environ.get("TRACECORE_TEST_PACKAGES")
    assert config.cache is not None
    folder = pathlib.Path(kept or config.cache.mkdir(f"packages-{digest}"))
    path = folder / "bin" / "python"
    # Tests run in several processes, of which one is to make it.
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists() and not kept:
            # An old pip looks through the index for twice as long as it takes to be renewed.
            venv.create(folder, with_pip=True, symlinks=True, clear=True, upgrade_deps=True)
            # Of tens of thousands of files, those are compiled that are imported below.
            command = [str(path), "-m", "pip", "install", "--quiet", "--no-compile", *NAMES]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the packages could not be had: {done.stderr[-300:]}")
            # Its prices from its own files: the index is the one place that is reached here.
            env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            subprocess.run([str(path), "-c", f"import {', '.join(USED)}"], check=True, env=env)
            (folder / "complete").touch()
    return str(path)
