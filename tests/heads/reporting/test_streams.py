"""Tables and the report name streams and encoders, also those of runs without images or without text."""

import re
import tempfile
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.check import check
from tier4k.heads.reporting.columns import result_rows, varying_columns
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.reporting.factors import factor_comparisons
from tier4k.heads.reporting.html.page import write_report
from tier4k.heads.reporting.latex import latex
from tier4k.heads.reporting.read_runs import read_runs
from tier4k.heads.reporting.run_settings import RunSettings, read_settings
from tier4k.heads.reporting.tidy import run_labels, sweep_table, tidy
from tier4k.tests.builders.data import write_table
from tier4k.tests.builders.reports import fit_run
from tier4k.tests.builders.screens import cells_by_heading, headings
from tier4k.tests.builders.signatures import signature

CLIP = signature("clip", "native: 224")
CLIP_448 = signature("clip", "native at 448: whole")
RESNET = signature("resnet50", "reference: 224")
MINILM = signature("minilm", "reference: lower case", stream="text")
BERT = signature("bert-base-uncased", "reference: lower case", stream="text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    rows = np.arange(48)
    columns = {
        "image": [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{row}.png" for row in rows],
        "prompt": [f"prompt {row // 4}" for row in rows],
        "quality": np.random.default_rng(0).uniform(1, 5, len(rows)),
    }
    write_table(folder / "toy.csv", pd.DataFrame(columns))
    return folder


def run_with(
    folder: Path,
    *encoders: Signature,
    streams: tuple[str, ...] = (),
    **more: object,
) -> Path:
    """A run that claims these encoders; the keys say nothing about them."""
    manifest = check(folder / "toy.csv").manifest
    out = Path(tempfile.mkdtemp(dir=folder))
    signatures = {f"key {number}": one for number, one in enumerate(encoders)}
    return fit_run(out, manifest, "ridge", "prompt", signatures=signatures, streams=streams, **more)


@pytest.fixture(scope="module")
def ablation(folder: Path) -> dict[str, Path]:
    """An ablation by streams with two image encoders."""
    return {
        "text": run_with(folder, MINILM, streams=("text",)),
        "clip image": run_with(folder, CLIP, streams=("image",)),
        "clip all": run_with(folder, CLIP, MINILM),
        "resnet50 all": run_with(folder, RESNET, MINILM),
    }


def settings_of(folder: Path, *encoders: Signature, **more: object) -> RunSettings:
    return read_settings(run_with(folder, *encoders, **more))


# ---- settings


def test_several_encoders_are_named_in_the_order_of_the_columns_with_their_sizes(folder: Path) -> None:
    settings = settings_of(folder, RESNET, MINILM, CLIP_448, BERT)
    assert settings.image_encoder == "clip@448 + resnet50"
    assert settings.text_encoder == "bert-base-uncased + minilm"
    assert settings.preprocessing == "native at 448 + reference"
    assert (settings.feature, settings.crops, settings.precision) == ("pooled", "centre", "fp32")
    assert settings.used_streams == "all"


def test_settings_that_encoders_differ_in_are_named_for_each(folder: Path) -> None:
    multilevel = replace(CLIP, feature="multilevel: stage1 8", precision="bf16")
    settings = settings_of(folder, RESNET, multilevel, MINILM)
    assert settings.image_encoder == "clip + resnet50"
    assert (settings.feature, settings.precision) == ("multilevel + pooled", "bf16 + fp32")


def test_runs_on_features_of_another_type_are_distinguished(folder: Path) -> None:
    half = [replace(signature, dtype="float16") for signature in (CLIP, MINILM)]
    assert settings_of(folder, *half).precision == "fp32 as float16"
    assert settings_of(folder, CLIP, MINILM).precision == "fp32"


def test_a_run_without_images_or_without_text_has_no_settings_of_them(folder: Path) -> None:
    text = settings_of(folder, MINILM, streams=("text",))
    assert (text.image_encoder, text.preprocessing, text.feature, text.crops) == ("", "", "", "")
    assert (text.text_encoder, text.precision, text.used_streams) == ("minilm", "fp32", "text")
    image = settings_of(folder, CLIP, streams=("image",))
    assert (image.image_encoder, image.text_encoder) == ("clip", "")


def test_a_search_names_the_encoders_that_it_chose_from(folder: Path) -> None:
    run = run_with(folder, CLIP, CLIP_448, RESNET, MINILM, streams=("several",), estimator="search")
    settings = read_settings(run)
    assert settings.image_encoder == "clip/resnet50"
    assert settings.preprocessing == "native/native at 448/reference"
    assert settings.used_streams == "several"


def test_scores_of_a_scorer_are_no_encoder(folder: Path) -> None:
    score = signature("pickscore", "native: 224", stream="score")
    settings = settings_of(folder, CLIP, MINILM, score)
    assert (settings.image_encoder, settings.text_encoder, settings.scorers) == (
        "clip",
        "minilm",
        ("key 2",),
    )


# ---- tables


def test_streams_are_a_column_and_missing_settings_are_none(ablation: dict[str, Path]) -> None:
    frame = tidy(list(ablation.values()))
    by_run = frame.drop_duplicates("run").set_index("run")
    assert list(by_run["streams"]) == ["all", "image", "all", "text"]
    assert list(by_run["image_encoder"]) == ["clip", "clip", "resnet50", ""]
    assert list(by_run["text_encoder"]) == ["minilm", "", "minilm", "minilm"]
    shown = result_rows(frame)
    assert list(shown.drop_duplicates("run")["image_encoder"]) == ["clip", "clip", "resnet50", "none"]
    assert list(shown.drop_duplicates("run")["stages"]) == ["all", "all", "all", "none"]


def test_the_order_of_lines_is_that_of_names_whatever_the_order_of_the_runs(
    ablation: dict[str, Path],
) -> None:
    runs = list(ablation.values())
    frame = tidy(runs)
    pd.testing.assert_frame_equal(frame, tidy(runs[::-1]))
    lines = frame.drop_duplicates("run")
    assert list(lines["name"]) == sorted(run.name for run in runs)
    assert list(lines["run"]) == [name[-10:] for name in lines["name"]]
    assert list(cells_by_heading(sweep_table(frame))["run"]) == list(lines["run"])


def test_a_column_that_only_lacks_values_is_not_shown(ablation: dict[str, Path]) -> None:
    of_clip = [ablation["text"], ablation["clip image"], ablation["clip all"]]
    columns = headings(sweep_table(tidy(of_clip)))
    assert columns[:6] == ["run", "method", "streams", "benchmark", "head", "target"]
    two_encoders = varying_columns(result_rows(tidy(list(ablation.values()))))
    assert two_encoders == ["method", "streams", "benchmark", "image_encoder", "preprocessing", "head"]
    usual = varying_columns(result_rows(tidy([ablation["clip all"]])))
    assert "streams" not in usual


def test_labels_of_compared_runs_name_the_streams(ablation: dict[str, Path]) -> None:
    runs = [ablation["text"], ablation["clip all"]]
    assert list(run_labels(runs, known=("method", "head")).values()) == ["streams text", "streams all"]


def test_a_paper_has_one_line_for_each_streams_and_lines_of_one_encoder_together(
    ablation: dict[str, Path],
) -> None:
    order = ["clip image", "resnet50 all", "text", "clip all"]
    body = latex(tidy([ablation[name] for name in order])).split(r"\midrule")[1]
    blocks = [
        [line.split(" & ")[:2] for line in block.strip().splitlines()]
        for block in body.split(r"\addlinespace")
    ]
    assert blocks == [
        [["text + image", "clip"], ["image", "clip"]],
        [["text + image", "resnet50"]],
        [["text", "none"]],
    ]


def test_a_paper_without_different_streams_is_one_block(ablation: dict[str, Path]) -> None:
    text = latex(tidy([ablation["clip all"], ablation["resnet50 all"]]))
    assert "addlinespace" not in text
    assert "streams" not in text


# ---- the report


def test_runs_that_differ_in_their_streams_are_compared_for_every_encoder(ablation: dict[str, Path]) -> None:
    runs = read_runs(list(ablation.values()))
    found = {one.factor: one for one in factor_comparisons(runs)}
    pairs = {(pair.first.letter, pair.second.letter) for pair in found["streams"].pairs}
    # A, the run on text, has no image encoder: it differs from B, C and D in nothing but its streams.
    assert pairs == {("A", "B"), ("A", "C"), ("A", "D"), ("B", "C")}
    assert {found["streams"].setting(pair) for pair in found["streams"].pairs} == {
        "clip · native",
        "resnet50 · reference",
    }
    assert "image_encoder" not in found  # C and D differ in their preprocessing too


def test_a_pair_of_two_groups_counts_once_in_the_correction(folder: Path) -> None:
    runs = read_runs(
        [
            run_with(folder, CLIP, streams=("image",)),
            run_with(folder, CLIP, streams=("image", "image-prompt"), method="fr"),
            run_with(folder, CLIP, streams=("image-prompt",), method="fr"),
            run_with(folder, CLIP, MINILM, method="fr"),
            run_with(folder, CLIP, BERT, method="fr"),
        ]
    )
    (streams,) = [one for one in factor_comparisons(runs) if one.factor == "streams"]
    letters = [(pair.first.letter, pair.second.letter) for pair in streams.pairs]
    assert sorted(letters) == [("B", "C"), ("B", "D"), ("B", "E"), ("C", "D"), ("C", "E")]
    (direct,) = compare([runs[1].folder("quality"), runs[2].folder("quality")])
    own = streams.pairs[letters.index(("B", "C"))].difference
    assert (own.difference, own.p) == (direct.difference, direct.p)


def test_the_page_shows_streams_where_they_are_not_all(ablation: dict[str, Path], tmp_path: Path) -> None:
    write_report(list(ablation.values()), tmp_path / "report.html", images=0)
    page = unescape((tmp_path / "report.html").read_text())
    table = page.split('id="ablation"')[1].split("</table>")[0]
    cells = [
        re.sub(r"<[^>]*>", " ", cell).split()
        for cell in re.findall(r'<td class="about(?: encoder)?">(.*?)</td>', table, re.DOTALL)
    ]
    assert ["NR", "only", "text"] in cells
    assert ["minilm"] in cells
    assert ["clip"] in cells
    assert ["clip", "+", "minilm"] in cells
    assert "<h3>Streams" in page
    assert page.count("<dt>streams</dt><dd>all</dd>") == 2
    assert page.count("<dt>streams</dt><dd>text</dd>") == 1
    assert CLIP.folder_name in page


def test_short_labels_leave_out_what_runs_only_lack(ablation: dict[str, Path]) -> None:
    runs = read_runs([ablation["text"], ablation["clip image"], ablation["clip all"]])
    assert [run.short_label for run in runs] == [
        "NR · only text · ridge",
        "NR · only image · ridge",
        "NR · ridge",
    ]
