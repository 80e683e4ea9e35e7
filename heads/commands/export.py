"""`tier export`: write a model into one folder."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands.console import Console
from tier4k.heads.commands.encoder_options import WeightsGroup
from tier4k.heads.commands.output_options import QuietOption
from tier4k.heads.commands.run_options import OneTargetOption, RepeatOption, RunArgument, TrustOption


def export_model(
    run: RunArgument,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder to write; it must not exist, or be empty."),
    ],
    *,
    target: OneTargetOption = None,
    repeat: RepeatOption = None,
    weights: WeightsGroup,
    trust: TrustOption = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Also write ONNX files (needs tier4k\\[onnx])."),
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Write heads, encoders and a model card into one folder for use offline."""
    from tier4k.heads.encoders.sources import encoder_sources
    from tier4k.heads.inference.export import export
    from tier4k.heads.results.read_model import read_model

    model = read_model(run, trust or ()).averaged(target, repeat)
    sources = encoder_sources(model, weights.image_weights, weights.text_weights)
    differences = export(sources, folder, onnx)
    console = Console(quiet=quiet)
    for name, difference in differences.items():
        file = folder / "onnx" / f"{name}.onnx"
        console.note(f"{file}: outputs differ from torch by at most {difference:.1e}")
    files = [path for path in folder.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    console.result(f"{folder}: {len(model.heads)} heads with their encoders, {megabytes:,.1f} MB")
