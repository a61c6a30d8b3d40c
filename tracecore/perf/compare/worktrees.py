"""Two versions of the code beside each other, in worktrees of git that are removed at the end, and
slices run in them.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tracecore.errors import (
    EngineError,
    InputError,
    OptionError,
    UsageError,
    as_output_error,
    one_line,
)
from tracecore.exit_codes import EXIT_BAD_INPUT
from tracecore.perf.compare.runs import RunRecord, read_run
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.host import provenance
from tracecore.perf.slice.interrupt import Interruption
from tracecore.record import record

GIT_PATIENCE_S: Final = 120.0
STOP_PATIENCE_S: Final = 10.0  # for a run that was asked to end, before all of it is killed
TICK_S: Final = 0.1  # between two looks at whether an end was asked for
COUNT_WORK: Final = "--work"
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
    top = os.path.realpath(_git(clone, "rev-parse", "--show-toplevel").strip())
    prefix = os.path.relpath(os.path.realpath(clone), top)
    shas = {"base": _commit(top, ref), "work": _commit(top, "HEAD")}
    # From here on nothing but this process deletes it, and no other user can look into it.
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
        shutil.rmtree(scratch, ignore_errors=True)
        # Of worktrees whose folder is gone, ours among them.
        provenance.ask_git(top, "worktree", "prune", patience_s=GIT_PATIENCE_S)


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
        is_there = name in now and os.path.lexists(source)
        if is_there and os.path.isdir(source) and not os.path.islink(source):
            continue  # a submodule, or a clone within the clone
        with as_output_error(target):
            if os.path.lexists(target) and (is_there or not os.path.isdir(target)):
                os.unlink(target)
            if is_there:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)


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


# --- slices of either side ---


class Interrupted(Exception):
    """An end was asked for."""


class SideRunner:
    """Runs slices of either side, one after the other."""

    def __init__(
        self,
        words: Sequence[str],
        scratch: str,
        kept: str | None,
        interruption: Interruption,
        write: Callable[[str], None],
    ) -> None:
        self.write = write
        self._words, self._scratch, self._interruption = words, scratch, interruption
        self._sets_dir = kept or os.path.join(scratch, "sets")
        self._count = 0
        self._cannot_count: set[str] = set()  # sides of an older harness

    def run(self, side: Side, episodes: int, stage: str, *, count_work: bool = False) -> RunRecord:
        """One slice of one side; with its work counted, if that is asked and the side can.

        Raises:
            InputError: The side refuses what was asked for.
            EngineError: It could not finish.
            Interrupted: An end was asked for.
        """
        self._count += 1
        name = f"{self._count:03d}-{stage.partition(' ')[0]}-{side.name}"
        runs = os.path.join(self._scratch, "runs")
        self.write(f"{stage}: {side.name}")
        command = [sys.executable, os.path.join(side.root, SCRIPT), "--episodes", str(episodes)]
        command += [*self._words, "--output-dir", os.path.join(self._sets_dir, name)]
        command += ["--runs-dir", runs]
        counts = [COUNT_WORK] if count_work and side.name not in self._cannot_count else []
        status, answer, complaint = self._finish([*command, *counts], side)
        if counts and status == EXIT_BAD_INPUT and COUNT_WORK in complaint:
            self._cannot_count.add(side.name)
            status, answer, complaint = self._finish(command, side)
        shutil.rmtree(runs, ignore_errors=True)
        if status == EXIT_BAD_INPUT:
            # Whole, since the end of it says what is wrong.
            expected = f"a harness that takes this; it says: {complaint}"
            raise OptionError(f"the {side.name} side", "", "exit code 2", expected)
        if status not in {0, 1, 3}:
            raise EngineError(
                f"a run of the {side.name} side ended with exit code {status}:"
                f" {complaint or 'it said nothing'}"
            )
        try:
            summary = json.loads(answer)["artifacts"]["summary"]
            (archived,) = read_sets(os.path.join(side.cwd, summary))
            return read_run(archived)
        except (ValueError, LookupError, TypeError) as error:
            raise EngineError(
                f"a run of the {side.name} side did not say where its summary is: {error}"
            ) from error
        except InputError as error:
            raise EngineError(
                f"a run of the {side.name} side left no complete set: {error}"
            ) from error

    def _finish(self, command: list[str], side: Side) -> tuple[int, bytes, str]:
        """Exit status, stdout, and the last of stderr."""
        # A session of its own: Ctrl-C reaches us alone, and we end it in order.
        with subprocess.Popen(
            command,
            cwd=side.cwd,
            env=clean_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            answer, errors = self._wait_for(process)
        lines = filter(None, map(str.strip, errors.decode("utf-8", "replace").split("\n")))
        return process.returncode, answer, one_line(" / ".join([*lines][-3:]))

    def _wait_for(self, process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        """Its stdout and stderr, when it has ended; nothing of it is left where an end is asked
        for.
        """
        while not self._interruption.is_set:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=TICK_S)
        # From here on everything is being removed, which takes moments: a second Ctrl-C must not
        # leave half of it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        process.terminate()  # it ends its workers in order
        try:
            process.communicate(timeout=STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        raise Interrupted
