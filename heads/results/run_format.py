"""What a run's files and values are worth to this program: the version of its protocol, the format of its files."""

import json
from pathlib import Path

from tier4k.cache.errors import TierError

# Part of a run's identity. Raise it in the commit that changes a value of a run by more than rounding: a head, a default of
# an option, a split, a metric, an interval, a training step, an evaluated zero-shot score. Runs fitted before then have
# other names and are fitted again; a comment, a message, a faster way to the same values needs no new version.
# tests/golden/ fails where values changed and this did not, and then `python -m tests.golden.record heads` records them.
PROTOCOL_VERSION = 1

# Of the files in a run's folder. Raise it when one of them gets other fields or columns: older runs are refused then.
RUN_FORMAT = 4


class ResultError(TierError):
    """A run's folder that cannot be read."""


def require_current_format(run: Path) -> None:
    """Refuse a run whose files are of another format; what is missing or damaged is left to the reader of that file.

    Raises:
        ResultError: The run is of another format.
    """
    try:
        found = json.loads((run / "results.json").read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(found, int) and found != RUN_FORMAT:
        raise ResultError(
            f"{run} is a run of format {found}, and this version of tier4k reads format {RUN_FORMAT}: delete it and fit again"
        )
