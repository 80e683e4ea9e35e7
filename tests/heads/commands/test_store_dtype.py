"""--store-dtype in the commands: both types side by side, and what follows from features of float16."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k import load
from tier4k.cache.store import FeatureStore
from tier4k.heads.results.read import read_config
from tier4k.tests.builders.commands import (
    DATA,
    ENCODERS,
    arrays,
    assert_scores_are,
    on_one_line,
    read_scores,
    succeed,
    tier,
)
from tier4k.tests.builders.data import save_picture, write_state

HALF = ["--store-dtype", "float16"]
FIT = ["fit-head", "Dataset", "--split", "random", "--repeats", "1", "--target", "MOS_q", "--head", "ridge"]


def rows_of_stores(folder: str = "features") -> dict[str, int]:
    """Return the number of rows of each store, by stream and type."""
    stores = [FeatureStore.open(path.parent) for path in Path(folder).glob("*/signature.json")]
    return {f"{one.signature.stream} {one.signature.dtype}": len(one.keys) for one in stores}


@pytest.fixture
def both_types(project: Path) -> Path:
    """A project with features of both types; those of float16 are the rounded ones of float32."""
    for path in Path("features").glob("*-fp32-*"):
        whole = FeatureStore.open(path)
        half = FeatureStore.create(path.parent, replace(whole.signature, dtype="float16"), {})
        with half.writer() as writer:
            for keys, features in whole.blocks():
                writer.add(keys, features)
    return project


def test_both_types_exist_side_by_side_and_the_choice_is_the_users(both_types: Path) -> None:
    matrices = []
    for options in ([], ["--store-dtype", "float32"], HALF):
        succeed("features", "Dataset", "-o", "X.npz", *ENCODERS, *options)
        matrices.append(arrays("X.npz")["X"])
    default, whole, half = matrices
    np.testing.assert_array_equal(default, whole)
    assert whole.dtype == half.dtype == np.float32
    assert not np.array_equal(whole, half)
    np.testing.assert_array_equal(whole.astype(np.float16), half)


def test_an_extraction_finds_what_is_stored_in_its_type(both_types: Path) -> None:
    before = rows_of_stores()
    assert set(before) == {
        f"{stream} {dtype}" for stream in ("image", "text") for dtype in ("float32", "float16")
    }
    succeed("extract", "Dataset", *ENCODERS, *HALF)
    assert rows_of_stores() == before


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_an_exported_store_has_the_stored_type(both_types: Path, suffix: str) -> None:
    (store,) = Path("features").glob("resnet18-*float16-*")
    succeed("store", "export", store.name, "-o", f"out{suffix}")
    opened = FeatureStore.open(store)
    if suffix == ".npz":
        features = arrays("out.npz")["features"]
    else:
        frame = pd.read_parquet("out.parquet")
        features = frame[[name for name in frame if name.startswith("x")]].to_numpy()
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, opened.read(opened.keys))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--store-dtype", "bfloat16"], "nearest: float16"),
        ([*HALF, "--finetune", "all"], "end-to-end training stores no features"),
    ],
)
def test_a_type_without_meaning_is_refused(project: Path, options: list[str], expected: str) -> None:
    code, output = tier(*FIT, *ENCODERS, *options)
    assert code == 2
    assert expected in on_one_line(output)


@pytest.fixture
def half_run(both_types: Path) -> Path:
    """A run on features of float16."""
    succeed(*FIT, *ENCODERS, *HALF)
    (run,) = Path("runs").iterdir()
    assert {one.dtype for one in read_config(run).signatures.values()} == {"float16"}
    return run


@pytest.mark.slow
def test_predict_and_the_metric_of_a_run_on_float16_give_the_scores_of_the_run(half_run: Path) -> None:
    save_picture(Path("new.png"), 5, (260, 240))
    before = rows_of_stores()
    succeed("predict", str(half_run), "new.png", "--prompt", "a new prompt", "-o", "new.csv")
    assert rows_of_stores() == before | {
        name: count + 1 for name, count in before.items() if name.endswith("float16")
    }
    succeed("predict", str(half_run), "Dataset", "-o", "scores.csv")
    assert_scores_are(read_scores("scores.csv"), pd.read_csv(half_run / "predictions.csv"))
    metric = load(half_run)
    assert metric("new.png", "a new prompt") == pytest.approx(read_scores("new.csv")["score"][0], abs=1e-4)
    table = pd.read_excel(DATA / "annotation.xlsx")
    images = [str(DATA / "All" / name) for name in table["Generated_image"]]
    found = metric.score(images, table["Text_prompt"].tolist())
    np.testing.assert_allclose(found, read_scores("scores.csv")["score"], atol=1e-4)
    succeed("export", str(half_run), "model")
    succeed("predict", "model", "Dataset", "-F", "elsewhere", "-o", "model.csv")
    assert set(rows_of_stores("elsewhere/exported")) == {"image float16", "text float16"}
    np.testing.assert_allclose(
        read_scores("model.csv")["score"], read_scores("scores.csv")["score"], atol=1e-4
    )


@pytest.mark.slow
def test_features_of_finetuned_encoders_are_stored_in_either_type(project: Path) -> None:
    write_state("test_resnet", Path("test_resnet.pth"))
    small = [
        "--image-encoder",
        "timm:test_resnet",
        "--image-weights",
        "test_resnet.pth",
        "--streams",
        "image",
    ]
    tune = ["--finetune", "image", "--epochs", "1", "--set", "hidden=8", "--device", "cpu"]
    succeed("fit-head", "Dataset", *small, *tune, "--target", "MOS_q", "--split", "random", "--repeats", "1")
    (run,) = Path("runs").iterdir()
    output = succeed("extract", "Dataset", "--finetuned", str(run), "-F", "own", "--streams", "image", *HALF)
    (store,) = Path("own").glob("*-float16-*")
    assert store.name in output, "the options for heads on these features name the store"
    encoder = ["--image-encoder", store.name, "--streams", "image"]
    succeed(*FIT, "-F", "own", *encoder, "--out", "heads")
    (heads,) = Path("heads").iterdir()
    heads.rename(Path("runs") / heads.name)
    heads = Path("runs") / heads.name
    succeed("predict", str(heads), "Dataset", "-F", "new", "-o", "scores.csv")
    assert rows_of_stores("new") == {"image float16": 12}  # no image prompts in NR
    assert_scores_are(read_scores("scores.csv"), pd.read_csv(heads / "predictions.csv"))
