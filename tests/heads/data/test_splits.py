"""Splits can be kept, used again and moved; folds test every row once; what leaks is counted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tier4k import cli
from tier4k.extract.datasets.check import check
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import (
    Split,
    SplitError,
    make_splits,
    prompt_and_generator,
    scored_split,
    with_seeds,
)
from tier4k.heads.data.stored_splits import StoredSplits, stored_splits, write_splits
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.results.results import Results
from tier4k.tests.builders.data import write_pku
from tier4k.tests.builders.feature_sets import feature_set

ROWS = replace(feature_set(80), dataset=np.array([f"set {row // 4 % 3}" for row in range(80)]))
UNITS = {
    "prompt": ROWS.group,
    "random": ROWS.name,
    "generator": ROWS.generator,
    "published": ROWS.name,
    "dataset": ROWS.dataset,
}
VALIDATION_UNITS = UNITS | {"dataset": ROWS.group}  # there may be only one training set


def as_lists(splits: list[Split]) -> list[tuple[Any, ...]]:
    return [
        (split.train.tolist(), split.validation.tolist(), split.test.tolist(), split.seed) for split in splits
    ]


def change(repeat: dict[str, Any], **parts: list[str]) -> list[dict[str, Any]]:
    return [repeat | parts]


@pytest.mark.parametrize("rule", get_args(SplitRule))
@pytest.mark.parametrize("validation", [0.15, 0.0])
def test_folds_test_every_row_once_and_part_no_unit(rule: SplitRule, validation: float) -> None:
    splits = make_splits(ROWS, rule, 3, seed=5, validation=validation, folds=True)
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(80))
    for split in splits:
        assert not split.seen(UNITS[rule]).any()
        assert sorted([*split.train, *split.validation, *split.test]) == list(range(80))
        assert (len(split.validation) > 0) == (validation > 0)
        assert not set(VALIDATION_UNITS[rule][split.train]) & set(VALIDATION_UNITS[rule][split.validation])


@pytest.mark.parametrize("rule", ["prompt", "random", "published"])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_validation_part_is_the_asked_share_of_the_training_part(rule: SplitRule, share: float) -> None:
    (split,) = make_splits(ROWS, rule, 1, seed=0, validation=share)
    held, kept = (len(np.unique(UNITS[rule][part])) for part in (split.validation, split.train))
    assert held == np.ceil(share * (held + kept))
    (stored,) = StoredSplits(
        Path("mine.json"),
        [msgspec.structs.replace(part, validation=[]) for part in stored_splits(ROWS, [split])],
    ).of(ROWS, 0, share)
    assert abs(len(stored.validation) / len(split.train) - share) < 0.1


def test_a_share_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(SplitError, match=r"no training rows remain if a share of 0.9 of the prompts"):
        make_splits(feature_set(24), "prompt", 1, seed=0, validation=0.9)


def test_other_seeds_give_other_folds_but_of_the_published_rule_which_begins_with_the_published_split() -> (
    None
):
    folds = {
        rule: [as_lists(make_splits(ROWS, rule, 4, seed, folds=True)) for seed in (0, 0, 1)]
        for rule in ("prompt", "random")
    }
    for first, again, other in folds.values():
        assert first == again and [test for _, _, test, _ in first] != [test for _, _, test, _ in other]
    (published,) = make_splits(ROWS, "published", 1, seed=0)
    assert as_lists(make_splits(ROWS, "published", 4, seed=0, folds=True))[0] == as_lists([published])[0]


@pytest.mark.parametrize(
    ("rule", "folds", "expected"),
    [
        ("prompt", 21, "20 groups of prompts cannot be divided into 21 folds"),
        ("generator", 4, "--folds from 2 to 3"),
    ],
)
def test_more_folds_than_there_are_units_are_refused(rule: SplitRule, folds: int, expected: str) -> None:
    with pytest.raises(SplitError, match=expected):
        make_splits(ROWS, rule, folds, seed=0, folds=True)


@pytest.mark.parametrize("rule", get_args(SplitRule))
def test_stored_splits_are_the_splits_that_were_stored(tmp_path: Path, rule: SplitRule) -> None:
    splits = make_splits(ROWS, rule, 3, seed=2)
    write_splits(tmp_path / "splits.json", ROWS, splits)
    stored = StoredSplits.read(tmp_path / "splits.json")
    assert as_lists(stored.of(ROWS, 0, validation=0.15)) == as_lists(splits)
    shuffled = np.random.default_rng(0).permutation(80)
    moved = stored.of(
        replace(
            ROWS,
            **{
                name: values[shuffled]
                for name, values in vars(ROWS).items()
                if isinstance(values, np.ndarray)
            },
        ),
        0,
        True,
    )
    assert {*ROWS.name[shuffled][moved[0].test]} == {*ROWS.name[splits[0].test]}
    merged = stored.of(ROWS, 7, validation=0.0)[1]
    np.testing.assert_array_equal(merged.train, np.sort([*splits[1].train, *splits[1].validation]))
    assert (len(merged.validation), merged.seed) == (0, splits[1].seed + 7)


def test_validation_rows_that_a_file_does_not_name_are_cut_out_of_training_by_prompt(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.json", ROWS, make_splits(ROWS, "published", 1, seed=0, validation=0.0))
    (split,) = StoredSplits.read(tmp_path / "splits.json").of(ROWS, 0, validation=0.15)
    assert len(split.validation) and not set(ROWS.group[split.validation]) & set(ROWS.group[split.train])
    assert split.test.tolist() == list(range(3, 80, 4))


def test_the_name_of_stored_splits_says_what_they_hold_and_not_how_they_are_written(tmp_path: Path) -> None:
    one, two = msgspec.to_builtins(stored_splits(ROWS, make_splits(ROWS, "random", 2, seed=0)))
    texts = [
        json.dumps([one, two]),
        json.dumps([dict(reversed(one.items())), two], indent=3),
        json.dumps([two, one]),
    ]
    names = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.json").write_text(text)
        names.append(StoredSplits.read(tmp_path / f"{number}.json").name)
    assert names[0] == names[1] != names[2] and names[0].startswith("file-")


(REPEAT,) = msgspec.to_builtins(stored_splits(ROWS, make_splits(ROWS, "prompt", 1, seed=0)))
WRONG: dict[str, tuple[Any, str]] = {
    "no such row": (
        change(REPEAT, test=["G_3.jpg", "H_1.jpg"]),
        "1 of .* names are not among the 80 rows, first 'H_1.jpg' in test.*--benchmark",
    ),
    "a row in two parts": (change(REPEAT, test=REPEAT["train"][:3]), "occurs twice, in train and test"),
    "a row twice": (change(REPEAT, test=REPEAT["test"] + REPEAT["test"][:1]), "occurs twice, in test"),
    "no test rows": (change(REPEAT, test=[]), "repeat 0 has .* and 0 test rows"),
    "no training rows": (change(REPEAT, train=[]), "repeat 0 has 0 training"),
    "one training prompt": (
        change(REPEAT, train=["G_0.jpg", "G_1.jpg"], validation=[], test=["G_4.jpg", "G_5.jpg"]),
        "single training prompt",
    ),
    "no repeats": ([], "cannot be read as splits"),
    "no object": (3, "it is int, neither an object nor a list"),
    "a list of names": (["G_0.jpg"], "repeat 0 is str, not an object"),
    "no training part": ({"test": ["G_0.jpg"]}, "repeat 0 lacks the field 'train'"),
    "a misspelt field": (
        {"train": [], "tset": []},
        "repeat 0 has the unknown field 'tset' .nearest: test",
    ),
    "two names of one field": (
        change(REPEAT, val=[]),
        "fields val and validation, which are one",
    ),
    "a name for a list": ({"train": "G_0.jpg", "test": []}, "'train' of repeat 0 is 'G_0.jpg', not a list"),
    "a seed beyond numpy's": (change(REPEAT, seed=2**32), "field 'seed' of repeat 0 is 4294967296"),
    "numbers for names": (change(REPEAT, test=[1, 2]), "field 'test' of repeat 0 has 1, which is not a text"),
}


@pytest.mark.parametrize(("content", "expected"), WRONG.values(), ids=WRONG)
def test_a_file_that_does_not_fit_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, content: Any, expected: str
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(SplitError, match=f"(?s)mine.json.*{expected}"):
        StoredSplits.read(tmp_path / "mine.json").of(ROWS, 0, validation=0.15)


def test_names_of_training_and_test_rows_are_enough_for_a_split(tmp_path: Path) -> None:
    names = ROWS.name.tolist()
    plain = {"train": names[:40], "test": names[50:60]}  # the other rows are in no part
    (tmp_path / "one.json").write_text(json.dumps(plain))
    (split,) = StoredSplits.read(tmp_path / "one.json").of(ROWS, 3, validation=0.0)
    assert as_lists([split]) == [([*range(40)], [], [*range(50, 60)], 3)]
    repeats = [plain | {"val": names[60:]}, {"train": np.array(names[40:]), "test": tuple(names[:8])}]
    first, second = StoredSplits.parse(repeats).of(ROWS, 0, validation=0.15)
    assert (first.validation.tolist(), first.seed, second.seed) == ([*range(60, 80)], 0, 1)
    assert sorted([*second.train, *second.validation]) == [*range(40, 80)]
    assert len(second.validation) > 0  # cut out of the training rows


def test_leakage_counts_prompts_pictures_and_siblings() -> None:
    train, test = (
        np.array([0, 1, 2, 8]),
        np.array([3, 4, 9, 12]),
    )  # rows 4 p + k share prompt p; row n is of generator n % 3
    rows = replace(ROWS, image_key=ROWS.image_key.copy())
    rows.image_key[12] = rows.image_key[2]
    split = Split(train, train[:0], test, 0)
    assert split.seen(rows.group).tolist() == [True, False, True, False]
    assert split.seen(rows.image_key).tolist() == [False, False, False, True]
    assert split.seen(prompt_and_generator(rows)).tolist() == [
        True,
        False,
        False,
        False,
    ]  # 3 and 0 are of one prompt and generator, 9 and 8 are not


@pytest.mark.parametrize("split", ["random", "prompt"])
def test_spreads_over_splits_and_over_seeds_are_expected_apart(split: SplitRule) -> None:
    features = feature_set(80)
    splits = with_seeds(make_splits(features, split, 3, seed=0), 4)
    assert len({one.seed for one in splits}) == 12
    trials = run_trials(
        features, fuse(features, "nr"), ["MOS_q"], splits, "mlp", {"hidden": 2, "max_epochs": 2}
    )
    found = summarize(features, trials, splits)["MOS_q"]["last"]["srcc"]
    values = np.array([trial.metrics["last"]["srcc"] for trial in trials]).reshape(3, 4)
    np.testing.assert_allclose(found.sd_splits, values.mean(1).std(ddof=1))
    np.testing.assert_allclose(found.sd_seeds, values.std(1, ddof=1).mean())
    floor = summarize(features, trials, splits)["MOS_q"]["generator_mean"]["srcc"]
    assert floor.sd_seeds == 0 and floor.sd_splits > 0  # a floor has no seed


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, [*arguments])


def test_splits_of_the_command_serve_another_run_and_are_part_of_its_identity(project: Path) -> None:
    made = run("split", "Dataset", "--split", "random", "--folds", "3", "-o", "mine.json")
    assert made.exit_code == 0 and "3 repeats" in made.output, made.output
    common = [
        "Dataset",
        "--image-encoder",
        "resnet18",
        "--text-encoder",
        "bert-base-uncased",
        "--head",
        "ridge",
        "--target",
        "MOS_q",
    ]
    for split in (["mine.json"], ["random", "--folds", "3"]):
        assert (done := run("fit-head", *common, "--split", *split)).exit_code == 0, done.output
    by_file, by_rule = sorted(Path("runs").iterdir())
    assert "file-" in by_file.name and "random-3-fold" in by_rule.name
    assert (by_file / "splits.json").read_text() == (by_rule / "splits.json").read_text()
    assert (by_file / "predictions.csv").read_text() == (by_rule / "predictions.csv").read_text()
    again = run("fit-head", *common, "--split", str(by_rule / "splits.json"), "--seeds", "2")
    assert again.exit_code == 0 and len(list(Path("runs").iterdir())) == 3
    assert {len(Results.read(folder).test_rows) for folder in Path("runs").iterdir()} == {3, 6}
    one = run("fit-head", *common, "--split", f"{by_rule / 'splits.json'}:1", "--out", "one")
    assert one.exit_code == 0, one.output
    (alone,) = Path("one").iterdir()
    predictions = [pd.read_csv(folder / "predictions.csv") for folder in (alone, by_rule)]
    of_repeat = predictions[1].query("repeat == 1").assign(repeat=0).reset_index(drop=True)
    pd.testing.assert_frame_equal(predictions[0], of_repeat)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--split", "promt"], "no rule and no file (nearest: prompt"),
        (["--split", "promt:1"], "no rule and no file (nearest: prompt"),
        (["--split", "mine.json:3"], "mine.json has no repeat 3: use a repeat from 0 to 1"),
        (["--split", "mine.json", "--repeats", "2"], "leave out --repeats"),
        (["--folds", "3", "--repeats", "2"], "--folds 3 already means 3 repeats"),
        (["--split", "random", "--folds", "40"], "cannot be divided into 40 folds"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(
    project: Path, arguments: list[str], expected: str
) -> None:
    assert run("split", "Dataset", "--split", "random", "-o", "mine.json", "--repeats", "2").exit_code == 0
    common = [
        "Dataset",
        "--image-encoder",
        "resnet18",
        "--text-encoder",
        "bert-base-uncased",
        "--head",
        "ridge",
    ]
    found = run("fit-head", *common, *arguments)
    assert found.exit_code == 2 and not Path("runs").exists()
    assert any(cli_name in found.output for cli_name in expected.split("|")), found.output


def test_no_image_of_a_test_row_is_in_training_with_the_prompt_split(tmp_path: Path) -> None:
    frame = write_pku(tmp_path, rows=24, image_to_image=8)
    pictures = tmp_path / "All"
    names = frame["Generated_image"]
    for original, copy in ((9, 10), (12, 17), (13, 22)):
        shutil.copy(pictures / names[original], pictures / names[copy])
    shutil.copy(tmp_path / "I2I" / "Image_prompt" / "0.png", pictures / names[20])
    manifest = check(tmp_path).manifest
    images = manifest.table[["image_key", "image_prompt_key"]]
    for split in make_splits(Rows.of(manifest), "prompt", 10, seed=0):
        assert np.intersect1d(split.train, split.test).size == 0
        training, test = (
            set(images.iloc[rows].to_numpy().ravel()) - {""}
            for rows in (np.concatenate([split.train, split.validation]), split.test)
        )
        assert not training & test


def test_a_target_takes_part_with_its_scored_rows_and_keeps_their_parts() -> None:
    (split,) = make_splits(ROWS, "prompt", 1, seed=0)
    scores = np.arange(80.0)
    without = [*split.train[:3], *split.validation[:1], *split.test[::2]]
    scores[without] = np.nan
    scored = scored_split(split, scores, "MOS")
    for name in ("train", "validation", "test"):
        expected = [row for row in getattr(split, name) if row not in without]
        assert getattr(scored, name).tolist() == expected
    assert scored.seed == split.seed


@pytest.mark.parametrize(
    ("part", "left", "words"),
    [
        ("train", 1, r"MOS_c: 1 of the \d+ training rows of the split with seed 4"),
        ("validation", 0, r"MOS_c: 0 of the \d+ validation rows .* at least 1"),
        ("test", 1, r"1 of the \d+ test rows .* at least 2 .* leave MOS_c out with --target"),
    ],
)
def test_a_part_with_too_few_scores_is_refused(part: str, left: int, words: str) -> None:
    (split,) = make_splits(ROWS, "prompt", 1, seed=4)
    scores = np.arange(80.0)
    scores[getattr(split, part)[left:]] = np.nan
    with pytest.raises(SplitError, match=words):
        scored_split(split, scores, "MOS_c")
    scores[getattr(split, part)[left]] = 1.0
    assert len(getattr(scored_split(split, scores, "MOS_c"), part)) == left + 1


def test_parts_that_have_no_rows_need_no_scores() -> None:
    nothing = np.empty(0, int)
    whole = Split(nothing, nothing, np.arange(4), seed=0)
    scored = scored_split(whole, np.array([1.0, np.nan, 2.0, np.nan]), "MOS")
    assert scored.test.tolist() == [0, 2]
    with pytest.raises(SplitError, match=r"MOS: 1 of the 4 rows have .* with --target$"):
        scored_split(whole, np.array([1.0, np.nan, np.nan, np.nan]), "MOS")
