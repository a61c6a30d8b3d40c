"""What is known of the nodes of a cluster, and which of them may be used."""

from typing import Any

from tracecore.confinement import doctor
from tracecore.errors import InputError, OptionError, one_line
from tracecore.record import mutable_record
from tracecore.records import JsonObject, Limits


@mutable_record
class Node:
    """A dask worker that has passed the check."""

    address: str
    about: JsonObject  # as it describes itself
    first_slot: int  # its slots are numbered from here on, across the cluster
    slots: int  # how many of its threads are used
    is_used: bool = False  # has taken the slice in
    runs_dir: str | None = None  # where its artifacts lie, if they stay there
    is_lost: bool = False
    refused: str | None = None  # why it gets no episodes (any more)

    @property
    def words(self) -> str:
        """How a person finds it."""
        return one_line(f"node {self.about['name'] or self.address} on {self.about['hostname']}")


def complaint_of(
    address: str, about: JsonObject, mine: JsonObject, limits: Limits
) -> InputError | None:
    """What was found at the node and what was expected, if that is not the same."""
    where = f"node {about['name'] or address} on {about['hostname']}"
    if "failure" in about:
        expected = f"tracecore {mine['tracecore']}, with which it can be asked"
        return OptionError("--cluster", where, about["failure"], expected)
    theirs = about["about"]
    shown = {**theirs, "sources": f"another tracecore {theirs['tracecore']}"}
    expected_of = {
        "tracecore": f"{mine['tracecore']}, as here",
        "python": f"{mine['python']}, as here",
        "sources": "a package of the same files as here",
    }
    for name, expected in expected_of.items():
        if theirs[name] != mine[name]:
            return OptionError("--cluster", f"{where}: {name}", shown[name], expected)
    if limits.confinement == "require" and (missing := doctor.missing(about["confinement"])):
        found = f"require, and no {'; '.join(missing)}"
        return OptionError("--confinement", where, found, "every layer in force")
    return None


def common(values: list[Any]) -> Any:
    """The value, if it is the same on all nodes; else all that there are, in words, where one word
    says each.
    """
    if all(value == values[0] for value in values):
        return values[0]
    if any(isinstance(value, list | dict) for value in values):
        return None
    return f"mixed: {', '.join(sorted({str(value) for value in values}))}"
