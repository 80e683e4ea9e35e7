"""Versions of a run's values and files."""

from tier4k.cache.errors import TierError

# Part of a run's identity. Raise it in the commit that changes a value of a run by more than rounding: a
# head, a default of an option, a split, a metric, an interval, a training step, an evaluated zero-shot score.
# Runs fitted before then have other names and are fitted again; a comment, a message, a faster way to the
# same values needs no new version. tests/golden/ fails where values changed and this did not, and then
# `python -m tier4k.tests.golden.record heads` records them.
PROTOCOL_VERSION = 2

# Of the files in a run's folder. Raise it when one of them gets other fields or columns: older runs are
# refused then.
RUN_FORMAT = 6


class ResultError(TierError):
    """The folder of a run cannot be read."""
