"""Tables of users in commands: named columns, no prompts, several data sets."""

from pathlib import Path

import pandas as pd
import pytest

from tier4k.cache.listing import stores
from tier4k.heads.results.read import read_config, read_predictions
from tier4k.tests.builders.commands import assert_scores_are, on_one_line, read_scores, succeed, tier
from tier4k.tests.builders.data import save_picture, save_table, write_state

ROWS = 24
ENCODERS = ["--image-encoder", "timm:test_resnet", "--text-encoder", "bert-base-uncased"]
IMAGES_ONLY = ENCODERS[:2]
WEIGHTS = ["--image-weights", "test_resnet.pth"]
FIT = ["--head", "ridge", "--repeats", "2", "--split", "random"]


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with small weights."""
    monkeypatch.chdir(tmp_path)
    Path("bert-base-uncased").symlink_to(bert_folder)
    write_state("test_resnet", Path("test_resnet.pth"))
    return tmp_path


def image_names() -> list[str]:
    return [f"{('MJ', 'SD')[row % 2]}_{row}.png" for row in range(ROWS)]


def write(path: str, seed: int = 0, **columns: object) -> Path:
    """A table of drawn images with scores; the columns replace its own, None removes one."""
    names = image_names()
    for row, name in enumerate(names):
        save_picture(Path(path).parent / name, seed + row)
    frame = pd.DataFrame(
        {
            "image": names,
            "prompt": [f"prompt {seed + row // 2}" for row in range(ROWS)],
            "mos": [(seed + 7 * row) % ROWS + 0.5 for row in range(ROWS)],
        }
    ).assign(**columns)
    return save_table(
        frame.drop(columns=[name for name, value in columns.items() if value is None]), Path(path)
    )


def only_run() -> Path:
    (run,) = Path("runs").iterdir()
    return run


def test_a_table_without_prompts_is_used_by_its_images_alone(folder: Path) -> None:
    write("data/t.csv", prompt=None)
    output = succeed("extract", "data", *IMAGES_ONLY, *WEIGHTS, "--workers", "0")
    assert "images are taken as independent" in on_one_line(output)
    assert [store.signature.stream for store in stores(Path("features"))] == ["image"]
    assert "images are taken as independent of each other, as the rows" in on_one_line(
        succeed("fit-head", "data", *IMAGES_ONLY, *FIT)
    )
    config = read_config(only_run())
    assert (config.streams, set(config.signatures)) == (("image",), {"image"})
    succeed("predict", str(only_run()), "data", "-o", "scores.csv")
    scores = read_scores("scores.csv")
    assert len(scores) == ROWS
    Path("grid.toml").write_text('streams = ["all", "image", "image+text"]\nhead = "ridge"\n')
    sweep = ["sweep", "data", "--grid", "grid.toml", "--out", "swept", *IMAGES_ONLY]
    swept = succeed(*sweep, "--repeats", "2", "--split", "random")
    assert "1 combination is left out, because the data set has no text prompts" in swept
    assert len(list(Path("swept").glob("[!.]*"))) == 1  # all streams are those of images


def test_who_names_the_text_of_a_table_without_prompts_is_told(folder: Path) -> None:
    write("data/t.csv", prompt=None)
    succeed("extract", "data", *IMAGES_ONLY, *WEIGHTS, "--workers", "0")
    for command in (
        ["extract", "data", *ENCODERS, *WEIGHTS, "--streams", "image+text"],
        ["fit-head", "data", *ENCODERS, "--streams", "image+text"],
        ["features", "data", *ENCODERS, "--streams", "text", "-o", "x.npz"],
        ["score", "data", "--scorer", "pickscore"],
    ):
        code, output = tier(*command)
        assert code == 2
        assert "has no text prompts, which are needed here" in on_one_line(output), command
        takes_streams = command[0] != "score"
        assert ("or use --streams image" in on_one_line(output)) == takes_streams, command


def test_heads_that_use_the_text_name_a_remedy_that_the_command_has(folder: Path) -> None:
    write("text/t.csv")
    write("data/t.csv", prompt=None)
    succeed("extract", "text", *ENCODERS, *WEIGHTS, "--workers", "0")
    succeed("fit-head", "text", *ENCODERS, *FIT)
    for command in ("evaluate", "predict"):
        code, output = tier(command, str(only_run()), "data/t.csv")
        assert code == 2
        assert "or pass a run that was fitted with --streams image" in on_one_line(output), command


def test_named_columns_are_known_to_every_command(folder: Path) -> None:
    table = write(
        "data/t.csv",
        picture=[str(folder / "data" / f"{('MJ', 'SD')[row % 2]}_{row}.png") for row in range(ROWS)],
    )
    frame = pd.read_csv(table).rename(columns={"prompt": "words", "mos": "liking"}).drop(columns="image")
    save_table(frame.assign(other=1.0), table)
    columns = ["--columns", "image=picture,prompt=words,mos.quality=liking"]
    assert tier("extract", "data", *ENCODERS, *WEIGHTS)[0] == 2
    succeed("data", "check", "data", *columns)
    succeed("extract", "data", *ENCODERS, *WEIGHTS, *columns, "--workers", "0")
    succeed("fit-head", "data", *ENCODERS, *FIT, *columns)
    run = only_run()
    assert read_config(run).targets == ("quality",)
    succeed("predict", str(run), "data", *columns, "-o", "scores.csv")
    succeed("evaluate", str(run), "data", *columns, "--out", "evaluated")
    expected = read_predictions(run).query("repeat == 0")
    succeed("predict", str(run), "data", *columns, "--repeat", "0", "-o", "first.csv")
    assert_scores_are(read_scores("first.csv"), expected)
    assert "quality" in succeed("table", str(run))
    output = succeed("report", str(run), "-o", "page.html")
    assert "page.html" in output and "There are no images of" not in Path("page.html").read_text()


def test_heads_of_two_data_sets_are_fitted_in_one_command(folder: Path) -> None:
    write("one/a.csv")
    write("two/b.csv", seed=100)
    both = ["one", "two/b.csv"]
    succeed("extract", *both, *ENCODERS, *WEIGHTS, "--workers", "0")
    succeed("fit-head", *both, *ENCODERS, *FIT)
    run = only_run()
    assert read_config(run).data == "a+b"
    names = {name.partition("/")[0] for name in read_predictions(run)["name"]}
    assert names == {"a", "b"}
    succeed("report", str(run), "-o", "page.html")
    assert "There are no images of" not in Path("page.html").read_text()
