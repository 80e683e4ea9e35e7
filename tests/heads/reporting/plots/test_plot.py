"""Figures show the values of the runs, are the same file each time, and wrong requests say what to pass."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tier4k
from tier4k import cli
from tier4k.extract.datasets.check import check
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.reporting.breakdown import breakdown
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.part_intervals import part_intervals
from tier4k.heads.reporting.plots import plot as plot_module
from tier4k.heads.reporting.plots.plot import find_ablation
from tier4k.heads.reporting.read_runs import read_runs
from tier4k.heads.results.read import read_predictions
from tier4k.heads.results.results import Results
from tier4k.tests.builders.data import write_table
from tier4k.tests.builders.reports import fit_run

HEADS: tuple[HeadName, ...] = ("ridge", "svr", "kernel-ridge")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three heads on one split, and a run on a split that leaks."""
    folder = tmp_path_factory.mktemp("plots")
    rows = np.arange(120)
    columns = {
        "image": [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{row}.png" for row in rows],
        "prompt": [f"prompt {row // 6}" for row in rows],
        "quality": np.random.default_rng(0).uniform(1, 5, len(rows)),
        "align_ment": np.random.default_rng(1).uniform(1, 5, len(rows)),
    }
    manifest = check(write_table(folder / "toy.csv", pd.DataFrame(columns))).manifest
    on_one_split = [fit_run(folder / "runs", manifest, head, "prompt") for head in HEADS]
    return [*on_one_split, fit_run(folder / "runs", manifest, "ridge", "random")]


def refused(match: str, call: Callable[..., object], *arguments: Any, **options: Any) -> None:
    with pytest.raises(ReportError, match=re.escape(match)):
        call(*arguments, **options)


# ---- what is refused, before anything is drawn


def test_another_suffix_is_refused_before_runs_are_read(tmp_path: Path) -> None:
    refused("pass a file that ends in .pdf or .svg or .png", tier4k.plot, ["no run"], tmp_path / "figure.jpg")


def test_without_matplotlib_the_message_has_the_command(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot_module, "find_spec", lambda _: None)
    result = CliRunner().invoke(cli.app, ["plot", str(runs[0]), "-o", str(tmp_path / "figure.pdf")])
    assert result.exit_code == 2
    assert "pip install 'tier4k[plot]'" in " ".join(result.output.split())
    assert not (tmp_path / "figure.pdf").exists()


def test_an_ablation_says_which_runs_it_needs(runs: list[Path]) -> None:
    read = read_runs(runs)
    refused("needs two runs or more", find_ablation, read[:1], [])
    refused("together they differ in split, head", find_ablation, [read[1], read[3]], [])
    refused("pass --setting split or --setting head", find_ablation, read, [])
    refused(
        "no two runs differ in 'feature' alone: pass --setting head", find_ablation, read[:3], [], "feature"
    )
    refused("there is no setting 'stuff': pass --setting head", find_ablation, read[:3], [], "stuff")
    refused("no two runs differ in 'transform' alone", find_ablation, read[:3], [], "transform")
    refused('pass --reference "ridge" or "svr" or "kernel-ridge"', find_ablation, read[:3], [], None, "mlp")


def test_an_ablation_of_one_target_corrects_for_its_differences_alone(runs: list[Path]) -> None:
    read = read_runs(runs[:3])
    assert find_ablation(read, ["quality"]).differences == 2
    assert find_ablation(read, []).differences == 4


# ---- intervals within generators


def test_means_within_generators_are_those_of_the_breakdown(runs: list[Path]) -> None:
    (run,) = read_runs(runs[:1])
    expected = breakdown(runs[:1], "generator").query("target == 'quality'").set_index("generator")
    parts = part_intervals(run, "quality", "generator")
    assert {part.part for part in parts} == set(expected.index)
    for part in parts:
        assert part.mean == pytest.approx(expected.loc[part.part, "srcc"])
        assert part.images == expected.loc[part.part, "images"]
        assert part.interval[0] < part.mean < part.interval[1]


def test_the_interval_of_one_part_with_all_rows_is_that_of_the_run(runs: list[Path]) -> None:
    (run,) = read_runs(runs[:1])
    summary = run.results.summaries["quality"][run.results.headline]["srcc"]
    of_one_generator = replace(run, predictions=run.predictions.assign(generator="all"))
    (part,) = part_intervals(of_one_generator, "quality", "generator")
    assert part.interval == pytest.approx(summary.interval)


# ---- figures


def written(output: Path, runs: list[Path], **options: Any) -> bytes:
    assert tier4k.plot(runs, output, **options).path == output
    return output.read_bytes()


@pytest.mark.slow
def test_bars_and_their_intervals_are_the_values_of_results_json(runs: list[Path]) -> None:
    from tier4k.heads.reporting.plots.ablation import draw_ablation

    drawing = draw_ablation(find_ablation(read_runs(runs[:3]), []), "single")
    panels = drawing.figure.axes
    assert [axes.get_xlabel() for axes in panels] == ["SRCC, quality", "SRCC, align_ment"]
    for axes, target in zip(panels, ("quality", "align_ment"), strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == list(HEADS)
        whiskers = axes.collections[::2]  # after each of them, its two ends
        for bar, whisker, run in zip(axes.patches, whiskers, runs[:3], strict=True):
            results = Results.read(run)
            summary = results.summaries[target][results.headline]["srcc"]
            assert bar.get_width() == summary.mean
            ends = np.asarray(whisker.get_segments()[0])[:, 0]
            np.testing.assert_allclose(ends, summary.bounds)


@pytest.mark.slow
def test_a_star_marks_differences_under_the_level_alone(runs: list[Path]) -> None:
    from tier4k.heads.reporting.plots.ablation import draw_ablation

    ablation = find_ablation(read_runs(runs[:3]), ["quality"])
    p_values = iter((0.049, 0.05))
    members = []
    for member in ablation.groups[0].members:
        if member.difference is None:
            members.append(member)
            continue
        difference = replace(member.difference, p_holm=next(p_values))
        members.append(replace(member, difference=difference))
    group = replace(ablation.groups[0], members=tuple(members))
    drawing = draw_ablation(replace(ablation, groups=(group,)), "double")
    texts = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert [text.endswith("*") for text in texts] == [False, True, False]
    assert any(sentence.startswith("*: the run differs from ridge") for sentence in drawing.caption)


@pytest.mark.slow
def test_the_curve_of_a_scatter_is_the_logistic_of_the_metrics(runs: list[Path]) -> None:
    from tier4k.heads.reporting.plots.scatter import draw_scatter

    drawing = draw_scatter(read_runs(runs[:1]), ["quality"], "single", repeat=1)
    (axes,) = drawing.figure.axes
    rows = read_predictions(runs[0]).query("target == 'quality' and repeat == 1")
    points = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_array_equal(points, rows[["prediction", "truth"]].to_numpy())
    curve = axes.lines[0]
    order = np.argsort(points[:, 0])
    mapped = logistic_mapping(points[:, 1], points[:, 0])[order]
    shown = np.interp(points[order, 0], curve.get_xdata(), curve.get_ydata())
    np.testing.assert_allclose(shown, mapped, atol=0.01 * np.ptp(points[:, 1]))
    results = Results.read(runs[0])
    summaries = results.summaries["quality"][results.headline]
    text = axes.texts[0].get_text().replace("−", "-")
    srcc, plcc = (summaries[metric].values for metric in ("srcc", "plcc"))  # noqa: PD011
    assert text == f"SRCC {srcc[1]:.3f}  PLCC {plcc[1]:.3f}".replace("0.", ".")


@pytest.mark.slow
def test_points_of_generators_are_their_means(runs: list[Path]) -> None:
    from tier4k.heads.reporting.plots.generators import draw_generators

    read = read_runs(runs[:2])
    (axes,) = draw_generators(read, ["quality"], "double").figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    points = [line for line in axes.lines if line.get_marker() in ("o", "s")]
    for place, run in enumerate(read):
        own = points[place * len(names) : (place + 1) * len(names)]
        means = {part.part: part.mean for part in part_intervals(run, "quality", "generator")}
        assert [float(np.ravel(line.get_xdata())[0]) for line in own] == [means[name] for name in names]
    refused("were not tested on the same rows", draw_generators, read_runs(runs[2:]), ["quality"], "single")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_the_same_runs_give_the_same_file(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    first = written(tmp_path / f"first{suffix}", runs[:3])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # would be the date of a PDF that had one
    assert written(tmp_path / f"second{suffix}", runs[:3]) == first
    if suffix == ".pdf":
        assert b"/FontFile2" in first  # the fonts are embedded as TrueType
        assert b"/Type3" not in first and b"CreationDate" not in first


@pytest.mark.slow
def test_the_command_draws_what_fits_the_number_of_runs(runs: list[Path], tmp_path: Path) -> None:
    def printed(*arguments: object) -> str:
        result = CliRunner().invoke(cli.app, ["plot", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    one = printed(runs[0], "-o", tmp_path / "one.svg", "--target", "quality")
    assert "one.svg: scatter, 3.30 x 2.40 inches" in one
    assert (tmp_path / "one.svg").read_text().startswith("<?xml")
    several = printed(*runs[:3], "-o", tmp_path / "several.pdf", "--width", "double", "--reference", "svr")
    assert "several.pdf: ablation, 6.90 x" in several
    assert " from svr, the first bar" in several and "Holm's correction for 4 differences" in several
    leaking = printed(runs[3], "-o", tmp_path / "leak.png", "--kind", "generators")
    assert "This split leaks" in leaking and "No interval (" in leaking


@pytest.mark.slow
def test_options_without_an_effect_are_refused(runs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "figure.pdf"
    refused("there is no kind 'bars'", tier4k.plot, runs, output, kind="bars")
    refused("--metric has no effect on --kind scatter", tier4k.plot, runs[:1], output, metric="plcc")
    refused("pass --target quality or align_ment", tier4k.plot, runs, output, targets=["MOS"])
    refused("a number from 0 to 1", tier4k.plot, runs[:1], output, repeat=2)
    assert not output.exists()
