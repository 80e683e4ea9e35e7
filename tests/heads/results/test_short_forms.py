"""Notebooks show runs and stores in one line."""

from pathlib import Path

from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.results.results import Results
from tier4k.heads.results.run import Run
from tier4k.tests.builders.results import write_results


def test_a_run_is_shown_with_its_folder_and_the_srcc_of_its_targets(tmp_path: Path) -> None:
    folder = tmp_path / "nr-all-prompt-0123456789"
    folder.mkdir()
    write_results(folder, ("MOS_q", "MOS_a"), 10, mean=0.81249)
    shown = repr(Run(folder, Results.read(folder), 1.0, found=False))
    assert shown == f"<Run nr-all-prompt-0123456789 in {tmp_path}: SRCC of MOS_q 0.812, MOS_a 0.812>"


def test_stores_are_shown_by_the_names_of_their_encoders(tmp_path: Path) -> None:
    image = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: 224", "pooled")
    text = Signature("text", "bert-base-uncased", "bert", "cd" * 32, "tokens", "pooled")
    score = Signature("score", "pickscore", "clip", "ef" * 32, "pairs", "score")
    images, texts, scores = (FeatureStore.create(tmp_path, one, {}) for one in (image, text, score))
    shown = repr(FeatureStores.of([images], [texts], [scores]))
    assert shown == "<FeatureStores: images resnet18; texts bert-base-uncased; scores pickscore>"
    assert repr(FeatureStores.of()) == "<FeatureStores: none>"
