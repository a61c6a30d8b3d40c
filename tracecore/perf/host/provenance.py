"""Which tracecore this is."""

import functools
import os
import subprocess

import tracecore
from tracecore.records import JsonObject

GIT_PATIENCE_S = 10.0


@functools.cache  # what runs is what was imported, whatever the checkout becomes meanwhile
def git_state() -> JsonObject:
    """``{git_sha, dirty}`` of the checkout that the package lies in; nulls where it is not run from
    one.
    """
    package = os.path.dirname(os.path.abspath(tracecore.__file__))
    root = os.path.dirname(package)
    if not os.path.exists(os.path.join(root, ".git")):
        return {"git_sha": None, "dirty": None}
    sha = _git(root, "rev-parse", "HEAD")
    if sha is None or len(sha) not in {40, 64}:
        return {"git_sha": None, "dirty": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"git_sha": sha, "dirty": None if changes is None else bool(changes)}


def _git(root: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", root, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GIT_PATIENCE_S,
            check=False,
            # Ctrl-C must not turn a commit that is known into one that is not
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
