"""A run is found by its ten digits, whatever its folder is called; names of runs say what was fitted."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tier4k
from tier4k import cli
from tier4k.cache.signature import Signature
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.find_run import find_run, find_runs, reference_to, stored_run
from tier4k.heads.results.names import MOST_BYTES, digest_in, run_name
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.results import write_results

LITE = Signature(
    "image", "efficientnet-lite0", "lite0", "ab", "native at 512: no crop", "multilevel: mean+sd"
)
CLIP = Signature("image", "clip", "vit", "ab", "native: 224", "pooled")
MINILM = Signature("text", "minilm", "bert", "cd", "tokens", "pooled")
BERT = replace(MINILM, encoder="bert-base-uncased")

CONFIG = RunConfig(
    data="toy",
    data_digest="0",
    method="nr",
    benchmark="all",
    targets=("MOS_q", "MOS_a"),
    signatures={"image": CLIP, "text": MINILM},
    split="prompt",
    repeats=10,
    seed=0,
    recipe="cached",
    estimator="kernel-ridge",
    head={},
    models="all",
)

NAMES = {
    "nr-clip-pooled-kernel-ridge-mos_q+mos_a-prompt": CONFIG,
    "nr-efficientnet-lite0@512-multilevel-kernel-ridge-mos_q+mos_a-prompt": replace(
        CONFIG, signatures={"image": LITE, "text": MINILM}
    ),
    "nr-clip+bert-base-uncased-pooled-kernel-ridge-mos_q+mos_a-i2i-prompt": replace(
        CONFIG, signatures={"image": CLIP, "text": BERT}, benchmark="I2I"
    ),
    "nr-text-minilm-kernel-ridge-mos_q+mos_a-prompt": replace(
        CONFIG, streams=("text",), signatures={"text": MINILM}
    ),
    "nr-clip-pooled-mlp-mos-prompt-finetuned": replace(
        CONFIG, estimator="mlp", targets=("MOS",), finetune={"part": "all"}
    ),
    "zero-shot-pickscore-5-targets-whole": replace(
        CONFIG,
        method="zero-shot",
        signatures={"score": Signature("score", "pickscore", "clip", "ef", "pairs", "score")},
        estimator="pickscore",
        split="whole",
        targets=tuple(f"a long name {number}" for number in range(5)),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_run_says_what_was_fitted_and_ends_in_its_digits(name: str) -> None:
    config = NAMES[name]
    assert run_name(config) == f"{name}-{config.digest}"
    assert digest_in(run_name(config)) == config.digest


def test_the_digits_of_runs_that_exist_stay() -> None:
    assert replace(CONFIG, protocol=2, format=6).digest == "cba5c78992"


def test_a_name_is_short_and_has_letters_that_every_file_system_takes() -> None:
    odd = replace(CLIP, encoder='hf:/models/Ünï: "квант" <*?>|\\' + "x" * 300)
    config = replace(
        CONFIG,
        signatures={"image": odd, "image 2": LITE},
        targets=("质量", "A/B\n"),
        estimator="package.module:" + "Head" * 40,
        split="column:" + "y" * 90,
        finetune={"part": "all"},
    )
    name = run_name(config)
    assert re.fullmatch(r"[a-z0-9_.+@-]+", name) and len(name) <= MOST_BYTES
    assert name.endswith(f"-finetuned-{config.digest}")  # short words are not cut


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs in the folder `runs` of the current folder, of which two have four digits in common."""
    monkeypatch.chdir(tmp_path)
    for digits in ("8d16a3bb9d", "8d16c0ffee", "0123456789"):
        folder = tmp_path / "runs" / f"nr-clip-{digits}"
        folder.mkdir(parents=True)
        write_results(folder, ("mos",), 2)
    return Path("runs")


def test_a_run_is_found_by_its_digits_or_the_first_of_them(runs: Path) -> None:
    assert find_run("8d16a3bb9d") == find_run("8d16a") == runs / "nr-clip-8d16a3bb9d"
    assert find_run("0123") == runs / "nr-clip-0123456789"
    runs.rename("old")
    assert find_run("old/0123") == find_run(Path("old/0123456789")) == Path("old/nr-clip-0123456789")
    assert find_run("old/nr-clip-0123456789") == Path("old/nr-clip-0123456789")


