"""From the names of encoders to their stores: one fits, or the error lists the stores and the remedy."""

from dataclasses import replace
from pathlib import Path

import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.images.crops import Crops
from tier4k.extract.stores.find import find_score_stores, find_stores
from tier4k.tests.builders.signatures import signature


def _find(
    root: Path,
    image: ImageChoice,
    text_encoder: str,
) -> tuple[FeatureStore, FeatureStore]:
    """Return the stores of one image encoder and one text encoder."""
    (images,), (texts,) = find_stores(root, [image], [text_encoder])
    return images, texts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    FeatureStore.create(tmp_path, signature("resnet18"), {})
    FeatureStore.create(tmp_path, signature("minilm", "reference: 512 tokens", stream="text"), {})
    return tmp_path


def test_encoders_are_found_by_their_names_and_by_their_folders(root: Path) -> None:
    image, text = _find(root, ImageChoice("resnet18"), "minilm")
    assert (image.signature.encoder, text.signature.encoder) == ("resnet18", "minilm")
    assert _find(root, ImageChoice(image.path.name), text.path.name) == (image, text)


def test_preprocessing_distinguishes_stores_of_one_encoder(root: Path) -> None:
    FeatureStore.create(root, signature("resnet18", "native: 235"), {})
    for passed, found in {"reference": "reference", "native": "native", None: "reference"}.items():
        store = _find(root, ImageChoice("resnet18", passed), "minilm")[0]
        assert store.signature.preparation_name == found


def test_the_folder_chooses_between_stores_of_two_weights(root: Path) -> None:
    other = FeatureStore.create(root, signature("resnet18", weights="cd"), {})
    with pytest.raises(StoreError, match="2 stores in .* match --image-encoder resnet18") as error:
        _find(root, ImageChoice("resnet18"), "minilm")
    assert f"--image-encoder {other.path.name}  (weights cdcd" in str(error.value)
    assert "weights abab" in str(error.value) and f'ImageChoice("{other.path.name[:8]}' in str(error.value)
    assert _find(root, ImageChoice(other.path.name), "minilm")[0] == other


def test_missing_features_are_an_error_that_lists_the_stores_and_the_command(root: Path) -> None:
    with pytest.raises(StoreError) as error:
        _find(root, ImageChoice("resnet50", "native"), "minilm")
    message = str(error.value)
    assert (
        "encoder is 'resnet18' instead of 'resnet50'; preprocessing is 'reference' instead of 'native'"
        in message
    )
    assert f"tier extract DATA --features {root} --image-encoder resnet50 --preprocessing native" in message
    with pytest.raises(
        StoreError,
        match="(?s)text stores in this folder are:.*minilm.*--text-encoder bert-base-uncased.*first",
    ):
        _find(root, ImageChoice("resnet18"), "bert-base-uncased")


def test_an_empty_or_missing_folder_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            StoreError, match="has no image features of --image-encoder resnet18.*\n  none\nRun `tier extract"
        ):
            _find(folder, ImageChoice("resnet18"), "minilm")


def test_an_unknown_name_is_an_unknown_encoder_not_a_missing_store(root: Path) -> None:
    with pytest.raises(EncoderError, match="nearest: .*resnet18"):
        _find(root, ImageChoice("resnet81"), "minilm")
    with pytest.raises(EncoderError, match="no text encoder 'minilmm'"):
        _find(root, ImageChoice("resnet18"), "minilmm")


def whole(size: str, feature: str = "pooled", precision: str = "fp32", crops: str = "centre") -> Signature:
    return Signature(
        "image",
        "resnet18",
        "resnet18",
        "ab" * 32,
        f"reference at {size}: no crop",
        feature,
        precision,
        views=crops,
    )


