"""Versions of the libraries that compute features."""

import importlib.metadata

UNKNOWN_VERSION = "unknown version"

LIBRARIES = ("tier4k", "torch", "torchvision", "timm", "transformers", "pillow")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that can change a feature in its last digits, by name."""
    return {name: library_version(name) for name in LIBRARIES}


def library_version(name: str) -> str:
    """Return the version of an installed library; `UNKNOWN_VERSION` for a checkout that is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN_VERSION
