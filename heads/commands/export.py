"""`tier export`: a model as one folder."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands.console import make_console, print_line
from tier4k.heads.commands.options import (
    OneTargetOption,
    RepeatOption,
    RunArgument,
    WeightsGroup,
)


def export_model(
    run: RunArgument,
    folder: Annotated[
        Path,
        typer.Argument(help="New folder to write."),
    ],
    *,
    target: OneTargetOption = None,
    repeat: RepeatOption = None,
    weights: WeightsGroup,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Write ONNX files too, checked with ONNX Runtime (tier4k[onnx])."),
    ] = False,
) -> None:
    """Write heads, encoders, intervals and a model card into one folder, which loads offline anywhere."""
    from tier4k.heads.encoders.sources import encoder_sources
    from tier4k.heads.inference.export import export
    from tier4k.heads.results.model import read_model

    model = read_model(run).only(target, repeat)
    found = encoder_sources(model, weights.image_weights, weights.text_weights)
    differences = export(found, folder, onnx)
    console = make_console()
    for name, difference in differences.items():
        file = folder / "onnx" / f"{name}.onnx"
        print_line(console, f"{file}: differs from torch by {difference:.1e} at most")
    files = [path for path in folder.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print_line(console, f"{folder}: {len(model.heads)} heads with their encoders, {megabytes:,.1f} MB")
