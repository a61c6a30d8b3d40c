"""The zip of a slice's perf files: the same bytes for the same documents."""

import os
import zipfile
import zlib
from typing import Final

from tracecore.files import SHARED

COPY_BYTES: Final = 1 << 16
EARLIEST_TIME: Final = (1980, 1, 1, 0, 0, 0)  # a fixed one: the same documents make the same zip


def fill_bundle(fd: int, members: dict[str, str]) -> None:
    """Zip the files ``{name inside: path}`` into ``fd``, and read everything back once; OSError
    where that fails.
    """
    with (
        open(fd, "w+b", closefd=False) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle,
    ):
        for name, path in members.items():
            _add_member(bundle, name, path)
    _check_zip(fd)


def _check_zip(fd: int) -> None:
    """Read every member back, which checks its checksum; ``testzip`` does the same with many times
    the memory.
    """
    try:
        with open(fd, "rb", closefd=False) as file, zipfile.ZipFile(file) as bundle:
            for name in bundle.namelist():
                with bundle.open(name) as member:
                    while member.read(COPY_BYTES):
                        pass
    except (zipfile.BadZipFile, zlib.error) as error:
        raise OSError(f"came back damaged from the disk: {error}") from error


def _add_member(bundle: zipfile.ZipFile, name: str, path: str) -> None:
    member = zipfile.ZipInfo(name, EARLIEST_TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix on every platform, which gives the next line its meaning
    member.external_attr = SHARED << 16
    with open(path, "rb") as source:
        # tells zipfile whether 32 bits will do
        member.file_size = os.fstat(source.fileno()).st_size
        with bundle.open(member, "w") as target:
            while block := source.read(COPY_BYTES):
                target.write(block)
