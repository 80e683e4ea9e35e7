"""Extraction's options and the commands on stores, as a user meets them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.tests.heads.commands.test_commands import ENCODERS, arrays, tier

TEXT = ["--text-encoder", "bert-base-uncased"]
TEXT_WIDTH = 96
WIDTH = 2 * (64 + 64 + 128 + 256 + 512)  # mean and deviation of ResNet-18's stages


def stores(folder: str = "features") -> set[str]:
    return {path.parent.name for path in Path(folder).glob("*/signature.json")}


def test_multilevel_features_of_whole_pictures_with_views_go_all_the_way_to_a_head(project: Path) -> None:
    asked = ["--feature", "multilevel", "--image-size", "64", *ENCODERS]
    code, output = tier("extract", "Dataset", "--crops", "2", *asked)
    assert code == 0, output
    assert "resnet18: encoded 14 of 14" in output
    code, output = tier("features", "Dataset", "-o", "X.npz", *asked)
    assert code == 0, output
    assert arrays("X.npz")["X"].shape == (12, 3, TEXT_WIDTH + WIDTH)
    code, output = tier("features", "Dataset", "-o", "X.parquet", *asked)
    assert code == 2 and "give a .npz file" in output
    for head in ("ridge", "mlp"):
        code, output = tier(
            "fit-head",
            "Dataset",
            "--head",
            head,
            "--split",
            "random",
            "--repeats",
            "1",
            "--target",
            "MOS_q",
            *asked,
        )
        assert code == 0, output


def test_two_encoders_are_filled_by_one_command_and_chosen_by_name_afterwards(project: Path) -> None:
    shutil.rmtree("features")
    code, output = tier(
        "extract", "Dataset", "--image-encoder", "resnet18", "--image-encoder", "efficientnet-lite0", *TEXT
    )
    assert code == 0, output
    assert "resnet18: encoded 14 of 14" in output and "efficientnet-lite0: encoded 14 of 14" in output
    for encoder, width in (("resnet18", 512), ("efficientnet-lite0", 1280)):
        assert tier("features", "Dataset", "-o", f"{encoder}.npz", "--image-encoder", encoder, *TEXT)[0] == 0
        assert arrays(f"{encoder}.npz")["X"].shape == (12, TEXT_WIDTH + width)
    report = json.loads(Path("features/extract.json").read_text())
    assert [one["encoder"] for one in report["encoders"]] == [
        "resnet18",
        "efficientnet-lite0",
        "bert-base-uncased",
    ]
    assert all(one["inputs_per_second"] > 0 for one in report["encoders"])


def test_every_choice_has_its_own_store_and_an_ambiguous_one_is_not_guessed(project: Path) -> None:
    for options in (
        ["--precision", "bf16"],
        ["--feature", "multilevel"],
        ["--image-size", "full"],
        ["--crops", "1"],
    ):
        assert tier("extract", "Dataset", *options, *ENCODERS)[0] == 0
    assert (
        len(stores()) == 1 + 1 + 4 + 1
    )  # images and texts of the fixture, four more of images, texts in bf16
    code, output = tier("features", "Dataset", "-o", "X.npz", *ENCODERS)
    assert code == 2 and "5 stores in" in output and "Name one of these folders" in output
    (whole,) = [name for name in stores() if "native_at_full" in name or "reference_at_full" in name]
    (texts,) = [name for name in stores() if name.startswith("bert") and "fp32" in name]
    assert (
        tier("features", "Dataset", "-o", "X.npz", "--image-encoder", whole, "--text-encoder", texts)[0] == 0
    )
    assert (
        tier(
            "features",
            "Dataset",
            "-o",
            "Y.npz",
            "--image-size",
            "full",
            "--text-encoder",
            texts,
            *ENCODERS[:2],
        )[0]
        == 0
    )
    np.testing.assert_array_equal(arrays("X.npz")["X"], arrays("Y.npz")["X"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--image-size", "31"], "neither a number of pixels from 32 to 2048 nor 'full'"),
        (["--image-size", "huge"], "'huge' is neither"),
        (["--crops-seed", "5"], "give --crops as well"),
        (["--crops", "-1"], "greater than or equal to 0"),
        (["--feature", "tokens"], "'multilevel'"),
        (["--precision", "int8"], "'bf16'"),
        (
            ["--image-encoder", "resnet50", "--image-weights", "x.pth"],
            "one file of weights for several encoders",
        ),
        (["--device", "meta"], "cpu, cuda, cuda:N or mps"),
    ],
)
def test_a_wrong_option_is_told_with_the_way_out_and_writes_nothing(
    project: Path, options: list[str], told: str
) -> None:
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS, *options)
    assert code == 2 and told in " ".join(output.replace("│", " ").split())
    assert not Path("fresh").exists()


def test_an_encoder_of_one_size_refuses_whole_pictures(project: Path) -> None:
    code, output = tier(
        "extract", "Dataset", "-F", "fresh", "--image-encoder", "vit", "--image-size", "384", *TEXT
    )
    assert code == 2 and "vit takes pictures of 224 x 224 only: leave out --image-size" in output


def test_compaction_leaves_one_shard_and_the_same_features(project: Path) -> None:
    assert tier("extract", "Dataset", "-F", "parts", "--shard", "1/3", *ENCODERS)[0] == 0
    assert tier("extract", "Dataset", "-F", "parts", *ENCODERS)[0] == 0
    assert tier("features", "Dataset", "-F", "parts", "-o", "before.npz", *ENCODERS)[0] == 0
    code, output = tier("store", "compact", "-F", "parts")
    assert code == 0 and "2 shards became 1, 14 rows, 0 doubles removed" in output
    assert {len(list(path.glob("*.h5"))) for path in Path("parts").glob("*-*")} == {1}
    assert tier("features", "Dataset", "-F", "parts", "-o", "after.npz", *ENCODERS)[0] == 0
    np.testing.assert_array_equal(arrays("before.npz")["X"], arrays("after.npz")["X"])


def test_export_names_pictures_by_their_files_and_prompts_by_themselves(project: Path) -> None:
    names = {"reference": [], "masked": []}
    for name in stores():
        code, output = tier("store", "export", name, "-o", f"{name}.parquet")
        assert code == 0, output
        names["masked" if "masked" in name else "reference"] = pd.read_parquet(f"{name}.parquet")[
            "name"
        ].tolist()
    table = pd.read_excel("Dataset/PKU-AIGIQA-4K/annotation.xlsx")
    assert {f"All/{name}" for name in table["Generated_image"]} < set(names["reference"])
    assert set(names["masked"]) == set(table["Text_prompt"])
    code, output = tier("store", "export", "nothing", "-o", "x.npz")
    assert code == 2 and "is not a feature store" in output


def test_gc_shows_first_and_removes_only_when_told(project: Path) -> None:
    shutil.rmtree("features/datasets")  # of the folder that this one was copied from, which is still there
    assert (
        tier("fit-head", "Dataset", "--split", "random", "--repeats", "1", "--target", "MOS_q", *ENCODERS)[0]
        == 0
    )
    assert tier("extract", "Dataset", "--precision", "bf16", *ENCODERS)[0] == 0
    assert "Everything is in use" in tier("store", "gc", "--older-than", "0")[1]
    shutil.rmtree("Dataset")
    code, output = tier("store", "gc", "--older-than", "0")
    assert code == 0 and "repeat with --delete" in output and len(stores()) == 4
    lines = [line.split(" ", 1) for line in output.splitlines()]
    said = {state: [line for first, line in lines if first == state] for state in ("kept", "unused")}
    assert ["fp32" in line and "a run uses it" in line for line in said["kept"]] == [True, True]
    assert sum("bf16" in line and "no run uses it" in line for line in said["unused"]) == 2
    code, output = tier("store", "gc", "--delete")
    assert code == 0 and output.count("0.0 hours old, younger than 24 hours (--older-than)") == 2
    assert len(stores()) == 4
    code, output = tier("store", "gc", "--delete", "--older-than", "0")
    assert code == 0 and "removed" in output and {name for name in stores() if "bf16" in name} == set()
    assert len(stores()) == 2
    code, output = tier("store", "gc", "--runs", "nowhere", "--delete")
    assert code == 2 and "there is no folder nowhere" in output and len(stores()) == 2
    Path("runs", next(Path("runs").iterdir()).name, "config.json").write_text("{}")
    code, output = tier("store", "gc", "--delete")
    assert code == 2 and "config.json cannot be read" in output and len(stores()) == 2


def test_a_store_that_cannot_be_opened_is_named_and_hides_no_other(project: Path) -> None:
    broken = Path("features") / next(name for name in stores() if "masked" in name)
    (broken / "signature.json").write_text("{}")
    code, output = tier("store", "ls")
    assert code == 0 and "resnet18" in output and broken.name in output
    code, output = tier("store", "verify")
    assert code == 2 and "14 rows are sound" in output and "1 stores cannot be opened" in output
