"""Multilevel features are the statistics they are said to be, and every part is found under its name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_image_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.levels import Levels, LevelsError, parse_level_names
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import IMAGE_PRESETS, image_preset
from tier4k.extract.encoders.timm_models import timm_levels
from tier4k.extract.pipeline.load import load_network
from tier4k.tests.builders.data import make_picture, tiny_encoder
from tier4k.tests.builders.preprocessed import preprocessed

pytestmark = pytest.mark.usefixtures("no_hub")

NAMES = st.from_regex(r"[a-z]{1,6}[0-9]{0,2}", fullmatch=True)
STATISTICS = st.lists(st.sampled_from(["class", "mean", "sd"]), min_size=1, max_size=3, unique=True)


@st.composite
def some_levels(draw: st.DrawFn) -> Levels:
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    widths = draw(st.lists(st.integers(1, 5000), min_size=len(names), max_size=len(names)))
    return Levels(tuple(names), tuple(widths), tuple(draw(STATISTICS)), draw(st.booleans()))


def multilevel(folder: Path, architecture: str) -> ImageEncoder:
    return replace(tiny_encoder(folder, architecture), feature="multilevel")


def inputs(encoder: ImageEncoder, count: int = 3) -> Tensor:
    pictures = [make_picture(seed, (200, 170)) for seed in range(count)]
    return torch.stack([preprocessed(encoder.preprocessing, picture) for picture in pictures])


def plain(encoder: ImageEncoder, batch: Tensor) -> tuple[torch.nn.Module, Tensor]:
    """timm's own model with the encoder's weights, and what it is given: normalised here anew."""
    model = timm.create_model(encoder.preset.architecture).eval()
    model.load_state_dict(torch.load(encoder.weights.path, weights_only=True))
    mean, std = (
        np.array(values)[None, :, None, None]
        for values in (encoder.preprocessing.mean, encoder.preprocessing.std)
    )
    return model, torch.from_numpy((batch.numpy() / 255 - mean) / std).float()


def statistics_of(values: Tensor, axes: tuple[int, ...]) -> list[np.ndarray]:
    """Mean and population standard deviation, by numpy in double precision."""
    return [values.double().numpy().mean(axes), values.double().numpy().std(axes, ddof=0)]


def assert_parts(found: Tensor, levels: Levels, expected: Sequence[np.ndarray]) -> None:
    assert found.shape[1] == levels.width and found.dtype == torch.float32
    for (name, part), values in zip(levels.slices().items(), expected, strict=True):
        np.testing.assert_allclose(
            found[:, part].numpy(), values, rtol=1e-4, atol=1e-5 * np.abs(values).max(), err_msg=name
        )


@given(some_levels())
def test_the_text_form_is_read_back_as_it_was(levels: Levels) -> None:
    assert Levels.parse(str(levels)) == levels


@given(some_levels())
def test_slices_tile_the_whole_width_in_order(levels: Levels) -> None:
    slices = levels.slices()
    assert [slices[name].stop for name in slices] == [
        *[part.start for part in slices.values()][1:],
        levels.width,
    ]
    assert next(iter(slices.values())).start == 0
    for name, width in zip(levels.names, levels.widths, strict=True):
        assert [
            slices[f"{name}.{statistic}"].stop - slices[f"{name}.{statistic}"].start
            for statistic in levels.statistics
        ] == [width] * len(levels.statistics)


@pytest.mark.parametrize(
    "feature",
    ["pooled", "class-token-before-norm", "", "multilevel", "multilevel: mean of", "multilevel: mean of a"],
)
def test_a_feature_point_without_levels_is_refused_with_a_remedy(feature: str) -> None:
    with pytest.raises(LevelsError, match="has no levels: extract with --feature multilevel") as error:
        Levels.parse(feature)
    assert repr(feature) in str(error.value)


@pytest.mark.parametrize("preset", IMAGE_PRESETS.values(), ids=IMAGE_PRESETS)
def test_the_levels_of_every_preset_are_those_of_its_architecture(preset) -> None:
    assert preset.levels == timm_levels(preset.architecture)


def test_a_signature_names_the_slices(tmp_path: Path) -> None:
    encoder = multilevel(tmp_path, "test_resnet")
    assert Levels.parse(encoder.signature.feature) == timm_levels("test_resnet")
    assert encoder.signature.feature_name == "multilevel" and "multilevel" in encoder.signature.folder_name
    assert encoder.signature.digest != tiny_encoder(tmp_path).signature.digest


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_each_stage_of_a_cnn_gives_its_mean_and_standard_deviation(tmp_path: Path, architecture: str) -> None:
    encoder = multilevel(tmp_path, architecture)
    batch = inputs(encoder)
    model, normalised = plain(encoder, batch)
    stages = timm.create_model(
        architecture, features_only=True, out_indices=tuple(range(len(model.feature_info)))
    ).eval()
    missing, _ = stages.load_state_dict(
        {name.replace("stages.", "stages_"): tensor for name, tensor in model.state_dict().items()}, False
    )
    with torch.inference_mode():
        maps = (
            model.forward_intermediates(normalised, intermediates_only=True)
            if missing
            else stages(normalised)
        )
        expected = [values for one in maps for values in statistics_of(one, (2, 3))]
        if "head" in timm_levels(architecture).names:
            expected += statistics_of(model.forward_features(normalised), (2, 3))
        assert_parts(load_network(encoder)(batch), timm_levels(architecture), expected)


def test_the_mean_of_the_head_is_the_pooled_feature(tmp_path: Path) -> None:
    encoder, pooled = multilevel(tmp_path, "test_efficientnet"), tiny_encoder(tmp_path, "test_efficientnet")
    batch = inputs(encoder)
    with torch.inference_mode():
        found = load_network(encoder)(batch)[:, timm_levels("test_efficientnet").slices()["head.mean"]]
        torch.testing.assert_close(found, load_network(pooled)(batch), rtol=1e-5, atol=1e-6)


def test_blocks_of_a_transformer_give_class_token_mean_and_deviation_of_patches(tmp_path: Path) -> None:
    encoder, levels = multilevel(tmp_path, "test_vit"), timm_levels("test_vit")
    assert levels.names == ("block1", "block3", "block4", "block6") and levels.statistics == (
        "class",
        "mean",
        "sd",
    )
    batch = inputs(encoder)
    model, normalised = plain(encoder, batch)
    seen: list[Tensor] = []
    for block in (0, 2, 3, 5):
        model.blocks[block].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        model(normalised)
        expected = [
            values
            for tokens in seen
            for values in (tokens[:, 0].numpy(), *statistics_of(tokens[:, 1:], (1,)))
        ]
        assert_parts(load_network(encoder)(batch), levels, expected)


@pytest.mark.parametrize("architecture", ["test_vit2", "test_vit3"])
def test_a_register_is_not_taken_for_a_class_token(tmp_path: Path, architecture: str) -> None:
    """These transformers have one token before the patches, which is no class token."""
    encoder, levels = multilevel(tmp_path, architecture), timm_levels(architecture)
    assert levels.statistics == ("mean", "sd")
    batch = inputs(encoder, 2)
    model, normalised = plain(encoder, batch)
    seen: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        model(normalised)
        assert_parts(
            load_network(encoder)(batch),
            levels,
            [values for tokens in seen for values in statistics_of(tokens[:, 1:], (1,))],
        )


@pytest.mark.parametrize("architecture", ["xcit_nano_12_p16_224", "cait_xxs24_224"])
def test_transformers_that_keep_the_class_token_to_themselves_have_levels_all_the_same(
    architecture: str,
) -> None:
    assert timm_levels(architecture).statistics == ("mean", "sd")


def test_a_network_without_intermediate_features_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.delattr("timm.models.resnet.ResNet.forward_intermediates")
    with pytest.raises(EncoderError, match="no intermediate features of 'resnet14t': pass --feature pooled"):
        find_image_encoder(ImageChoice("timm:resnet14t", feature="multilevel"), tmp_path / "w.pth")
    assert find_image_encoder(ImageChoice("timm:resnet14t"), tmp_path / "w.pth").signature.feature == "pooled"


def test_a_network_whose_intermediate_features_fail_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("too many indices")

    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.setattr("timm.models.resnet.ResNet.forward_intermediates", fail)
    with pytest.raises(EncoderError, match="'resnet10t' .too many indices.: pass --feature pooled"):
        find_image_encoder(ImageChoice("timm:resnet10t", feature="multilevel"), tmp_path / "w.pth")


def test_a_last_output_that_is_no_map_is_no_level() -> None:
    """CrossViT returns the tokens of two branches, which have other widths than its classifier reads."""
    assert timm_levels("crossvit_tiny_240").names[-1] == "stage6"


def stages_of(encoder: ImageEncoder, batch: Tensor) -> list[np.ndarray]:
    """Mean and deviation of the maps that timm's own network returns."""
    model, normalised = plain(encoder, batch)
    with torch.inference_mode():
        last, maps = model.forward_intermediates(normalised)
    if "head" in encoder.preset.require_levels().names:
        maps.append(last)
    return [values for one in maps for values in statistics_of(one, (2, 3))]


