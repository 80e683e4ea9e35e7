"""The report shows the results of its runs, needs no network, and is safe from hostile file names."""

import base64
import gzip
import json
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from tier4k import cli
from tier4k.cache.errors import StoreError
from tier4k.cache.signature import Signature
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.heads.metrics.correlation import srcc
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.metrics.significance import holm
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.reporting.breakdown import breakdown
from tier4k.heads.reporting.comparable import comparable_groups
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.factors import factor_comparisons
from tier4k.heads.reporting.html.detail import by_part, largest_errors
from tier4k.heads.reporting.html.evidence import comparable_runs
from tier4k.heads.reporting.html.page import write_report
from tier4k.heads.reporting.html.panels import ablation_panels
from tier4k.heads.reporting.html.runs import ablation_lines, letter_ranges
from tier4k.heads.reporting.latex import latex
from tier4k.heads.reporting.logistic_curve import logistic_curve
from tier4k.heads.reporting.parts import PART_METRICS
from tier4k.heads.reporting.read_runs import read_runs
from tier4k.heads.reporting.terminal.notes import ESTIMAND
from tier4k.heads.reporting.tidy import tidy
from tier4k.heads.results.read import read_config
from tier4k.heads.results.results import Results
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.data import write_table
from tier4k.tests.builders.reports import HOSTILE, HOSTILE_GENERATOR, Sample, fit_run, make_sample

HEADS: tuple[HeadName, ...] = ("ridge", "svr")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(sample: Sample) -> str:
    output = sample.data.parent.parent / "report.html"
    write_report(sample.runs, output, [sample.data])
    return output.read_text(encoding="utf-8")


def page_data(page: str) -> Any:
    """The data of the page's script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1], parse_constant=lambda cli_name: pytest.fail(f"{cli_name} is not JSON"))


class Elements(HTMLParser):
    """Collects elements with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def table_lines(page: str) -> list[tuple[str, str, str]]:
    """(attributes, text, row) of every line of the ablation table."""
    body = page.split('id="ablation"')[1].split("</table>")[0]
    rows = re.findall(r"<tr([^>]*)>(.*?)</tr>", body, re.DOTALL)
    return [
        (attributes, unescape(re.sub(r"<[^>]+>", " ", row)), row)
        for attributes, row in rows
        if "data-target" in attributes
    ]


def test_every_value_of_the_table_equals_results_json(sample: Sample, page: str) -> None:
    lines = {
        (m[1], m[2]): row
        for a, _, row in table_lines(page)
        if (m := re.search(r'data-run="(\w)" data-target="(\w+)"', a))
    }
    for letter, run in zip("ABC", sample.runs, strict=True):
        results = Results.read(run)
        for target, summaries in results.summaries.items():
            values = [
                float(value) if value else float("nan")
                for value in re.findall(r'data-value="([^"]*)"', lines[letter, target])
            ]
            expected = [
                summaries[results.headline][metric]
                for metric in ("srcc", "krcc", "plcc", "plcc_logistic", "rmse")
            ]
            np.testing.assert_array_equal(values, [one.mean for one in expected])
            for one in expected:
                shown = [
                    f"{value:.3f}".replace("-", "−")
                    for value in (one.mean, one.sd, *one.bounds)
                    if value == value
                ]
                assert all(value in lines[letter, target] for value in shown or ["NaN"])


def test_baselines_appear_once_for_each_split_and_leaking_splits_are_marked(
    sample: Sample, page: str
) -> None:
    baselines = [text for attributes, text, _ in table_lines(page) if 'class="baseline"' in attributes]
    assert len(baselines) == 2 * (
        1 + 3
    )  # of two targets: one where nothing leaks, as all are equal there, and all three where it does
    leaks = ["leaks" in text for attributes, text, _ in table_lines(page) if 'data-run="C"' in attributes]
    sound = [
        "leaks" in text
        for attributes, text, _ in table_lines(page)
        if re.search(r'data-run="[AB]"', attributes)
    ]
    assert leaks == [True, True] and sound == [False] * 4
    assert "Leaking splits: C tested" in page and "this split leaks, compare with the baselines" in page


def test_the_best_value_is_marked_among_runs_of_the_same_split_only(sample: Sample) -> None:
    lines = [line for line in ablation_lines(read_runs(sample.runs)) if line.run]
    for target in ("quality", "align"):
        first, second, alone = (line for line in lines if line.target == target)
        better = first if first.metrics["srcc"].mean > second.metrics["srcc"].mean else second
        assert [line for line in (first, second) if "srcc" in line.best] == [better]
        smaller = first if first.metrics["rmse"].mean < second.metrics["rmse"].mean else second
        assert [line for line in (first, second) if "rmse" in line.best] == [smaller]
        assert not alone.best