@pytest.fixture
def variants(root: Path) -> Path:
    """Five stores of one encoder, each different from the first in one thing."""
    multilevel = "multilevel: mean+sd of stage1 64, stage2 128"
    seen = str(Crops(2, 7))
    for one in (
        whole("512", multilevel),
        whole("512"),
        whole("512", precision="bf16"),
        whole("full"),
        whole("512", crops=seen),
    ):
        FeatureStore.create(root, one, {})
    FeatureStore.create(
        root, replace(signature("minilm", "reference: 512 tokens", stream="text"), precision="bf16"), {}
    )
    return root


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (
            ImageChoice("resnet18", feature="multilevel"),
            whole("512", "multilevel: mean+sd of stage1 64, stage2 128"),
        ),
        (ImageChoice("resnet18", precision="bf16"), whole("512", precision="bf16")),
        (ImageChoice("resnet18", image_size="full"), whole("full")),
        (ImageChoice("resnet18", crops=Crops(2, 7)), whole("512", crops=str(Crops(2, 7)))),
        (ImageChoice("resnet18", "reference", 512, "pooled", "fp32", Crops()), whole("512")),
    ],
)
def test_requested_properties_distinguish_stores_of_one_encoder(
    variants: Path, choice: ImageChoice, expected: Signature
) -> None:
    assert _find(variants, choice, "minilm")[0].signature == expected


def test_the_error_lists_for_every_store_what_differs_from_the_request(variants: Path) -> None:
    with pytest.raises(StoreError) as error:
        _find(
            variants, ImageChoice("resnet18", "reference", 384, "multilevel", "fp16", Crops(4, 7)), "minilm"
        )
    message = str(error.value)
    for part in (
        "image size is 'full' instead of '384'",
        "feature is 'pooled' instead of 'multilevel'",
        "precision is 'bf16' instead of 'fp16'",
        "--image-encoder resnet18 --preprocessing reference --image-size 384 --feature multilevel "
        "--precision fp16 --crops 4",
    ):
        assert part in message
    assert message.count("crops is") == 6


