"""The system calls that Python has no function for, by way of ctypes.

ctypes costs memory in a process that forks, so that it is loaded only by a process that confines
itself. Agents that are forked from it inherit what is in force, and can find ctypes' types in
memory: the kernel's layers do not mind.
"""

import os
from collections.abc import Callable
from typing import Any

from tracecore import descendants

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_MNT_DETACH = 2
_PR_SET_DUMPABLE = 4


def close_own_memory() -> None:
    """Let no process of the same user read, trace or dump this one, nor those forked from it. Best
    effort.

    Its files under ``/proc`` belong to root from there on: what writes its own must come before.
    """
    if (prctl := descendants.prepare_prctl()) is not None:
        prctl(_PR_SET_DUMPABLE, 0)


class Kernel:
    """The C library's way into the kernel. Every call raises :class:`OSError` when the kernel
    refuses.

    Raises:
        OSError: There is no such library here.
    """

    def __init__(self) -> None:
        try:
            import ctypes  # noqa: PLC0415 - see above
        except ImportError as error:
            raise OSError(0, "this Python has no ctypes") from error
        self._c = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long

    def syscall(self, number: int, *arguments: int | bytes | None) -> int:
        """One system call; integers and pointers alike fill 64 bits."""
        c = self._c
        converted = [
            c.c_char_p(word) if isinstance(word, bytes | None) else c.c_long(word)
            for word in arguments
        ]
        return self._checked(self._libc.syscall(c.c_long(number), *converted))

    def prctl(self, option: int, value: int) -> int:
        """``prctl`` with one argument."""
        return self._checked(
            self._libc.prctl(self._c.c_int(option), *map(self._c.c_ulong, (value, 0, 0, 0)))
        )

    def mount(self, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
        """``mount``."""
        words = [os.fsencode(word) for word in (source, target, kind)]
        self._checked(self._libc.mount(*words, self._c.c_ulong(flags), os.fsencode(data)))

    def unmount(self, target: str) -> None:
        """``umount2``, of all that is mounted below too, as soon as it is not in use."""
        self._checked(self._libc.umount2(os.fsencode(target), self._c.c_int(_MNT_DETACH)))

    def unshare(self, flags: int) -> None:
        """``unshare``."""
        self._checked(self._libc.unshare(self._c.c_int(flags)))

    def add_filter(self, program: bytes) -> None:
        """Put a seccomp filter into force, for ever."""
        if self.prepare_filter(program)(0):
            raise OSError(0, "the kernel has no seccomp filters, or refused this one")

    def prepare_filter(self, program: bytes, places: tuple[int, ...] = ()) -> Callable[[int], int]:
        """All but the last call, so that a child has little left to do.

        Args:
            program: The filter.
            places: Offsets of 32-bit constants that become what the result is called with: a
                process id.

        Returns:
            Puts the filter into force; gives 0 when it is.
        """
        c = self._c
        code = c.create_string_buffer(program, len(program))
        words = (c.c_uint32 * (len(program) // 4)).from_buffer(code)
        # struct sock_fprog: how many instructions, and where they are.
        header = (c.c_uint64 * 2)(len(program) // 8, c.addressof(code))
        address = c.addressof(header)
        # The leanest call that ctypes has: each page that a child touches first is a page to copy.
        call: Any = c.PYFUNCTYPE(c.c_int, c.c_int, c.c_long, c.c_void_p)(("prctl", c.PyDLL(None)))
        # refused, since it is no filter; warms the path
        call(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None)

        def put(value: int) -> int:
            for place in places:
                words[place // 4] = value
            return int(call(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address))

        put.__dict__["alive"] = header  # the kernel reads it by address: it must not be collected
        return put

    def prepare_capset(
        self, number: int, header: bytes, sets: bytes
    ) -> tuple[Any, Callable[[], int]]:
        """``capset``, made ready as :meth:`prepare_filter` makes its call ready.

        Returns:
            The capabilities, which can be written; and what sets them, for this process, giving 0
            when they are.
        """
        c = self._c
        head, data = (c.create_string_buffer(words, len(words)) for words in (header, sets))
        call: Any = c.PYFUNCTYPE(c.c_long, c.c_long, c.c_void_p, c.c_void_p)(
            ("syscall", c.PyDLL(None))
        )
        head_address, data_address = c.addressof(head), c.addressof(data)
        view = memoryview(data).cast("B")

        def put() -> int:
            return int(call(number, head_address, data_address))

        put.__dict__["alive"] = (head, data)
        return view, put

    def _checked(self, result: int) -> int:
        if result < 0:
            code = self._c.get_errno()
            raise OSError(code, os.strerror(code))
        return int(result)
