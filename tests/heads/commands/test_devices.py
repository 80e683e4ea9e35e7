"""`fit-head` and `sweep` fit networks on the device that the user names."""

import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch

from tier4k.heads.results.read import read_config, read_predictions
from tier4k.tests.builders.commands import ENCODERS, on_one_line, succeed, tier
from tier4k.tests.builders.devices import note_devices

FIT = ["fit-head", "Dataset", *ENCODERS, "--split", "random", "--repeats", "2", "--epochs", "2"]
SWEEP = ["sweep", "Dataset", *ENCODERS, "--split", "random", "--grid", "grid.toml"]


def runs(out: str) -> dict[str, Path]:
    """The runs of a folder by the name of their head."""
    return {read_config(path).estimator: path for path in Path(out).glob("[!.]*")}


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_heads_are_fitted_on_the_cpu_by_default(project: Path, device: str) -> None:
    """To the last bit, also for a network that torch trains."""
    network = ["--set", "activation=gelu", "--set", "dropout=0.2"]
    succeed(*FIT, *network, "--out", "default")
    succeed(*FIT, *network, "--out", "named", "--device", device)
    default, named = runs("default")["mlp"], runs("named")["mlp"]
    assert default.name == named.name
    pd.testing.assert_frame_equal(read_predictions(named), read_predictions(default), check_exact=True)
    for run in (default, named):
        assert read_config(run).environment.device == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
@pytest.mark.parametrize("command", [["fit-head", "nowhere"], ["sweep", "nowhere", "--paper"]])
def test_a_device_that_is_not_there_is_refused_before_the_data_are_read(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = tier(*command, "--device", "cuda")
    assert code == 2
    assert "the device 'cuda' cannot be used (" in on_one_line(output)
    assert on_one_line(output).rstrip().endswith(": pass --device cpu, cuda or cuda:N")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["mps", "meta", "gpu", ""])
def test_a_device_that_fits_no_heads_is_refused_with_those_that_do(device: str) -> None:
    for command in (["fit-head", "nowhere"], ["sweep", "nowhere", "--paper"]):
        code, output = tier(*command, "--device", device)
        assert code == 2
        message = f"heads cannot be fitted on the device '{device}': pass --device cpu, cuda or cuda:N"
        assert message in on_one_line(output)


def test_end_to_end_training_refuses_a_gpu_by_its_number() -> None:
    code, output = tier("fit-head", "nowhere", "--finetune", "image", "--device", "cuda:1")
    assert code == 2
    assert "--finetune cannot train on 'cuda:1': pass --device auto" in on_one_line(output)


def test_one_run_with_the_identity_of_the_cpus_is_fitted_on_the_device_and_records_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(*FIT, "--out", "before")
    devices = note_devices(monkeypatch)
    succeed(*FIT, "--device", "cuda:1")
    assert devices == ["cuda:1"]
    assert read_config(runs("runs")["mlp"]).environment.device == "cuda:1"
    assert runs("runs")["mlp"].name == runs("before")["mlp"].name
    # A run that exists is found, wherever it was fitted.
    succeed(*FIT)
    assert devices == ["cuda:1"]


@pytest.mark.parametrize("head", [["ridge"], ["ensemble", "--set", "members=ridge,svr"]], ids=" ".join)
def test_a_head_without_a_network_is_refused_on_a_gpu(
    project: Path, monkeypatch: pytest.MonkeyPatch, head: list[str]
) -> None:
    note_devices(monkeypatch)
    options = [*ENCODERS, "--split", "random", "--repeats", "2", "--head", *head]
    code, output = tier("fit-head", "Dataset", *options, "--device", "cuda:0")
    assert code == 2
    message = f"--head {head[0]} has no network, and only networks are fitted on cuda:0: leave out --device"
    assert message in on_one_line(output)
    assert not Path("runs").exists()


def test_networks_alone_of_a_grid_are_fitted_on_the_device(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("grid.toml").write_text(
        'head = ["ridge", "mlp", "gated"]\nrepeats = 2\ntarget = ["MOS_q", "MOS_a"]\n'
    )
    devices = note_devices(monkeypatch)
    succeed(*SWEEP, "--device", "cuda:0")
    assert devices == ["cuda:0"] * 2  # both targets and repeats of a head are one call
    recorded = {head: read_config(run).environment.device for head, run in runs("runs").items()}
    assert recorded == {"ridge": "cpu", "mlp": "cuda:0", "gated": "cuda:0"}


def test_a_search_fits_candidates_and_choices_on_the_device_and_prints_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("grid.toml").write_text('head = "mlp"\nepochs = 2\nrepeats = 2\nhidden = [3, 4]\ntarget = "MOS_q"\n')
    devices = note_devices(monkeypatch)
    output = succeed(*SWEEP, "--search", "2", "--device", "cuda:0")
    assert set(devices) == {"cuda:0"} and len(devices) >= 2 + 1
    assert read_config(runs("runs")["search"]).environment.device == "cuda:0"
    (line,) = [line for line in output.splitlines() if "tier fit-head" in line]
    assert "--device cuda:0" in line
    succeed(*shlex.split(line)[1:])
    assert read_config(runs("runs")["mlp"]).environment.device == "cuda:0"
