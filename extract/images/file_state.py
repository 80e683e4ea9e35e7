"""State of a file: if it differs, the content may have changed."""

import time
from dataclasses import dataclass

# Resolution of the time stamps on some file systems. A file that changed more recently may change again and
# keep its time stamp.
STAMP_RESOLUTION_NS = 2_000_000_000


@dataclass(frozen=True)
class FileState:
    """Properties of a file of which at least one changes when the file is edited or replaced.

    Of a URL, `inode` is a hash of the version that its server states (such as the ETag), and the times are 0;
    where the server states none, `modified_ns` is now, so that no two states are equal.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def is_settled(self) -> bool:
        """Whether the file cannot change any more without a new time stamp."""
        latest = max(self.modified_ns, self.changed_ns)
        return time.time_ns() - latest > STAMP_RESOLUTION_NS
