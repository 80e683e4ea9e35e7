"""What tests share: a project folder with small pictures, small networks, and its features extracted once."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

os.environ["HF_HUB_OFFLINE"] = "1"  # a test must not depend on a network, nor wait for one
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # small networks gain nothing from more, and `make test` runs a process on every core


@pytest.fixture(scope="session")
def golden_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TIER-4K user's folder, with features extracted by the public command."""
    from tier4k import cli
    from tier4k.tests.builders.golden import write_golden_project

    folder = tmp_path_factory.mktemp("golden")
    write_golden_project(folder)
    arguments = ["extract", str(folder / "Dataset"), "-F", str(folder / "features")]
    result = CliRunner().invoke(
        cli.app, [*arguments, "--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]
    )
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights, in the folder layout of TIER-4K."""
    from tier4k.tests.builders.golden import write_tiny_bert

    folder = tmp_path_factory.mktemp("bert")
    write_tiny_bert(folder)
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are not looked for in the hub's cache of whoever runs the tests."""
    for module in ("encoders", "scorers"):
        monkeypatch.setattr(f"extract.{module}.from_hub", lambda *_: None)


@pytest.fixture
def project(golden_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as working directory, to be spoiled at will."""
    folder = tmp_path / "project"
    shutil.copytree(golden_project, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def fitted_project(golden_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a ridge run of every method and a run of the two layers: runs/nr, runs/fr, runs/pr, runs/mlp."""
    from tier4k import cli

    folder = tmp_path_factory.mktemp("fitted") / "project"
    shutil.copytree(golden_project, folder)
    methods = {"nr": "I2I", "fr": "I2I", "pr": "all"}
    kinds = {
        method: ["--head", "ridge", "--method", method, "--benchmark", benchmark]
        for method, benchmark in methods.items()
    }
    common = [
        "--split",
        "random",
        "--repeats",
        "2",
        "--image-encoder",
        "resnet18",
        "--text-encoder",
        "bert-base-uncased",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, options in (kinds | {"mlp": ["--epochs", "3"]}).items():
            result = CliRunner().invoke(
                cli.app, ["fit-head", "Dataset", *common, *options, "--out", f"out/{name}"]
            )
            assert result.exit_code == 0, result.output
            (run,) = Path(f"out/{name}").iterdir()
            Path("runs").mkdir(exist_ok=True)
            run.rename(Path("runs") / name)
    return folder


@pytest.fixture
def fitted_copy(fitted_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as working directory; its runs were fitted on the data of this copy."""
    folder = tmp_path / "project"
    shutil.copytree(fitted_project, folder)
    monkeypatch.chdir(folder)
    for path in Path("runs").glob("*/config.json"):
        path.write_text(path.read_text().replace(str(fitted_project), str(folder)))
    return folder
