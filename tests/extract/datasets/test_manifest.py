"""A manifest identifies inputs by content, groups connected prompts, and keeps row numbers."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.keys import file_key, text_key
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.manifest import prompt_groups
from tier4k.tests.builders.data import save_picture, save_table, write_pku, write_table


def partition(
    prompts: list[str],
    images: list[str],
    image_prompts: list[str],
) -> set[frozenset[int]]:
    """Rows that share a normalised text or an image of any kind, merged by hand until nothing changes."""
    label = list(range(len(prompts)))
    texts = [" ".join(prompt.casefold().split()) for prompt in prompts]
    pictures = [{*pair} - {""} for pair in zip(images, image_prompts, strict=True)]
    moved = True
    while moved:
        moved = False
        for a in range(len(prompts)):
            for b in range(len(prompts)):
                if (texts[a] == texts[b] or pictures[a] & pictures[b]) and label[a] != label[b]:
                    label[a] = label[b] = min(label[a], label[b])
                    moved = True
    return {frozenset(row for row in range(len(label)) if label[row] == value) for value in label}


def groups_of(prompts: list[str], images: list[str], image_prompts: list[str]) -> pd.Series:
    return prompt_groups(pd.Series(prompts), pd.Series(images), pd.Series(image_prompts))


def test_rows_with_an_equal_text_or_image_prompt_are_one_group() -> None:
    prompts = ["A  Fox", "a fox. ", "a cat", "a dog", "a\thorse", "a cow", "straße", "STRASSE"]
    image_prompts = ["k1", "", "k1", "k2", "k2", "", "", ""]
    groups = groups_of(prompts, [f"image {row}" for row in range(8)], image_prompts)
    # The cat is connected only by its image prompt, the second fox only by its text.
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4] != groups[0]
    assert groups[6] == groups[7] != groups[5]
    assert groups.nunique() == 4


def test_rows_with_an_equal_image_are_one_group_also_where_it_is_the_image_prompt_of_another() -> None:
    prompts = ["a fox", "a cat", "a dog", "a cow", "a hen", "..."]
    images = ["same", "same", "shown", "other", "own", "last"]
    groups = groups_of(prompts, images, ["", "", "", "shown", "", ""])
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert groups.nunique() == 4


def test_a_group_is_named_by_the_least_key_of_its_texts() -> None:
    groups = groups_of(["a fox", "a  CAT"], ["k", "k"], ["", ""])
    least = min(text_key("a fox").hex(), text_key("a cat").hex())
    assert groups.tolist() == [least[:12]] * 2


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_the_connected_components_whatever_the_row_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    prompts = pd.Series([f"prompt {number}" for number in random.integers(0, 25, 30)])
    images = pd.Series([f"k{number}" for number in random.integers(0, 90, 30)])
    image_prompts = pd.Series(random.choice(["", "", *[f"k{number}" for number in range(90)]], 30))
    groups = prompt_groups(prompts, images, image_prompts)
    found = {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups.unique()}
    assert found == partition(prompts.tolist(), images.tolist(), image_prompts.tolist())
    order = random.permutation(30)
    shuffled = prompt_groups(
        prompts[order].reset_index(drop=True),
        images[order].reset_index(drop=True),
        image_prompts[order].reset_index(drop=True),
    )
    assert shuffled.tolist() == groups[order].tolist()


def test_benchmarks_are_rows_with_and_without_image_prompt_and_count_their_own_rows(tmp_path: Path) -> None:
    write_pku(tmp_path, rows=7, image_to_image=4)
    manifest = check(tmp_path).manifest
    for benchmark, rows in (("I2I", [0, 1, 2, 3]), ("T2I", [4, 5, 6]), ("all", list(range(7)))):
        table = manifest.select(benchmark).table
        assert table["row"].tolist() == rows
        assert table["position"].tolist() == list(range(len(rows)))


def test_positions_survive_skipped_rows_so_that_the_published_split_stays_the_same(tmp_path: Path) -> None:
    frame = write_pku(tmp_path, rows=12, image_to_image=6)
    whole = check(tmp_path).manifest
    for row in (1, 8):
        (tmp_path / "All" / frame.loc[row, "Generated_image"]).unlink()
    left = check(tmp_path).manifest
    for benchmark in ("I2I", "T2I", "all"):
        before, after = (
            manifest.select(benchmark).table.set_index("name")["position"] for manifest in (whole, left)
        )
        assert after.to_dict() == before[after.index].to_dict()
        assert set(after[after % 4 == 3].index) <= set(before[before % 4 == 3].index)


def test_a_benchmark_without_rows_is_an_error(tmp_path: Path) -> None:
    manifest = check(write_table(tmp_path / "t.csv")).manifest
    with pytest.raises(DataError, match="has no rows with an image prompt.*I2I"):
        manifest.select("I2I")
    assert len(manifest.select("T2I")) == 3


def test_inputs_are_distinct_by_content_not_by_name(tmp_path: Path) -> None:
    frame = write_pku(tmp_path)
    shutil.copy(
        tmp_path / "All" / frame.loc[0, "Generated_image"], tmp_path / "All" / frame.loc[5, "Generated_image"]
    )
    shutil.copy(
        tmp_path / "All" / frame.loc[1, "Generated_image"], tmp_path / "I2I" / "Image_prompt" / "0.png"
    )
    manifest = check(tmp_path).manifest
    images = manifest.images()
    assert len(images) == 7 + 1  # 8 images, two of them equal, and 2 image prompts, one of them an image
    assert all(file_key(Path(path)).hex() == key for key, path in images.items())
    prompts = manifest.prompts()
    assert len(prompts) == 4
    assert all(text_key(text).hex() == key for key, text in prompts.items())
    assert manifest.keys("image").shape == (8, 32)
    assert manifest.keys("image_prompt").shape == (4, 32)


def test_the_digest_depends_on_scores_and_images_and_not_on_paths(tmp_path: Path) -> None:
    frame = write_pku(tmp_path / "one")
    digest = check(tmp_path / "one").manifest.digest
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert check(tmp_path / "two").manifest.digest == digest
    save_table(frame.assign(MOS_a=frame["MOS_a"] + 1e-9), tmp_path / "two" / "annotation.xlsx")
    assert check(tmp_path / "two").manifest.digest != digest
    save_table(frame, tmp_path / "two" / "annotation.xlsx")
    assert check(tmp_path / "two").manifest.digest == digest
    save_picture(tmp_path / "two" / "I2I" / "Image_prompt" / "0.png", 77)
    assert check(tmp_path / "two").manifest.digest != digest


def test_missing_scores_are_counted_and_are_part_of_the_digest(tmp_path: Path) -> None:
    frame = write_pku(tmp_path)
    whole = check(tmp_path).manifest
    frame.loc[[2, 5], "MOS_c"] = np.nan
    frame.loc[3, "MOS_q"] = np.nan
    save_table(frame, tmp_path / "annotation.xlsx")
    manifest = check(tmp_path).manifest
    assert manifest.missing_scores == {"MOS_q": 1, "MOS_c": 2}
    assert whole.missing_scores == {}
    assert manifest.digest != whole.digest
    pd.testing.assert_frame_equal(
        manifest.table[list(manifest.targets)], frame[list(manifest.targets)], check_exact=True
    )


def test_rows_without_prompts_are_connected_by_images_alone() -> None:
    groups = groups_of(["", "", "", "a fox"], ["i0", "i1", "i0", "i3"], ["", "", "", "i1"])
    assert groups[0] == groups[2] != groups[1] == groups[3]
