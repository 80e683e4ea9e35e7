"""Names of the arrays of several encoders, their stores and their stages."""

from dataclasses import replace
from pathlib import Path

import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.levels import LevelsError
from tier4k.heads.data.encoder_names import array_name, named_signatures, stream_signatures
from tier4k.heads.data.stages import levels_of, resolve_stages
from tier4k.heads.data.stores import FeatureStores

CLIP = Signature("image", "clip", "vit", "ab" * 32, "native: 224", "projection")
WHOLE = replace(CLIP, preparation="native at 448: whole")
LEVELS = replace(CLIP, feature="multilevel: mean of block1 2, block2 3")
RESNET = replace(CLIP, encoder="resnet18", feature="multilevel: mean of stage1 2, stage2 2, head 3")
TEXT = Signature("text", "minilm", "bert", "cd" * 32, "wordpiece", "masked-mean")


def test_a_name_has_the_encoder_the_size_and_the_kind_of_features() -> None:
    names = ["clip", "clip@448", "clip multilevel", "resnet18 multilevel", "minilm"]
    assert [array_name(signature) for signature in (CLIP, WHOLE, LEVELS, RESNET, TEXT)] == names


def test_one_encoder_is_named_by_its_stream_and_several_by_their_arrays() -> None:
    assert named_signatures("image", [CLIP]) == {"image": CLIP}
    both = named_signatures("image", [CLIP, WHOLE])
    assert both == {"image clip": CLIP, "image clip@448": WHOLE}
    read = stream_signatures({"text": TEXT, "image clip@448": WHOLE, "image clip": CLIP}, "image")
    assert list(read.items()) == [("clip", CLIP), ("clip@448", WHOLE)]


def test_stores_are_sorted_by_name_whatever_order_they_are_passed_in(tmp_path: Path) -> None:
    stores = [FeatureStore.create(tmp_path, signature, {}) for signature in (WHOLE, RESNET, CLIP)]
    for order in (stores, stores[::-1]):
        assert list(FeatureStores.of(order).images) == ["clip", "clip@448", "resnet18 multilevel"]
    assert list(FeatureStores.of([stores[0], stores[0]]).images) == ["clip@448"]


def test_two_stores_of_one_name_are_refused(tmp_path: Path) -> None:
    stores = [
        FeatureStore.create(tmp_path, replace(CLIP, precision=precision), {})
        for precision in ("fp32", "bf16")
    ]
    with pytest.raises(StoreError, match="are both features of clip: pass only one of them"):
        FeatureStores.of(stores)


@pytest.mark.parametrize(
    ("texts", "stages"),
    [
        ((), ()),
        (("all",), ()),
        (("2",), ("stage2",)),
        (("head,1",), ("stage1", "head")),
        (("1", "2"), ("stage1", "stage2")),
        (("resnet18=2",), ("stage2",)),
        (("resnet18 multilevel=2",), ("stage2",)),
    ],
)
def test_stages_of_one_encoder_are_recorded_by_their_names(
    texts: tuple[str, ...], stages: tuple[str, ...]
) -> None:
    images = {array_name(RESNET): RESNET}
    assert resolve_stages(texts, images) == stages
    assert levels_of(stages, array_name(RESNET), 1) == stages


def test_each_of_several_encoders_has_stages_of_its_own() -> None:
    images = {array_name(signature): signature for signature in (LEVELS, RESNET)}
    stages = resolve_stages(["clip=2"], images)
    assert stages == ("clip multilevel=block2",)
    assert levels_of(stages, "clip multilevel", 2) == ("block2",)
    assert levels_of(stages, "resnet18 multilevel", 2) == ()
    both = resolve_stages(["1", "resnet18=head"], images)
    assert both == (
        "clip multilevel=block1",
        "resnet18 multilevel=stage1",
        "resnet18 multilevel=head",
    )


@pytest.mark.parametrize(
    ("texts", "stages"),
    [
        (["clip@448=2"], ("clip@448 multilevel=block2",)),
        (["clip=1", "clip@448=2"], ("clip multilevel=block1", "clip@448 multilevel=block2")),
        (["clip=1"], ("clip multilevel=block1",)),
    ],
)
def test_two_sizes_of_one_encoder_have_stages_of_their_own(texts: list[str], stages: tuple[str, ...]) -> None:
    whole = replace(LEVELS, preparation=WHOLE.preparation)
    assert resolve_stages(texts, {array_name(one): one for one in (LEVELS, whole)}) == stages


def test_an_encoder_of_one_size_may_be_named_without_it() -> None:
    whole = replace(LEVELS, preparation=WHOLE.preparation)
    for text in ("clip=2", "clip@448=2"):
        assert resolve_stages([text], {array_name(whole): whole}) == ("block2",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vit=1", "no image encoder 'vit': pass one of clip, resnet18"),
        ("clip=3", "there is no stage 3: pass some of block1, block2"),
    ],
)
def test_unknown_encoders_and_stages_are_refused(text: str, message: str) -> None:
    images = {array_name(signature): signature for signature in (LEVELS, RESNET)}
    with pytest.raises(LevelsError, match=message):
        resolve_stages([text], images)
