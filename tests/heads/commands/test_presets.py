"""Presets: which encoders and which head a name stands for, and that options of the user come first."""

from dataclasses import replace
from typing import get_args

import pytest

from tier4k.extract.encoders.choices import PresetName
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.commands.encoder_options import EncodersGroup, ImageGroup
from tier4k.heads.commands.encoders import encoder_choice
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.presets import PRESETS
from tier4k.heads.regressors.registry import resolve_options


@pytest.mark.parametrize("name", get_args(PresetName))
def test_the_options_of_a_preset_are_those_of_its_head(name: PresetName) -> None:
    preset = PRESETS[name]
    options = resolve_options(preset.head, "cached", "", preset.options)
    assert {option: options[option] for option in preset.options} == preset.options
    assert encoder_choice(EncodersGroup(), ImageGroup(), name).images == preset.images


def test_options_of_images_replace_those_of_every_encoder_of_a_preset() -> None:
    images = encoder_choice(EncodersGroup(), ImageGroup(image_size="96"), "clip").images
    assert images == tuple(replace(image, image_size=96) for image in PRESETS["clip"].images)


def test_named_encoders_replace_those_of_a_preset_and_keep_the_options_of_the_first() -> None:
    named = EncodersGroup(image_encoder=["resnet18", "vit@64"])
    assert encoder_choice(named, ImageGroup(), "clip").images == (
        ImageChoice("resnet18", feature="multilevel"),
        ImageChoice("vit", feature="multilevel", image_size=64),
    )


def test_a_preset_brings_its_head_whose_options_the_user_replaces_one_by_one() -> None:
    given = FitOptions(head={"interaction": "none", "penalties": "1"})
    options = given.with_preset("clip")
    assert options.estimator == "kernel-ridge"
    assert options.head == {**PRESETS["clip"].options, "interaction": "none", "penalties": "1"}
    other = replace(given, estimator="ridge")
    assert other.with_preset("clip", "ridge") == other
