"""Weights and tokenizers of scorers are found where those of encoders are."""

import shutil
from pathlib import Path

import pytest

from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.scorers.copy import copy_scorer
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import WeightsError


def test_weights_are_looked_for_where_those_of_encoders_are(weights: dict[str, Path], tmp_path: Path) -> None:
    for name in SCORERS:
        message = f"no weights for the scorer {name}: put .*--weights.*\nDownload the weights from: https"
        with pytest.raises(WeightsError, match=message):
            find_scorer(name, folders=[tmp_path])
    shutil.copytree(weights["clipscore"], tmp_path / "clip-vit-large-patch14")
    (tmp_path / "pretrained").mkdir()
    shutil.copytree(weights["pickscore"], tmp_path / "pretrained" / "PickScore_v1")
    shutil.copy(weights["imagereward"], tmp_path / "pretrained")
    expected = {
        "clipscore": tmp_path / "clip-vit-large-patch14",
        "pickscore": tmp_path / "pretrained" / "PickScore_v1",
        "imagereward": tmp_path / "pretrained" / "ImageReward.pt",
    }
    for name, path in expected.items():
        assert find_scorer(name, folders=[tmp_path / "elsewhere", tmp_path]).weights.path == path
    inside = find_scorer("imagereward", tmp_path / "pretrained")
    assert inside.weights.path == expected["imagereward"]
    message = "there is no scorer 'clipscor' .nearest: clipscore.*Known: clipscore"
    with pytest.raises(EncoderError, match=message):
        find_scorer("clipscor")


def test_a_folder_of_pickscore_without_a_tokenizer_takes_the_published_one_from_beside_the_data(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    bare = shutil.copytree(
        weights["pickscore"],
        tmp_path / "PickScore_v1",
        ignore=shutil.ignore_patterns("tok*", "vocab*", "merges*"),
    )
    with pytest.raises(WeightsError, match="no tokenizer for the scorer pickscore.*CLIP-ViT-H-14-laion2B"):
        find_scorer("pickscore", bare, [tmp_path])
    beside = tmp_path / "CLIP-ViT-H-14-laion2B-s32B-b79K"
    shutil.copytree(
        weights["clipscore"], beside, ignore=shutil.ignore_patterns("*.safetensors", "config.json")
    )
    assert find_scorer("pickscore", bare, [tmp_path]).tokenizer.path == beside
    below = tmp_path / "pretrained" / beside.name
    below.parent.mkdir()
    beside.rename(below)
    assert find_scorer("pickscore", bare, [tmp_path]).tokenizer.path == below


def test_a_folder_of_imagerewards_code_hides_no_weights(weights: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "ImageReward").mkdir()
    with pytest.raises(
        WeightsError,
        match="contains neither ImageReward.pt nor config.json.*\n.*huggingface.co/THUDM/ImageReward",
    ):
        find_scorer("imagereward", folders=[tmp_path])
    (tmp_path / "pretrained").mkdir()
    file = shutil.copy(weights["imagereward"], tmp_path / "pretrained")
    assert find_scorer("imagereward", folders=[tmp_path]).weights.path == Path(file)


def test_blips_vocabulary_comes_from_the_users_bert_folder_or_from_the_package(
    weights: dict[str, Path], bert_folder: Path, tmp_path: Path
) -> None:
    packaged = find_scorer("blipscore", weights["blipscore"], [tmp_path])
    shutil.copytree(bert_folder, tmp_path / "bert-base-uncased")
    own = find_scorer("blipscore", weights["blipscore"], [tmp_path])
    assert own.tokenizer.path == tmp_path / "bert-base-uncased" / "vocab.txt" != packaged.tokenizer.path
    assert own.signature == packaged.signature  # the same words
    (tmp_path / "bert-base-uncased" / "vocab.txt").write_text("\n".join(map(str, range(40_000))))
    with pytest.raises(WeightsError, match="has 40,00[0-9] tokens.*30,524"):
        load_network(find_scorer("blipscore", weights["blipscore"], [tmp_path]))
    (tmp_path / "bert-base-uncased" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nmaison\n")
    with pytest.raises(WeightsError, match="has 8 tokens.*30,524"):  # of another language
        load_network(find_scorer("blipscore", weights["blipscore"], [tmp_path]))


@pytest.mark.parametrize("name", SCORERS)
def test_the_copy_of_a_scorer_is_found_again_as_the_same_scorer(
    name: str, weights: dict[str, Path], tmp_path: Path
) -> None:
    named = tmp_path / "of_my_own" / weights[name].name
    named.parent.mkdir()
    (shutil.copytree if weights[name].is_dir() else shutil.copy)(weights[name], named)
    scorer = find_scorer(name, named, folders=[weights[name].parent])
    assert isinstance(scorer, Scorer)
    copy_scorer(scorer, tmp_path / "copied")
    shutil.rmtree(named.parent)
    again = find_scorer(name, folders=[tmp_path / "copied"])
    assert again.signature == scorer.signature
    assert (tmp_path / "copied") in again.weights.path.parents
