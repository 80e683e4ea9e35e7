"""Interactions of image and text: their formulas, the embeddings they need, and what is refused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.choices import Method
from tier4k.heads.data.embeddings import Towers, find_towers
from tier4k.heads.data.encoder_choice import EncoderChoice
from tier4k.heads.data.encoder_names import by_array_name
from tier4k.heads.data.features import FeatureSet, load_features
from tier4k.heads.data.fusion import Fused, fuse, interact
from tier4k.heads.data.interactions import (
    InteractionError,
    Interactions,
    needed_embeddings,
    parse_interaction,
)
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.data.streams import Part, Streams
from tier4k.tests.builders.feature_sets import feature_set
from tier4k.tests.builders.towers import (
    BERT,
    IMAGE_TOWER,
    RESNET,
    TEXT_TOWER,
    WIDTH,
    tower_store,
    towers_manifest,
    vector,
)

ALL = "cosine+product+templates+image-prompt"  # of one checkpoint
TOWERS = Towers("resnet18", "bert")
TEMPLATES = np.random.default_rng(5).normal(size=(3, 6))


def rows(crops: int = 0, scale: float = 1.0) -> FeatureSet:
    """Rows with embeddings of six numbers for image, image prompt and text; every second has a prompt."""
    features = feature_set(16)
    random = np.random.default_rng(1)
    shape = (16, crops, 6) if crops else (16, 6)
    image, image_prompt = random.normal(size=(2, *shape))
    image_prompt[~features.has_image_prompt] = 0
    return replace(
        features,
        image={"resnet18": scale * image},
        image_prompt={"resnet18": scale * image_prompt},
        text={"bert": scale * random.normal(size=(16, 6))},
    )


def fused(
    features: FeatureSet,
    interaction: str = ALL,
    method: Method = "nr",
) -> Fused:
    """Fused vectors of the rows with the columns of an interaction."""
    templates = TEMPLATES if "templates" in interaction else None
    return interact(fuse(features.with_embeddings(interaction, TOWERS, templates), method), interaction)


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """The cosine of two vectors, number by number."""
    dot = math.fsum(a * b for a, b in zip(first, second, strict=True))
    lengths = [math.sqrt(math.fsum(a * a for a in vector)) for vector in (first, second)]
    return dot / (lengths[0] * lengths[1])


def expected(features: FeatureSet, row: int, crop: int | None = None) -> list[float]:
    """The columns of all interactions of one row."""

    def of(vectors: np.ndarray) -> list[float]:
        return list(vectors[row] if crop is None or vectors.ndim == 2 else vectors[row, crop])

    image, text = of(features.image["resnet18"]), of(features.text["bert"])
    image_prompt = of(features.image_prompt["resnet18"]) if features.has_image_prompt[row] else image
    lengths = math.hypot(*image) * math.hypot(*text)
    product = [a * b / lengths for a, b in zip(image, text, strict=True)]
    templates = [cosine(image, template) for template in TEMPLATES]
    return [cosine(image, text), *product, *templates, cosine(image_prompt, image)]


@pytest.mark.parametrize("method", ["nr", "pr"])
def test_the_columns_are_those_of_the_image_itself_for_any_method(method: Method) -> None:
    features = rows()
    X, streams = fused(features, method=method)
    np.testing.assert_array_equal(X[:, :12], fuse(features, method).X)
    for row in range(16):
        np.testing.assert_allclose(X[row, 12:], expected(features, row), rtol=1e-12, atol=1e-14)
    widths = {"cosine": 1, "product": 6, "templates": 3, "image-prompt": 1}
    parts = [Part("interaction", name, width) for name, width in widths.items()]
    assert streams.parts == (*fuse(features, method).streams.parts, *parts)


def test_full_reference_keeps_its_three_streams_before_the_interaction() -> None:
    features = rows()
    features = replace(features, has_image_prompt=np.ones(16, bool), image_prompt=features.image)
    X, streams = fused(features, "cosine+image-prompt", "fr")
    assert [part.stream for part in streams.parts] == ["text", "image", "image-prompt", *["interaction"] * 2]
    np.testing.assert_allclose(X[:, -1], 1, rtol=1e-12)


def test_a_row_without_an_image_prompt_equals_its_image() -> None:
    features = rows()
    column = fused(features, "image-prompt").X[:, -1]
    np.testing.assert_allclose(column[~features.has_image_prompt], 1, rtol=1e-12)
    assert (np.abs(column[features.has_image_prompt]) < 0.999).all()


def test_the_sum_of_the_product_is_the_cosine() -> None:
    X, streams = fused(rows(), "product+cosine")
    columns = {part.name: columns for part, columns in streams.slices()}
    np.testing.assert_allclose(X[:, columns["product"]].sum(1), X[:, columns["cosine"]][:, 0], rtol=1e-12)


def test_lengths_of_embeddings_do_not_matter() -> None:
    np.testing.assert_allclose(fused(rows(scale=1e3)).X[:, 12:], fused(rows()).X[:, 12:], rtol=1e-12)


def test_an_embedding_of_zeros_has_the_cosine_zero() -> None:
    features = rows()
    features.text["bert"][3] = 0
    X = fused(features, "cosine").X
    assert X[3, -1] == 0
    assert np.isfinite(X).all()


def test_every_crop_has_columns_of_its_own() -> None:
    features = rows(crops=2)
    X = fused(features).X
    assert X.shape == (16, 2, 12 + 11)
    for row in range(16):
        for crop in range(2):
            found = X[row, crop, 12:]
            np.testing.assert_allclose(found, expected(features, row, crop), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("text", "kinds", "needed"),
    [
        ("none", (), ()),
        ("product+cosine", ("cosine", "product"), ("image", "text")),
        ("templates", ("templates",), ("templates",)),
        ("image-prompt", ("image-prompt",), ("image", "image-prompt")),
        ("image-prompt+cosine", ("cosine", "image-prompt"), ("image", "text", "image-prompt")),
    ],
)
def test_only_embeddings_of_the_chosen_interactions_are_needed(
    text: str, kinds: tuple[str, ...], needed: tuple[str, ...]
) -> None:
    assert parse_interaction(text) == kinds
    assert needed_embeddings(text) == needed


@pytest.mark.parametrize("text", ["cosin", "cosine+", "", "cosine+cosine", "none+cosine", "cosine,product"])
def test_an_unknown_interaction_is_refused_with_the_list(text: str) -> None:
    with pytest.raises(InteractionError, match="use none, or some of cosine, product, templates, image-pro"):
        parse_interaction(text)


def test_it_is_a_transformer_of_scikit_learn() -> None:
    features = rows()
    X, streams = fuse(features.with_embeddings(ALL, TOWERS, TEMPLATES), "nr")
    y = X[:, 3] + X[:, -1]
    transformer = Interactions("product+cosine", streams)
    names = list(transformer.fit(X).get_feature_names_out())
    assert names == [*(f"x{i}" for i in range(12)), "cosine", *(f"product {i}" for i in range(6))]
    copy = clone(transformer)
    assert copy.get_params() == {"interaction": "product+cosine", "streams": streams}
    pipeline = make_pipeline(copy, Ridge()).fit(X, y)
    direct = Ridge().fit(transformer.transform(X), y)
    np.testing.assert_allclose(pipeline.predict(X), direct.predict(transformer.transform(X)))
    pipeline.set_params(interactions__interaction="none").fit(X, y)
    np.testing.assert_allclose(pipeline.predict(X), Ridge().fit(X[:, :12], y).predict(X[:, :12]))


@pytest.mark.filterwarnings("ignore")
def test_it_passes_the_checks_of_scikit_learn() -> None:
    check_estimator(Interactions(), on_skip=None)


def test_vectors_without_embeddings_stay_as_they_are() -> None:
    X, streams = fuse(feature_set(), "nr")
    transformer = Interactions("none", streams).fit(X)
    assert transformer.transform(X) is X
    assert transformer.output_streams() == streams
    assert not transformer.tensors


def test_vectors_that_lack_embeddings_are_refused() -> None:
    X, streams = fuse(rows().with_embeddings("image-prompt", TOWERS), "nr")
    with pytest.raises(InteractionError, match=r"interaction=cosine needs embeddings \(text\)"):
        Interactions("cosine", streams).fit(X)
    with pytest.raises(InteractionError, match="pass the streams of X"):
        Interactions("cosine", Streams.of(image=3)).fit(X)
    moved = Streams(streams.parts[::-1])
    with pytest.raises(InteractionError, match="embeddings are not the last columns"):
        Interactions("image-prompt", moved).fit(X)


def signatures(*given: Signature) -> dict[str, Signature]:
    return {signature.encoder + signature.preparation: signature for signature in given}


def test_the_towers_of_one_checkpoint_are_found_among_other_encoders() -> None:
    images, texts = signatures(RESNET, IMAGE_TOWER), signatures(BERT, TEXT_TOWER)
    found = find_towers(images, texts, "cosine")
    assert found is not None and found.text is not None
    assert (images[found.image], texts[found.text]) == (IMAGE_TOWER, TEXT_TOWER)
    assert find_towers(images, texts, "none") is None
    siglip = [replace(one, feature="pooled", encoder="hf:siglip") for one in (IMAGE_TOWER, TEXT_TOWER)]
    assert find_towers(signatures(siglip[0]), signatures(siglip[1]), "product") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "12" * 32},
        {"encoder": "hf:other"},
        {"feature": "masked mean"},
    ],
)
def test_other_weights_names_or_features_are_no_second_tower(change: dict[str, str]) -> None:
    texts = signatures(replace(TEXT_TOWER, **change))
    with pytest.raises(InteractionError, match="of one checkpoint.*`tier extract DATA --encoder hf:FOLDER`"):
        find_towers(signatures(IMAGE_TOWER), texts, "templates")


def test_multilevel_features_are_no_embeddings() -> None:
    multilevel = replace(IMAGE_TOWER, feature="multilevel: head 6")
    with pytest.raises(InteractionError, match="of one checkpoint"):
        find_towers(signatures(multilevel), signatures(TEXT_TOWER), "cosine")


def test_two_pairs_of_towers_are_refused_by_name() -> None:
    images = signatures(IMAGE_TOWER, replace(IMAGE_TOWER, preparation="native at 448: whole"))
    with pytest.raises(InteractionError, match=r"several pairs of encoders: .*at 448.* with .*only one"):
        find_towers(images, signatures(TEXT_TOWER), "cosine")


def test_image_against_image_prompt_needs_no_text_tower() -> None:
    assert find_towers(signatures(RESNET), signatures(BERT), "image-prompt") == Towers(
        "resnet18reference: 224", None
    )
    with pytest.raises(InteractionError, match="of one checkpoint"):
        find_towers(signatures(RESNET, IMAGE_TOWER), signatures(BERT), "image-prompt")


def test_features_from_stores_have_the_embeddings_of_their_rows(tmp_path: Path) -> None:
    texts = ("a good photo", "a bad photo")
    images = [tower_store(tmp_path, signature) for signature in (RESNET, IMAGE_TOWER)]
    prompts = [tower_store(tmp_path, BERT), tower_store(tmp_path, TEXT_TOWER, texts)]
    stores = FeatureStores.of(images, prompts)
    manifest = towers_manifest()
    features = load_features(manifest, stores, (), ALL, texts)
    X = interact(fuse(features, "pr", ("image",)), ALL).X[:, 2 * WIDTH :]
    for row, line in enumerate(manifest.table.itertuples()):
        image = vector(line.image, IMAGE_TOWER)
        other = vector(line.image_prompt, IMAGE_TOWER) if line.image_prompt else image
        prompt = vector(line.prompt, TEXT_TOWER)
        templates = [cosine(image, vector(text, TEXT_TOWER)) for text in texts]
        assert X[row, 0] == pytest.approx(cosine(image, prompt), abs=1e-6)
        np.testing.assert_allclose(X[row, 1 + WIDTH : 3 + WIDTH], templates, atol=1e-6)
        assert X[row, -1] == pytest.approx(cosine(other, image), abs=1e-6)


def test_templates_that_are_not_stored_are_named_with_the_remedy(tmp_path: Path) -> None:
    stores = FeatureStores.of(
        [tower_store(tmp_path, IMAGE_TOWER)], [tower_store(tmp_path, TEXT_TOWER, ["a good photo"])]
    )
    with pytest.raises(
        InteractionError,
        match="1 of 2 templates, first 'a bad photo': run `tier extract DATA --encoder hf:clip --templates",
    ):
        load_features(towers_manifest(), stores, (), "templates", ("a good photo", "a bad photo"))


def test_embeddings_of_other_widths_cannot_be_compared(tmp_path: Path) -> None:
    stores = FeatureStores.of(
        [tower_store(tmp_path, IMAGE_TOWER, shape=(4,))], [tower_store(tmp_path, TEXT_TOWER)]
    )
    with pytest.raises(InteractionError, match="have 6 numbers and those of the images 4"):
        load_features(towers_manifest(), stores, (), "cosine")


def test_streams_keep_the_encoders_that_an_interaction_compares() -> None:
    choice = EncoderChoice((ImageChoice("clip"),), ("hf:clip",))
    assert choice.for_streams(["image"]).texts == ()
    assert choice.for_streams(["image"], "image-prompt").texts == ()
    assert choice.for_streams(["image"], "cosine") == choice
    assert choice.for_streams(["text"], "templates") == choice


def test_stores_that_neither_a_stream_nor_an_interaction_reads_are_left_out(tmp_path: Path) -> None:
    images = [tower_store(tmp_path, signature) for signature in (RESNET, IMAGE_TOWER)]
    texts = [tower_store(tmp_path, signature) for signature in (BERT, TEXT_TOWER)]
    stores = FeatureStores.of(images, texts)
    assert set(stores.for_streams(["image"]).signatures) == {"image hf:clip", "image resnet18"}
    assert [*stores.for_streams(["image"], "cosine").texts] == ["hf:clip"]
    assert [*stores.for_streams(["text"], "product").images] == ["hf:clip"]
    assert stores.for_streams(["text", "image"]) == stores


def test_a_map_compares_the_first_encoders_and_reads_the_class_token_of_the_last_level_that_is_kept() -> None:
    vit = replace(RESNET, encoder="vit", feature="multilevel: class+mean+sd of block3 4, block6 5, block9 6")
    cnn = replace(RESNET, feature="multilevel: mean+sd of stage1 3, head 7")
    texts = by_array_name([BERT])
    assert find_towers(by_array_name([RESNET, IMAGE_TOWER]), texts, "map") == Towers(
        "hf:clip", "bert-base-uncased"
    )
    assert find_towers(by_array_name([vit]), texts, "map").columns == (27, 33)
    assert find_towers(by_array_name([vit]), texts, "map", ("block3", "block6")).columns == (12, 17)
    assert find_towers(by_array_name([cnn]), texts, "map").columns == (6, 13)
    chosen = ("resnet18 multilevel=stage1", "vit multilevel=block3")
    assert find_towers(by_array_name([vit, cnn]), texts, "map", chosen).columns == (0, 3)
    assert find_towers(signatures(IMAGE_TOWER), signatures(TEXT_TOWER), "map+cosine").columns == (None, None)
    with pytest.raises(InteractionError, match="needs an image encoder and a text encoder"):
        find_towers(signatures(RESNET), {}, "map")
