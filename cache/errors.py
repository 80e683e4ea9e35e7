"""The one base class of errors that a user can mend."""


class TierError(Exception):
    """A wrong input or state, told with its value and its remedy; the command line prints it and exits with 2."""
