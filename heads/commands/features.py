"""`tier features`: write the fused matrix to a file."""

from typing import Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.data_options import (
    FEATURES,
    BenchmarkOption,
    DataArgument,
    FeaturesOption,
    RowsGroup,
)
from tier4k.heads.commands.encoder_options import (
    EncodersGroup,
    ImageGroup,
    PresetOption,
    StagesOption,
    StreamsOption,
    TemplatesOption,
)
from tier4k.heads.commands.encoders import encoder_choice
from tier4k.heads.commands.fit_options import MethodOption
from tier4k.heads.commands.loading import load_with_stores, template_texts
from tier4k.heads.commands.output_options import QuietOption
from tier4k.heads.commands.run_options import MatrixOutputOption
from tier4k.heads.extraction.prompts import require_prompts

InteractionOption = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="cosine, product, templates, image-prompt.",
        rich_help_panel=panels.FEATURES,
    ),
]


def fused_features(
    data: DataArgument,
    *,
    output: MatrixOutputOption,
    features: FeaturesOption = FEATURES,
    method: MethodOption = "nr",
    benchmark: BenchmarkOption = None,
    encoders: EncodersGroup,
    preset: PresetOption = None,
    images: ImageGroup,
    streams: StreamsOption = "all",
    stages: StagesOption = None,
    interaction: InteractionOption = "none",
    templates: TemplatesOption = None,
    rows: RowsGroup,
    quiet: QuietOption = False,
) -> None:
    """Write the fused matrix X (N, d) and the scores, for other programs."""
    from tier4k.extract.datasets.source import have_prompts
    from tier4k.extract.datasets.streams import names_text
    from tier4k.heads.data.fused_matrix import require_matrix_suffix, save_matrix
    from tier4k.heads.data.fusion import (
        existing_streams,
        method_streams,
        needed_inputs,
        require_valid_benchmark,
        used_streams,
    )
    from tier4k.heads.protocol import fused
    from tier4k.heads.protocol.options import FitOptions

    require_matrix_suffix(output)
    options = FitOptions(
        method,
        benchmark,
        streams=method_streams(streams, method),
        stages=stages or (),
        head={"interaction": interaction},
        templates=template_texts(templates, interaction),
    )
    require_valid_benchmark(options.method, options.rows)
    sources = rows.read(data, "text" in needed_inputs(method, options.streams, interaction))
    chosen = existing_streams(method, options.streams, have_prompts(sources))
    inputs = needed_inputs(method, chosen, interaction)
    require_prompts(sources, ("text", *inputs) if names_text(streams) else inputs)
    choice = encoder_choice(encoders, images, preset).for_streams(used_streams(method, chosen), interaction)
    console = Console(quiet=quiet)
    report, stores = load_with_stores(console, sources, features, choice, rows.on_error)
    found = fused.fused_features(report.manifest, stores, options)
    save_matrix(output, found.rows, found.X)
    shape = f"{found.X.shape[0]} x {found.X.shape[1]} {found.X.dtype}"
    targets = ", ".join(found.rows.target_names) or "none"
    console.result(f"{output}: X {shape}, targets {targets}")
