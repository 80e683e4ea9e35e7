"""Versions of the libraries that compute features."""

import importlib.metadata

UNKNOWN_VERSION = "unknown version"


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a feature in its last digits."""
    return {
        name: library_version(name)
        for name in ("tier4k", "torch", "torchvision", "timm", "transformers", "pillow")
    }


def library_version(name: str) -> str:
    """Version of an installed library; `UNKNOWN_VERSION` where it runs from a checkout that is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN_VERSION
