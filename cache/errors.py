"""The base class of all errors that a user can fix, and the error of stores."""


class TierError(Exception):
    """Wrong input or state. The message names the value and the remedy; the command line exits with 2."""


class StoreError(TierError):
    """A store is missing, ambiguous, incomplete or cannot be written."""
