"""The journal of a slice: a new one, or that of the slice that is to be finished."""

import contextlib
import os
from typing import Any

from tracecore import __version__
from tracecore.errors import InputError, OptionError, OutputError
from tracecore.perf.documents.files import check_writable, reserve_stamp
from tracecore.perf.documents.losses import Losses
from tracecore.perf.slice.journal import Journal, create_journal, resume_journal
from tracecore.perf.slice.journal_file import journal_path, unfinished_stamps
from tracecore.perf.slice.options import LATEST, UNFINISHED, SliceOptions
from tracecore.perf.slice.plan import Plan
from tracecore.record import as_dict, replace
from tracecore.records import JsonObject


def find_stamp(options: SliceOptions) -> SliceOptions:
    """The same, with the stamp in place of words that mean one.

    Raises:
        OptionError: There is no slice to finish, or several where one is meant.
    """
    asked, folder = options.run.resume, options.output.output_dir
    if asked not in {UNFINISHED, LATEST}:
        return options
    stamps = unfinished_stamps(folder)
    if not stamps:
        raise OptionError("--resume", "", "no unfinished slice", f"one in {folder}")
    if asked == UNFINISHED and len(stamps) > 1:
        expected = f"one of {', '.join(stamps)}, or latest"
        raise OptionError("--resume", "", f"{len(stamps)} unfinished slices", expected)
    return replace(options, run=replace(options.run, resume=stamps[-1]))


def open_journal(options: SliceOptions, plan: Plan) -> tuple[str, Plan, Journal]:
    """The stamp of the slice and its journal, new or begun; and the plan, which goes by the slice
    that is finished where one is.

    Raises:
        InputError: There is no such slice to finish, or it is another.
        OutputError: A folder cannot be written into.
    """
    run, folder = options.run, options.output.output_dir
    fsync: Any = run.fsync
    check_writable(folder, run.runs_dir)
    stamp = run.resume or reserve_stamp(folder)
    path = journal_path(folder, stamp)
    if run.resume:
        journal = reopen_journal(path, plan, fsync)
        return stamp, replace(plan, slice_id=journal.header["slice_id"]), journal
    header = {"slice_id": plan.slice_id, **what_decides(plan)}
    try:
        return stamp, plan, create_journal(path, header, run.episodes, fsync=fsync)
    except OutputError:
        with contextlib.suppress(OSError):
            os.unlink(path)  # nothing has run: the stamp is free again
        raise


def what_decides(plan: Plan) -> JsonObject:
    """Everything that an episode's outcome depends on: two parts of one slice must agree in it."""
    settings = plan.settings
    return {
        "tracecore": __version__,
        "git_sha": settings.git_sha,
        "episodes": plan.episodes,
        "scenario": plan.scenario_document(),
        "timeout_s": settings.timeout_s,
        "strict_spec": settings.strict_spec,
        "redaction": settings.redaction,
        "keep_runs": settings.keep_runs,
        "limits": as_dict(settings.limits),
    }


def reopen_journal(path: str, plan: Plan, fsync: Any) -> Journal:
    """The journal of the slice to resume.

    Raises:
        InputError: There is none, or it is that of another slice.
    """
    journal = resume_journal(path, fsync=fsync)
    try:
        check_journal(journal, plan)
    except BaseException:
        journal.close(sync=False)
        raise
    return journal


def check_journal(journal: Journal, plan: Plan) -> None:
    """Refuse the journal of a slice that was begun with something else than is given now, and rows
    that it has not written: found at the end only, they would spoil what has been run until then.

    Raises:
        InputError: The first field or row that is another.
    """
    now = what_decides(plan)
    then = {name: journal.header.get(name) for name in now}
    if then != now:
        raise InputError(journal.path, *_first_difference("", then, now))
    begun = replace(plan, slice_id=journal.header["slice_id"])
    for row in journal.rows_in_order():
        run_id = begun.job(row.episode_index).run_id
        if row.run_id != run_id:
            where = f"row of episode {row.episode_index + 1}: run_id"
            expected = f"{run_id!r}, as this slice would have given"
            raise InputError(journal.path, where, row.run_id, expected)


def where_artifacts_lie(options: SliceOptions) -> str | None:
    """The folder of the run artifacts; None where each node of a cluster keeps its own."""
    return None if options.cluster.artifacts == "node" else options.run.runs_dir


def drop_lost(journal: Journal, folder: str | None) -> str | None:
    """Have those episodes of a resumed slice run again whose artifacts have vanished or changed
    since they finished; which these are, in words.
    """
    losses = Losses(folder)
    for row in journal.rows_in_order():
        if losses.loss_of(row):
            journal.drop(row.episode_index)
            with contextlib.suppress(OSError):  # one that stands would be taken for a finished one
                os.unlink(os.path.join(str(folder), str(row.artifact)))
    return losses.sentence()


def _first_difference(name: str, then: Any, now: Any) -> tuple[str, Any, str]:
    """Where two values differ: field, what stands now, and what the slice was begun with."""
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        parts = [(f"{name}[{place}]", place) for place in range(len(now))]
    elif isinstance(then, dict) and isinstance(now, dict) and then.keys() == now.keys():
        parts = [(f"{name}.{key}" if name else key, key) for key in now]
    else:
        return name, now, f"{then!r}, as when the slice was begun"
    inner, key = next((inner, key) for inner, key in parts if then[key] != now[key])
    return _first_difference(inner, then[key], now[key])
