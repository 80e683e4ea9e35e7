"""Shared fixtures: a project folder with small images and small networks, its features, and runs on them."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from typer.testing import CliRunner

os.environ["HF_HUB_OFFLINE"] = "1"  # a test must not depend on a network, nor wait for one
# Small networks gain nothing from more threads, and `make test` and `make slow` run a process on every core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests of several threads share the cores with these processes: a waiting thread must not keep a core busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

os.environ["COLUMNS"] = "160"  # what commands print must not depend on the terminal that runs the tests

# A shell lets its background jobs ignore Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run: `--hypothesis-profile=default` draws new ones.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # a busy machine is not a fault
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

ENCODERS = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]

RUNS = {
    "nr": ["--head", "ridge", "--method", "nr", "--benchmark", "I2I"],
    "fr": ["--head", "ridge", "--method", "fr", "--benchmark", "I2I"],
    "pr": ["--head", "ridge", "--method", "pr", "--benchmark", "all"],
    "mlp": ["--epochs", "3"],
}


@pytest.fixture(scope="session")
def golden_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TIER-4K user's folder, with features extracted by the public command."""
    from tier4k import cli
    from tier4k.tests.builders.golden import write_golden_project

    folder = tmp_path_factory.mktemp("golden")
    write_golden_project(folder)
    arguments = ["extract", str(folder / "Dataset"), "-F", str(folder / "features"), *ENCODERS]
    result = CliRunner().invoke(cli.app, arguments)
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
    """Weights are not searched in the hub's cache of the user who runs the tests."""
    for module in ("weights.known", "scorers.find"):
        monkeypatch.setattr(f"tier4k.extract.{module}.from_hub", lambda *_: None)


@pytest.fixture
def project(golden_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as working directory, which a test may change."""
    folder = tmp_path / "project"
    shutil.copytree(golden_project, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def fitted_project(golden_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with runs of ridge heads (runs/nr, runs/fr, runs/pr) and of an mlp head (runs/mlp)."""
    from tier4k import cli

    folder = tmp_path_factory.mktemp("fitted") / "project"
    shutil.copytree(golden_project, folder)
    fit = ["fit-head", "Dataset", "--split", "random", "--repeats", "2", *ENCODERS]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("runs").mkdir(exist_ok=True)
        for name, options in RUNS.items():
            result = CliRunner().invoke(cli.app, [*fit, *options, "--out", f"out/{name}"])
            assert result.exit_code == 0, result.output
            (run,) = Path(f"out/{name}").iterdir()
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
