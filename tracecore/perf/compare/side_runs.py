"""Slices of either side of ``ab``, each run by its own side's harness, one after the other."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tracecore.errors import EngineError, InputError, OptionError, one_line
from tracecore.exit_codes import EXIT_BAD_INPUT
from tracecore.perf.compare.runs import RunRecord, read_run
from tracecore.perf.compare.worktrees import SCRIPT, Side, clean_environment
from tracecore.perf.documents.archive import read_sets
from tracecore.perf.slice.interrupt import Interruption

COUNT_WORK: Final = "--work"
STOP_PATIENCE_S: Final = 10.0  # for a run that was told to end, before everything of it is killed
MAX_ANSWER_BYTES: Final = 1 << 20


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
        say: Callable[[str], None],
    ) -> None:
        self.say = say
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
        sets = os.path.join(
            self._sets_dir, f"{self._count:03d}-{stage.partition(' ')[0]}-{side.name}"
        )
        runs = os.path.join(self._scratch, "runs")
        self.say(f"{stage}: {side.name}")
        command = self._command(side, episodes, sets, runs)
        counts = [COUNT_WORK] if count_work and side.name not in self._cannot_count else []
        status, answer, complaint = self._finish([*command, *counts], side)
        if counts and status == EXIT_BAD_INPUT and COUNT_WORK in complaint:
            self._cannot_count.add(side.name)
            status, answer, complaint = self._finish(command, side)
        shutil.rmtree(runs, ignore_errors=True)
        if status == EXIT_BAD_INPUT:
            # Whole, since the end of it says what is wrong.
            raise OptionError(
                f"the {side.name} side",
                "",
                "exit code 2",
                f"a harness that takes this; it says: {complaint}",
            )
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

    def _command(self, side: Side, episodes: int, sets: str, runs: str) -> list[str]:
        script = os.path.join(side.root, SCRIPT)
        command = [sys.executable, script, "--episodes", str(episodes), *self._words]
        return [*command, "--output-dir", sets, "--runs-dir", runs]

    def _finish(self, command: list[str], side: Side) -> tuple[int, bytes, str]:
        """Exit status, stdout, and the last of stderr."""
        if self._interruption.is_set:
            raise Interrupted
        os.makedirs(self._scratch, exist_ok=True)
        errors_path = os.path.join(self._scratch, "stderr")
        with open(errors_path, "wb+") as errors:
            # A session of its own: Ctrl-C reaches us alone, and we end it in order.
            process = subprocess.Popen(
                command,
                cwd=side.cwd,
                env=clean_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            with _ended(process):
                answer = self._read_answer(process)
                status = process.wait()
            errors.seek(max(0, os.fstat(errors.fileno()).st_size - 4096))
            lines = errors.read().decode("utf-8", "replace").split("\n")
        return (
            status,
            answer,
            one_line(" / ".join([line.strip() for line in lines if line.strip()][-3:])),
        )

    def _read_answer(self, process: "subprocess.Popen[bytes]") -> bytes:
        """What it writes to stdout until it ends."""
        assert process.stdout is not None
        answer, source = bytearray(), process.stdout.fileno()
        while True:
            readable, _, _ = select.select([source, self._interruption.wake_fd], [], [])
            if self._interruption.is_set:
                _ignore_interruptions()
                raise Interrupted
            if source in readable:
                piece = os.read(source, 1 << 16)
                if not piece:
                    return bytes(answer)
                answer += piece[: MAX_ANSWER_BYTES - len(answer)]


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """See to it that nothing of a run is left, however the block ends."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()  # it ends its workers in order
            try:
                process.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                _kill_session(process)
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _kill_session(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def _ignore_interruptions() -> None:
    """From here on everything is being removed, which takes moments: a second Ctrl-C must not leave
    half of it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(number, signal.SIG_IGN)
