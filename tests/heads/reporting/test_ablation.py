"""Groups hold exactly the runs that differ in one setting alone; differences are those of `tier compare`."""

import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.metrics.significance import holm
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.reporting.ablation import Ablation, ablation_frame, ablation_of, ablations
from tier4k.heads.reporting.columns import result_rows, varying_columns
from tier4k.heads.reporting.comparable import values_of
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.read_runs import read_runs
from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.tidy import tidy
from tier4k.tests.builders.data import write_table
from tier4k.tests.builders.reports import fit_run
from tier4k.tests.builders.signatures import signature

POOLED = signature("clip", "native: 224")
MULTILEVEL = replace(POOLED, feature="multilevel: stage1 8")
TEXT = signature("minilm", "reference: lower case", stream="text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets of 48 images and 12 prompts."""
    folder = tmp_path_factory.mktemp("ablation")
    rows = np.arange(48)
    for number, name in enumerate(("toy", "other")):
        columns = {
            "image": [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{name}{row}.png" for row in rows],
            "prompt": [f"{name} prompt {row // 4}" for row in rows],
            "quality": np.random.default_rng(number).uniform(1, 5, len(rows)),
        }
        write_table(folder / f"{name}.csv", pd.DataFrame(columns))
    return folder


def run_on(
    folder: Path,
    image: Signature = POOLED,
    head: HeadName = "ridge",
    data: str = "toy",
    **more: Any,
) -> Path:
    """A run that claims this image encoder; the keys say nothing about it."""
    out = Path(tempfile.mkdtemp(dir=folder))
    signatures = {"one": image, "two": TEXT}
    return fit_run(out, manifest_of(folder / f"{data}.csv"), head, "prompt", signatures=signatures, **more)


@cache
def manifest_of(table: Path) -> Manifest:
    return check(table).manifest


@pytest.fixture(scope="module")
def grid(folder: Path) -> list[ReportRun]:
    """Heads by features, and a run on another data set."""
    folders = [
        run_on(folder, POOLED, "ridge"),
        run_on(folder, MULTILEVEL, "ridge"),
        run_on(folder, POOLED, "svr"),
        run_on(folder, MULTILEVEL, "svr"),
        run_on(folder, POOLED, "ridge", "other"),
    ]
    return read_runs(folders)


def members(ablation: Ablation) -> list[tuple[str, list[tuple[str, str]]]]:
    """The label of each group, with the letter and the value of each member."""
    return [
        (group.label, [(one.run.letter, one.value) for one in group.members]) for group in ablation.groups
    ]


def test_groups_hold_exactly_the_runs_that_differ_in_one_setting(grid: list[ReportRun]) -> None:
    found = {one.setting: members(one) for one in ablations(grid)}
    assert found == {
        "data": [("", [("A", "toy"), ("E", "other")])],
        "feature": [
            ("ridge", [("A", "pooled"), ("B", "multilevel")]),
            ("svr", [("C", "pooled"), ("D", "multilevel")]),
        ],
        "head": [
            ("pooled", [("A", "ridge"), ("C", "svr")]),
            ("multilevel", [("B", "ridge"), ("D", "svr")]),
        ],
    }
    assert values_of(grid[:2]) == {"feature": ["pooled", "multilevel"]}
    assert values_of([grid[0], grid[3]]) == {} == values_of(grid[:2], ["another target"])


def test_differences_are_those_of_a_comparison_and_corrected_for_their_number(grid: list[ReportRun]) -> None:
    ablation = ablation_of(grid, "feature", reference="multilevel")
    differences = [member.difference for group in ablation.groups for member in group.members]
    assert differences[0] is None and differences[2] is None  # the references come first
    shown = [one for one in differences if one is not None]
    for pair, own in zip(((0, 1), (2, 3)), shown, strict=True):
        (direct,) = compare([grid[place].folder("quality") for place in pair])
        assert (own.difference, own.interval, own.p) == (direct.difference, direct.interval, direct.p)
    assert ablation.differences == 2
    np.testing.assert_array_equal([one.p_holm for one in shown], holm(np.array([one.p for one in shown])))


def test_means_and_intervals_are_those_of_results_json(grid: list[ReportRun]) -> None:
    frame = ablation_frame(ablation_of(grid, "head", metric="plcc"))
    by_folder = {str(run.folder("quality")): run.results for run in grid}
    assert len(frame) == 4
    for line in frame.itertuples():
        results = by_folder[line.run]
        summary = results.summaries["quality"][results.headline]["plcc"]
        assert (line.mean, line.low, line.high) == (summary.mean, *summary.bounds)
        assert (line.difference != line.difference) == (line.value == line.reference == "ridge")


def test_runs_on_other_data_have_no_pairs_and_say_why(grid: list[ReportRun]) -> None:
    (group,) = ablation_of(grid, "data").groups
    assert [member.difference for member in group.members] == [None, None]
    assert group.why_not == "runs with another data set have other test rows"


def test_the_usual_value_is_the_reference_wherever_it_stands(folder: Path) -> None:
    runs = read_runs(
        [
            run_on(folder, streams=("image",)),
            run_on(folder),
            run_on(folder, MULTILEVEL, streams=("image",)),
        ]
    )
    (group,) = ablation_of(runs, "streams").groups
    assert group.reference == "all streams"
    assert [member.value for member in group.members] == ["all streams", "only image"]


def test_an_option_of_all_heads_is_a_setting_of_its_own(folder: Path) -> None:
    """Runs that differ in head and interaction differ in two settings, not in one head."""
    runs = [run_on(folder, head=head) for head in ("ridge", "svr")]
    for run in list(runs):
        changed = Path(tempfile.mkdtemp(dir=folder)) / "run"
        shutil.copytree(run, changed)
        config = json.loads((changed / "config.json").read_text())
        config["head"]["interaction"] = "product"
        (changed / "config.json").write_text(json.dumps(config))
        runs.append(changed)
    found = {one.setting: members(one) for one in ablations(read_runs(runs))}
    plain, product = "no interaction", "interaction product"
    assert found == {
        "interaction": [
            ("ridge", [("A", plain), ("C", product)]),
            ("svr", [("B", plain), ("D", product)]),
        ],
        "head": [("", [("A", "ridge"), ("B", "svr")]), (product, [("C", "ridge"), ("D", "svr")])],
    }


def test_a_pair_of_two_groups_counts_once(folder: Path) -> None:
    """The run on images alone has no text encoder, so it belongs to the groups of both."""
    bert = signature("bert-base-uncased", "reference: lower case", stream="text")
    manifest = manifest_of(folder / "toy.csv")

    def run(*encoders: Signature, **more: Any) -> Path:
        signatures = {f"key {number}": one for number, one in enumerate(encoders)}
        out = Path(tempfile.mkdtemp(dir=folder))
        return fit_run(out, manifest, "ridge", "prompt", signatures=signatures, method="fr", **more)

    runs = read_runs(
        [
            run(POOLED, streams=("image",)),
            run(POOLED, streams=("image-prompt",)),
            run(POOLED, TEXT),
            run(POOLED, bert),
        ]
    )
    ablation = ablation_of(runs, "streams", reference="only image")
    assert len(ablation.groups) == 2  # minilm and bert
    assert ablation.differences == 3  # image-prompt against image is in both groups


def test_runs_that_differ_in_the_kept_heads_alone_count_once(folder: Path) -> None:
    pooled, copy = run_on(folder, POOLED), run_on(folder, POOLED, models="first")
    runs = read_runs([pooled, copy, run_on(folder, MULTILEVEL)])
    assert runs[0].folders[0].path == pooled
    (ablation,) = ablations(runs)
    assert members(ablation) == [("", [("A", "pooled"), ("B", "multilevel")])]


def test_a_table_says_which_heads_were_kept_only_where_nothing_else_differs(folder: Path) -> None:
    runs = [run_on(folder, POOLED), run_on(folder, POOLED, models="first")]
    assert "models" in varying_columns(result_rows(tidy(runs)))
    runs[1] = run_on(folder, MULTILEVEL, models="first")
    assert not {"models", "run"} & set(varying_columns(result_rows(tidy(runs))))


def test_a_table_of_no_runs_is_refused() -> None:
    with pytest.raises(ReportError, match="there is no run to show: pass one run or more"):
        tidy([])
