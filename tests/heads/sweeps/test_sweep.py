"""A sweep fits every combination once, and leaves runs on disk alone."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tier4k import cli
from tier4k.cache.errors import StoreError, TierError
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.protocol.presets import PRESETS
from tier4k.heads.reporting.columns import ABOUT, result_rows
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.latex import latex
from tier4k.heads.reporting.tables import write_table
from tier4k.heads.reporting.tidy import sweep_table, tidy
from tier4k.heads.results.read import read_config
from tier4k.heads.sweeps.blocks import SweepError, as_blocks, with_preset
from tier4k.heads.sweeps.grid import block_cells, grid_cells, paper_cells
from tier4k.heads.sweeps.run import run_sweep
from tier4k.tests.builders.commands import ENCODERS, succeed
from tier4k.tests.builders.data import write_agiqa, write_pku
from tier4k.tests.builders.screens import cells_by_heading, printed
from tier4k.tests.builders.sweeps import BASE


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_pku(tmp_path / "pku", rows=12, image_to_image=6)
    return check(tmp_path / "pku").manifest


def test_the_paper_has_fifteen_runs(manifest: Manifest) -> None:
    cells = [
        (cell.options.method, cell.options.benchmark, *cell.options.targets)
        for cell in paper_cells(manifest, BASE).cells
    ]
    lines = {("fr", "I2I"), ("nr", "I2I"), ("nr", "T2I"), ("nr", "all"), ("pr", "all")}
    assert len(cells) == len(set(cells)) == 15
    assert set(cells) == {(*line, target) for line in lines for target in ("MOS_q", "MOS_a", "MOS_c")}


def test_a_data_set_without_image_prompts_has_one_line_for_each_target(tmp_path: Path) -> None:
    write_agiqa(tmp_path)
    cells = paper_cells(check(tmp_path).manifest, BASE).cells
    assert [(cell.options.method, cell.options.benchmark) for cell in cells] == [("nr", "all")] * 2


def test_a_grid_is_the_product_of_its_values_without_impossible_ones(manifest: Manifest) -> None:
    grid = {
        "method": ["nr", "fr"],
        "benchmark": ["I2I", "T2I"],
        "head": ["mlp", "ridge"],
        "target": "all",
        "feature": "multilevel",
    }
    cells, left_out = grid_cells(grid, manifest, BASE)
    assert len(cells) == (4 - 1) * 2 * 3
    assert left_out == {"full reference (fr) needs an image prompt in every row": 2 * 3}
    multilevel = ImageChoice("resnet18", feature="multilevel")
    assert {cell.encoders.images for cell in cells} == {(multilevel,)}
    assert {cell.options.split for cell in cells} == {"random"}
    assert len(
        {(c.options.method, c.options.benchmark, c.options.estimator, c.options.targets) for c in cells}
    ) == len(cells)


def test_options_of_heads_have_the_names_of_the_command_line(manifest: Manifest) -> None:
    cells, _ = grid_cells(
        {"head": "mlp", "learning_rate": [1e-3, 1e-4], "epochs": 5, "train_batch_size": 8}, manifest, BASE
    )
    options = [cell.options.head for cell in cells if cell.options.targets == ("MOS_q",)]
    assert options == [{"learning_rate": rate, "max_epochs": 5, "batch_size": 8} for rate in (1e-3, 1e-4)]


def test_transforms_and_what_is_left_out_are_options_of_a_grid(manifest: Manifest) -> None:
    grid = {"transform": ["none", "sqrt"], "target_transform": "rank-gauss", "leave_out": "group"}
    cells, _ = grid_cells(grid, manifest, BASE)
    options = [cell.options.head for cell in cells if cell.options.targets == ("MOS_q",)]
    shared = {"target_transform": "rank-gauss", "leave_out": "group"}
    assert options == [{"image_transform": name} | shared for name in ("none", "sqrt")]


def test_stages_of_a_grid_are_lists_in_texts(manifest: Manifest) -> None:
    cells, _ = grid_cells(
        {"feature": "multilevel", "stages": ["3,4", 4, "all"], "target": "MOS_q"}, manifest, BASE
    )
    assert [cell.options.stages for cell in cells] == [("3,4",), ("4",), ("all",)]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"metod": "nr"}, "a grid has no option 'metod' .*method.*: use one of"),
        ({"method": ["nr", "xr"]}, "method in the grid is 'xr', which is unknown: use nr, fr, pr"),
        ({"repeats": "ten"}, "repeats in the grid is 'ten'.*use a whole number"),
        ({"repeats": True}, "repeats in the grid is True"),
        ({"head": []}, "head has no value"),
        (
            {"seed": -1},
            "seed in the grid is -1, which is out of range: .* from 0 to 2,147,483,647",
        ),
        (
            {"repeats": 0},
            "repeats in the grid is 0, which is out of range: .* from 1 to 10,000",
        ),
        ({"repeats": 1e20}, "wrong type: use a whole number from 1 to 10,000"),
        ({"folds": 10**20}, "folds in the grid is 1000.*from 2 to 10,000"),
        ({"image_size": 10**9}, "from 32 to 2,048"),
        ({"hidden": [[1, 2]]}, "write a list as a text"),
        ({"image_size": "big"}, "use a number of pixels, or 'full'"),
    ],
)
def test_a_wrong_grid_is_refused_with_the_remedy(manifest: Manifest, grid: dict, message: str) -> None:
    with pytest.raises(SweepError, match=message):
        grid_cells(grid, manifest, BASE)


def test_a_grid_file_is_toml(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text('method = ["nr", "fr"]\nrepeats = 3\n')
    assert as_blocks(tmp_path / "grid.toml") == [{"method": ["nr", "fr"], "repeats": 3}]
    (tmp_path / "bad.toml").write_text("method = nr")
    (tmp_path / "deep.toml").write_text("method = " + "[" * 5000)
    for name in ("bad.toml", "deep.toml", "missing.toml"):
        with pytest.raises(SweepError, match=f"(?s){name} cannot be read as a grid.*such as\nmethod"):
            as_blocks(tmp_path / name)


def test_blocks_are_grids_of_their_own_whose_runs_are_united(manifest: Manifest) -> None:
    blocks = [{"head": "ridge", "target": "MOS_q"}, {"head": "mlp", "hidden": [8, 16], "target": "MOS_q"}]
    cells, _ = block_cells(as_blocks({"method": "nr", "grid": blocks}), manifest, BASE)
    assert [(cell.options.estimator, cell.options.head) for cell in cells] == [
        ("ridge", {}),
        ("mlp", {"hidden": 8}),
        ("mlp", {"hidden": 16}),
    ]
    assert {cell.options.method for cell in cells} == {"nr"}
    assert as_blocks({"method": "nr", "grid": blocks}) == as_blocks(
        [{"method": "nr", **block} for block in blocks]
    )


@pytest.mark.parametrize("text", ["grid = 1", "grid = []", "grid = [1]", "[grid]\nhead = 'ridge'"])
def test_a_block_that_is_none_is_refused_with_an_example(tmp_path: Path, text: str) -> None:
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(SweepError, match=r"(?s)grid.toml: 'grid' is no list of blocks.*\[\[grid\]\]"):
        as_blocks(tmp_path / "grid.toml")


def test_a_wrong_block_is_refused_by_its_number(manifest: Manifest) -> None:
    with pytest.raises(SweepError, match=r"block 2 of the grid: repeats in the grid is 0"):
        block_cells([{"repeats": 1}, {"repeats": 0}], manifest, BASE)


def test_a_preset_brings_its_head_with_its_options_and_other_heads_have_none() -> None:
    preset = PRESETS["clip"]
    own = {**preset.options, "head": preset.head}
    assert with_preset([{"repeats": 2}], "clip") == [{"repeats": 2, **own}]
    assert with_preset([{"head": ["ridge", preset.head], "leave_out": "row"}], "clip") == [
        {**own, "leave_out": "row"},
        {"head": ["ridge"], "leave_out": "row"},
    ]
    assert with_preset([{}], "clip", head="ridge") == [{"head": ["ridge"]}]


def test_a_dry_run_lists_each_run_once_and_fits_nothing(project: Path) -> None:
    Path("grid.toml").write_text(
        'method = "nr"\nrepeats = 1\ntarget = "MOS_q"\n[[grid]]\nhead = "ridge"\n'
        '[[grid]]\nhead = ["ridge", "svr"]\n'
    )
    command = ["sweep", "Dataset", "--grid", "grid.toml", "--split", "random", *ENCODERS]
    output = succeed(*command, "--dry-run")
    assert "0 of 2 runs exist already in runs; heads to fit: 2" in output
    assert not Path("runs").exists()
    assert "0 of 2 runs exist already" in succeed(*command)
    listed = succeed(*command, "--dry-run").splitlines()
    for run in Path("runs").iterdir():
        (line,) = [line for line in listed if run.name[-10:] in line]
        assert "yes" in line
        assert read_config(run).estimator in line
    assert "2 of 2 runs exist already" in succeed(*command)


def test_an_interrupted_sweep_continues_to_the_same_table(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    cells = paper_cells(manifest, BASE).cells
    half = run_sweep(manifest, Path("features"), cells, Path("runs"))
    first = [next(half) for _ in range(4)]
    assert not any(run.found for run in first)
    runs = list(run_sweep(manifest, Path("features"), cells, Path("runs")))
    assert [run.found for run in runs] == [True] * 6 + [False] * 9  # the targets of a line are fitted at once
    whole = list(run_sweep(manifest, Path("features"), cells, Path("others")))
    pd.testing.assert_frame_equal(tidy([run.folder for run in runs]), tidy([run.folder for run in whole]))


def test_a_missing_store_is_reported_before_the_first_fit(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    cells, _ = grid_cells({"image_encoder": ["resnet18", "resnet50"]}, manifest, BASE)
    with pytest.raises(StoreError, match="tier extract DATA.*resnet50"):
        list(run_sweep(manifest, Path("features"), cells, Path("runs")))
    assert not Path("runs").exists()


def test_wrong_options_of_one_cell_are_reported_before_the_first_fit(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    wrong = [
        ({"head": "ridge", "epochs": 1}, "ridge head has no option epochs: it has penalties"),
        ({"target": ["MOS_q", "MOS_x"]}, "MOS_x"),
        (
            {"head": "mlp", "learning_rate": [1e-3, float("inf")]},
            "learning_rate is inf, which is not valid: use a number from 0",
        ),
        ({"head": "svr", "C": "much"}, "C is 'much', which is not valid: use a number"),
    ]
    for grid, message in wrong:
        with pytest.raises(TierError, match=message):
            cells, _ = grid_cells(grid, manifest, BASE)
            list(run_sweep(manifest, Path("features"), cells, Path("runs")))
    assert not Path("runs").exists()


def test_the_table_holds_the_metrics_of_the_runs_in_every_format(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    runs = list(run_sweep(manifest, Path("features"), paper_cells(manifest, BASE).cells, Path("runs")))
    frame = tidy([run.folder for run in runs])
    results = frame[frame["is_result"] & (frame["metric"] == "srcc")]
    assert len(results) == 15
    values = dict(zip(results["name"], results["mean"], strict=True))
    for run in runs:
        (target,) = run.results.summaries
        np.testing.assert_equal(run.results.summaries[target]["last"]["srcc"].mean, values[run.folder.name])
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet), (".xlsx", pd.read_excel)):
        write_table(frame, Path(f"table{suffix}"))
        np.testing.assert_allclose(read(f"table{suffix}")["mean"], frame["mean"], rtol=1e-12)
    write_table(frame, Path("table.tex"))
    text = Path("table.tex").read_text()
    baselines = frame[frame["metrics_of"].isin(BASELINES)].drop_duplicates(["benchmark", "metrics_of"])
    assert (
        text.count(r"\\") == 2 + 5 + len(baselines)
        and text.count("{baseline: ") == len(baselines) >= 3
        and r"\multicolumn{2}{c}{MOS\_q}" in text
        and text == latex(frame)
    )
    with pytest.raises(ReportError, match=r"suffix '.doc'.*\.csv"):
        write_table(frame, Path("table.doc"))


def test_the_best_figure_of_each_benchmark_is_bold_and_no_other() -> None:
    means = {("nr", "mlp"): 0.5, ("nr", "ridge"): 0.75, ("fr", "mlp"): -0.25, ("fr", "ridge"): 10.5}
    text = latex(
        made_up({"method": method, "head": head, "mean": mean} for (method, head), mean in means.items())
    )
    assert text.count(r"\textbf{10.500}") == text.count(r"\textbf") == 2
    assert ".500 {" in text and "-.250" in text and "0.750" not in text


def made_up(runs: Iterable[dict]) -> pd.DataFrame:
    """A tidy table of SRCC and PLCC of runs that differ in the given columns only, and of a baseline."""
    about = ("data_digest", "run", "name", "options", "changed_options", "target")
    shared = dict.fromkeys((*ABOUT, *about), "x") | {
        "benchmark": "I2I",
        "repeats": 1,
        "seeds": 1,
        "leaks": False,
        "leaked_images": 0.0,
        "test_images": 600.0,
        "leaked_prompts": 0.0,
        "test_prompts": 60.0,
        "mean": 0.25,
        "sd": 0.125,
        "low": 0.5,
        "high": 1,
    }
    parts: list[dict] = [
        {"metrics_of": "last", "is_result": True},
        {"metrics_of": "generator_mean", "is_result": False, "mean": 0.625},
    ]
    return pd.DataFrame(
        shared | run | part | {"metric": metric}
        for run in runs
        for part in parts
        for metric in ("srcc", "plcc")
    )


def lines(frame: pd.DataFrame) -> list[dict[str, str]]:
    """What the terminal shows, as one dictionary for each line."""
    columns = cells_by_heading(sweep_table(frame))
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def styles(frame: pd.DataFrame) -> list[str]:
    """The style of each line."""
    table = sweep_table(frame)
    return [table.style(row) for row in table.rows]


def test_baselines_of_the_same_rows_are_shown_once_below_the_runs_of_a_paper() -> None:
    rows = latex(
        made_up([{"run": "a", "head": "mlp"}, {"run": "b", "head": "ridge"}, {"benchmark": "T2I"}])
    ).splitlines()
    below = rows[len(rows) - 1 - rows[::-1].index(r"\midrule") : -2]
    assert [row.split(" & ")[0] for row in below[1:]] == [
        rf"\multicolumn{{2}}{{l}}{{baseline: generator mean, {part}}}" for part in ("I2I", "T2I")
    ]
    assert all(row.count(".625") == 2 and "textbf" not in row for row in below[1:])


def test_no_run_is_lost_in_the_table_of_a_paper() -> None:
    first, second = (
        {"run": "a", "precision": "fp32", "mean": 0.7},
        {"run": "b", "precision": "bf16", "mean": 0.8},
    )
    text = latex(made_up([first, second]))
    assert (
        text.startswith("% all runs: method ")
        and "fp32" in text
        and ".700" in text
        and r"bf16 & \textbf{.800}" in text
    )
    text = latex(made_up([{"run": "first", "mean": 0.7}, {"run": "second", "mean": 0.8}]))
    assert "first" in text and "second" in text


def test_the_terminal_shows_what_tells_runs_apart_and_nothing_more() -> None:
    shown = lines(made_up([{"run": "a", "stages": "stage3,stage4"}, {"run": "b", "stages": "", "mean": 0.5}]))
    assert [*shown[0]] == [
        "run",
        "method",
        "benchmark",
        "stages",
        "head",
        "target",
        "SRCC",
        "SRCC 95 % interval",
        "PLCC",
        "PLCC 95 % interval",
        "baseline SRCC",
        "baseline PLCC",
    ]
    assert [line["stages"] for line in shown] == ["stage3,stage4", "all"]
    assert [line["SRCC"] for line in shown] == ["0.250 ± 0.125", "0.500 ± 0.125"]
    assert {line["SRCC 95 % interval"] for line in shown} == {"[0.500, 1.000]"}
    assert {line["baseline PLCC"] for line in shown} == {"0.625 ± 0.125"}
    assert styles(made_up([{"run": "a"}, {"run": "b", "mean": 0.5}])) == ["", "bold"]


def test_the_size_of_a_leak_is_in_every_table() -> None:
    images = {"leaks": True, "leaked_images": 4.1, "test_images": 596.0}
    frame = made_up([images])
    assert lines(frame)[0]["benchmark"] == "I2I (leaks 4.1/596 images)"
    assert "& I2I (leaks 4.1/596 images) &" in latex(frame)
    frame = made_up([images | {"leaked_images": 0.04, "leaked_prompts": 149.0, "test_prompts": 1149.0}])
    assert lines(frame)[0]["benchmark"] == "I2I (leaks 149/1,149 prompts, 0.04/596 images)"
    assert lines(made_up([{"leaked_images": np.nan}]))[0]["benchmark"] == "I2I (leakage unknown)"
    assert "leak" not in lines(made_up([{}]))[0]["benchmark"] + latex(made_up([{}]))


@pytest.mark.parametrize(
    "other",
    [
        {"data": "y"},
        {"data_digest": "another version of x"},
        {"benchmark": "T2I"},
        {"split": "file-0123456789ab"},
        {"seed": 1},
        {"repeats": 5},
        {"seeds": 2},
        {"target": "MOS_a"},
    ],
)
def test_only_runs_with_the_same_test_rows_are_compared_for_the_best(other: dict) -> None:
    shared = [{"run": "a", "mean": 0.5}, {"run": "b", "mean": 0.25, "head": "ridge"}]
    apart = {"run": "c", "mean": 0.75} | other
    frame = made_up([*shared, apart])
    assert styles(frame) == ["bold", "", ""]
    assert latex(frame).count(r"\textbf{.500}") == latex(frame).count(r"\textbf") == 2
    assert styles(made_up([shared[0], apart])) == ["", ""]  # the best of one run says nothing


def test_runs_with_another_seed_or_number_of_repeats_have_other_test_rows(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    first, *_ = paper_cells(manifest, BASE).cells
    options = [replace(first.options, head={"penalties": penalty}) for penalty in ("1", "10")]
    options += [replace(options[0], seed=1), replace(options[0], seeds=2), replace(options[0], repeats=3)]
    cells = [replace(first, options=changed) for changed in options]
    runs = [run.folder for run in run_sweep(manifest, Path("features"), cells, Path("runs"))]
    rows = result_rows(tidy(runs)).query("metric == 'srcc'").set_index("name").loc[[run.name for run in runs]]
    means = rows["mean"].to_numpy()
    best = max(means[:2])
    assert rows["is_best"].tolist() == [means[0] == best, means[1] == best, False, False, False]


def test_only_options_that_differ_from_the_defaults_are_shown_to_readers(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    cells, _ = grid_cells({"target": "MOS_q", "penalties": ["0.5,2"]}, manifest, BASE)
    with_defaults = [cell for cell in paper_cells(manifest, BASE).cells if cell.options.method == "pr"][:1]
    frame = tidy(
        [run.folder for run in run_sweep(manifest, Path("features"), [*cells, *with_defaults], Path("runs"))]
    )
    assert [line["options"] for line in lines(frame)] == ["penalties=0.5,2.0", ""]
    assert "penalties=0.5,2.0 &" in latex(frame) and "0.001" not in latex(frame)
    assert frame["options"].str.len().max() > 300  # the tidy table has all


def test_the_command_shows_runs_and_says_what_is_no_run(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    run = next(run_sweep(manifest, Path("features"), paper_cells(manifest, BASE).cells[:1], Path("runs")))
    shown = CliRunner().invoke(cli.app, ["table", str(run.folder)])
    assert shown.exit_code == 0 and "baseline SRCC" in shown.output and "ridge" in shown.output
    assert run.folder.name[-10:] in shown.output
    for given in ([], ["runs"], [run.folder.name[-10:-4]]):  # all runs, by default; digits
        assert CliRunner().invoke(cli.app, ["table", *given]).output == shown.output
    for wrong, problem in (
        ("nowhere", "there is no run nowhere"),
        ("Dataset", "Dataset is a folder without runs"),
    ):
        told = CliRunner().invoke(cli.app, ["table", wrong])
        assert (
            told.exit_code == 2
            and problem in told.output
            and "for example runs/ID" in told.output
            and "delete" not in told.output
        )


def test_runs_of_one_name_in_two_folders_are_told_apart_by_their_paths(project: Path) -> None:
    manifest = check(Path("Dataset")).manifest
    cells = paper_cells(manifest, BASE).cells[:1]
    run = next(run_sweep(manifest, Path("features"), cells, Path("runs"))).folder
    shutil.copytree(run, copy := Path("other") / run.name)
    frame = tidy([run, copy, run])
    assert set(frame["run"]) == {str(run), str(copy)}
    assert set(cells_by_heading(sweep_table(frame))["run"]) == {str(run), str(copy)}
    assert latex(frame).split(r"\midrule")[1].count(r"\\") == 2
    assert set(tidy([run])["run"]) == {run.name[-10:]}


def test_a_long_option_is_not_cut_off_on_a_narrow_terminal() -> None:
    said = "validation_fraction=0.15"
    runs = [{"run": "a", "changed_options": said}, {"run": "b", "changed_options": ""}]
    assert said in printed(sweep_table(made_up(runs)), width=80)
