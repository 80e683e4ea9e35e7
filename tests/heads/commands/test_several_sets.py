"""Commands on several data sets of different scales: one scale in training, one left out, split columns."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from tier4k.heads.results.read import read_config, read_predictions
from tier4k.heads.results.results import Results
from tier4k.tests.builders.commands import arrays, on_one_line, read_scores, succeed, tier
from tier4k.tests.builders.data import save_picture, save_table, write_state

pytestmark = pytest.mark.slow

ROWS = 24
ENCODER = ["--image-encoder", "timm:test_resnet"]
SETS = ["one", "two"]


def write(path: str, seed: int, slope: float, shift: float) -> pd.DataFrame:
    """A table of drawn images without prompts; their scores follow their colour, on a scale of their own."""
    names = [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{row}.png" for row in range(ROWS)]
    for row, name in enumerate(names):
        save_picture(Path(path).parent / name, seed + row)
    scores = np.random.default_rng(seed).permutation(ROWS) / ROWS
    parts = np.array(["train", "val", "test"])[np.minimum(np.arange(ROWS) % 5, 2)]
    frame = pd.DataFrame({"image": names, "mos": slope * scores + shift, "part": parts})
    save_table(frame, Path(path))
    return frame


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three data sets with stored features; the scores of a are from 1 to 5, those of b from 0 to 100."""
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_state("test_resnet", Path("test_resnet.pth"))
        write("one/a.csv", 0, 4, 1)
        write("two/b.csv", 100, 100, 0)
        write("three/c.csv", 200, 1, 0)
        shutil.copy("one/MJ_0.png", "three/MJ_0.png")
        weights = ["--image-weights", "test_resnet.pth", "--workers", "0"]
        succeed("extract", "one", "two", *ENCODER, *weights)
        succeed("extract", "three", *ENCODER, *weights)
    return folder


