"""Landlock: the files that a process may read, as a rule of the kernel that holds even for root,
and cannot be undone.
"""

import contextlib
import os
import struct
from collections.abc import Iterable
from typing import Final

from tracecore.confinement.kernel import Kernel

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
RULE_PATH, RULE_PORT = 1, 2
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
TRUNCATE: Final = 1 << 14
CONNECT_TCP: Final = 1 << 1
# All rights on files that each version of the interface knows; from 4 on it has TCP ports, from 6
# on signals.
FILE_RIGHTS: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
NEWEST_RIGHTS: Final = 0xFFFF


def restrict(
    kernel: Kernel, readable: Iterable[str], listable: Iterable[str], ports: Iterable[int]
) -> None:
    """Leave to this process, and all it starts, only these files; and the null device, for writing
    too.

    Needs no-new-privileges.

    Args:
        kernel: The way into it.
        readable: Files, and folders with all that is below them.
        listable: Folders of which the names are given away, with those below.
        ports: To which TCP connections stay possible.

    Raises:
        OSError: The kernel has it not, or refused.
    """
    version = kernel.call("syscall", CREATE_RULESET, 0, 0, 1)  # of the interface
    files = FILE_RIGHTS.get(version, NEWEST_RIGHTS)
    # Older versions know fewer fields, and take the others as long as they are 0.
    attributes = struct.pack("QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    rules = kernel.call("syscall", CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(kernel, rules, path, READ_FILE | READ_DIR)
        for path in listable:
            _allow(kernel, rules, path, READ_DIR)
        _allow(kernel, rules, os.devnull, files & (READ_FILE | WRITE_FILE | TRUNCATE))
        for port in ports if version >= 4 else ():
            one = struct.pack("QQ", CONNECT_TCP, port)
            kernel.call("syscall", ADD_RULE, rules, RULE_PORT, one, 0)
        kernel.call("syscall", RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(kernel: Kernel, rules: int, path: str, rights: int) -> None:
    # What is not there needs no permission; nor does a file of which only the names in it are
    # allowed, which the kernel refuses.
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            own = rights if os.path.isdir(path) else rights & ~READ_DIR
            kernel.call("syscall", ADD_RULE, rules, RULE_PATH, struct.pack("=Qi", own, fd), 0)
        finally:
            os.close(fd)
