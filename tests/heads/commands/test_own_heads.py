"""A user's head goes through every command; only trusted code of other packages is executed."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import fetch_openml
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tier4k import load
from tier4k.heads.regressors.own_heads import own_head
from tier4k.heads.results.estimators import EstimatorError, load_estimator
from tier4k.heads.results.model import ModelError
from tier4k.heads.results.read import read_config
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run_format import ResultError
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
from tier4k.tests.builders.own_heads import install, write_module

pytestmark = pytest.mark.slow

SPLIT = ["--split", "random", "--repeats", "2"]
FIT = ["fit-head", "Dataset", *SPLIT, *ENCODERS]
FOREST = "sklearn.ensemble:RandomForestRegressor"


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the search path with packages of a user: one installed, one a module alone."""
    folder = tmp_path_factory.mktemp("packages")
    install(folder, "command_heads", {"command-linear": "linear", "command-stiff": "Stiff"})
    write_module(folder, "command_module")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def fit(head: str, *options: str) -> tuple[Path, str]:
    """Fit a run of a head; return its folder and what the command printed."""
    before = set(Path("runs").glob("*"))
    output = succeed(*FIT, "--head", head, *options)
    (run,) = set(Path("runs").iterdir()) - before
    return run, output


def parts_of_repeats(run: Path) -> list[tuple[int, list[str], list[str]]]:
    """Seed and names of the training and test rows of every repeat."""
    repeats = json.loads((run / "splits.json").read_text())
    return [(one["seed"], one["train"], one["test"]) for one in repeats]


def assert_predictions_are_those_of(run: Path, make: object) -> None:
    """Compare the run's predictions with those of an estimator that is fitted here to the same rows."""
    succeed("features", "Dataset", "-o", "fused.npz", *ENCODERS)
    fused = arrays("fused.npz")
    row_of = {name: row for row, name in enumerate(fused["name"])}
    annotation = pd.read_excel(DATA / "annotation.xlsx").set_index("Generated_image")
    predictions = pd.read_csv(run / "predictions.csv")
    for repeat, (seed, train, test) in enumerate(parts_of_repeats(run)):
        for target in ("MOS_q", "MOS_a", "MOS_c"):
            model = make(seed)  # type: ignore[operator]
            model.fit(fused["X"][[row_of[name] for name in train]], annotation.loc[train, target])
            expected = model.predict(fused["X"][[row_of[name] for name in test]])
            own = predictions[(predictions["repeat"] == repeat) & (predictions["target"] == target)]
            found = own.set_index("name")["prediction"][test]
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def linear(seed: int) -> object:
    return make_pipeline(StandardScaler(), Ridge(alpha=0.5))


def forest(seed: int) -> object:
    return RandomForestRegressor(4, random_state=seed)


