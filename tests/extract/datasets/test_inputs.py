"""A folder of images is scored as far as it has prompts; what is not scored and what is not read is named."""

import os
from pathlib import Path

import pandas as pd
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.inputs import PredictionInputs, read_inputs
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.find import TABLE_SUFFIXES
from tier4k.extract.inputs.plan import Plan, plan_inputs
from tier4k.tests.builders.data import save_picture, table_rows, write_table

SCORES = pd.DataFrame({"name": ["a.png"], "target": ["mos"], "score": [1.5], "low": [1.0], "high": [2.0]})

WIDE_SCORES = pd.DataFrame(
    {"name": ["a.png"], "mos_score": [1.5], "reason": [None], "file": ["t.csv"], "line": [2], "key": [b"x"]}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with prompts."""
    folder = tmp_path / "images"
    for number, name in enumerate(("a", "b")):
        save_picture(folder / f"{name}.png", number)
        (folder / f"{name}.txt").write_text(f"prompt of {name}\n")
    return folder


def prompts(inputs: PredictionInputs) -> dict[str, str]:
    (batch,) = inputs.source.batches()
    names, texts = (batch.rows[column].to_pylist() for column in ("name", "prompt"))
    return dict(zip(names, texts, strict=True))


def planned(inputs: PredictionInputs) -> Plan:
    return plan_inputs([inputs.source], ImageHasher(KeyCache(None)))


def reasons(inputs: PredictionInputs) -> dict[str, str]:
    return {image.name: image.reason for image in inputs.left_out}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no prompt file c.txt"),
        (b"", "the prompt file c.txt is empty"),
        (b"\xef\xbb\xbf \r\n", "the prompt file c.txt is empty"),
        (b"caf\xe9", "the prompt file c.txt cannot be read (it is not UTF-8)"),
    ],
)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_an_image_without_a_prompt_is_left_out_with_the_reason(
    folder: Path, content: bytes | None, reason: str, one_by_one: bool
) -> None:
    save_picture(folder / "c.png", 2)
    if content is not None:
        (folder / "c.txt").write_bytes(content)
    if one_by_one:
        inputs = read_inputs(sorted(folder.glob("*.png")))
        assert reasons(inputs) == {str(folder / "c.png"): reason}
        assert list(prompts(inputs).values()) == ["prompt of a", "prompt of b"]
    else:
        inputs = read_inputs([folder])
        assert reasons(inputs) == {"c.png": reason}
        assert prompts(inputs) == {"a.png": "prompt of a", "b.png": "prompt of b"}


def test_without_any_prompt_there_is_an_error_that_names_every_image(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.jpg")):
        save_picture(tmp_path / name, number)
    for inputs in ([tmp_path], [tmp_path / "a.png", tmp_path / "b.jpg"]):
        with pytest.raises(DataError, match=r"(?s)a\.png: .*a\.txt.*b\.jpg: .*b\.txt"):
            read_inputs(inputs)


def test_heads_without_a_text_stream_score_every_image(folder: Path) -> None:
    save_picture(folder / "c.png", 2)
    save_picture(folder / "d.png", 2)
    (folder / "d.txt").write_bytes(b"caf\xe9")
    inputs = read_inputs([folder], needs_prompts=False)
    assert prompts(inputs) == {"a.png": "prompt of a", "b.png": "prompt of b", "c.png": "", "d.png": ""}
    assert not inputs.left_out


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_prompt_file_may_have_any_unicode_encoding(folder: Path, encoding: str) -> None:
    (folder / "a.txt").write_bytes("a café\r\nin Zürich\r\n".encode(encoding))
    assert prompts(read_inputs([folder]))["a.png"] == "a café\nin Zürich"


@pytest.mark.parametrize(
    "suffix", [".jpg", ".JPEG", ".jfif", ".ppm", ".webp", ".tiff", ".avif", ".heic", ".jxl"]
)
def test_every_format_of_images_is_seen_whether_or_not_it_can_be_decoded(folder: Path, suffix: str) -> None:
    (folder / f"c{suffix}").write_bytes(b"no image")
    (folder / "c.txt").write_text("prompt of c")
    assert prompts(read_inputs([folder]))[f"c{suffix}"] == "prompt of c"


def test_what_systems_and_programs_leave_in_a_folder_is_no_data(folder: Path) -> None:
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "~$scores.xlsx", ".hidden.png", "._scores.csv"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    inputs = read_inputs([folder])
    assert list(prompts(inputs)) == ["a.png", "b.png"]
    assert not inputs.left_out
    assert not list(inputs.source.report.lines())
    one_by_one = read_inputs([folder / "a.png", folder / "._a.png"])
    assert list(reasons(one_by_one)) == [str(folder / "._a.png")]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_earlier_scores_in_the_folder_are_no_input(folder: Path, suffix: str) -> None:
    if suffix == ".csv":
        SCORES.to_csv(folder / "scores.csv", index=False)
    elif suffix == ".parquet":
        WIDE_SCORES.to_parquet(folder / "scores.parquet", index=False)
    else:
        SCORES.to_json(folder / f"scores{suffix}", orient="records", lines=suffix == ".jsonl")
    inputs = read_inputs([folder])
    assert list(prompts(inputs)) == ["a.png", "b.png"]
    (line,) = inputs.source.report.lines()
    assert f"scores{suffix}" in line


@pytest.mark.parametrize("columns", [{}, {"image": "img_path", "prompt": "caption"}])
def test_a_table_of_images_goes_before_the_files_beside_the_images(
    folder: Path, columns: dict[str, str]
) -> None:
    table = table_rows(names=["a.png"]).assign(prompt="of the table")
    write_table(folder / "table.csv", table)
    table.rename(columns=columns).to_csv(folder / "table.csv", index=False)
    SCORES.to_csv(folder / "scores.csv", index=False)
    assert prompts(read_inputs([folder])) == {"a.png": "of the table"}


def test_new_images_need_no_columns_of_scores_and_generators_although_they_are_named(folder: Path) -> None:
    table = table_rows(names=["a.png"]).rename(columns={"image": "file", "prompt": "caption"})
    table[["file", "caption"]].to_csv(folder / "table.csv", index=False)
    choice = TableChoice(columns="image=file,prompt=caption,generator=system,mos=look,mos.all=fit")
    inputs = read_inputs([folder], choice=choice)
    assert prompts(inputs) == {"a.png": "prompt 0"}
    assert any(
        "names system, look, fit, which the table lacks" in line for line in inputs.source.report.lines()
    )
    with pytest.raises(DataError, match=r"lacks columns of the table layout:\n  words"):
        read_inputs([folder], choice=TableChoice(columns="image=file,prompt=words"))


def test_other_files_and_folders_are_named(folder: Path) -> None:
    (folder / "notes.md").write_text("notes")
    (folder / "z.txt").write_text("the prompt of no image")
    save_picture(folder / "more" / "c.png", 2)
    lines = list(read_inputs([folder]).source.report.lines())
    assert any("notes.md, z.txt" in line for line in lines)
    assert any("more" in line for line in lines)


def test_a_folder_without_images_gives_the_error_of_its_table(tmp_path: Path) -> None:
    pd.DataFrame({"picture": ["a.png"], "prompt": ["x"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="The columns of the table are: picture, prompt"):
        read_inputs([tmp_path])


def test_names_that_are_not_utf_8_are_shown_escaped_and_their_files_are_found(folder: Path) -> None:
    for suffix in (".png", ".txt"):
        name = os.fsencode(folder) + b"/caf\xe9" + suffix.encode()
        os.rename(folder / f"a{suffix}", name)
    inputs = read_inputs([folder])
    assert prompts(inputs) == {"b.png": "prompt of b", r"caf\xe9.png": "prompt of a"}
    plan = planned(inputs)
    assert not len(plan.problems)
    assert len(plan.inputs.images) == 2


def test_two_names_that_look_alike_are_both_reported(folder: Path) -> None:
    save_picture(folder / r"caf\xe9.png", 5)
    os.rename(folder / "a.png", os.fsencode(folder) + b"/caf\xe9.png")
    inputs = read_inputs([folder], needs_prompts=False)
    plan = planned(inputs)
    assert len(plan.problems) == 2
    assert plan.rows == 3


def test_a_prompt_of_the_command_line_may_be_in_the_encoding_of_the_locale(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = os.fsdecode(b"caf\xe9")
    with pytest.raises(DataError, match="is neither UTF-8 nor"):
        read_inputs([folder / "a.png"], given)
    monkeypatch.setattr("locale.getencoding", lambda: "iso8859-1")
    assert list(prompts(read_inputs([folder / "a.png"], given)).values()) == ["café"]


def test_suffixes_of_tables_and_images_are_distinct(folder: Path) -> None:
    for suffix in TABLE_SUFFIXES:
        (folder / f"x{suffix}").write_bytes(b"\xff")
    inputs = read_inputs([folder])
    assert list(prompts(inputs)) == ["a.png", "b.png"]
    assert len(list(inputs.source.report.lines())) == len(TABLE_SUFFIXES)
