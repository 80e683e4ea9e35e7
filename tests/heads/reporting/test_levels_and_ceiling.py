"""The ranking of generators, that within prompts, and the raters' ceiling in tables, CSV and report."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from tier4k.extract.datasets.check import check
from tier4k.heads.metrics.levels import LEVEL_METRICS, PROMPT_METRICS, TOO_FEW_GENERATORS
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.reporting.html.page import write_report
from tier4k.heads.reporting.latex import latex
from tier4k.heads.reporting.terminal.notes import notes
from tier4k.heads.reporting.terminal.results import levels_table, results_table
from tier4k.heads.reporting.tidy import tidy
from tier4k.heads.results.results import Results
from tier4k.tests.builders.data import table_rows, write_table
from tier4k.tests.builders.reports import fit_run
from tier4k.tests.builders.screens import printed

ROWS = 72


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three generators and 18 prompts, with standard deviations of the ratings."""
    random = np.random.default_rng(0)
    rows = table_rows(
        [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{row:02d}.png" for row in range(ROWS)],
        prompt=[f"prompt {row // 4}" for row in range(ROWS)],
        mos=random.uniform(1, 5, ROWS).round(3),
        std_mos=random.uniform(0.5, 1.5, ROWS).round(3),
    )
    return write_table(tmp_path_factory.mktemp("set") / "toy.csv", rows)


@pytest.fixture(scope="module")
def rated(data: Path) -> Path:
    return fit_run(data.parent / "runs", check(data, raters=9).manifest, "ridge", "prompt", data="rated")


@pytest.fixture(scope="module")
def unrated(data: Path) -> Path:
    return fit_run(data.parent / "runs", check(data).manifest, "ridge", "prompt")


def line_of(lines: list[str], title: str) -> list[str]:
    """Return the cells of the only line of a table with a title, without its target."""
    (line,) = [line for line in lines if f"│ {title} " in line]
    return [cell.strip() for cell in line.split("│")[2:-1]]


def test_a_second_table_has_the_ranking_of_result_and_baselines(rated: Path) -> None:
    results = Results.read(rated)
    lines = printed(levels_table(results)).splitlines()
    for title, name in (("fit", results.headline), ("baseline: generator mean", "generator_mean")):
        summaries = results.summaries["mos"][name]
        expected = [f"{summaries[m].mean:.3f} ± {summaries[m].sd:.3f}" for m in LEVEL_METRICS]
        assert line_of(lines, title) == [title, *expected]
    assert not any("ceiling" in line for line in lines)


def test_a_nan_of_a_baseline_is_named_by_its_line_in_the_table(rated: Path) -> None:
    reasons = {"mos": {"generator_mean": "all predictions are equal"}}
    lines = [note.plain for note in notes(replace(Results.read(rated), reasons=reasons))]
    assert 'NaN for "baseline: generator mean" of mos: all predictions are equal' in lines


def test_both_tables_fit_into_80_columns_with_every_number_whole(rated: Path) -> None:
    results = Results.read(rated)
    summaries = results.summaries["mos"][results.headline]
    for table, first in (
        (levels_table(results), LEVEL_METRICS[:2]),
        (results_table(results), ("srcc", "plcc")),
    ):
        text = printed(table, width=80)
        assert max(map(len, text.splitlines())) <= 80 and "…" not in text
        for metric in first:
            assert f"{summaries[metric].mean:.3f} ± {summaries[metric].sd:.3f}" in text
    assert "KRCC, PLCC 95 % interval" in " ".join(text.split())


def test_the_ceiling_is_a_line_below_the_baselines_where_ratings_are_known(
    rated: Path, unrated: Path
) -> None:
    ceiling = Results.read(rated).summaries["mos"][RATERS]
    lines = printed(results_table(Results.read(rated)), width=200).splitlines()
    _, srcc, _, krcc, plcc, *_ = line_of(lines, "raters' ceiling")
    assert srcc == f"{ceiling['srcc'].mean:.3f} ± {ceiling['srcc'].sd:.3f}"
    assert plcc == f"{ceiling['plcc'].mean:.3f} ± {ceiling['plcc'].sd:.3f}"
    assert krcc == "NaN"
    assert any("exists for SRCC and PLCC only" in note.plain for note in notes(Results.read(rated)))
    without = Results.read(unrated)
    assert not any("ceiling" in line for line in printed(results_table(without)).splitlines())
    assert not any("ceiling" in note.plain for note in notes(without))


def test_metrics_that_no_line_has_are_left_out_with_one_reason(data: Path, tmp_path: Path) -> None:
    results = Results.read(fit_run(tmp_path, check(data).manifest, "mlp", "generator", {"max_epochs": 2}))
    (header,) = [line for line in printed(levels_table(results)).splitlines() if "selection" in line]
    assert "within prompts: pairwise accuracy" in header and "generators" not in header
    told = [note for note in notes(results) if TOO_FEW_GENERATORS in note.plain]
    assert [note.plain for note in told] == [f"no metrics of generators for mos: {TOO_FEW_GENERATORS}"]
    assert told[0].style == "dim"


def test_the_tidy_table_has_the_new_values_and_the_latex_table_is_as_without_them(
    rated: Path, unrated: Path
) -> None:
    frame = tidy([rated, unrated])
    summaries = Results.read(rated).summaries["mos"]
    lines = frame[frame["name"] == rated.name].set_index(["metrics_of", "metric"])
    for name in ("last", "generator_mean", RATERS):
        for metric in ("srcc", "plcc", *LEVEL_METRICS):
            np.testing.assert_equal(lines.loc[(name, metric), "mean"], summaries[name][metric].mean)
    assert RATERS not in set(frame.loc[frame["name"] == unrated.name, "metrics_of"])
    known = (frame["metrics_of"] != RATERS) & ~frame["metric"].isin(LEVEL_METRICS)
    assert latex(frame) == latex(frame[known])


def test_the_report_has_a_table_of_the_ranking_and_the_ceiling_among_the_results(
    rated: Path, tmp_path: Path
) -> None:
    write_report([rated], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    results = Results.read(rated).summaries["mos"]
    levels, ablation = (page.split(f'id="{name}"')[1].split("</table>")[0] for name in ("levels", "ablation"))
    rows = [unescape(re.sub(r"<[^>]+>", " ", row)) for row in re.findall(r"<tr.*?</tr>", levels, re.DOTALL)]
    assert len(rows) == 3  # the header, the run, its one baseline
    for row, name in zip(rows[1:], ("last", "generator_mean"), strict=True):
        for metric in LEVEL_METRICS:
            assert f"{results[name][metric].mean:.3f}".replace("-", "−") in row
    assert f"{results[RATERS]['srcc'].mean:.3f}" in ablation and "raters&#39; ceiling" in ablation
    assert "infinitely many raters" in page


def test_the_report_marks_the_best_ranking_of_runs_on_the_same_rows(data: Path, tmp_path: Path) -> None:
    manifest = check(data).manifest
    runs = [
        fit_run(tmp_path, manifest, "ridge", "prompt", {"penalties": penalty}) for penalty in ("0.1", "1000")
    ]
    write_report(runs, tmp_path / "report.html")
    levels = (tmp_path / "report.html").read_text().split('id="levels"')[1].split("</table>")[0]
    lines = [row for row in re.findall(r"<tr.*?</tr>", levels, re.DOTALL) if "<td" in row]
    found = [Results.read(run).summaries["mos"]["last"] for run in runs]
    for place, metric in enumerate(LEVEL_METRICS):
        means = [summaries[metric].mean for summaries in found]
        for line, mean in zip(lines, means, strict=False):
            cell = re.findall(r'<td class="number[^>]*>', line)[place]
            assert ("best" in cell) == (mean == max(means)), metric
    assert PROMPT_METRICS[0] not in levels


def test_a_target_without_known_ratings_does_not_hide_the_ceiling_of_another(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = table_rows(
        [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{row:02d}.png" for row in range(ROWS)],
        prompt=[f"prompt {row // 4}" for row in range(ROWS)],
        mos=random.uniform(1, 5, ROWS).round(3),
        other=random.uniform(1, 5, ROWS).round(3),
        std_mos=random.uniform(0.5, 1.5, ROWS).round(3),
    )
    run = fit_run(
        tmp_path, check(write_table(tmp_path / "t.csv", rows), raters=9).manifest, "ridge", "prompt"
    )
    results = Results.read(run)
    (line,) = [line for line in printed(results_table(results)).splitlines() if "ceiling" in line]
    assert line.split("│")[1].strip() == "mos"
    frame = tidy([run])
    assert set(frame.loc[frame["metrics_of"] == RATERS, "target"]) == {"mos"}
    write_report([run], tmp_path / "report.html")
    assert "raters&#39; ceiling" in (tmp_path / "report.html").read_text(encoding="utf-8")
