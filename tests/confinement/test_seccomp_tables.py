"""The numbers of system calls against a table that others made from the kernel's own: a wrong one
would open what it names.
"""

import pytest
from system_calls import NoSuchSystemCall, NotSupportedSystemCall, syscalls

from tracecore.confinement import landlock, namespaces, seccomp

KERNEL_NAMES = {"x86_64": "x86_64", "aarch64": "arm64"}
RETIRED = {"nfsservctl"}  # which newer kernels no longer list, and older ones have


def rows() -> list[tuple[str, str, str]]:
    """Name, and number or "-" on x86_64 and aarch64, of every call in the filters."""
    listed = (seccomp.ALLOWED, seccomp.REFUSED, seccomp.NETWORK, seccomp.LAST, seccomp.STARTS)
    tables = (*listed, seccomp.BY_ARGUMENT)
    return [tuple(row.split()) for table in tables for row in table.split(";")]  # type: ignore[misc]


def number_of(name: str, machine: str) -> int | None:
    """The number that the kernel gives a call on a machine, if there is such a call."""
    try:
        return int(syscalls().get(name, KERNEL_NAMES[machine]))
    except (NotSupportedSystemCall, NoSuchSystemCall):
        return None


@pytest.mark.parametrize("machine", sorted(seccomp.ARCHITECTURES))
def test_every_call_has_the_number_that_the_kernel_gives_it(machine: str) -> None:
    column = 1 + seccomp.ARCHITECTURES[machine][0]
    ours = {
        row[0]: None if row[column] == "-" else int(row[column])
        for row in rows()
        if row[0] not in RETIRED
    }
    assert len(ours) > 250
    assert ours == {name: number_of(name, machine) for name in ours}


def test_no_call_stands_in_two_tables() -> None:
    names = [row[0] for row in rows()]
    assert len(names) == len(set(names))


def test_calls_outside_of_the_filters_have_their_numbers_too() -> None:
    same_everywhere = {
        "landlock_create_ruleset": landlock.CREATE_RULESET,
        "landlock_add_rule": landlock.ADD_RULE,
        "landlock_restrict_self": landlock.RESTRICT_SELF,
        "open_tree": namespaces.OPEN_TREE,
        "move_mount": namespaces.MOVE_MOUNT,
        "mount_setattr": namespaces.MOUNT_SETATTR,
    }
    for machine in KERNEL_NAMES:
        assert {call: number_of(call, machine) for call in same_everywhere} == same_everywhere