def test_digits_of_no_run_or_of_several_are_an_error_that_lists_runs(runs: Path) -> None:
    with pytest.raises(ResultError, match="2 runs in runs have the digits 8d16: pass more digits") as error:
        find_run("8d16")
    assert "nr-clip-8d16a3bb9d" in str(error.value) and "nr-clip-0123456789" not in str(error.value)
    with pytest.raises(
        ResultError, match="no run in runs has the digits ffff(.|\n)*  0123456789  nr-clip-0123456789"
    ):
        find_run("ffff")
    with pytest.raises(ResultError, match="no run in other has the digits 0123(.|\n)*  none"):
        find_run("other/0123")
    assert find_run("012") == Path("012")  # too short to be digits: a path, of which the reader complains


def test_a_renamed_run_keeps_its_digits(runs: Path) -> None:
    (runs / "nr-clip-8d16a3bb9d").rename(runs / "best-8d16a3bb9d")
    (runs / "nr-clip-0123456789").rename(runs / "mine")
    assert (find_run("8d16a"), find_run("0123")) == (runs / "best-8d16a3bb9d", runs / "mine")
    assert reference_to(runs / "mine") == "nr-all-prompt-0123456789"


def test_a_rerun_finds_its_run_under_any_name_and_a_damaged_neighbour_does_not_hide_it(
    tmp_path: Path,
) -> None:
    assert stored_run(tmp_path, CONFIG) is None and stored_run(tmp_path / "nowhere", CONFIG) is None
    folder = tmp_path / run_name(CONFIG)
    folder.mkdir()
    write_results(folder, ("mos",), 2)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "results.json").write_text("{")
    for name in (folder.name, f"nr-all-prompt-{CONFIG.digest}", "mine"):
        folder = folder.rename(tmp_path / name)
        assert stored_run(tmp_path, CONFIG) == folder
    folder.rename(tmp_path / ".hidden")
    assert stored_run(tmp_path, CONFIG) is None


def test_a_folder_of_runs_stands_for_all_of_them_by_name(runs: Path) -> None:
    names = ["nr-clip-0123456789", "nr-clip-8d16a3bb9d", "nr-clip-8d16c0ffee"]
    assert find_runs([runs]) == [runs / name for name in names]
    assert find_runs([runs / names[2], "0123"]) == [runs / names[2], runs / names[0]]
    shutil.rmtree(runs / names[0])
    assert find_runs(["runs"]) == [runs / name for name in names[1:]]
    runs.rename("old")
    with pytest.raises(ResultError, match="no runs in runs: run `tier fit-head DATA` first"):
        find_runs([runs])


@pytest.mark.parametrize("command", ["table", "compare", "report", "predict", "evaluate", "export"])
def test_every_command_that_takes_a_run_takes_its_digits(runs: Path, command: str) -> None:
    assert runs.is_dir()
    others = {"predict": ["image.png"], "evaluate": ["Dataset"], "export": ["model"]}.get(command, ["0123"])
    refused = CliRunner().invoke(cli.app, [command, "8d16", *others])
    assert refused.exit_code == 2 and "2 runs in runs have the digits 8d16" in refused.output


@pytest.mark.parametrize(
    "option", [["fit-head", "Dataset", "--start"], ["extract", "Dataset", "--finetuned"]]
)
def test_every_option_that_takes_a_run_takes_its_digits(runs: Path, option: list[str]) -> None:
    assert runs.is_dir()
    refused = CliRunner().invoke(cli.app, [*option, "8d16"])
    assert refused.exit_code == 2 and "2 runs in runs have the digits 8d16" in refused.output


def test_functions_take_digits_too(runs: Path) -> None:
    assert runs.is_dir()
    for function in (tier4k.read_run, tier4k.load, tier4k.reward, lambda run: tier4k.tidy([run])):
        with pytest.raises(ResultError, match="2 runs in runs have the digits 8d16"):
            function("8d16")
