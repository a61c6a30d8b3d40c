"""Two versions of the code beside each other: worktrees of git in a temporary folder that is
removed at the end.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Final

from tracecore.errors import OptionError, OutputError, UsageError
from tracecore.perf.host import provenance
from tracecore.record import record

GIT_PATIENCE_S: Final = 120.0
SCRIPT: Final = os.path.join("scripts", "perf_harness.py")
# What a CI runner is to show is shown once, by us, and not by every run.
NOT_PASSED_ON: Final = frozenset(
    {"GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_ACTIONS"}
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
            _git(top, "worktree", "add", "--quiet", "--detach", tree, sha)
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
    """The environment for the runs, without what would lead them elsewhere."""
    passed_on = provenance.git_environment(environment)
    return {name: value for name, value in passed_on.items() if name not in NOT_PASSED_ON}


def put_over(top: str, tree: str) -> None:
    """Make ``tree``, which holds the commit of the clone at ``top``, hold its files as they lie
    there now.

    Raises:
        UsageError: git could not list them.
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
    return os.path.realpath(_git(clone, "rev-parse", "--show-toplevel").strip())


def _commit(top: str, ref: str) -> str:
    if ref.startswith("-"):
        raise OptionError("--base", "", ref, "a branch, a tag or a commit")
    answer = provenance.ask_git(top, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if answer.text is not None:
        return answer.text.strip()
    expected = "a commit of the clone that the harness lies in"
    shallow = provenance.ask_git(top, "rev-parse", "--is-shallow-repository").text or ""
    if shallow.strip() == "true":
        expected += ", which is a shallow one: `git fetch --unshallow` brings the commits it lacks"
    raise OptionError("--base", "", ref, expected)


def _list_files(top: str, *which: str) -> list[str]:
    return [name for name in _git(top, "ls-files", "-z", *which).split("\0") if name]


def _git(folder: str, *arguments: str) -> str:
    """What git writes.

    Raises:
        UsageError: It is not there, or refuses; with its own words, whole.
    """
    answer = provenance.ask_git(folder, *arguments, patience_s=GIT_PATIENCE_S)
    if answer.text is None:
        raise UsageError(f"--base: {answer.trouble}")
    return answer.text


def _remove(top: str, scratch: str) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    # Of worktrees whose folder is gone, ours among them.
    with contextlib.suppress(UsageError):
        _git(top, "worktree", "prune")
