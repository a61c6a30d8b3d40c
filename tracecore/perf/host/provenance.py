"""Which tracecore this is: the commit that the package was made of."""

import functools
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Final

import tracecore
from tracecore.record import record
from tracecore.records import JsonObject

GIT_PATIENCE_S: Final = 10.0
ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(tracecore.__file__)))
BUILT_FROM: Final = "built_from.json"  # in a wheel: the git_state of the clone that it was built in
# Of those that `git rev-parse --local-env-vars` lists, the ones that lead git to another repository
# than the one asked about: a hook that starts us has set some. What configures git stays.
GIT_LOCATION_VARIABLES: Final = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)


@record
class GitAnswer:
    """What came of a command of git."""

    text: str | None  # what it wrote; None where it failed
    trouble: str = ""  # its own complaint, whole, on one line


def git_state() -> JsonObject:
    """``{git_sha, dirty}`` of the clone that the package lies in or was built from; nulls where
    that is not known.
    """
    return _learn()[0]


def git_trouble() -> str | None:
    """Why the commit, which every artifact hash depends on, could not be learnt; None where it is
    known.
    """
    return _learn()[1]


@functools.cache  # what runs is what was imported, whatever the checkout becomes meanwhile
def _learn() -> tuple[JsonObject, str | None]:
    unknown: JsonObject = {"git_sha": None, "dirty": None}
    if not os.path.exists(os.path.join(ROOT, ".git")):
        built = _built_from()
        return built or unknown, None if built else "the package lies in no clone of git"
    sha = ask_git(ROOT, "rev-parse", "HEAD")
    if sha.text is None or len(sha.text.strip()) not in {40, 64}:
        return unknown, sha.trouble
    changes = ask_git(ROOT, "status", "--porcelain", "--untracked-files=no")
    dirty = None if changes.text is None else bool(changes.text.strip())
    return {"git_sha": sha.text.strip(), "dirty": dirty}, None


def _built_from() -> JsonObject | None:
    try:
        with open(os.path.join(ROOT, "tracecore", BUILT_FROM), "rb") as file:
            built = json.loads(file.read())
        return {"git_sha": built["git_sha"], "dirty": built["dirty"]} if built["git_sha"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask_git(folder: str, *arguments: str, patience_s: float = GIT_PATIENCE_S) -> GitAnswer:
    """Run a command of git on the repository that ``folder`` lies in, whatever the environment
    names.
    """
    # No hook of the user's runs.
    command = ["git", "-C", folder, "-c", f"core.hooksPath={os.devnull}", *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience_s,
            check=False,
            env=git_environment(os.environ),
            # Ctrl-C must not turn a commit that is known into one that is not, nor leave half a
            # worktree.
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return GitAnswer(None, f"git cannot be run: {error}")
    if done.returncode:
        words = " ".join(done.stderr.decode("utf-8", "replace").split())
        return GitAnswer(None, f"git {arguments[0]}: {words or f'exit {done.returncode}'}")
    return GitAnswer(os.fsdecode(done.stdout))


def git_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without what leads git to another repository."""
    return {
        name: value for name, value in environment.items() if name not in GIT_LOCATION_VARIABLES
    }