@pytest.fixture
def folder(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these data sets as working directory."""
    shutil.copytree(sets, tmp_path / "sets")
    monkeypatch.chdir(tmp_path / "sets")
    return tmp_path / "sets"


def fit(*options: str) -> Path:
    """Fit heads on the two data sets and return the run."""
    shutil.rmtree("new", ignore_errors=True)
    output = succeed("fit-head", *SETS, *ENCODER, "--out", "new", *options)
    assert "the scores of the data sets a, b are mapped linearly, by training rows" in on_one_line(output)
    (run,) = Path("new").iterdir()
    Path("runs").mkdir(exist_ok=True)
    return Path(shutil.move(run, Path("runs")))


def raw_scores() -> pd.Series:
    """The scores of both tables by the names that rows have in a run."""
    frames = []
    for name, path in (("a", "one/a.csv"), ("b", "two/b.csv")):
        frame = pd.read_csv(path)
        frames.append(frame.assign(name=f"{name}/" + frame["image"], dataset=name))
    return pd.concat(frames).set_index("name")


def expected_truth(run: Path, repeat: int) -> pd.Series:
    """The scores of all rows on the scale of a, computed from the run's splits.json."""
    table = raw_scores()
    split = json.loads((run / "splits.json").read_text())[repeat]
    training = table.loc[[*split["train"], *split["validation"]]].groupby("dataset")["mos"]
    mean, deviation = training.mean(), training.std(ddof=0)
    of_row = table["dataset"]
    ratio = deviation["a"] / of_row.map(deviation)
    return mean["a"] + ratio * (table["mos"] - of_row.map(mean))


HEADS = {
    "ridge": ["--head", "ridge"],
    "mlp": ["--head", "mlp", "--epochs", "2", "--set", "hidden=2"],
}


def test_the_truth_is_on_the_scale_of_the_first_set_and_heads_can_be_compared(folder: Path) -> None:
    runs = [fit("--split", "random", "--repeats", "2", *options) for options in HEADS.values()]
    for run in runs:
        predictions = read_predictions(run)
        assert set(predictions["dataset"]) == {"a", "b"}
        for repeat, rows in predictions.groupby("repeat"):
            expected = expected_truth(run, repeat)[rows["name"]]
            np.testing.assert_allclose(rows["truth"], expected, rtol=1e-12)
            assert rows["prediction"].between(-3, 9).all()  # on the scale of a, not from 0 to 100
        config = read_config(run)
        assert (config.data, config.datasets) == ("a+b", ("a", "b"))
        rmse = Results.read(run).summaries["mos"]["last"]["rmse"]
        assert 0 < rmse.mean < 6
    # Heads with and without a validation part are tested on equal scores.
    assert "mos" in succeed("compare", *map(str, runs), "--metric", "rmse")
    succeed("report", *map(str, runs), "-o", "page.html")
    assert '<option value="dataset">' in Path("page.html").read_text()


def test_encoders_are_trained_on_the_scale_of_the_first_set(folder: Path) -> None:
    """The first head predicts near the mean of its training scores, which would be 40 without alignment."""
    options = ["--finetune", "all", "--image-weights", "test_resnet.pth", "--device", "cpu", "--epochs", "1"]
    run = fit("--split", "random", "--repeats", "1", *options, "--set", "hidden=8")
    rows = read_predictions(run)
    np.testing.assert_allclose(rows["truth"], expected_truth(run, 0)[rows["name"]], rtol=1e-12)
    assert rows["prediction"].between(0, 6).all()
    assert Results.read(run).summaries["mos"]["last"]["rmse"].mean < 3


def test_a_run_of_one_set_is_that_of_earlier_versions(folder: Path) -> None:
    succeed("fit-head", "one", *ENCODER, "--head", "ridge", "--split", "random", "--repeats", "1")
    (run,) = Path("runs").iterdir()
    assert read_config(run).datasets == () and "datasets" not in read_config(run).hashed
    predictions = pd.read_csv(run / "predictions.csv")
    assert "dataset" not in predictions
    table = pd.read_csv("one/a.csv").set_index("image")["mos"]
    assert (predictions["truth"].to_numpy() == table[predictions["name"]].to_numpy()).all()
    assert '<option value="dataset">' not in _page(run)


def _page(run: Path) -> str:
    succeed("report", str(run), "-o", "page.html")
    return Path("page.html").read_text()


def test_results_within_each_data_set_are_shown(folder: Path) -> None:
    run = fit("--split", "random", "--repeats", "2", *HEADS["ridge"])
    succeed(
        "fit-head",
        "one",
        *ENCODER,
        "--head",
        "ridge",
        "--split",
        "random",
        "--repeats",
        "1",
        "--out",
        "single",
    )
    (single,) = Path("single").iterdir()
    succeed("table", str(run), str(single), "--by", "dataset", "-o", "parts.csv")
    parts = pd.read_csv("parts.csv").set_index(["run", "dataset"])
    predictions = read_predictions(run)
    for name, rows in predictions.groupby("dataset"):
        values = [spearmanr(own["truth"], own["prediction"]).statistic for _, own in rows.groupby("repeat")]
        assert parts.loc[(run.name[-10:], name), "srcc"] == pytest.approx(np.mean(values))
    assert (single.name[-10:], "a") in parts.index


def test_one_data_set_is_left_out(folder: Path) -> None:
    run = fit("--split", "dataset", *HEADS["mlp"])
    results = Results.read(run)
    table = raw_scores()
    predictions = read_predictions(run)
    for (repeat, rows), name in zip(predictions.groupby("repeat"), "ab", strict=True):
        assert set(rows["dataset"]) == {name} and len(rows) == ROWS, repeat
        np.testing.assert_array_equal(rows["truth"], table.loc[rows["name"], "mos"])
    assert np.isnan(results.summaries["mos"]["best_validation"]["rmse"].mean)
    assert "RMSE needs scores on the scale of the predictions" in results.reasons["mos"]["best_validation"]
    assert np.isfinite(results.summaries["mos"]["best_validation"]["srcc"].mean)
    other = fit("--split", "dataset", *HEADS["ridge"])
    assert "srcc" in succeed("compare", str(run), str(other)).lower()
    code, output = tier("compare", str(run), str(other), "--metric", "rmse")
    assert code == 2 and "not in the units of the target" in on_one_line(output)
    assert "Errors are measured after the logistic of each repeat" in _page(run)
    # The head that is tested on a has learnt the scale of b, and the other one that of a.
    for command in (["predict", str(run), "three", "-o", "scores.csv"], ["export", str(run), "exported"]):
        code, output = tier(*command)
        assert code == 2 and "have the scales of a and b in different repeats" in on_one_line(output)
    for repeat, largest in (("0", 100), ("1", 6)):
        succeed("predict", str(run), "three", "--repeat", repeat, "-o", "scores.csv")
        scores = read_scores("scores.csv")["score"]
        assert scores.max() < largest and (scores.max() > 6) == (repeat == "0")
    code, output = tier("fit-head", "one", *ENCODER, "--head", "ridge", "--split", "dataset")
    assert code == 2 and "at least 2 data sets, and the data have 1" in on_one_line(output)


def test_a_column_is_the_split_of_every_command(folder: Path) -> None:
    options = ["--split", "column:part"]
    run = fit(*options, "--seeds", "2", *HEADS["mlp"])
    (stored, _) = json.loads((run / "splits.json").read_text())
    table = raw_scores()
    for part, value in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert stored[part] == table.index[table["part"] == value].tolist()
    assert "-column-part-" in run.name
    succeed("split", *SETS, *options, "-o", "splits.json")
    (written,) = json.loads(Path("splits.json").read_text())
    assert written == stored
    by_file = fit("--split", "splits.json", "--seeds", "2", *HEADS["mlp"])
    frames = [pd.read_csv(path / "predictions.csv") for path in (run, by_file)]
    pd.testing.assert_frame_equal(*frames)
    Path("grid.toml").write_text('split = "column:part"\nhead = ["ridge", "svr"]\n')
    succeed("sweep", *SETS, *ENCODER, "--grid", "grid.toml", "--out", "swept")
    assert all("-column-part-" in path.name for path in Path("swept").iterdir())
    succeed("sweep", *SETS, *ENCODER, "--grid", "grid.toml", "--search", "2", "--out", "searched")
    (searched,) = Path("searched").glob("[!.]*")
    searched_truth, fitted_truth = (read_predictions(path).query("repeat == 0") for path in (searched, run))
    assert searched_truth["truth"].tolist() == fitted_truth["truth"].tolist()
    for refused in (["--repeats", "2"], ["--folds", "3"]):
        code, output = tier("fit-head", *SETS, *ENCODER, "--head", "ridge", *options, *refused)
        assert code == 2 and "leave out --repeats and --folds" in on_one_line(output)
    code, output = tier("fit-head", *SETS, *ENCODER, "--split", "column:parts")
    assert code == 2 and "nearest: part" in on_one_line(output)


def test_a_run_on_two_sets_is_tested_on_a_third(folder: Path) -> None:
    run = fit("--split", "random", "--repeats", "2", *HEADS["ridge"])
    succeed("evaluate", str(run), "three", "--out", "evaluated")
    (evaluated,) = Path("evaluated").iterdir()
    results = Results.read(evaluated)
    # Without prompts, images decide: one image of c is also in a.
    splits = json.loads((run / "splits.json").read_text())
    expected = tuple(int("a/MJ_0.png" in split["train"]) for split in splits)
    assert results.seen_images == results.seen_prompts == expected
    for repeat, rows in read_predictions(evaluated).groupby("repeat"):
        succeed("predict", str(run), "three", "--repeat", str(repeat), "-o", "scores.csv")
        scores = read_scores("scores.csv").set_index("name")["score"]
        np.testing.assert_allclose(rows["prediction"], scores[rows["name"]], atol=1e-5)
        srcc = results.summaries["mos"]["elsewhere"]["srcc"].values[repeat]  # noqa: PD011
        assert srcc == pytest.approx(spearmanr(rows["truth"], rows["prediction"]).statistic)
    # The sets of one table have several scales too.
    both = pd.concat([pd.read_csv("one/a.csv"), pd.read_csv("two/b.csv")])
    both["dataset"] = ["a"] * ROWS + ["b"] * ROWS
    both["image"] = [str(Path("one", name).resolve()) for name in pd.read_csv("one/a.csv")["image"]] + [
        str(Path("two", name).resolve()) for name in pd.read_csv("two/b.csv")["image"]
    ]
    save_table(both, Path("both/t.csv"))
    code, output = tier("evaluate", str(run), "both", "--calibrate", "--out", "mixed")
    assert code == 2 and "the scores of a, b have several" in on_one_line(output)
    assert "data set without training rows" in on_one_line(
        succeed("evaluate", str(run), "both", "--out", "mixed")
    )


def test_the_exported_matrix_says_whose_scores_are_whose(folder: Path) -> None:
    succeed("features", *SETS, *ENCODER, "-o", "x.npz")
    matrix = arrays("x.npz")
    table = raw_scores().loc[matrix["name"]]
    assert matrix["dataset"].tolist() == table["dataset"].tolist()
    np.testing.assert_array_equal(matrix["mos"], table["mos"])
