"""How much archives in zip format unpack to, which is checked before any member is read."""

import io
import zipfile
from pathlib import Path

LARGEST_GROWTH = 8
"""How many times its size an archive of numbers may unpack to; they hardly compress."""

SPARE = 2**27  # bytes that small archives may unpack to


def why_too_large(archive: Path | bytes) -> str | None:
    """Return why an archive is not unpacked; None if it may be, or is no readable zip archive.

    zipfile reads no member beyond the size that the archive states for it.

    Args:
        archive: The path of the archive, or its content.
    """
    size = len(archive) if isinstance(archive, bytes) else archive.stat().st_size
    try:
        with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
            unpacked = sum(member.file_size for member in opened.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    if unpacked <= LARGEST_GROWTH * size + SPARE:
        return None
    return f"it has {size / 1e6:,.1f} MB and would unpack to {unpacked / 1e6:,.0f} MB"