def test_the_scatter_plot_shows_the_predictions_and_the_fitted_logistic(sample: Sample, page: str) -> None:
    data = page_data(page)
    for letter, run in zip("ABC", sample.runs, strict=True):
        table = pd.read_csv(run / "predictions.csv")
        for (target, repeat), rows in table.groupby(["target", "repeat"]):
            trial = data["trials"][letter][target][repeat]
            shown = pd.DataFrame({"truth": data["shared"][trial["truth"]], "prediction": trial["prediction"]})
            shown.index = [data["names"][number] for number in data["shared"][trial["images"]]]
            expected = rows.set_index("name")[["truth", "prediction"]].loc[shown.index]
            np.testing.assert_allclose(shown, expected, rtol=1e-4)
            assert trial["metrics"]["srcc"] == pytest.approx(
                srcc(rows["truth"].to_numpy(), rows["prediction"].to_numpy()), nan_ok=True
            )
            mapped = logistic_mapping(rows["truth"].to_numpy(), rows["prediction"].to_numpy())
            low, high = np.nanmin(mapped), np.nanmax(mapped)
            assert all(low - 1e-4 <= value <= high + 1e-4 for value in trial["curve"][1])


def test_the_plotted_intervals_equal_results_json(sample: Sample, page: str) -> None:
    forests = {forest["target"]: forest for forest in page_data(page)["forests"]}
    for letter, run in zip("ABC", sample.runs, strict=True):
        results = Results.read(run)
        for target, summaries in results.summaries.items():
            (line,) = (line for line in forests[target]["lines"] if line["title"].startswith(f"{letter} "))
            one = summaries[results.headline]["plcc"]
            assert line["metrics"]["plcc"] == [one.mean, *(one.interval or (None, None))]


def test_the_page_needs_no_network(page: str) -> None:
    assert "https://" not in page.replace("https://example.org", "") and "http://" not in page
    for tag, attributes in Elements(page).elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
        assert tag not in ("iframe", "object", "embed", "base", "form")
    assert not re.search(r"@import|url\(", page.split("</style>")[0])
    assert "default-src 'none'" in page


def test_the_page_contains_plotly_compressed(page: str) -> None:
    from plotly.offline import get_plotlyjs

    packed = re.search(r'id="plotly">([A-Za-z0-9+/=]+)</script>', page)
    assert packed and gzip.decompress(base64.b64decode(packed[1])).decode() == get_plotlyjs()
    assert len(packed[1]) < 2.5e6


def test_names_of_files_and_generators_are_never_read_as_html(page: str) -> None:
    elements = Elements(page).elements
    assert sum(tag == "script" for tag, _ in elements) == 3
    assert not any("onerror" in attributes or attributes.get("src") == "x" for _, attributes in elements)
    assert not any((attributes.get("href") or "").startswith("https") for _, attributes in elements)
    data = page_data(page)
    assert HOSTILE in data["names"] and HOSTILE_GENERATOR in data["generators"]
    assert "{{7*7}}.png" in unescape(page).replace("<wbr>", "") and "my data &lt;b&gt;" in page


def test_prompts_are_shown_with_the_images_that_have_the_largest_errors_alone(
    sample: Sample, page: str, tmp_path: Path
) -> None:
    shown = re.findall(
        r'<p class="name">(.*?)</p>.*?<p class="prompt">“(secret prompt \d+)”', page, re.DOTALL
    )
    assert len(shown) == 6 * 12  # three runs, two targets
    table = pd.read_csv(sample.data).set_index("image")["prompt"]
    for name, prompt in shown:
        assert table[unescape(name.replace("<wbr>", ""))] == prompt
    write_report(sample.runs, tmp_path / "r.html", [sample.data], images=0)
    assert "secret prompt" not in (tmp_path / "r.html").read_text()


def test_the_page_does_not_hold_the_path_of_the_program(page: str) -> None:
    assert "/home/somebody" not in page
    assert "tier fit-head &#39;my data &lt;b&gt;&#39;" in page


def test_how_to_reproduce_lists_versions_signatures_and_identities(sample: Sample, page: str) -> None:
    text = unescape(page)
    for run in sample.runs:
        config = json.loads((run / "config.json").read_text())
        assert (
            run.name in text
            and config["data_digest"] in text
            and Signature.from_dict(config["signatures"]["image"]).folder_name in text
        )
    assert "Python 3.11.7" in text and "numpy 2.4.6" in text and "0" * 64 in text