@pytest.mark.parametrize("architecture", ["skresnet18", "ghostnet_050"])
def test_the_levels_of_networks_with_branches_and_cheap_maps_are_those_of_timm(
    tmp_path: Path, architecture: str
) -> None:
    encoder = multilevel(tmp_path, architecture)
    batch = inputs(encoder, 2)
    with torch.inference_mode():
        found = load_network(encoder).frozen("fp32")(batch)
    assert_parts(found, timm_levels(architecture), stages_of(encoder, batch))


def test_folding_that_changes_a_level_is_noticed_and_left_out(tmp_path: Path) -> None:
    """The first map of GhostNet is the output of a convolution before its batch normalisation."""
    encoder = multilevel(tmp_path, "ghostnet_050")
    preset = replace(encoder.preset, levels=replace(timm_levels("ghostnet_050"), folded=True))
    unaware = replace(encoder, preset=preset)
    batch = inputs(encoder, 2)
    with torch.inference_mode():
        found = load_network(unaware).frozen("fp32")(batch)
    assert_parts(found, timm_levels("ghostnet_050"), stages_of(encoder, batch))


def test_levels_that_folding_does_not_change_are_computed_by_a_folded_network(tmp_path: Path) -> None:
    network = load_network(multilevel(tmp_path, "test_resnet")).frozen("fp32")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_levels_without_folding_have_a_text_of_their_own(tmp_path: Path) -> None:
    """Stores that were made with folding are not found."""
    encoder = multilevel(tmp_path, "ghostnet_050")
    assert encoder.signature.feature.endswith(", head 480, without folding")
    assert replace(encoder, feature="pooled").signature.feature == "pooled"
    assert "folding" not in multilevel(tmp_path, "test_resnet").signature.feature


