"""Spellings of one prompt or generator are recognised, and other texts are kept apart."""

import sys
import unicodedata
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.spellings import (
    canonical_spellings,
    generator_identity,
    merged_spellings,
    prompt_identity,
)
from tier4k.tests.builders.data import save_table, table_rows, write_pku, write_table

ONE_PROMPT = (
    "a red fox",
    "A red fox.",
    "a red  fox",
    "\tA RED\u00a0FOX !",
    "\uff41 red \uff46\uff4f\uff58",  # full-width letters
    "a red fo\u200bx",  # with a zero-width space
    "\ufeffa red fox\u2026",  # with a byte order mark and an ellipsis
    "a re\u00add fox?!\u3002",  # with a soft hyphen and an ideographic full stop
)

OTHER_PROMPTS = (
    "a red fix",
    "a redfox",
    "a, red fox",
    "red fox",
    "a red fox 2",
    "",
    "...",
    "?!",
    "a fox, red",
)


def test_spellings_of_a_prompt_have_one_identity() -> None:
    assert {prompt_identity(prompt) for prompt in ONE_PROMPT} == {"a red fox"}


def test_other_prompts_have_other_identities() -> None:
    identities = [prompt_identity(prompt) for prompt in (*OTHER_PROMPTS, "a red fox")]
    assert len(set(identities)) == len(identities)


def test_accents_have_one_identity_however_they_are_composed() -> None:
    forms = {unicodedata.normalize(form, "Café ÉCLAIR ǰ") for form in ("NFC", "NFD", "NFKC", "NFKD")}
    forms.add("Cafe\u200d\u0301 ÉCLAIR ǰ")  # a joiner separates the letter and its accent
    assert len(forms) > 2
    assert {prompt_identity(text) for text in forms} == {prompt_identity("café éclair ǰ")}
    assert prompt_identity("cafe eclair j") != prompt_identity("café éclair ǰ")
    assert prompt_identity("STRASSE") == prompt_identity("straße")


def test_an_identity_is_its_own_identity_for_every_character_before_and_after_a_letter() -> None:
    for number in range(0, sys.maxunicode + 1, 61):
        character = chr(number)
        if unicodedata.category(character) == "Cs":
            continue
        for text in (character, f"a{character}", f"{character}a"):
            identity = prompt_identity(text)
            assert prompt_identity(identity) == identity, hex(number)


def test_generators_differ_by_more_than_case_and_spaces() -> None:
    assert len({generator_identity(name) for name in ("SD 1.5", "sd1.5", " Sd 1.5 ", "SD\u200b1.5")}) == 1
    names = ["sd1.5", "sd1.5.", "sd15", "sd-1.5", "sdxl", ""]
    for first, second in combinations(names, 2):
        assert generator_identity(first) != generator_identity(second)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b", "B", "B", "c"], ["B", "B", "B", "c"]),
        (["B", "b", "b", "B"], ["B", "B", "B", "B"]),
        (["b", "B", "B ", "b "], ["b", "b", "b", "b"]),
        (["x"], ["x"]),
    ],
)
def test_the_most_frequent_spelling_is_canonical_and_the_first_of_equally_frequent_ones(
    names: list[str], expected: list[str]
) -> None:
    assert canonical_spellings(pd.Series(names)).tolist() == expected


def test_canonical_spellings_are_those_that_are_counted_by_hand() -> None:
    random = np.random.default_rng(0)
    names = random.choice(["alpha", "Alpha", "ALPHA ", "beta", "be ta", "BETA", "gamma"], 60).tolist()
    series = pd.Series(names, index=random.permutation(60))
    found = canonical_spellings(series)
    assert found.index.equals(series.index)
    counts = Counter(names)
    for name, chosen in zip(names, found, strict=True):
        same = [other for other in names if other.lower().replace(" ", "") == name.lower().replace(" ", "")]
        most = max(counts[other] for other in same)
        assert chosen == next(other for other in same if counts[other] == most)
    merged = merged_spellings(series, found)
    assert set(merged) == set(found) - {"gamma"}
    for chosen, others in merged.items():
        assert {chosen, *others} == {
            name for name, canonical in zip(names, found, strict=True) if canonical == chosen
        }


def test_the_manifest_has_one_spelling_of_each_generator_and_says_which_it_merged(tmp_path: Path) -> None:
    names = [f"{row}.png" for row in range(6)]
    spellings = ["DALLE", "dalle ", "SD", "DallE", "dalle", "SD"]
    checked = check(write_table(tmp_path / "t.csv", table_rows(names, generator=spellings)))
    assert checked.manifest.table["generator"].tolist() == ["dalle", "dalle", "SD", "dalle", "dalle", "SD"]
    assert checked.merged_generators == {"dalle": ("DALLE", "DallE")}


def test_generators_in_names_of_files_are_merged_too_and_skipped_rows_change_no_name(tmp_path: Path) -> None:
    frame = write_pku(tmp_path)
    renamed = frame["Generated_image"].str.replace("MJ_1003", "mj_1003")
    for before, after in zip(frame["Generated_image"], renamed, strict=True):
        (tmp_path / "All" / before).rename(tmp_path / "All" / after)
    save_table(frame.assign(Generated_image=renamed), tmp_path / "annotation.xlsx")
    generators = check(tmp_path).manifest.table["generator"].tolist()
    assert generators == ["MJ", "DALLE"] * 4
    for name in renamed[:4]:  # now one row has each spelling
        (tmp_path / "All" / name).unlink()
    assert check(tmp_path).manifest.table["generator"].tolist() == generators[4:]
