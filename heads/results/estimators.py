"""Files of fitted scikit-learn estimators, in the format of skops: no pickle, only objects of known types.

A file names the types of its objects. Objects are made only where every type is one that skops trusts, a
class of scikit-learn, or a type that the user trusts by name.
"""

import hashlib
from collections.abc import Iterable
from importlib import import_module
from inspect import isclass
from typing import Any

from tier4k.cache.errors import TierError
from tier4k.cache.text import first_few, shortened
from tier4k.cache.zip_size import why_too_large
from tier4k.extract.plugins.find import FOREIGN_ERRORS

# Not part of what estimators are made of: tests, examples, and copies of other packages.
NOT_OF_ESTIMATORS = ("externals", "tests", "conftest", "datasets", "experimental", "_testing")

NAMED_TYPES = 10  # types in a message


class EstimatorError(TierError):
    """A fitted estimator cannot be saved or read, or must not be loaded."""


def saved_estimator(estimator: Any) -> bytes:
    """Return a fitted estimator as the content of a file, after a test that the content can be read.

    Raises:
        EstimatorError: The estimator has a part, such as a lambda, that the format cannot hold.
    """
    import skops.io

    try:
        content = skops.io.dumps(estimator)
        skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    except FOREIGN_ERRORS as error:  # skops asks every object for its state, which may raise anything
        reason = f"{type(error).__name__}: {shortened(error)}"
        raise EstimatorError(f"skops cannot save them ({reason})") from error
    return content


def untrusted_types(content: bytes) -> list[str]:
    """Return the types of a file that are neither trusted by skops nor classes of scikit-learn, sorted.

    Raises:
        EstimatorError: The file would unpack to far more than it has.
    """
    import skops.io

    if reason := why_too_large(content):
        raise EstimatorError(f"a fitted estimator is not read: {reason}; fit the run again")
    return [name for name in skops.io.get_untrusted_types(data=content) if not _is_sklearn_class(name)]


def load_estimator(content: bytes, trusted: Iterable[str]) -> Any:
    """Restore a fitted estimator from the content of a file.

    Args:
        content: The content.
        trusted: Names of types that the user trusts, such as "my_package.heads.Forest".

    Raises:
        EstimatorError: A type is not trusted, or the content is damaged; no object has been made then.
    """
    import skops.io

    try:
        untrusted = set(untrusted_types(content)) - set(trusted)
        if untrusted:
            raise EstimatorError(refusal(sorted(untrusted)))
        return skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    except EstimatorError:
        raise
    except FOREIGN_ERRORS as error:  # damaged content, and code that the user trusts, may raise anything
        raise EstimatorError(
            f"a fitted estimator cannot be read ({type(error).__name__}: {shortened(error)}): install the "
            "versions of scikit-learn and skops that the run was fitted with, or fit the run again"
        ) from error


def refusal(untrusted: Iterable[str]) -> str:
    """Return why objects of types are not made, and how to allow it."""
    names = [shortened(name) for name in untrusted]
    named = names[:NAMED_TYPES]
    options = " ".join(f"--trust {name}" for name in named)
    return (
        f"the heads contain {first_few(names, NAMED_TYPES)}, which is code of neither scikit-learn nor "
        f"tier4k: if you trust it, pass {options} (in Python trusted={named!r})"
    )


def digest(content: bytes) -> str:
    """Return the SHA-256 (hexadecimal) of the content of a file."""
    return hashlib.sha256(content).hexdigest()


def _is_sklearn_class(name: str) -> bool:
    """Whether a full name is that of a class of scikit-learn; functions are not, as calling them may do harm.

    This imports the module of scikit-learn.
    """
    module, _, attribute = name.rpartition(".")
    parts = module.split(".")
    if parts[0] != "sklearn" or set(parts) & set(NOT_OF_ESTIMATORS):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    return isclass(found) and found.__module__.partition(".")[0] == "sklearn"
