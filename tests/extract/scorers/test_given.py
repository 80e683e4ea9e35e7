"""Scores of another program find their rows by the names of images, and nothing is joined by guesswork."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.scorers.given import JoinedScores, ScoreTable, join_scores, read_score_table
from tier4k.extract.scorers.given_scores import GivenScores, given_column, is_given

NAMES = ["a.png", "b.png", "deep/c.jpg", "deep/d.jpg"]
PLACES = [f"/data/images/{name}" for name in NAMES]


def keys(texts: Sequence[str]) -> np.ndarray:
    return key_array(map(text_key, texts))


def table_of(names: Sequence[str], scores: Sequence[float]) -> ScoreTable:
    return ScoreTable(
        Path("s.csv"), "image", "q", tuple(names), np.array(scores, float), tuple(range(2, 2 + len(names)))
    )


def joined(names: Sequence[str], scores: Sequence[float] = (1, 2, 3, 4)) -> JoinedScores:
    return join_scores(table_of(names, scores[: len(names)]), NAMES, PLACES, keys(NAMES))


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        ["images/a.png", "images/b.png", "images/deep/c.jpg", "images/deep/d.jpg"],
        ["/elsewhere/a.png", "./b.png", "c.jpg", "x\\deep\\d.jpg"],
        ["a", "b.webp", "deep/c", "deep/d.png"],
    ],
)
def test_lines_find_their_rows_by_name_by_path_and_without_extension(names: list[str]) -> None:
    found = joined(names)
    assert found.scores.tolist() == [1, 2, 3, 4] and not found.missing and not found.extra


def test_rows_without_a_score_and_lines_without_a_row_are_named() -> None:
    found = joined(["b.png", "z.png", "other/c.jpg", "deep/d.jpg"], [5, 6, 7, np.nan])
    np.testing.assert_array_equal(found.scores, [np.nan, 5, np.nan, np.nan])
    assert found.missing == ("a.png", "deep/c.jpg", "deep/d.jpg")
    assert found.extra == ("z.png", "other/c.jpg")  # of another folder than deep/
    assert found.problems()["name"].tolist() == [*found.missing, *found.extra]


def test_ambiguous_lines_and_two_scores_of_one_row_are_refused() -> None:
    names = ["x/1.png", "y/1.png", "2.png", "2.jpg"]
    for written, message in (("1.png", "line 2 .1.png. may name several"), ("2", "line 2 .2. may name")):
        with pytest.raises(DataError, match=message):
            join_scores(table_of([written], [1]), names, names, keys(names))
    with pytest.raises(DataError, match=r"line 2 \(a.png\) has 1 and line 3 \(a.jpg\) has 2"):
        joined(["a.png", "a.jpg"])
    assert joined(["a.png", "a.png"], [3, 3]).scores[0] == 3
    with pytest.raises(DataError, match="no line names an image of the data, which has a.png"):
        joined(["u", "v"])


def test_rows_of_one_image_and_prompt_share_their_score() -> None:
    pairs = keys(["same", "same", "c", "d"])
    found = join_scores(table_of(["a.png"], [1]), NAMES, PLACES, pairs)
    assert found.scores[:2].tolist() == [1, 1] and found.missing == tuple(NAMES[2:])
    with pytest.raises(DataError, match="both lines are of the same image and prompt"):
        join_scores(table_of(["a.png", "b.png"], [1, 2]), NAMES, PLACES, pairs)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx", ".jsonl"])
def test_every_form_of_table_is_read_and_the_score_column_is_the_named_or_the_only_one(
    suffix: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"Image": ["a", "b"], "note": ["x", "y"], "musiq": [1.5, None], "niqe": [3.0, 4.0]})
    path = tmp_path / f"s{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    for read in (read_score_table(path, "musiq"), read_score_table(path, None, ["MUSIQ"])):
        assert (read.name_column, read.score_column, read.names) == ("Image", "musiq", ("a", "b"))
        np.testing.assert_array_equal(read.scores, [1.5, np.nan])
    with pytest.raises(DataError, match="several columns of numbers, musiq, niqe: name .* --score-column"):
        read_score_table(path)
    with pytest.raises(DataError, match=r"no column 'musik' \(nearest: musiq"):
        read_score_table(path, "musik")


def test_a_score_that_is_no_number_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("image,q\na,1\nb,high\nc,n/a\nd,inf\ne,1e39\n")
    with pytest.raises(DataError, match=r"must be finite numbers.* \(line 3: 'high', line 5: .*, line 6: "):
        read_score_table(path)
    with pytest.raises(DataError, match="is no table of scores"):
        read_score_table(tmp_path / "s.txt")


def test_other_scores_another_column_and_another_sign_have_another_signature(tmp_path: Path) -> None:
    values = np.array([1, np.nan, 2, 3], np.float32)
    given = GivenScores.of("MUSIQ", "q", keys(NAMES), values)
    order = [2, 0, 3, 1]
    again = GivenScores.of("MUSIQ", "q", keys(NAMES)[order], values[order])
    assert given.signature == again.signature and is_given(given.signature)
    assert given_column(given.signature) == "q" and len(given.keys) == 3
    negated = GivenScores.of("MUSIQ", "q", keys(NAMES), values, lower_is_better=True)
    np.testing.assert_array_equal(negated.scores, -given.scores)
    others = [
        negated,
        GivenScores.of("MUSIQ", "r", keys(NAMES), values),
        GivenScores.of("NIQE", "q", keys(NAMES), values),
        GivenScores.of("MUSIQ", "q", keys(NAMES), values + 1),
    ]
    assert len({one.signature.digest for one in (given, *others)}) == 5
    assert FeatureStore.create(tmp_path, given.signature, {}).path.name.startswith("MUSIQ-given-score-fp32")
    for name in ("a,b", "", "a\nb", "x" * 101, "imagereward", "pyiqa:piqe"):
        with pytest.raises(DataError, match="--name"):
            GivenScores.of(name, "q", keys(NAMES), values)


def test_a_point_in_a_name_without_extension_is_no_extension() -> None:
    names = ["SD1.5_7.png", "SD1.5_8.png", "v.png", "v.2.png"]
    written = ["SD1.5_8", "SD1.5_7", "v.2", "v"]
    found = join_scores(table_of(written, [1, 2, 3, 4]), names, names, keys(names))
    assert found.scores.tolist() == [2, 1, 4, 3] and not found.extra


def test_the_column_with_exactly_the_name_comes_first_and_two_spellings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("image,MUSIQ,musiq\na,1,2\n")
    assert read_score_table(path, None, ["MUSIQ"]).scores.tolist() == [1]
    with pytest.raises(DataError, match="MUSIQ and musiq, and each may hold the scores"):
        read_score_table(path, None, ["Musiq"])


def test_new_scores_are_not_taken_from_a_column_of_another_name(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("image,niqe\na,1\n")
    assert read_score_table(path, None, ["MUSIQ", "niqe"], only_usual=True).score_column == "niqe"
    with pytest.raises(DataError, match="no column MUSIQ or q of scores, but niqe"):
        read_score_table(path, None, ["MUSIQ", "q"], only_usual=True)
