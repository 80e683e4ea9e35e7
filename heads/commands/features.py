"""`tier features`: write the fused matrix to a file."""

from typing import Annotated

import typer

from tier4k.heads.commands.console import make_console
from tier4k.heads.commands.encoder_options import (
    EncodersGroup,
    ImageGroup,
    PresetOption,
    StagesOption,
    StreamsOption,
    TemplatesOption,
)
from tier4k.heads.commands.encoders import encoder_choice
from tier4k.heads.commands.loading import load_with_stores, require_prompts, template_texts
from tier4k.heads.commands.options import (
    FEATURES,
    BenchmarkOption,
    DataArgument,
    FeaturesOption,
    MatrixOutputOption,
    MethodOption,
    RowsGroup,
)

InteractionOption = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Columns computed from the embeddings of one checkpoint with two towers: none, or some of "
        "cosine, product, templates and image-prompt with + between them.",
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
) -> None:
    """Write the fused matrix X (N, d) with names, groups, generators and scores, for other programs."""
    from tier4k.extract.datasets.source import have_prompts
    from tier4k.extract.datasets.streams import names_text
    from tier4k.heads.data.features import load_features
    from tier4k.heads.data.fused_matrix import require_matrix_suffix, save_matrix
    from tier4k.heads.data.fusion import (
        default_benchmark,
        existing_streams,
        fuse,
        interact,
        method_streams,
        needed_inputs,
        require_valid_benchmark,
        used_streams,
    )
    from tier4k.heads.data.stages import resolve_stages

    selected = benchmark or default_benchmark(method)
    require_valid_benchmark(method, selected)
    require_matrix_suffix(output)
    chosen = method_streams(streams, method)
    sources = rows.read(data, "text" in needed_inputs(method, chosen, interaction))
    chosen = existing_streams(method, chosen, have_prompts(sources))
    inputs = needed_inputs(method, chosen, interaction)
    require_prompts(sources, ("text", *inputs) if names_text(streams) else inputs)
    texts = template_texts(templates, interaction)
    used = used_streams(method, chosen)
    choice = encoder_choice(encoders, images, preset).for_streams(used, interaction)
    console = make_console()
    report, stores = load_with_stores(console, sources, features, choice, rows.on_error)
    stores = stores.for_streams(used, interaction)
    levels = resolve_stages(stages or (), stores.image_signatures)
    loaded = load_features(report.manifest.select(selected), stores, levels, interaction, texts, inputs)
    fused = interact(fuse(loaded, method, chosen), interaction).X
    save_matrix(output, loaded, fused)
    shape = f"{fused.shape[0]} x {fused.shape[1]} {fused.dtype}"
    targets = ", ".join(loaded.target_names) or "none"
    console.print(f"{output}: X {shape}, targets {targets}")