def test_all_test_images_are_in_the_page_as_small_jpegs(sample: Sample, page: str) -> None:
    data = page_data(page)
    assert set(data["thumbnails"]) == {str(number) for number in range(len(data["names"]))}
    for jpeg in data["thumbnails"].values():
        raw = base64.b64decode(jpeg)
        assert raw.startswith(b"\xff\xd8") and len(raw) < 20_000
    assert "All 48 test images" in page or f"All {len(data['names'])} test images" in page


def test_with_a_limit_the_images_with_the_largest_errors_are_shown(sample: Sample, tmp_path: Path) -> None:
    written = write_report([sample.ridge], tmp_path / "r.html", [sample.data], images=3)
    page = (tmp_path / "r.html").read_text()
    data = page_data(page)
    worst = largest_errors(read_runs([sample.ridge])[0].predictions.query("target == 'quality'"), 3)
    assert {data["names"][int(number)] for number in data["thumbnails"]} == {one.name for one in worst}
    assert written.images == 3 and written.size == len(page.encode())
    assert f"3 of {len(data['names'])} test images are in this page" in page
    write_report([sample.ridge], tmp_path / "r.html", [sample.data], images=0)
    assert "written without images" in (tmp_path / "r.html").read_text()


def test_a_page_without_the_data_set_explains_why_it_has_no_images(sample: Sample, tmp_path: Path) -> None:
    assert write_report([sample.ridge], tmp_path / "r.html").images == 0
    assert (
        "There are no images of toy: the runs recorded no folder that still exists"
        in (tmp_path / "r.html").read_text()
    )


