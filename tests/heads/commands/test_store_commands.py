"""Options of extraction, and the commands on stores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.tests.builders.commands import DATA, ENCODERS, arrays, on_one_line, succeed, tier

TEXT = ["--text-encoder", "bert-base-uncased"]

TEXT_WIDTH = 96

WIDTH = 2 * (64 + 64 + 128 + 256 + 512)  # mean and deviation of ResNet-18's stages


def stores(folder: str = "features") -> set[str]:
    return {path.parent.name for path in Path(folder).glob("*/signature.json")}


@pytest.mark.slow
def test_a_head_can_be_fitted_on_multilevel_features_of_whole_images_with_crops(project: Path) -> None:
    options = ["--feature", "multilevel", "--image-size", "64", *ENCODERS]
    output = succeed("extract", "Dataset", "--crops", "2", *options)
    assert "resnet18: encoded 14 of 14" in output
    succeed("features", "Dataset", "-o", "X.npz", *options)
    assert arrays("X.npz")["X"].shape == (12, 3, TEXT_WIDTH + WIDTH)
    code, output = tier("features", "Dataset", "-o", "X.parquet", *options)
    assert code == 2
    assert "pass a .npz file" in output
    fit = ["fit-head", "Dataset", "--split", "random", "--repeats", "1", "--target", "MOS_q", *options]
    for head in ("ridge", "mlp"):
        succeed(*fit, "--head", head)


def test_one_command_fills_the_stores_of_two_encoders(project: Path) -> None:
    shutil.rmtree("features")
    encoders = ["--image-encoder", "resnet18", "--image-encoder", "efficientnet-lite0"]
    output = succeed("extract", "Dataset", *encoders, *TEXT)
    assert "resnet18: encoded 14 of 14" in output
    assert "efficientnet-lite0: encoded 14 of 14" in output
    for encoder, width in (("resnet18", 512), ("efficientnet-lite0", 1280)):
        succeed("features", "Dataset", "-o", f"{encoder}.npz", "--image-encoder", encoder, *TEXT)
        assert arrays(f"{encoder}.npz")["X"].shape == (12, TEXT_WIDTH + width)
    report = json.loads(Path("features/extract.json").read_text())
    names = [entry["encoder"] for entry in report["encoders"]]
    assert names == ["resnet18", "efficientnet-lite0", "bert-base-uncased"]
    assert all(entry["inputs_per_second"] > 0 for entry in report["encoders"])


@pytest.mark.slow
def test_every_choice_has_its_own_store_and_no_option_is_the_default(project: Path) -> None:
    succeed("features", "Dataset", "-o", "before.npz", *ENCODERS)
    choices = (
        ["--precision", "bf16"],
        ["--feature", "multilevel"],
        ["--image-size", "full"],
        ["--crops", "1"],
    )
    for options in choices:
        succeed("extract", "Dataset", *options, *ENCODERS)
    assert len(stores()) == 1 + 1 + 4 + 1  # images and texts before, four stores of images, texts in bf16
    succeed("features", "Dataset", "-o", "after.npz", *ENCODERS)
    np.testing.assert_array_equal(arrays("after.npz")["X"], arrays("before.npz")["X"])
    (whole,) = (name for name in stores() if "native_at_full" in name or "reference_at_full" in name)
    (texts,) = (name for name in stores() if name.startswith("bert") and "fp32" in name)
    features = ["features", "Dataset", "--text-encoder", texts]
    succeed(*features, "-o", "X.npz", "--image-encoder", whole)
    succeed(*features, "-o", "Y.npz", "--image-encoder", "resnet18", "--image-size", "full")
    np.testing.assert_array_equal(arrays("X.npz")["X"], arrays("Y.npz")["X"])


WRONG = [
    (["--image-size", "31"], "pass a number from 32 to 2048, or full"),
    (["--image-size", "huge"], "no image size 'huge'"),
    (["--image-encoder", "resnet50@0"], "no image size '0'"),
    (["--image-encoder", "resnet50@100000"], "pass a number from 32 to 2048, or full"),
    (["--crops-seed", "5"], "pass --crops too"),
    (["--crops", "-1"], "greater than or equal to 0"),
    (["--feature", "tokens"], "pooled, multilevel"),
    (["--precision", "int8"], "fp32, tf32, bf16, fp16"),
    (
        ["--image-encoder", "resnet50", "--image-weights", "x.pth"],
        "one file of weights cannot serve several image encoders",
    ),
    (["--device", "meta"], "cpu, cuda, cuda:N, cuda:all"),
    (["--repeat", "1"], "so they need --finetuned"),
    (["--finetuned", "runs/nothing"], "leave out --image-encoder"),
]


@pytest.mark.parametrize(("options", "expected"), WRONG)
def test_a_wrong_option_of_extract_is_rejected_with_a_remedy_and_writes_nothing(
    project: Path, options: list[str], expected: str
) -> None:
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS, *options)
    assert code == 2
    assert expected in on_one_line(output)
    assert not Path("fresh").exists()


def test_an_encoder_of_one_size_refuses_whole_images(project: Path) -> None:
    options = ["--image-encoder", "timm:swin_tiny_patch4_window7_224", "--image-size", "384", *TEXT]
    code, output = tier("extract", "Dataset", "-F", "fresh", *options)
    assert code == 2
    assert "224 x 224 only: do not pass --image-size" in output


def test_compaction_leaves_one_shard_and_the_same_features(project: Path) -> None:
    succeed("extract", "Dataset", "-F", "parts", "--shard", "1/3", *ENCODERS)
    succeed("extract", "Dataset", "-F", "parts", *ENCODERS)
    succeed("features", "Dataset", "-F", "parts", "-o", "before.npz", *ENCODERS)
    output = succeed("store", "compact", "-F", "parts")
    assert "2 shards became 1, 14 rows, 0 duplicates removed" in output
    for store in Path("parts").glob("*-*"):
        assert len(list(store.glob("*.h5"))) == 1
    succeed("features", "Dataset", "-F", "parts", "-o", "after.npz", *ENCODERS)
    np.testing.assert_array_equal(arrays("before.npz")["X"], arrays("after.npz")["X"])


def test_export_names_images_by_their_files_and_prompts_by_their_texts(project: Path) -> None:
    names = {}
    for store in stores():
        succeed("store", "export", store, "-o", f"{store}.parquet")
        stream = "text" if "masked" in store else "image"
        names[stream] = set(pd.read_parquet(f"{store}.parquet")["name"])
    table = pd.read_excel(DATA / "annotation.xlsx")
    assert {f"All/{name}" for name in table["Generated_image"]} < names["image"]
    assert names["text"] == set(table["Text_prompt"])
    code, output = tier("store", "export", "nothing", "-o", "x.npz")
    assert code == 2
    assert "is not a feature store" in output


@pytest.fixture
def unused_stores(project: Path) -> Path:
    """A project with four stores: two that a run uses, two that nothing uses."""
    shutil.rmtree("features/datasets")  # records of the folder that this one was copied from, which exists
    fit = ["fit-head", "Dataset", "--split", "random", "--repeats", "1", "--target", "MOS_q"]
    succeed(*fit, *ENCODERS)
    succeed("extract", "Dataset", "--precision", "bf16", *ENCODERS)
    assert "Every store is in use" in succeed("store", "gc", "--older-than", "0")
    shutil.rmtree("Dataset")
    assert len(stores()) == 4
    return project


def test_gc_lists_first_and_removes_only_with_delete(unused_stores: Path) -> None:
    output = succeed("store", "gc", "--older-than", "0")
    assert "again with --delete" in output
    assert len(stores()) == 4
    unused = [line for line in output.splitlines() if line.startswith("unused")]
    assert sum("bf16" in line for line in unused) == 2
    assert not any("fp32" in line for line in unused)  # the run's stores are kept
    assert "removed" in succeed("store", "gc", "--older-than", "0", "--delete")
    assert len(stores()) == 2
    assert not any("bf16" in name for name in stores())


def test_gc_keeps_young_stores_as_another_process_may_be_filling_them(unused_stores: Path) -> None:
    output = succeed("store", "gc", "--delete")
    assert "younger than 24 hours" in output
    assert len(stores()) == 4


def test_gc_removes_nothing_where_it_cannot_read_the_runs(unused_stores: Path) -> None:
    code, output = tier("store", "gc", "--runs", "nowhere", "--older-than", "0", "--delete")
    assert code == 2
    assert "there is no folder nowhere" in on_one_line(output)
    (run,) = Path("runs").iterdir()
    (run / "config.json").write_text("{}")
    code, output = tier("store", "gc", "--older-than", "0", "--delete")
    assert code == 2
    assert "config.json cannot be read" in output
    assert len(stores()) == 4


def test_a_store_that_cannot_be_opened_is_reported_and_hides_no_other(project: Path) -> None:
    broken = Path("features") / next(name for name in stores() if "masked" in name)
    (broken / "signature.json").write_text("{}")
    output = succeed("store", "ls")
    assert "resnet18" in output
    assert broken.name in output
    code, output = tier("store", "verify")
    assert code == 2
    assert "14 rows are sound" in output
    assert "1 stores cannot be opened" in output
