"""Files that appear whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable

from tracecore.errors import OutputError, as_output_error

PRIVATE = 0o600
SHARED = 0o644
NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
BLOCK_BYTES = 1 << 16


def write_atomic(path: str, data: bytes, *, fsync: bool = False) -> None:
    """Put ``data`` under ``path`` in one step, replacing what stood there; ``fsync`` makes it
    survive a power cut.

    Raises:
        OutputError: Nothing was changed.
    """
    fill_atomic(path, lambda fd: write_all(fd, data), fsync=fsync)


def write_atomic_stream(path: str, chunks: Iterable[bytes], *, fsync: bool = False) -> None:
    """As :func:`write_atomic`, for a file that is larger than memory should hold: its bytes come
    chunk by chunk.

    Raises:
        OutputError: Nothing was changed.
    """

    def fill(fd: int) -> None:
        # small chunks are gathered: a system call for each would cost more than making it
        with open(fd, "wb", buffering=BLOCK_BYTES, closefd=False) as file:
            file.writelines(chunks)

    fill_atomic(path, fill, fsync=fsync)


def fill_atomic(
    path: str,
    fill: Callable[[int], None],
    *,
    fsync: bool = False,
    finish: Callable[[str, str], None] = os.replace,
) -> None:
    """As :func:`write_atomic`, for a file that ``fill`` writes itself through a descriptor it may
    also read and seek; ``finish`` puts the whole file under its name.

    Raises:
        OutputError: Nothing was changed. Whatever else ``fill`` raises passes through, and nothing
            was changed either.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:40]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    with as_output_error(path):
        fd = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, SHARED
        )
        try:
            try:
                fill(fd)
                if fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            finish(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if fsync:
            sync_folder(folder)


def create_atomic(path: str, data: bytes, *, fsync: bool = False) -> bool:
    """Put ``data`` under ``path`` in one step if nothing stands there; False if something does.

    Raises:
        OutputError: Nothing was changed.
    """
    try:
        fill_atomic(path, lambda fd: write_all(fd, data), fsync=fsync, finish=_link_into_place)
    except OutputError as error:
        if isinstance(error.cause, FileExistsError):
            return False
        raise
    return True


def _link_into_place(temporary: str, path: str) -> None:
    # link, not rename: rename would replace an artifact that another process has finished in the
    # meantime.
    os.link(temporary, path)
    # the file stands: a second name that stays is no reason to report that it does not
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def has_room(folder: str, size: int) -> bool:
    """Whether this process could write a file of ``size`` bytes there now; False where that cannot
    be found out.
    """
    try:
        # without a name, which might stay
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def write_all(fd: int, data: bytes | bytearray) -> None:
    """Write all of ``data``: a nearly full disk takes a part first and refuses only the
    next write.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: str) -> None:
    """Make the names in ``folder`` survive a power cut, where its file system can promise that."""
    fd = os.open(folder or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # CIFS and many a FUSE have no fsync of a folder: their names are as durable as they get
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(fd)