def test_the_text_store_has_the_precision_of_the_image_store(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        FeatureStore.create(tmp_path, replace(signature("resnet18"), precision=precision), {})
        FeatureStore.create(
            tmp_path,
            replace(signature("minilm", "reference: 512 tokens", stream="text"), precision=precision),
            {},
        )
    for precision in ("fp32", "bf16"):
        found = _find(tmp_path, ImageChoice("resnet18", precision=precision), "minilm")
        assert [store.signature.precision for store in found] == [precision] * 2
        assert _find(tmp_path, ImageChoice(found[0].path.name), "minilm") == found


def test_texts_of_another_precision_are_not_used_instead(root: Path) -> None:
    FeatureStore.create(root, replace(signature("resnet18"), precision="bf16"), {})
    with pytest.raises(StoreError, match="precision is 'fp32' instead of 'bf16'"):
        _find(root, ImageChoice("resnet18", precision="bf16"), "minilm")


@pytest.fixture
def both_types(root: Path) -> Path:
    """Stores of float32 and of float16, of one image encoder and one text encoder."""
    for one in (signature("resnet18"), signature("minilm", "reference: 512 tokens", stream="text")):
        FeatureStore.create(root, replace(one, dtype="float16"), {})
    return root


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_type_of_the_numbers_distinguishes_stores_of_one_encoder(both_types: Path, dtype: str) -> None:
    found = _find(both_types, ImageChoice("resnet18", store_dtype=dtype), "minilm")
    assert [store.signature.dtype for store in found] == [dtype] * 2
    assert _find(both_types, ImageChoice(found[0].path.name), "minilm") == found
    images, texts = find_stores(both_types, [], [found[1].path.name])
    assert (images, texts) == ([], [found[1]])


def test_the_only_store_is_found_whatever_its_type(tmp_path: Path) -> None:
    for one in (signature("resnet18"), signature("minilm", "reference: 512 tokens", stream="text")):
        FeatureStore.create(tmp_path, replace(one, dtype="float16"), {})
    found = _find(tmp_path, ImageChoice("resnet18"), "minilm")
    assert [store.signature.dtype for store in found] == ["float16"] * 2


def test_features_of_another_type_are_not_used_instead(root: Path) -> None:
    with pytest.raises(StoreError, match="store dtype is 'float32' instead of 'float16'") as error:
        _find(root, ImageChoice("resnet18", store_dtype="float16"), "minilm")
    assert "--image-encoder resnet18 --store-dtype float16` first" in str(error.value)


def test_two_sizes_of_one_encoder_stand_together(root: Path) -> None:
    FeatureStore.create(root, whole("448"), {})
    for names in (["resnet18", "resnet18@448"], ["resnet18@448", "resnet18"]):
        images, texts = find_stores(root, [ImageChoice(name) for name in names], ["minilm"])
        sizes = [store.signature.preparation_name.partition(" at ")[2] for store in images]
        assert sizes == [name.partition("@")[2] for name in names]
        assert [store.signature.encoder for store in texts] == ["minilm"]


@pytest.mark.parametrize(
    ("name", "encoder", "size"),
    [
        ("clip@448", "clip", 448),
        ("clip@full", "clip", "full"),
        ("hf:./a/b/@32", "hf:a/b", 32),
        ("resnet18@run-MOS_q-0", "resnet18@run-MOS_q-0", None),
        ("clip", "clip", None),
    ],
)
def test_the_name_of_an_encoder_may_carry_its_size(name: str, encoder: str, size: int | str | None) -> None:
    choice = ImageChoice(name)
    assert (choice.encoder, choice.image_size) == (encoder, size)


def test_no_encoders_are_no_stores(root: Path) -> None:
    assert find_stores(root, [], []) == ([], [])


# One option less: each is a property in which two stores of one encoder may differ from each other.

DEFAULT = Signature("image", "efficientnet-lite0", "lite0", "ab" * 32, "native: 224", "pooled")

OTHERS = {
    "preprocessing": (replace(DEFAULT, preparation="reference: 224"), "--preprocessing reference"),
    "image size": (replace(DEFAULT, preparation="native at 512: no crop"), "--image-size 512"),
    "feature": (replace(DEFAULT, feature="multilevel: mean+sd"), "--feature multilevel"),
    "precision": (replace(DEFAULT, precision="bf16"), "--precision bf16"),
    "crops": (replace(DEFAULT, views=str(Crops(4))), None),
    "type": (replace(DEFAULT, dtype="float16"), "--store-dtype float16"),
}


def _images(root: Path, *choices: ImageChoice) -> list[Signature]:
    return [store.signature for store in find_stores(root, choices, [])[0]]


@pytest.mark.parametrize("name", OTHERS)
def test_a_second_store_does_not_change_what_an_encoder_without_options_means(
    tmp_path: Path, name: str
) -> None:
    other, options = OTHERS[name]
    FeatureStore.create(tmp_path, DEFAULT, {})
    FeatureStore.create(tmp_path, other, {})
    assert _images(tmp_path, ImageChoice()) == [DEFAULT]
    if options:
        option, value = options.removeprefix("--").split()
        passed = {option.replace("-", "_"): int(value) if value.isdecimal() else value}
        assert _images(tmp_path, ImageChoice(**passed)) == [other]


@pytest.mark.parametrize("name", OTHERS)
def test_the_only_store_of_an_encoder_is_taken_and_reported(tmp_path: Path, name: str) -> None:
    other, _ = OTHERS[name]
    FeatureStore.create(tmp_path, other, {})
    notes: list[str] = []
    (found,), _ = find_stores(tmp_path, [ImageChoice()], [], notes.append)
    assert found.signature == other
    (note,) = notes
    assert "efficientnet-lite0 with the default options: those with " in note
    assert find_stores(tmp_path, [ImageChoice(found.path.name)], [], notes.append)[0] == [found]
    assert len(notes) == 1  # a store that is named is no surprise


def test_of_two_other_stores_the_one_with_more_defaults_is_taken(tmp_path: Path) -> None:
    multilevel = OTHERS["feature"][0]
    for one in (multilevel, replace(multilevel, dtype="float16"), replace(multilevel, precision="bf16")):
        FeatureStore.create(tmp_path, one, {})
    assert _images(tmp_path, ImageChoice()) == [multilevel]


@pytest.mark.parametrize(
    "names", [("feature", "image size"), ("precision", "type"), ("preprocessing", "type")]
)
def test_the_error_prints_the_complete_options_of_every_store(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        FeatureStore.create(tmp_path, OTHERS[name][0], {})
    with pytest.raises(StoreError) as error:
        _images(tmp_path, ImageChoice())
    first, *lines, python = str(error.value).split("\n")
    assert "2 stores in" in first and "In Python, pass image_encoder=ImageChoice(" in python
    expected = {f"  --image-encoder efficientnet-lite0 {OTHERS[name][1]}" for name in names}
    assert set(lines) == expected


def test_options_that_were_passed_are_part_of_those_to_pass(tmp_path: Path) -> None:
    for size in (384, 512):
        FeatureStore.create(
            tmp_path, replace(OTHERS["feature"][0], preparation=f"native at {size}: no crop"), {}
        )
    with pytest.raises(StoreError) as error:
        _images(tmp_path, ImageChoice(feature="multilevel"))
    assert "--image-encoder efficientnet-lite0 --feature multilevel --image-size 384\n" in str(error.value)
    assert 'ImageChoice("efficientnet-lite0", feature="multilevel", image_size=' in str(error.value)


def test_a_store_with_crops_is_named_by_its_folder_as_no_option_reads_crops(tmp_path: Path) -> None:
    crops = FeatureStore.create(tmp_path, OTHERS["crops"][0], {})
    FeatureStore.create(tmp_path, OTHERS["feature"][0], {})
    with pytest.raises(StoreError) as error:
        _images(tmp_path, ImageChoice())
    assert f"  --image-encoder {crops.path.name}  (" in str(error.value)
    assert "  --image-encoder efficientnet-lite0 --feature multilevel\n" in str(error.value)


def test_the_options_of_one_of_several_encoders_stand_beside_those_of_the_others(tmp_path: Path) -> None:
    clip = Signature("image", "clip", "vit", "cd" * 32, "native: 224", "multilevel: mean+sd")
    lite = replace(OTHERS["feature"][0], preparation="native at 512: no crop")
    for one in (lite, *(replace(clip, preparation=f"native at {size}: no crop") for size in (336, 448))):
        FeatureStore.create(tmp_path, one, {})
    preset = [ImageChoice("clip", feature="multilevel"), ImageChoice(image_size=512, feature="multilevel")]
    with pytest.raises(StoreError) as error:
        _images(tmp_path, *preset)
    lines = str(error.value).split("\n")
    for size in (336, 448):
        options = f"--image-encoder clip@{size} --image-encoder efficientnet-lite0@512 --feature multilevel"
        assert f"  {options}" in lines
    FeatureStore.create(tmp_path, clip, {})
    assert _images(tmp_path, *preset) == [clip, lite]


def _text(precision: str, dtype: str = "float32") -> Signature:
    return replace(
        signature("minilm", "reference: 512 tokens", stream="text"), precision=precision, dtype=dtype
    )


def test_texts_have_the_properties_of_the_images_or_the_defaults(tmp_path: Path) -> None:
    FeatureStore.create(tmp_path, replace(DEFAULT, precision="bf16"), {})
    for one in (_text("bf16"), _text("fp32"), _text("fp32", "float16")):
        FeatureStore.create(tmp_path, one, {})
    assert _find(tmp_path, ImageChoice(), "minilm")[1].signature == _text("bf16")
    assert find_stores(tmp_path, [], ["minilm"])[1][0].signature == _text("fp32")


def test_texts_that_are_ambiguous_are_named_by_options_only_where_the_images_fit_them(tmp_path: Path) -> None:
    for one in (_text("bf16"), _text("fp16")):
        FeatureStore.create(tmp_path, one, {})
    with pytest.raises(StoreError, match="  --text-encoder minilm --precision bf16\n") as error:
        find_stores(tmp_path, [], ["minilm"])
    assert "--text-encoder minilm --precision fp16" in str(error.value)
    FeatureStore.create(tmp_path, DEFAULT, {})
    with pytest.raises(StoreError, match=f"  --text-encoder {_text('bf16').folder_name}  "):
        _find(tmp_path, ImageChoice(), "minilm")


def test_scores_of_the_usual_precision_are_preferred(tmp_path: Path) -> None:
    usual = Signature("score", "pickscore", "clip", "ab" * 32, "native: 224", "score")
    other = replace(usual, precision="bf16")
    FeatureStore.create(tmp_path, other, {})
    assert find_score_stores(tmp_path, ["pickscore"])[0].signature == other
    FeatureStore.create(tmp_path, usual, {})
    assert find_score_stores(tmp_path, ["pickscore"])[0].signature == usual
    FeatureStore.create(tmp_path, replace(usual, weights="cd" * 32), {})
    with pytest.raises(StoreError, match=f"  --score-features {usual.folder_name}  .weights abab"):
        find_score_stores(tmp_path, ["pickscore"])
