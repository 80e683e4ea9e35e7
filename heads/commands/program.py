"""`tier` itself: what it does without a command, that is, `--version`."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from tier4k.heads.commands.console import Console

# Libraries that compute values.
LIBRARIES = ("torch", "torchvision", "transformers", "timm", "scikit-learn", "numpy")


def _print_versions(wanted: bool) -> None:
    if not wanted:
        return
    console = Console()
    console.result(f"tier4k {_version('tier4k')}")
    console.result(f"Python {platform.python_version()}")
    for library in LIBRARIES:
        console.result(f"{library} {_version(library)}")
    raise typer.Exit()


def _version(distribution: str) -> str:
    """Return the version of a distribution; nothing is imported."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "is not installed"


def program(
    versions: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_print_versions,
            help="Print the versions of tier4k, Python and libraries.",
        ),
    ] = False,
) -> None:
    """Score AI-generated images as people do: extract features once, then fit TIER heads in seconds."""
    del versions  # printed before