def test_the_last_class_token_of_the_vit_preset_is_its_pooled_feature(tmp_path: Path) -> None:
    encoder, pooled = (
        multilevel(tmp_path, "test_vit"),
        tiny_encoder(tmp_path, "test_vit", "class-token-before-norm"),
    )
    assert image_preset("vit").require_levels().names[-1] == "block24"
    batch = inputs(encoder, 2)
    with torch.inference_mode():
        found = load_network(encoder)(batch)[:, timm_levels("test_vit").slices()["block6.class"]]
        torch.testing.assert_close(found, load_network(pooled)(batch), rtol=1e-5, atol=1e-5)


CNN = Levels.parse("multilevel: mean+sd of stage1 2, stage2 3, head 4")


@pytest.mark.parametrize(
    ("wanted", "names"), [("2", ("stage2",)), ("head,1", ("stage1", "head")), ("stage2, 2", ("stage2",))]
)
def test_stages_are_chosen_by_name_or_number_in_the_order_of_the_feature(
    wanted: str, names: tuple[str, ...]
) -> None:
    assert CNN.named(parse_level_names(wanted)) == names


def test_the_columns_of_stages_are_all_their_statistics() -> None:
    assert CNN.columns(("stage2",)) == [4, 5, 6, 7, 8, 9]
    assert CNN.columns(CNN.names) == list(range(CNN.width))
    assert Levels(("block3", "block6"), (2, 2), ("class", "mean", "sd")).named(("6",)) == ("block6",)


@pytest.mark.parametrize("wanted", ["5", "stage9", "", ",", "1-2"])
def test_an_unknown_stage_is_refused_with_those_that_exist(wanted: str) -> None:
    with pytest.raises(LevelsError, match="pass some of stage1, stage2, head"):
        CNN.named(parse_level_names(wanted))
