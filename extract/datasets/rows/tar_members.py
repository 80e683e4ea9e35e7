"""Members of tar archives, read in the order of the archive by Python's tarfile.

tarfile and not webdataset, because a place needs the offset of its member, and the damage of an archive must
be named: webdataset yields the bytes of samples, and passes over what it cannot read.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

from tier4k.cache.text import shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows.files import read_failure
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.files import open_file

TAR_SUFFIX = ".tar"

COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

# {first bytes of a compressed file: the command that decompresses it}
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


class ArchiveError(DataError):
    """An archive cannot be read, from its start or from some member on. The message does not name it."""


@dataclass(frozen=True)
class TarMember:
    """A member that is no folder.

    Attributes:
        name: Its path in the archive.
        offset: Number of bytes of the archive before its content.
        size: Number of bytes of its content.
        number: Its number in the archive, from 1.
        defect: Why its content cannot be read; "" if it can.
    """

    name: str
    offset: int
    size: int
    number: int
    defect: str = ""


class _Header(tarfile.TarInfo):
    """A header whose owner, times and modes are not read, which takes a third of the time.

    Only headers of ordinary files are read here: tarfile reads those of folders, links, long names and all
    that look unusual, with its own checks.
    """

    @classmethod
    def frombuf(
        cls,
        buf: bytes | bytearray,
        encoding: str,
        errors: str,
    ) -> Self:
        """Return the header in a block of 512 bytes (POSIX.1-1988, `ustar`)."""
        if len(buf) == tarfile.BLOCKSIZE and _is_ordinary_file(bytes(buf)):
            header = cls(buf[:100].partition(b"\0")[0].decode(encoding, errors))
            header.size = _octal(bytes(buf[124:136]))
            return header
        return super().frombuf(buf, encoding, errors)


def _is_ordinary_file(header: bytes) -> bool:
    """Return whether a header is sound, of an ordinary file with its whole name, and its size is octal."""
    name = header[:100].partition(b"\0")[0]
    has_prefix, is_base_256 = header[345] != 0, header[124] >= 0x80
    if not name or name.endswith(b"/") or header[156] not in b"0\0" or has_prefix or is_base_256:
        return False
    checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")  # of the header with a blank checksum
    try:
        return checksum == _octal(header[148:156]) and _octal(header[124:136]) >= 0
    except ValueError:
        return False


def _octal(field: bytes) -> int:
    return int(field.partition(b"\0")[0], 8)


class TarReader:
    """An open archive, whose members are read once, in their order.

    Args:
        path: Path or URL of the archive.

    Raises:
        ArchiveError: It cannot be opened, is compressed, or is no tar archive.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file: BinaryIO = open_file(path)
        except (ImageError, OSError) as error:
            raise _unreadable(error) from error
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            self._file.seek(0)
            _require_no_compression(self._file)
            self._tar = tarfile.open(fileobj=self._file, mode="r:", tarinfo=_Header)  # noqa: SIM115, `close` closes it
        except (ImageError, OSError, tarfile.TarError) as error:
            self._file.close()
            raise _unreadable(error) from error
        except ArchiveError:
            self._file.close()
            raise

    def __enter__(self) -> "TarReader":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def members(self) -> Iterator[TarMember]:
        """Yield all members that are no folders.

        Raises:
            ArchiveError: The archive is damaged or cut off; the members before were yielded.
        """
        number = 0
        while (about := self._next()) is not None:
            number += 1
            if about.isdir():
                continue
            member = self._member(about, number)
            yield member
            if self._missing_bytes(about) > 0:
                return  # the defect of this member reports it
        self._require_end(number)

    def read(self, member: TarMember) -> bytes:
        """Return the content of a member without a defect.

        Raises:
            ArchiveError: It cannot be read.
        """
        try:
            self._file.seek(member.offset)
            return self._file.read(member.size)
        except (ImageError, OSError) as error:
            raise _unreadable(error) from error

    def _next(self) -> tarfile.TarInfo | None:
        try:
            about = self._tar.next()
        except (ImageError, OSError, tarfile.TarError, ValueError) as error:
            raise _unreadable(error) from error
        self._tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all
        return about

    def _member(self, about: tarfile.TarInfo, number: int) -> TarMember:
        defect = ""
        if not about.isreg():
            kind = "a link" if about.issym() or about.islnk() else "no regular file"
            defect = f"{shown(about.name)} is {kind}: store the file itself"
        elif about.issparse():
            defect = f"{shown(about.name)} is stored in pieces (sparse): store it whole"
        elif (missing := self._missing_bytes(about)) > 0:
            defect = f"{shown(about.name)} is cut off: the archive ends {missing:,} bytes before its end"
        return TarMember(about.name, about.offset_data, about.size, number, defect)

    def _missing_bytes(self, about: tarfile.TarInfo) -> int:
        """Return the number of bytes of a member after the end of the archive; negative if it is whole."""
        is_whole_file = about.isreg() and not about.issparse()
        return about.offset_data + about.size - self._size if is_whole_file else 0

    def _require_end(self, members: int) -> None:
        """Require the mark at the end of an archive, because tarfile takes a damaged header for this mark."""
        end = self._tar.offset
        try:
            self._file.seek(end)
            block = self._file.read(tarfile.BLOCKSIZE)
        except (ImageError, OSError) as error:
            raise _unreadable(error) from error
        if len(block) < tarfile.BLOCKSIZE:
            raise ArchiveError(
                f"the archive has no mark of its end after {members:,} members: it may be cut off; copy it "
                "again"
            )
        if block.strip(b"\0"):
            raise ArchiveError(
                f"the archive is damaged at byte {end:,}, after {members:,} members: copy it again"
            )


def _require_no_compression(file: BinaryIO) -> None:
    start = file.read(max(map(len, _COMPRESSED)))
    file.seek(0)
    for mark, command in _COMPRESSED.items():
        if start.startswith(mark):
            raise ArchiveError(
                "the archive is compressed, so that no image in it can be read by itself: decompress it with "
                f"`{command}`"
            )


def _unreadable(error: Exception) -> ArchiveError:
    if isinstance(error, ImageError):  # of an object at a URL
        return ArchiveError(str(error))
    return ArchiveError(f"the archive cannot be read ({read_failure(error)})")