HEADS = {
    "command-linear": (["--set", "ridge__alpha=0.5"], linear),
    FOREST: (["--set", "n_estimators=4"], forest),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_users_head_is_fitted_predicts_and_is_exported_like_ours(project: Path, head: str) -> None:
    options, make = HEADS[head]
    run, _ = fit(head, *options)
    assert_predictions_are_those_of(run, make)
    assert "this run exists already" in succeed(*FIT, "--head", head, *options, "--set", "transform=none")
    predictions = pd.read_csv(run / "predictions.csv")
    succeed("export", str(run), "model")
    for folder in (run, Path("model")):
        succeed("predict", str(folder), "Dataset", "--repeat", "1", "-o", "scores.csv")
        assert_scores_are(read_scores("scores.csv"), predictions[predictions["repeat"] == 1])
    row = predictions[(predictions["repeat"] == 0) & (predictions["target"] == "MOS_a")].iloc[0]
    prompt = pd.read_excel(DATA / "annotation.xlsx").set_index("Generated_image")["Text_prompt"][row["name"]]
    score = load("model", "MOS_a", repeat=0).score(DATA / "All" / row["name"], prompt)
    assert score == pytest.approx(row["prediction"], abs=1e-4)
    assert "MOS_q" in succeed("evaluate", str(run), "Dataset", "--target", "MOS_q=MOS_q")
    code, output = tier("export", str(run), "other", "--onnx", "--target", "MOS_q")
    assert code == 2 and "a head of your own cannot be exported to ONNX" in on_one_line(output)


def test_users_heads_stand_beside_ours_in_sweeps_tables_comparisons_and_reports(project: Path) -> None:
    Path("grid.toml").write_text(
        f'head = ["command-linear", "{FOREST}", "ridge"]\nbenchmark = "all"\ntarget = "MOS_q"\n'
    )
    output = succeed("sweep", "Dataset", "--grid", "grid.toml", *SPLIT, *ENCODERS)
    assert "3 runs of this sweep" in on_one_line(output)
    runs = sorted(map(str, Path("runs").glob("nr-*")))
    table = succeed("table", *runs)
    compared = succeed("compare", *runs)
    for name in ("command-linear", "RandomForestRegressor", "ridge"):
        assert name in table.replace("\n", "") and name in compared
    succeed("report", *runs, "-o", "report.html")
    assert "command-linear" in Path("report.html").read_text(encoding="utf-8")
    Path("grid.toml").write_text('target = "MOS_q"\nridge__alpha = [0.5, 20]\n')
    output = succeed("sweep", "Dataset", "--grid", "grid.toml", "--head", "command-linear", *SPLIT, *ENCODERS)
    assert "2 were fitted" in on_one_line(output)


def test_a_search_over_users_heads_chooses_and_prints_the_command_that_fits_the_choice(project: Path) -> None:
    Path("grid.toml").write_text(
        'head = ["command-linear"]\nridge__alpha = [0.5, 20]\nbenchmark = "all"\ntarget = "MOS_q"\n'
    )
    output = succeed("sweep", "Dataset", "--grid", "grid.toml", "--search", "2", *SPLIT, *ENCODERS)
    (run,) = Path("runs").glob("nr-*")
    assert [plugin.name for plugin in read_config(run).plugins] == ["command-linear"]
    (command,) = re.findall(r"tier (fit-head .*)", output)
    arguments = shlex.split(command)
    assert any(text.startswith("ridge__alpha=") for text in arguments)
    succeed(*arguments)


def test_another_release_of_the_package_is_another_run(project: Path) -> None:
    for version in ("1.0", "2.0"):
        folder = project / f"release {version}"
        install(folder, "released_heads", {"released": "linear"}, version)
        with pytest.MonkeyPatch.context() as patch:  # as a new process would see it
            patch.syspath_prepend(folder)
            patch.delitem(sys.modules, "released_heads", raising=False)
            own_head.cache_clear()
            run, _ = fit("released", "--target", "MOS_q")
            assert read_config(run).plugins[0].version == version
    sys.modules.pop("released_heads")
    assert len(list(Path("runs").iterdir())) == 2


# What is kept, and what is executed


@pytest.mark.parametrize(
    ("head", "type_name"),
    [("command_module:Own", "command_module.Own"), ("command-stiff", "command_heads.Stiff")],
)
def test_code_of_another_package_is_executed_only_if_the_user_trusts_it_by_name(
    project: Path, head: str, type_name: str
) -> None:
    run, output = fit(head)
    assert f"--trust {type_name}" in on_one_line(output)
    predict = ["predict", str(run), "Dataset", "--repeat", "0", "-o", "scores.csv"]
    code, output = tier(*predict)
    assert code == 2 and f"if you trust it, pass --trust {type_name}" in on_one_line(output)
    with pytest.raises(ModelError, match="neither scikit-learn nor tier4k"):
        load(run)
    succeed(*predict, "--trust", type_name)
    predictions = pd.read_csv(run / "predictions.csv")
    assert_scores_are(read_scores("scores.csv"), predictions[predictions["repeat"] == 0])
    succeed("export", str(run), "model", "--trust", type_name)
    assert f"trusted=['{type_name}']" in Path("model/README.md").read_text()
    assert load("model", trusted=[type_name]).targets == ("MOS_q", "MOS_a", "MOS_c")


def test_a_head_that_cannot_be_saved_leaves_its_predictions_and_says_so(project: Path) -> None:
    run, output = fit("command_module:unsavable")
    assert "The run keeps its predictions and no heads: skops cannot save them" in on_one_line(output)
    assert (run / "predictions.csv").is_file() and not (run / "heads").exists()
    code, output = tier("predict", str(run), "Dataset")
    assert code == 2 and "keeps its predictions and no heads, because skops cannot" in on_one_line(output)
    succeed("table", str(run))


def replace_types(path: Path, **types: str) -> None:
    """Write a file of an estimator anew with another class at its root, and correct the model's record."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    schema["__module__"], schema["__class__"] = types["module"], types["name"]
    files["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    record = path.parent.parent / "model.json"
    model = json.loads(record.read_text())
    for head in model["heads"]:
        if path.name == f"{head['target']}-{head['repeat']}.skops":
            head["estimator"] = hashlib.sha256(path.read_bytes()).hexdigest()
    record.write_text(json.dumps(model))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("trap", "Trap"),
        ("os", "system"),
        ("numpy.testing", "runstring"),
        ("sklearn.utils", "safe_sqr"),
        ("sklearn.utils._testing", "TempMemmap"),
    ],
)
def test_a_malicious_file_is_refused_and_runs_nothing(project: Path, module: str, name: str) -> None:
    Path("trap.py").write_text("open('sprung', 'w').close()\n\nclass Trap:\n    pass\n")
    run, _ = fit("command-linear", "--target", "MOS_q")
    path = run / "heads" / "MOS_q-0.skops"
    replace_types(path, module=module, name=name)
    with pytest.raises(ModelError, match=f"--trust {module}.{name}"):
        read_model(run)
    assert not Path("sprung").exists()


def test_a_changed_file_of_an_estimator_is_noticed(project: Path) -> None:
    run, _ = fit("command-linear", "--target", "MOS_q")
    path = run / "heads" / "MOS_q-1.skops"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError, match="is not the file that the run wrote"):
        read_model(run)


def test_a_link_to_an_estimator_elsewhere_is_refused(project: Path) -> None:
    run, _ = fit("command-linear", "--target", "MOS_q")
    path = run / "heads" / "MOS_q-1.skops"
    path.rename("elsewhere.skops")
    path.symlink_to(Path("elsewhere.skops").absolute())
    with pytest.raises(ResultError, match="is a link that leads out of"):
        read_model(run)


@pytest.mark.parametrize("function", [os.system, subprocess.call, fetch_openml, np.testing.assert_])
def test_a_function_in_a_file_must_be_trusted_by_name(function: Callable[..., object]) -> None:
    import skops.io  # takes seconds, also where no slow test runs

    content = skops.io.dumps(make_pipeline(FunctionTransformer(function), Ridge()))
    with pytest.raises(EstimatorError, match=f"--trust .*{function.__name__}"):
        load_estimator(content, ["another.Type"])
