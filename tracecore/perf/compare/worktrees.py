"""Two versions of the code beside each other: worktrees of git in a temporary folder that is
removed at the end.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import Final

from tracecore.errors import OptionError, OutputError
from tracecore.record import record

GIT_PATIENCE_S: Final = 120.0
SCRIPT: Final = os.path.join("scripts", "perf_harness.py")
# A hook that calls us has set the first three, and git would look at its repository in place of the
# one we name. What a CI runner wants to be told is told once, by us, and not by every run.
NOT_PASSED_ON: Final = (
    "GIT_",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_OUTPUT",
    "GITHUB_ENV",
    "GITHUB_ACTIONS",
)


@record
class Side:
    """One version, ready to run."""

    name: str  # base or work: equally long, since paths end up in what is measured
    root: str  # the clone's folder of this version
    cwd: str  # where its runs start: what the user's working directory is to the user's clone
    sha: str  # of the commit it is or, for the working tree, stands on


@contextlib.contextmanager
def two_sides(clone: str, ref: str) -> Iterator[tuple[Side, Side, str]]:
    """The commit ``ref`` and the working tree of ``clone`` as it is; and the temporary folder that
    holds both.

    The working tree's side is its commit with all tracked files, and all untracked ones that are
    not ignored, put over it. The folder and git's notes of it are removed at the end, however it
    comes.

    Args:
        clone: A folder within a clone: the one that holds ``scripts`` and ``tracecore``.
        ref: Whatever git takes for a commit.

    Raises:
        OptionError: There is no git, no clone, no such commit, or no harness in it.
        OutputError: The folder could not be filled.
    """
    top = _toplevel(clone)
    prefix = os.path.relpath(os.path.realpath(clone), top)
    shas = {"base": _commit(top, ref), "work": _commit(top, "HEAD")}
    # From here on nothing but ourselves may delete it, and nobody else can look into it.
    scratch = os.path.realpath(tempfile.mkdtemp(prefix="tracecore-ab-"))
    try:
        sides = []
        for name, sha in shas.items():
            tree = os.path.join(scratch, name)
            _git(top, "worktree", "add", "--quiet", "--detach", tree, sha, field=ref)
            if name == "work":
                put_over(top, tree)
            root = os.path.normpath(os.path.join(tree, prefix))
            sides.append(Side(name, root, _counterpart(tree, top, root), sha))
            if not os.path.isfile(os.path.join(root, SCRIPT)):
                raise OptionError(
                    "--base", "", f"{ref}, which has no {SCRIPT}", "a commit that has the harness"
                )
        yield sides[0], sides[1], scratch
    finally:
        _remove(top, scratch)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for git and the runs, without what would lead them elsewhere."""
    return {
        name: value for name, value in environment.items() if not name.startswith(NOT_PASSED_ON)
    }


def put_over(top: str, tree: str) -> None:
    """Make ``tree``, which holds the commit of the clone at ``top``, hold its files as they lie
    there now.

    Raises:
        OptionError: git could not list them.
        OutputError: A file could not be copied.
    """
    now = set(_list_files(top, "--cached", "--others", "--exclude-standard"))
    for name in sorted(set(_list_files(tree, "--cached")) | now):
        source, target = os.path.join(top, name), os.path.join(tree, name)
        try:
            if name in now and os.path.lexists(source):
                if os.path.isdir(source) and not os.path.islink(source):
                    continue  # a submodule, or a clone within the clone
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if os.path.lexists(target):
                    os.unlink(target)
                shutil.copy2(source, target, follow_symlinks=False)
            elif os.path.lexists(target) and not os.path.isdir(target):
                os.unlink(target)
        except OSError as error:
            raise OutputError(target, error) from error


def _counterpart(tree: str, top: str, root: str) -> str:
    """Where a relative path of the user's leads to the same file in this tree; its root if they
    stand elsewhere.
    """
    try:
        inside = os.path.relpath(os.path.realpath(os.getcwd()), top)
    except (OSError, ValueError):
        return root
    place = os.path.normpath(os.path.join(tree, inside))
    return place if not inside.startswith("..") and os.path.isdir(place) else root


def _toplevel(clone: str) -> str:
    return os.path.realpath(_git(clone, "rev-parse", "--show-toplevel", field="the clone").strip())


def _commit(top: str, ref: str) -> str:
    if ref.startswith("-"):
        raise OptionError("--base", "", ref, "a branch, a tag or a commit")
    return _git(top, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", field=ref).strip()


def _list_files(top: str, *which: str) -> list[str]:
    return [
        name
        for name in _git(top, "ls-files", "-z", *which, field="the working tree").split("\0")
        if name
    ]


def _git(folder: str, *arguments: str, field: str) -> str:
    """What git says.

    Raises:
        OptionError: It is not there, or refuses; ``field`` is what was asked about.
    """
    # No hook of the user's runs, and Ctrl-C reaches us alone: git is quick, and half a worktree is
    # the harder one to remove.
    command = ["git", "-C", folder, "-c", f"core.hooksPath={os.devnull}", *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_PATIENCE_S,
            check=False,
            env=clean_environment(os.environ),
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise OptionError("--base", "git", str(error), "a git that can be run") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise OptionError(
            "--base",
            "",
            f"{field} ({said})" if said else field,
            "a commit of the clone that the harness lies in",
        )
    return os.fsdecode(done.stdout)


def _remove(top: str, scratch: str) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    # Of worktrees whose folder is gone, ours among them.
    with contextlib.suppress(OptionError):
        _git(top, "worktree", "prune", field="the clone")
