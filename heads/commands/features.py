"""`tier features`: write the fused matrix to a file."""

from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.heads.commands.console import make_console
from tier4k.heads.commands.encoders import image_choice
from tier4k.heads.commands.loading import load_with_stores
from tier4k.heads.commands.options import (
    FEATURES,
    BenchmarkOption,
    DataArgument,
    FeaturesOption,
    ImageEncoderOption,
    ImageGroup,
    MatrixOutputOption,
    MethodOption,
    PresetOption,
    RowsGroup,
    StagesOption,
    TextEncoderOption,
)


def fused_features(
    data: DataArgument,
    *,
    output: MatrixOutputOption,
    features: FeaturesOption = FEATURES,
    method: MethodOption = "nr",
    benchmark: BenchmarkOption = None,
    image_encoder: ImageEncoderOption = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
    preset: PresetOption = None,
    images: ImageGroup,
    stages: StagesOption = "all",
    rows: RowsGroup,
) -> None:
    """Write the fused matrix X (N, d) with names, groups, generators and scores, for other programs."""
    from tier4k.extract.encoders.levels import Levels, parse_level_names
    from tier4k.heads.data.features import load_features
    from tier4k.heads.data.fused_matrix import require_matrix_suffix, save_matrix
    from tier4k.heads.data.fusion import default_benchmark, fuse, require_valid_benchmark

    selected = benchmark or default_benchmark(method)
    require_valid_benchmark(method, selected)
    require_matrix_suffix(output)
    choice = image_choice(images, image_encoder, preset)
    levels = parse_level_names(stages)
    console = make_console()
    report, image_store, text_store = load_with_stores(console, data, features, choice, text_encoder, rows)
    if levels:
        levels = Levels.parse(image_store.signature.feature).named(levels)
    loaded = load_features(report.manifest.select(selected), image_store, text_store, levels)
    fused = fuse(loaded, method).X
    save_matrix(output, loaded, fused)
    shape = f"{fused.shape[0]} x {fused.shape[1]} {fused.dtype}"
    targets = ", ".join(loaded.target_names) or "none"
    console.print(f"{output}: X {shape}, targets {targets}")