def recorded(run: Path, folder: Path, **environment: object) -> Path:
    """A copy of a run with more fields in its environment."""
    shutil.copytree(run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["environment"] |= environment
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_data_set_that_a_run_recorded_is_used_if_it_still_exists(sample: Sample, tmp_path: Path) -> None:
    there, gone = (
        recorded(sample.ridge, tmp_path / str(place.name), data=str(place))
        for place in (sample.data, tmp_path / "gone.csv")
    )
    assert write_report([there], tmp_path / "r.html").images > 0
    assert write_report([gone], tmp_path / "r.html").images == 0


def test_a_changed_data_set_is_noted_and_a_foreign_one_is_refused(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.data.parent, tmp_path / "set")
    changed = tmp_path / "set" / "toy.csv"
    frame = pd.read_csv(changed)
    frame.assign(quality=frame["quality"] + 1).to_csv(changed, index=False)
    assert write_report([sample.ridge], tmp_path / "r.html", [changed]).images > 0
    assert "toy has changed since run A was fitted" in (tmp_path / "r.html").read_text()
    other = write_table(tmp_path / "other.csv")
    with pytest.raises(ReportError, match=r"other\.csv is the data set of none of the runs \(toy\)"):
        write_report([sample.ridge], tmp_path / "r.html", [other])
    with pytest.raises(DataError, match="does not exist"):
        write_report([sample.ridge], tmp_path / "r.html", [tmp_path / "nowhere"])


def test_an_image_that_cannot_be_decoded_is_noted(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.data.parent, tmp_path / "set")
    (tmp_path / "set" / "MJ_000_00.png").write_bytes(b"no image")
    runs = [sample.leaking, sample.ridge, sample.mlp]
    written = write_report(runs, tmp_path / "r.html", [tmp_path / "set" / "toy.csv"])
    tested = any("MJ_000_00.png" in set(run.predictions["name"]) for run in read_runs(runs))
    assert written.images == written.test_images - tested
    assert ("1 images cannot be shown" in (tmp_path / "r.html").read_text()) == tested


def test_runs_of_two_data_sets_are_grouped_and_not_compared(sample: Sample, tmp_path: Path) -> None:
    other = write_table(tmp_path / "other" / "second.csv", pd.DataFrame({
        "image": [f"SD_{row:02d}.png" for row in range(24)], "prompt": [f"p {row // 2}" for row in range(24)],
        "generator": ["SD", "MJ"] * 12, "quality": np.linspace(1, 4, 24),
    }))  # fmt: skip
    second = fit_run(tmp_path / "runs", check(other).manifest, "ridge", "prompt")
    write_report([sample.ridge, second, sample.mlp], tmp_path / "r.html", [sample.data, other])
    page = (tmp_path / "r.html").read_text()
    assert (
        re.findall(r'scope="rowgroup"><span>(\w+)</span>', page) == ["toy", "second"]
        and page.count("<tbody>") >= 2
    )
    lines = ablation_lines(read_runs([sample.ridge, second, sample.mlp]))
    assert [line.run for line in lines if line.run and line.target == "quality"] == ["A", "C", "B"]
    assert {group for line in lines if line.run == "B" for group in line.best} == set()


def test_runs_that_differ_in_one_setting_are_compared_as_by_tier_compare(sample: Sample, page: str) -> None:
    ((factor, group),) = comparable_groups(read_runs(sample.runs))
    assert factor == "head" and [run.folder("quality") for run in group] == [sample.ridge, sample.mlp]
    text = unescape(page)
    for one in compare([sample.ridge, sample.mlp]):
        assert f"{one.difference:+.3f}".replace("-", "−") in text and f"{one.p_holm:.3f}" in text
    assert "One difference at a time" in text


def test_runs_that_differ_only_in_their_targets_are_one_run_of_the_report(
    sample: Sample, tmp_path: Path
) -> None:
    manifest = check(sample.data).manifest
    apart = [
        fit_run(tmp_path / "runs", manifest, head, "prompt", targets=(target,))
        for target in ("quality", "align")
        for head in HEADS
    ]
    runs, together = read_runs(apart), read_runs(sample.runs[:1])[0]
    assert [(run.letter, run.label, list(run.results.summaries)) for run in runs] == [
        ("A", "A  NR · ridge", ["align", "quality"]), ("B", "B  NR · svr", ["align", "quality"]),
    ]  # fmt: skip
    for target, summaries in together.results.summaries.items():
        assert runs[0].results.summaries[target]["last"]["srcc"].mean == pytest.approx(
            summaries["last"]["srcc"].mean
        )
    write_report(apart, tmp_path / "r.html", [sample.data])
    assert all(
        run.name in (tmp_path / "r.html").read_text() for run in apart
    )  # how to reproduce tells of every folder
    (found,) = factor_comparisons(runs)
    expected = [compare([run.folder(target) for run in runs])[0] for target in ("align", "quality")]
    assert [pair.difference.difference for pair in found.pairs] == [one.difference for one in expected]
    assert [pair.difference.p_holm for pair in found.pairs] == holm(
        np.array([one.p for one in expected])
    ).tolist()
    assert [run.letter for run in read_runs([*apart, *sample.runs[:1]])] == [
        "A",
        "B",
        "C",
    ]  # a target twice: a run of its own


def test_differences_have_the_p_value_for_new_prompts_and_no_williams_test(sample: Sample, page: str) -> None:
    expected = [one.p_holm for one in compare([sample.ridge, sample.mlp])]
    shown = re.findall(
        r'<td class="number" data-value="[^"]*">([\d.]+)</td>\n<td class="number">[^<]*, ', page
    )
    assert shown == [f"{p:.3f}" for p in expected] and len(expected) == 2
    assert "Williams" not in page and ESTIMAND in unescape(page)


def test_letters_of_many_runs_are_shortened_to_ranges(sample: Sample) -> None:
    run = read_runs([sample.ridge])[0]
    runs = [replace(run, letter=letter) for letter in ("A", "B", "C", "D", "E", "F", "Z", "AA")]
    assert letter_ranges(runs, runs) == "all runs" and letter_ranges(runs[:1], runs[:1]) == "A"
    assert (
        letter_ranges([runs[5], *runs[:3]], runs) == "A–C, F"
        and letter_ranges(runs[3:5], runs) == "D, E"
        and letter_ranges(runs[5:], runs) == "F–AA"
    )


def test_many_comparisons_are_folded(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "r.html"
    write_report(sample.runs[:2], page)
    assert '<details class="many">' not in page.read_text()
    monkeypatch.setattr("tier4k.heads.reporting.html.page.MANY", 1)
    ticks: list[tuple[int, int]] = []
    write_report(sample.runs[:2], page, finished=lambda *tick: ticks.append(tick))
    text = " ".join(page.read_text().split())
    assert "<summary>2 comparisons, 0 of them with p (Holm) under 0.05</summary>" in text
    assert ticks == [
        (number, 5) for number in range(1, 6)
    ]  # two runs of two targets, and a group of runs that are compared


def test_a_page_without_images_has_no_empty_frames(sample: Sample, page: str, tmp_path: Path) -> None:
    write_report(sample.runs, tmp_path / "r.html", images=0)
    assert 'class="frame"' in page and "no image</span>" not in (tmp_path / "r.html").read_text()


def test_runs_that_differ_in_an_unshown_setting_are_named_by_their_identity_and_compared(
    sample: Sample, tmp_path: Path
) -> None:
    manifest = check(sample.data).manifest
    runs = [fit_run(tmp_path, manifest, "ridge", "prompt", protocol=version) for version in (1, 2)]
    names = [run.name for run in read_runs(runs)]
    assert [name.other for name in names] == [f"run {run.name.rpartition('-')[-1]}" for run in runs]
    assert [found.factor for found in factor_comparisons(read_runs(runs))] == ["other"]


def test_a_finetuned_run_differs_from_a_cached_one_in_its_training(sample: Sample, tmp_path: Path) -> None:
    manifest = check(sample.data).manifest
    tuned = fit_run(
        tmp_path,
        manifest,
        "mlp",
        "prompt",
        {"max_epochs": 3, "hidden": 3},
        finetune={"part": "all", "learning_rate": 1e-4},
    )
    runs = read_runs([sample.ridge, sample.mlp, tuned])
    assert [run.name.training for run in runs] == ["frozen encoders", "frozen encoders", "finetuned all"]
    pairs = set()
    for found in factor_comparisons(runs):
        for pair in found.pairs:
            pairs.add((found.factor, pair.first.letter, pair.second.letter))
    assert pairs == {("head", "A", "B"), ("training", "B", "C")}
    write_report([sample.ridge, sample.mlp, tuned], tmp_path / "r.html")
    assert "part &#34;all&#34;, learning_rate 0.0001" in (tmp_path / "r.html").read_text()


def test_runs_that_differ_in_two_settings_are_not_compared(sample: Sample, tmp_path: Path) -> None:
    manifest = check(sample.data).manifest
    signatures = read_config(sample.ridge).signatures

    def changed(**fields: str) -> Path:
        return fit_run(
            tmp_path,
            manifest,
            "ridge",
            "prompt",
            signatures={**signatures, "image": replace(signatures["image"], **fields)},
        )

    both = changed(feature="multilevel: stage1 8, head 8", preparation="native at 512: 512 pixels")
    assert factor_comparisons(read_runs([sample.ridge, both])) == []
    one = changed(preparation="native at 512: 512 pixels")
    (found,) = factor_comparisons(read_runs([sample.ridge, one]))
    assert (
        found.factor == "preprocessing"
        and [pair.second.name.preprocessing for pair in found.pairs] == ["native at 512"] * 2
    )


def test_the_breakdown_computes_errors_and_correlations_within_each_part() -> None:
    columns = {
        "name": list("abcdabcd"),
        "generator": list("xxxyxxxy"),
        "repeat": [0] * 4 + [1] * 4,
        "truth": [1.0, 2, 3, 4] * 2,
        "prediction": [1.5, 2.5, 3.5, 3.0, 3.5, 2.5, 1.5, 5.0],
        "target": "quality",
    }
    rows = pd.DataFrame(columns)
    x, y = by_part(rows, rows, "generator")
    assert (x.part, x.rows, x.images) == ("x", 6, 3) and (y.part, y.rows, y.images) == ("y", 2, 1)
    assert x.metrics["srcc"] == pytest.approx((0, 2**0.5))  # 1 in one repeat, -1 in the other
    assert x.error == pytest.approx(0.5) and x.absolute_error == pytest.approx(
        (0.5 * 3 + 2.5 + 0.5 + 1.5) / 6
    )
    assert (
        np.isnan(y.metrics["srcc"][0])
        and y.error == pytest.approx(0)
        and y.absolute_error == pytest.approx(1)
    )
    first = largest_errors(rows)[0]
    assert (first.name, first.prediction, first.repeats) == ("a", 2.5, 2)


def breakdowns(page: str) -> dict[tuple[str, str, str], list[str]]:
    """Texts of the cells of every breakdown table, by run, target and column."""
    found = {}
    for detail in page.split('<div class="detail" ')[1:]:
        run, target = re.findall(r'data-run="(\w+)" data-target="(\w+)"', detail)[0]
        for part in detail.split('<div class="part" ')[1:]:
            body = part.split("<tbody>")[1].split("</tbody>")[0]
            cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", body, re.DOTALL)
            found[run, target, part.split('"')[1]] = [
                " ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in cells
            ]
    return found


def test_the_breakdowns_equal_those_on_the_terminal(sample: Sample, page: str) -> None:
    shown = breakdowns(page)
    assert {by for _, _, by in shown} == {"generator", "benchmark"}  # there is one data set
    for letter, run in zip("ABC", sample.runs, strict=True):
        for by in ("generator", "benchmark"):
            for line in breakdown([run], by).to_dict("records"):
                cells = shown[letter, line["target"], by]
                at = cells.index(line[by])
                assert cells[at + 1] == str(line["images"])
                cells_of_line = [
                    f"{line[name]:.3f} ± {line[f'{name}_sd']:.3f}".replace("nan", "NaN").replace(" ± NaN", "")
                    for name in PART_METRICS
                ]
                cells_of_line = [text.replace("-", "−") for text in cells_of_line]
                assert cells[at + 3 : at + 3 + len(PART_METRICS)] == cells_of_line


def test_within_parts_the_page_has_no_correlation_after_a_logistic(page: str) -> None:
    heads = re.findall(r'aria-label="Breakdown by \w+".*?<thead>(.*?)</thead>', page, re.DOTALL)
    assert heads
    for head in heads:
        titles = re.findall(r"<button[^>]*>(.*?)</button>", head)
        assert titles[3:] == ["SRCC", "PLCC", "mean error", "mean absolute error"]


def test_only_runs_with_rows_of_both_benchmarks_are_broken_down_by_benchmark(
    sample: Sample, tmp_path: Path
) -> None:
    run = recorded(sample.ridge, tmp_path / "run")
    frame = pd.read_csv(run / "predictions.csv", dtype={"group": str})
    frame.assign(benchmark="I2I").to_csv(run / "predictions.csv", index=False)
    write_report([run], tmp_path / "r.html")
    assert {by for _, _, by in breakdowns((tmp_path / "r.html").read_text())} == {"generator"}
    frame.drop(columns="benchmark").to_csv(run / "predictions.csv", index=False)
    with pytest.raises(
        ResultError, match=f"delete {re.escape(str(run))} and run the command that made it again"
    ):
        write_report([run], tmp_path / "damaged.html")


def test_the_curve_is_the_logistic_at_even_places_and_empty_where_none_fits() -> None:
    assert not len(logistic_curve(np.arange(9.0), np.ones(9)).score)
    prediction = np.repeat(np.arange(90.0), 2)
    truth = prediction + np.random.default_rng(0).normal(size=180)
    curve = logistic_curve(truth, prediction)
    assert np.allclose(np.diff(curve.prediction), 89 / (len(curve.prediction) - 1))
    assert (np.diff(curve.score) >= 0).all()
    expected = logistic_mapping(truth, prediction)[::2]
    np.testing.assert_allclose(
        np.interp(prediction[::2], curve.prediction, curve.score), expected, atol=0.02 * np.ptp(expected)
    )


def test_missing_predictions_are_counted_and_not_drawn(sample: Sample, tmp_path: Path) -> None:
    run = recorded(sample.ridge, tmp_path / "run")
    frame = pd.read_csv(run / "predictions.csv", dtype={"group": str})
    frame.loc[0, "prediction"] = np.nan
    frame.to_csv(run / "predictions.csv", index=False)
    write_report([run], tmp_path / "r.html")
    trial = page_data((tmp_path / "r.html").read_text())["trials"]["A"][frame["target"][0]][0]
    assert trial["without"] == 1 and trial["curve"] == [[], []]


def test_a_folder_that_is_no_run_is_refused_with_a_remedy(sample: Sample, tmp_path: Path) -> None:
    def refused(match: str, *runs: Path) -> None:
        with pytest.raises((ReportError, ResultError), match=match):
            write_report(runs, tmp_path / "r.html")
        assert not (tmp_path / "r.html").exists()

    refused("there is no run to show: pass one run or more")
    refused("there is no run .*nowhere: pass the folder of a run, for example runs/ID", tmp_path / "nowhere")
    refused("is a folder without runs: .*for example runs/ID", tmp_path)
    refused(
        f"pass the folder of a run, {re.escape(str(sample.ridge))}, not a file in the folder",
        sample.ridge / "results.json",
    )
    for name in ("predictions.csv", "config.json", "results.json"):
        (recorded(sample.ridge, tmp_path / name) / name).unlink()
        refused(f"{name} has no {name}: delete {tmp_path / name} and run", tmp_path / name)
    for number, (name, text) in enumerate(
        [("config.json", "[]"), ("config.json", "{}"), ("results.json", "{"), ("predictions.csv", "a")]
    ):
        (recorded(sample.ridge, tmp_path / str(number)) / name).write_text(text)
        refused(f"{name} cannot be read", tmp_path / str(number))
    run = recorded(sample.ridge, tmp_path / "one target")
    pd.read_csv(run / "predictions.csv").query("target == 'align'").to_csv(
        run / "predictions.csv", index=False
    )
    refused("has no predictions of quality", run)


def test_an_output_that_is_no_html_file_or_cannot_be_written_is_refused(
    sample: Sample, tmp_path: Path
) -> None:
    (tmp_path / "folder.html").mkdir()
    for name in ("r.pdf", "report", "folder.html"):
        with pytest.raises(ReportError, match=r"ends in \.html"):
            write_report([sample.ridge], tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write to"):
        write_report([sample.ridge], tmp_path / "file" / "r.html")


def test_a_run_that_is_given_twice_appears_once(sample: Sample) -> None:
    assert [
        run.letter
        for run in read_runs([sample.ridge, sample.ridge.parent / "." / sample.ridge.name, sample.mlp])
    ] == ["A", "B"]


def test_the_command_prints_the_file_that_it_wrote(sample: Sample, tmp_path: Path) -> None:
    output = tmp_path / "r.html"
    result = CliRunner().invoke(
        cli.app, ["report", *map(str, sample.runs), "-o", str(output), "--data", str(sample.data)]
    )
    assert (
        result.exit_code == 0 and f"{output}: " in result.output and "MB" in result.output and output.exists()
    )
    result = CliRunner().invoke(cli.app, ["report", str(tmp_path / "nowhere"), "-o", str(output)])
    assert result.exit_code == 2 and "there is no run" in result.output and "Traceback" not in result.output


def test_thumbnails_keep_the_aspect_ratio_of_the_image(sample: Sample, page: str) -> None:
    data = page_data(page)
    with Image.open(BytesIO(base64.b64decode(next(iter(data["thumbnails"].values()))))) as image:
        assert max(image.size) <= 128 and image.width / image.height == pytest.approx(40 / 30, abs=0.05)


def test_thumbnails_are_upright_and_on_white(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.data.parent, tmp_path / "set")
    orientation = Image.Exif()
    orientation[0x0112] = 6
    for path in (tmp_path / "set").rglob("*.png"):
        Image.new("RGBA", (30, 40), (0, 0, 0, 0)).save(path, exif=orientation)
    write_report([sample.ridge], tmp_path / "r.html", [tmp_path / "set" / "toy.csv"])
    shown = page_data((tmp_path / "r.html").read_text())["thumbnails"].values()
    assert shown
    for jpeg in shown:
        with Image.open(BytesIO(base64.b64decode(jpeg))) as image:
            assert image.size == (40, 30)
            assert image.convert("L").getextrema()[0] > 250


def test_training_curves_show_mean_and_range_of_the_repeats_that_reached_an_epoch(
    sample: Sample, page: str
) -> None:
    drawn = page_data(page)["curves"]
    assert drawn["A"] == {"quality": [], "align": []}  # ridge has no epochs
    table = pd.read_csv(sample.mlp / "curves.csv")
    for line in drawn["B"]["quality"]:
        by_epoch = table[table["target"] == "quality"].groupby("epoch")[line["name"]]
        assert line["epochs"] == [1, 2, 3]
        np.testing.assert_allclose(line["mean"], by_epoch.mean(), rtol=1e-4)
        np.testing.assert_allclose([line["low"], line["high"]], [by_epoch.min(), by_epoch.max()], rtol=1e-4)
    assert [line["name"] for line in drawn["B"]["quality"]] == [
        "training_loss",
        "validation_loss",
        "test_srcc",
    ]


def test_a_loss_that_is_infinite_is_left_out_of_its_curve(sample: Sample, tmp_path: Path) -> None:
    run = recorded(sample.mlp, tmp_path / "run")
    table = pd.read_csv(run / "curves.csv")
    table.loc[table["epoch"] == 2, "training_loss"] = np.inf
    table.to_csv(run / "curves.csv", index=False)
    write_report([run], tmp_path / "r.html", images=0)
    (line, *_) = page_data((tmp_path / "r.html").read_text())["curves"]["A"]["quality"]
    assert [value is None for value in line["mean"]] == [False, True, False]


def test_the_page_opens_with_its_conclusion_and_a_title_that_says_what_was_compared(
    sample: Sample, page: str
) -> None:
    text = unescape(page)
    assert "<h1>Head compared in 3 NR runs on toy, for quality and align</h1>" in text
    opening = text.split("<nav")[0]
    (difference,) = (one for one in compare([sample.ridge, sample.mlp]) if one.target == "quality")
    assert difference.p_holm > 0.05 and "is best" not in opening
    letters = "AB" if difference.difference > 0 else "BA"
    assert re.search(
        rf"<p>{letters[0]} \(.*\) has the highest SRCC for quality, .* is not significant", opening
    )
    assert "C (NR · ridge · published, 2 repeats) has SRCC" in opening  # another split: not ranked
    assert "are not ranked against each other" in opening


def test_runs_are_ranked_only_on_the_same_rows_of_the_same_protocol(sample: Sample, tmp_path: Path) -> None:
    manifest = check(sample.data).manifest
    older = fit_run(tmp_path, manifest, "svr", "prompt", protocol=1)
    changed = recorded(sample.mlp, tmp_path / "changed")
    frame = pd.read_csv(changed / "predictions.csv", dtype={"group": str})
    frame.assign(truth=frame["truth"] + 1).to_csv(changed / "predictions.csv", index=False)
    results = json.loads((changed / "results.json").read_text())
    (changed / "results.json").write_text(json.dumps(results | {"id": "nr-all-prompt-0123456789"}))
    runs = read_runs([*sample.runs, older, changed])
    groups = [[run.letter for run in group] for group in comparable_runs(runs)]
    assert groups == [["A", "B"], ["C"], ["D"], ["E"]]


def test_unscored_images_are_counted(sample: Sample, tmp_path: Path) -> None:
    run = recorded(sample.ridge, tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"unscored": 7}))
    write_report([run], tmp_path / "r.html", images=0)
    assert (
        "7 of 48 images have no score of ridge, so they are no test rows" in (tmp_path / "r.html").read_text()
    )


def test_pooled_against_multilevel_is_a_comparison_with_a_panel(sample: Sample, tmp_path: Path) -> None:
    manifest = check(sample.data).manifest
    signatures = read_config(sample.ridge).signatures
    image = replace(signatures["image"], feature="multilevel: stage1 8, head 8")
    multilevel = fit_run(tmp_path, manifest, "ridge", "prompt", signatures={**signatures, "image": image})
    write_report([sample.ridge, multilevel], tmp_path / "r.html", images=0)
    text = unescape((tmp_path / "r.html").read_text())
    assert "<h1>Feature compared in 2 NR runs" in text
    assert [one.ablation.setting for one in ablation_panels(read_runs([sample.ridge, multilevel]))] == [
        "feature"
    ]
    panel = text.split('<div class="panel">')[1]
    assert re.findall(r'<th scope="row"><b>(.)</b> (\w+)</th>', panel)[:2] == [
        ("A", "pooled"),
        ("B", "multilevel"),
    ]


def test_every_button_copies_a_latex_table(sample: Sample, page: str) -> None:
    keys = re.findall(r'data-latex="([^"]*)"', page)
    tables = page_data(page)["latex"]
    assert keys and set(keys) == set(tables)
    assert tables["ablation"] == latex(tidy(sample.runs))
    for table in tables.values():
        assert re.match(r"(% all runs: .*\n)?\\begin{tabular}", table) and table.endswith("\\end{tabular}\n")
        columns = len(re.findall("[lc]", table.split("{")[2].split("}")[0]))
        body = table.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert all(
            line.replace(r"\&", "").count("&") == columns - 1 for line in body if "multicolumn" not in line
        )
    assert r"\textless" not in tables["levels"] and HOSTILE_GENERATOR in tables["part A quality generator"]


def test_image_prompts_and_standard_errors_are_shown_with_the_largest_errors(tmp_path: Path) -> None:
    names = [f"MJ_{row:02d}.png" for row in range(24)]
    frame = pd.DataFrame({
        "image": names, "prompt": [f"p {row // 2}" for row in range(24)], "generator": ["SD", "MJ"] * 12,
        "image_prompt": [names[row // 2 * 2] for row in range(24)], "quality": np.linspace(1, 4, 24),
        "quality_std": 0.8, "raters": 16,
    })  # fmt: skip
    data = write_table(tmp_path / "set" / "rated.csv", frame)
    manifest = check(data).manifest
    run = fit_run(tmp_path / "runs", manifest, "ridge", "prompt")
    write_report([run], tmp_path / "r.html", [data])
    page = (tmp_path / "r.html").read_text()
    assert f"± {manifest.score_errors('quality')[0]:.3f} (standard error)" in unescape(
        re.sub("<[^>]+>", "", page)
    )
    prompts = page.count('<p class="prompt">')
    assert page.count("data-image-prompt=") == prompts == len(page_data(page)["imagePrompts"]) > 8
