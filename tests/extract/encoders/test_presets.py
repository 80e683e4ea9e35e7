"""Encoders are known by the names that users give, and a misspelt one is answered with its neighbours."""

import pytest

from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import IMAGE_PRESETS, TEXT_PRESETS, image_preset, text_preset
from tier4k.extract.encoders.timm_models import timm_config


def test_the_published_encoders_use_the_published_preparation_and_architectures() -> None:
    published = {
        "resnet18": "resnet18",
        "resnet50": "resnet50",
        "inceptionv4": "inception_v4",
        "vit": "vit_large_patch16_224",
    }
    for name, architecture in published.items():
        preset = image_preset(name)
        assert preset.architecture == architecture
        assert preset.preprocessing(None) is preset.preprocessing("reference") is preset.reference
        assert preset.preprocessing("native") is preset.native
    assert image_preset("vit").feature == "class-token-before-norm"
    assert text_preset("bert-base-uncased").weights.folder == "bert-base-uncased"


def test_every_preset_names_an_architecture_of_timm_and_a_place_to_get_it() -> None:
    for preset in IMAGE_PRESETS.values():
        assert timm_config(preset.architecture) is not None
        assert preset.weights.files and preset.weights.page and preset.weights.hub
    assert all(preset.weights.hub for preset in TEXT_PRESETS.values())


def test_any_timm_model_can_be_named() -> None:
    preset = image_preset("timm:convnext_tiny.in12k_ft_in1k")
    assert preset.architecture == "convnext_tiny.in12k_ft_in1k"
    assert preset.weights.files == ("convnext_tiny.in12k_ft_in1k.*", "convnext_tiny.*")
    assert preset.weights.hub == "timm/convnext_tiny.in12k_ft_in1k"
    assert preset.preprocessing(None) is preset.native
    large = image_preset("timm:vit_base_patch16_384")
    assert (large.reference.size, large.reference.resize) == (384, round(384 * 256 / 224))


def test_any_folder_or_repository_of_hugging_face_can_be_named() -> None:
    preset = text_preset("hf:me/my-bert")
    assert preset.name == "hf:me/my-bert"
    assert (preset.weights.folder, preset.weights.hub) == ("me/my-bert", "me/my-bert")


def test_a_tag_that_timm_does_not_have_is_answered_with_those_of_the_model() -> None:
    with pytest.raises(EncoderError, match=r"no weights 'nosuch' of resnet18. Known: .*resnet18.tv_in1k"):
        image_preset("timm:resnet18.nosuch")


@pytest.mark.parametrize(
    ("find", "name", "nearest"),
    [
        (image_preset, "resnet81", "resnet18"),
        (image_preset, "inception", "inceptionv4"),
        (image_preset, "timm:convnxt_tiny", "convnext_tiny"),
        (text_preset, "bert-base-cased", "bert-base-uncased"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(find, name: str, nearest: str) -> None:
    with pytest.raises(EncoderError, match=f"nearest: .*{nearest}") as error:
        find(name)
    assert name.removeprefix("timm:") in str(error.value)


@pytest.mark.parametrize("name", ["", "xyzzy", "timm:", "timm:xyzzy", "hf:"])
def test_a_name_like_nothing_is_refused(name: str) -> None:
    with pytest.raises(EncoderError):
        image_preset(name)
