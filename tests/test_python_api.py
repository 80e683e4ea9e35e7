"""The public functions, called from Python alone, give what the commands give."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import tier4k
from tier4k.cache.keys import key_array
from tier4k.tests.builders.commands import ENCODERS, PACKAGE_FOLDER, read_scores, succeed
from tier4k.tests.builders.data import table_rows, write_table, write_test_resnet

NAMES = {"image_encoder": "resnet18", "text_encoder": "bert-base-uncased"}


def result_files(runs: str | Path) -> dict[str, tuple[str, str, str]]:
    """The results, predictions and splits of every run of a folder, by the ID."""
    files = ("results.json", "predictions.csv", "splits.json")
    return {
        run.name: tuple((run / file).read_text() for file in files)
        for run in Path(runs).iterdir()
        if not run.name.startswith(".")
    }


@pytest.mark.slow
def test_python_alone_extracts_fits_sweeps_predicts_and_reports_as_the_commands_do(project: Path) -> None:
    stores = tier4k.extract_features("Dataset", **NAMES, features="own")
    for store in stores.all:
        told = tier4k.find_features("features", **NAMES)
        (other,) = [one for one in told.all if one.signature == store.signature]
        assert set(map(bytes, other.keys)) == set(map(bytes, store.keys))
        np.testing.assert_array_equal(store.read(other.keys), other.read(other.keys))

    rows = ["--split", "random", "--repeats", "2"]
    succeed("fit-head", "Dataset", *ENCODERS, *rows, "--head", "ridge", "--target", "MOS_q", "--out", "told")
    manifest = tier4k.load_manifest("Dataset", "own")
    options = tier4k.FitOptions(targets="MOS_q", split="random", repeats=2, estimator="ridge")
    run = tier4k.fit_head(manifest, stores, options, "own-runs")
    assert result_files("own-runs") == result_files("told")
    read = tier4k.read_run(run.folder)
    assert (repr(read.results), read.found) == (repr(run.results), True)  # some values are NaN

    image = "Dataset/PKU-AIGIQA-4K/All/" + manifest.table["name"][0]
    prompt = manifest.table["prompt"][0]
    succeed("predict", str(run.folder), image, "--prompt", prompt, "-o", "scores.csv")
    assert read_scores("scores.csv")["score"].tolist() == pytest.approx(
        [tier4k.load(run, target="MOS_q").score(image, prompt)], abs=1e-6
    )

    grid = {"head": ["ridge", "svr"], "target": "MOS_q", "split": "random", "repeats": 2}
    Path("grid.toml").write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in grid.items()))
    succeed("sweep", "Dataset", *ENCODERS, "--grid", "grid.toml", "--out", "told-sweep")
    logged: list[tier4k.Run] = []
    runs = tier4k.sweep(manifest, grid, "own", "own-sweep", **NAMES, finished=logged.append)
    assert result_files("own-sweep") == result_files("told-sweep")
    assert [one.folder for one in logged] == [one.folder for one in runs]
    assert [one.results.id for one in runs] == [one.folder.name for one in runs]
    again = tier4k.sweep(manifest, "grid.toml", "own", "own-sweep", **NAMES)
    assert [one.found for one in again] == [True, True]

    table = tier4k.tidy(runs)
    assert table["mean"].notna().any() and set(table["name"]) == {one.folder.name for one in runs}
    page = tier4k.write_report([run, runs[1].folder], "report.html").path.read_text()
    assert run.results.id in page


@pytest.mark.slow
def test_a_search_from_python_is_the_search_of_the_command(project: Path) -> None:
    grid = {
        "head": "ridge",
        "transform": ["none", "sqrt"],
        "target": "MOS_q",
        "split": "random",
        "repeats": 2,
    }
    Path("grid.toml").write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in grid.items()))
    succeed("sweep", "Dataset", *ENCODERS, "--grid", "grid.toml", "--search", "2", "--out", "told")
    found = tier4k.search(tier4k.load_manifest("Dataset"), grid, 2, out="own", **NAMES)
    assert result_files("own") == result_files("told")
    assert set(found.run.results.chosen) == {"MOS_q"}


@pytest.mark.slow
def test_encoders_are_finetuned_from_python_as_by_the_command(project: Path) -> None:
    names = write_test_resnet(project)
    rows = ["--split", "random", "--repeats", "1", "--target", "MOS_q", "--streams", "image"]
    training = ["--finetune", "last:1", "--epochs", "1", "--set", "hidden=8", "--device", "cpu"]
    succeed("fit-head", "Dataset", *names[:4], *rows, *training, "--out", "told")
    pair = tier4k.EncoderPair.find(
        "timm:test_resnet", NAMES["text_encoder"], "Dataset", image_weights="test_resnet.pth"
    )
    options = tier4k.FitOptions(
        targets="MOS_q",
        split="random",
        repeats=1,
        streams=("image",),
        finetune="last:1",
        head={"hidden": 8},
        training={"max_epochs": 1},
        models="first",
    )
    run = tier4k.finetune(tier4k.load_manifest("Dataset"), pair, options, "own", device="cpu")
    assert result_files("own") == result_files("told")
    assert (run.folder / "encoders").is_dir()


def test_one_run_or_folder_needs_no_list(fitted_project: Path) -> None:
    runs = fitted_project / "runs"
    every = tier4k.tidy(str(runs))
    assert every.equals(tier4k.tidy([runs]))
    assert set(tier4k.tidy(tier4k.read_run(runs / "fr"))["name"]) == {"fr"} < set(every["name"])


def test_predictions_are_those_of_the_file_in_typed_columns(fitted_project: Path) -> None:
    run = tier4k.read_run(fitted_project / "runs" / "fr")
    with (run.folder / "predictions.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    found = run.predictions
    assert [*found] == [*written[0]]
    assert len(found) == len(written)
    for column in ("truth", "prediction"):
        assert found[column].dtype == float
        assert found[column].tolist() == [float(line[column]) for line in written]
    assert found["repeat"].tolist() == [int(line["repeat"]) for line in written]
    assert found["name"].tolist() == [line["name"] for line in written]


def test_the_fused_vectors_are_the_features_side_by_side_text_first(project: Path) -> None:
    manifest = tier4k.load_manifest("Dataset")
    stores = tier4k.find_features(**NAMES)
    found = tier4k.fused_features(manifest, stores, tier4k.FitOptions(method="fr"))
    guided = manifest.table[manifest.table["benchmark"] == "I2I"]
    parts = [
        stores.texts["bert-base-uncased"].read(hex_keys(guided["prompt_key"])),
        stores.images["resnet18"].read(hex_keys(guided["image_key"])),
        stores.images["resnet18"].read(hex_keys(guided["image_prompt_key"])),
    ]
    np.testing.assert_array_equal(found.X, np.concatenate(parts, axis=1))
    assert found.rows.name.tolist() == guided["name"].tolist()
    np.testing.assert_array_equal(found.rows.scores("MOS_a"), guided["MOS_a"])
    succeed("features", "Dataset", *ENCODERS, "--method", "fr", "-o", "x.npz")
    with np.load("x.npz") as file:
        np.testing.assert_array_equal(file["X"], found.X)


def hex_keys(keys: pd.Series) -> np.ndarray:
    return key_array(map(bytes.fromhex, keys))


def test_a_stored_image_is_found_by_its_name_with_and_without_the_package(project: Path) -> None:
    manifest = tier4k.load_manifest("Dataset")
    name = manifest.table["name"][3]
    store = tier4k.find_features(**NAMES).images["resnet18"]
    ours = store.read(manifest.keys("image")[manifest.table["name"] == name])[0]
    key = hashlib.sha256((Path("Dataset/PKU-AIGIQA-4K/All") / name).read_bytes()).digest()
    found = []
    for path in store.path.glob("*.h5"):
        with h5py.File(path) as file:
            rows = (file["keys"][:] == np.frombuffer(key, np.uint8)).all(axis=1)
            found += list(file["features"][:][rows])
    (theirs,) = found
    np.testing.assert_array_equal(ours, theirs)


def test_a_split_by_names_is_one_split_in_python_and_in_a_file(project: Path) -> None:
    manifest = tier4k.load_manifest("Dataset")
    names = manifest.table["name"].tolist()
    split = {"train": names[:6], "test": names[8:]}
    options = tier4k.FitOptions(targets=["MOS_q"], estimator="ridge", split=split)
    run = tier4k.fit_head(manifest, tier4k.find_features(**NAMES), options, "own")
    assert sorted(run.predictions["name"]) == sorted(names[8:])
    (recorded,) = json.loads((run.folder / "splits.json").read_text())
    assert sorted(recorded["train"]) == sorted(names[:6])  # rows in no part are not used
    Path("mine.json").write_text(json.dumps(split))
    options_of_command = ["--head", "ridge", "--target", "MOS_q", "--split", "mine.json"]
    succeed("fit-head", "Dataset", *ENCODERS, *options_of_command, "--out", "told")
    assert result_files("told") == result_files("own")


def test_rows_that_are_skipped_are_logged_and_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = write_table(tmp_path / "t.csv")
    (tmp_path / "MJ_1.png").unlink()
    with pytest.raises(tier4k.TierError, match="MJ_1.png"):
        tier4k.load_manifest(table, tmp_path / "f")
    manifest = tier4k.load_manifest([table], tmp_path / "f", on_error="skip")
    assert manifest.table["name"].tolist() == ["MJ_0.png", "SD_2.png"]
    assert pd.read_csv(tmp_path / "f" / "skipped.csv")["name"].tolist() == ["MJ_1.png"]
    assert "Skipped 1 of 3 rows" in caplog.text


def test_streams_of_text_are_refused_where_there_are_no_prompts(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", table_rows().drop(columns="prompt"))
    manifest = tier4k.load_manifest(table, tmp_path)
    assert tier4k.FitOptions().for_rows(manifest).streams == ("image",)
    with pytest.raises(tier4k.TierError, match="t has no text prompts, which are needed here"):
        tier4k.fused_features(
            manifest, tier4k.FeatureStores.of(), tier4k.FitOptions(streams=("text", "image"))
        )


def test_one_metric_of_a_run_is_found_by_the_names_of_target_and_metric(fitted_project: Path) -> None:
    run = tier4k.read_run(str(fitted_project / "runs" / "fr"))
    rows = run.predictions.query("target == 'MOS_a'")
    squares = (rows["truth"] - rows["prediction"]) ** 2
    of_repeats = np.sqrt(squares.groupby(rows["repeat"]).mean())
    assert run.summary("MOS_a", "rmse").mean == pytest.approx(of_repeats.mean())
    with pytest.raises(tier4k.TierError, match="no srcc of 'quality': its targets are MOS_q"):
        run.summary("quality")


def test_names_are_listed_documented_and_imported_on_first_use() -> None:
    code = (
        "import tier4k, sys; assert not {'torch', 'pandas', 'numpy'} & set(sys.modules); print(dir(tier4k))"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE_FOLDER
    ).stdout
    for name in tier4k.__all__:
        assert repr(name) in listed
        assert getattr(tier4k, name).__doc__


def test_mistakes_in_python_name_the_value_and_the_remedy(project: Path) -> None:
    for options, message in [
        ({"split": {"train": ["a"], "tests": []}}, "unknown field 'tests'"),
        ({"streams": "image+text"}, "pass a tuple of names"),
    ]:
        with pytest.raises(tier4k.TierError, match=message):
            tier4k.FitOptions(**options)
    with pytest.raises(tier4k.TierError, match="--text-encoder has no effect"):
        tier4k.extract_features("Dataset", text_encoder="minilm", streams="image", features="new")
    with pytest.raises(tier4k.TierError, match="no option 'heads'"):
        tier4k.sweep(tier4k.load_manifest("Dataset"), {"heads": ["ridge"]}, **NAMES)
    assert not Path("new").exists()
