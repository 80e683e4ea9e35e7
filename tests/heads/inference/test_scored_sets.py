"""`tier predict` and `tier score` of whole sets: Parquet files, no stores, any form of data."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.heads.inference import live_heads, row_scorers
from tier4k.tests.builders.commands import DATA, on_one_line, read_scores, succeed, tier
from tier4k.tests.builders.data import save_picture, table_rows, write_table
from tier4k.tests.builders.scorers import write_clip

TARGETS = ("MOS_q", "MOS_a", "MOS_c")
VALUES = ("score", "low", "high", "spread")


def in_long_form(path: str) -> pd.DataFrame:
    """The lines of a Parquet file of scores as `tier predict -o FILE.csv` writes them."""
    wide = pd.read_parquet(path)
    lines = []
    for row in wide.to_dict("records"):
        for target in TARGETS:
            lines.append({"name": row["name"], "target": target} | {v: row[f"{target}_{v}"] for v in VALUES})
    return pd.DataFrame(lines)


def assert_equal_scores(parquet: str, csv: str, tolerance: float) -> None:
    expected = read_scores(csv)[["name", "target", *VALUES]]
    pd.testing.assert_frame_equal(
        in_long_form(parquet), expected, check_dtype=False, rtol=tolerance, atol=tolerance
    )


def test_every_output_has_the_same_scores_and_a_rerun_reads_them(
    fitted_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = ["predict", "runs/pr", "Dataset", "-o"]
    succeed(*predict, "scores.csv")
    monkeypatch.setattr(row_scorers, "ROWS_AT_ONCE", 5)
    assert "before" not in succeed(*predict, "scores.parquet")
    assert_equal_scores("scores.parquet", "scores.csv", 1e-6)
    table = pd.read_parquet("scores.parquet")
    assert set(table["file"]) == {str((DATA / "annotation.xlsx").absolute())}
    assert table["line"].tolist() == list(range(2, 14))
    assert "12 images; 12 were scored before" in succeed(*predict, "scores.parquet")
    monkeypatch.setattr(ImageNetwork, "forward", None)
    shutil.rmtree("features")
    code, output = tier("predict", "runs/nr", "Dataset", "-o", "scores.parquet")
    assert code == 2
    assert "scores of another model, pr, and not of nr" in on_one_line(output)


@pytest.mark.slow
def test_scores_without_stores_are_those_with_stores(
    fitted_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed("predict", "runs/pr", "Dataset", "-o", "scores.csv")
    monkeypatch.setattr(live_heads, "ROWS_AT_ONCE", 5)
    shutil.rmtree("features")
    predict = ["predict", "runs/pr", "Dataset", "--no-store", "--device", "cpu", "-o"]
    succeed(*predict, "scores.parquet", "--workers", "2")
    assert_equal_scores("scores.parquet", "scores.csv", 1e-4)
    assert not list(Path("features").rglob("*.h5"))
    shutil.rmtree("pretrained")
    shutil.rmtree("bert-base-uncased")
    code, output = tier(*predict, "scores.csv")
    assert code == 2
    assert "pretrained" in output


def broken_set() -> None:
    """Images in new/ with prompts in a table; the image z.png is none, and gone.png does not exist."""
    for number, name in enumerate(("a", "b")):
        save_picture(Path(f"new/{name}.png"), number, (300, 260))
    Path("new/z.png").write_text("no image")
    names = ["a.png", "z.png", "gone.png", "b.png"]
    pd.DataFrame({"image": names, "prompt": ["one", "two", "two", "one"]}).to_csv("new/t.csv", index=False)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--no-store"]])
def test_rows_without_a_score_have_the_reason(fitted_copy: Path, options: list[str]) -> None:
    broken_set()
    predict = ["predict", "runs/nr", "new/t.csv", "--workers", "0", *options, "-o", "scores.parquet"]
    code, output = tier(*predict)
    assert code == 2
    assert "gone.png" in output
    assert not Path("scores.parquet").exists()
    output = succeed(*predict, "--on-error", "skip")
    assert "2 images, and 2 left out with the reason" in on_one_line(output)
    table = pd.read_parquet("scores.parquet").set_index("name")
    assert table.index.tolist() == ["a.png", "z.png", "gone.png", "b.png"]
    assert table["MOS_q_score"].notna().tolist() == [True, False, False, True]
    assert "not an image" in table.loc["z.png", "reason"]
    assert "there is no file" in table.loc["gone.png", "reason"]
    assert table.loc[["a.png", "b.png"], "reason"].isna().all()


@pytest.mark.slow
def test_an_unreadable_image_stops_a_command_without_stores_after_the_others_are_scored(
    fitted_copy: Path,
) -> None:
    broken_set()
    pd.read_csv("new/t.csv").query("image != 'gone.png'").to_csv("new/t.csv", index=False)
    predict = ["predict", "runs/nr", "new/t.csv", "--no-store", "--workers", "0", "-o", "scores.parquet"]
    code, output = tier(*predict)
    assert code == 2
    assert "1 image was left out, and all others are scored" in on_one_line(output)
    assert pd.read_parquet("scores.parquet")["MOS_q_score"].notna().tolist() == [True, False, True]
    save_picture(Path("new/z.png"), 5, (300, 260))
    assert "3 images; 2 were scored before" in on_one_line(succeed(*predict))


@pytest.mark.slow
def test_the_images_of_an_archive_get_the_scores_of_their_files(fitted_copy: Path) -> None:
    names = ("a", "b")
    with tarfile.open("new.tar", "w") as archive:
        for number, name in enumerate(names):
            save_picture(Path(f"new/{name}.png"), number, (300, 260))
            Path(f"new/{name}.txt").write_text(f"prompt {name}")
            for suffix in (".png", ".txt"):
                content = Path(f"new/{name}{suffix}").read_bytes()
                member = tarfile.TarInfo(f"{name}{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    predict = ["predict", "runs/nr", "--workers", "0", "-o"]
    succeed(*predict, "files.csv", "new")
    succeed(*predict, "archive.csv", "new.tar")
    succeed(*predict, "archive.parquet", "new.tar", "--no-store")
    expected = read_scores("files.csv")["score"]
    np.testing.assert_allclose(read_scores("archive.csv")["score"], expected, atol=1e-6)
    found = in_long_form("archive.parquet")
    np.testing.assert_allclose(found["score"], expected, atol=1e-4)


SCORE = ["score", "data/t.csv", "--scorer", "clipscore", "--workers", "0", "--device", "cpu"]


def test_data_without_ratings_are_scored_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_hub: None
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip-vit-large-patch14")
    write_table(Path("data/t.csv"), table_rows().drop(columns="mos"))
    code, output = tier(*SCORE)
    assert code == 2
    assert "has no ratings" in on_one_line(output)
    assert not Path("features").exists()
    succeed(*SCORE, "-o", "scores.parquet")
    table = pd.read_parquet("scores.parquet")
    assert table["name"].tolist() == ["MJ_0.png", "MJ_1.png", "SD_2.png"]
    (store,) = Path("features").glob("clipscore-*")
    stored = np.concatenate([features for _, features in FeatureStore.open(store).blocks()])
    assert sorted(table["clipscore_score"]) == pytest.approx(sorted(stored[:, 0].tolist()))
    assert table["clipscore_low"].isna().all()
    assert not Path("runs").exists()
    code, output = tier(*SCORE, "-o", "scores.parquet", "--split", "random")
    assert code == 2
    assert "without -o" in on_one_line(output)
