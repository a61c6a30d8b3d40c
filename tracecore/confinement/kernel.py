"""The system calls that Python has no function for, by way of ctypes.

ctypes costs memory in a process that forks, so that it is loaded only by a process that confines
itself. Agents that are forked from it inherit what is in force, and can find ctypes' types in
memory: the kernel's layers do not mind.
"""

import functools
import os
import struct
from collections.abc import Callable

from tracecore import descendants

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PR_SET_DUMPABLE = 4


def close_own_memory() -> None:
    """Let no process of the same user read, trace or dump this one, nor those forked from it. Best
    effort.

    Its files under ``/proc`` belong to root from there on: what writes its own must come before.
    """
    if (prctl := descendants.prepare_prctl()) is not None:
        prctl(_PR_SET_DUMPABLE, 0)


class Kernel:
    """The C library's way into the kernel.

    Raises:
        ImportError: This Python has no ctypes.
        OSError: There is no such library here.
    """

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415 - see above

        self._c = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: int | str | bytes) -> int:
        """One call of a function of the C library, ``syscall`` among them; integers and pointers
        alike fill 64 bits.

        Raises:
            OSError: The kernel refused.
        """
        c = self._c
        words = [
            c.c_long(word) if isinstance(word, int) else c.c_char_p(os.fsencode(word))
            for word in arguments
        ]
        result: int = getattr(self._libc, name)(*words)
        if result < 0:
            code = c.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def prepare(self, name: str, *arguments: int | bytearray) -> Callable[[], int]:
        """All of a call but the last step, so that a child has little left to do; bytes go by their
        address, and may be written until then.

        Returns:
            Makes the call; gives 0 when it is done.
        """
        c = self._c
        words = [
            word if isinstance(word, int) else (c.c_char * len(word)).from_buffer(word)
            for word in arguments
        ]
        kinds = [c.c_long if isinstance(word, int) else c.c_void_p for word in words]
        # The leanest call that ctypes has: each page that a child touches first is a page to copy.
        return functools.partial(c.PYFUNCTYPE(c.c_int, *kinds)((name, c.PyDLL(None))), *words)

    def prepare_filter(
        self, program: bytes, stands_for_pid: int | None = None
    ) -> Callable[[int], int]:
        """A seccomp filter that is yet to be put into force, for ever.

        Args:
            program: The filter.
            stands_for_pid: A constant in it that becomes what the result is called with.

        Returns:
            Puts the filter into force; gives 0 when it is.
        """
        code = bytearray(program)
        words = memoryview(code).cast("I")
        places = [place for place, word in enumerate(words) if word == stands_for_pid]
        address = self._c.addressof(self._c.c_char.from_buffer(code))
        # struct sock_fprog: how many instructions, and where they are.
        header = bytearray(struct.pack("QQ", len(code) // 8, address))
        put_into_force = self.prepare("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)
        # refused, since it is no filter; warms the path
        self.prepare("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, 0)()

        def put(pid: int) -> int:
            for place in places:
                words[place] = pid
            return put_into_force()

        return put
