"""Commands as users meet them: fast help, nothing encoded twice, and errors with a remedy."""

import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import tier4k
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.commands import DATA, ENCODERS, PACKAGE_FOLDER, arrays, on_one_line, succeed, tier
from tier4k.tests.builders.data import table_rows, write_table

ANNOTATION = DATA / "annotation.xlsx"

IMAGES = DATA / "All"

FIRST_IMAGE = IMAGES / "MJ_000_00.png"

RANDOM_SPLIT = ["--split", "random", "--repeats", "1"]


def run_python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE_FOLDER)},
    )


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    heavy = ("torch", "timm", "transformers", "pandas", "sklearn", "numpy", "scipy", "h5py", "PIL")
    code = f"import sys, tier4k.cli; print([name for name in {heavy} if name in sys.modules])"
    result = run_python(code)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("name", tier4k.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(tier4k, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tier4k.nothing


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Rows that each network has encoded."""
    rows = {"image": 0, "text": 0}
    encode_images = ImageNetwork.forward
    encode_texts = TextNetwork.forward

    def count_images(self: ImageNetwork, batch: torch.Tensor) -> torch.Tensor:
        rows["image"] += len(batch)
        return encode_images(self, batch)

    def count_texts(self: TextNetwork, batch: object) -> torch.Tensor:
        rows["text"] += len(batch.ids)
        return encode_texts(self, batch)

    monkeypatch.setattr(ImageNetwork, "forward", count_images)
    monkeypatch.setattr(TextNetwork, "forward", count_texts)
    return rows


def test_each_distinct_input_is_encoded_once(project: Path, encoded: dict[str, int]) -> None:
    succeed("extract", "Dataset", "-F", "fresh", *ENCODERS)
    assert encoded == {"image": 12 + 2, "text": 2 + 2}  # 12 rows share 2 image prompts and 4 text prompts


def test_a_second_extract_encodes_only_what_a_grown_and_renamed_data_set_has_new(
    project: Path, encoded: dict[str, int]
) -> None:
    succeed("extract", "Dataset", *ENCODERS)
    assert encoded == {"image": 0, "text": 0}
    table = pd.read_excel(ANNOTATION)
    for row in range(10):
        name = table.loc[row, "Generated_image"]
        (IMAGES / name).rename(IMAGES / f"new_{name}")
        table.loc[row, "Generated_image"] = f"new_{name}"
    names = [f"added_{row}.png" for row in range(10)]
    added = table.iloc[:10].assign(Generated_image=names, Text_prompt="a new prompt")
    for row, name in enumerate(names):
        pixels = np.random.default_rng(row).integers(0, 255, (240, 260, 3), np.uint8)
        Image.fromarray(pixels).save(IMAGES / name)
    pd.concat([table, added]).to_excel(ANNOTATION, index=False)
    succeed("extract", "Dataset", *ENCODERS)
    assert encoded == {"image": 10, "text": 1}


def test_a_run_has_the_documented_files_and_a_rerun_finds_it(project: Path) -> None:
    fit = ["fit-head", "Dataset", "--split", "published", "--repeats", "2", "--target", "MOS_q", *ENCODERS]
    output = succeed(*fit)
    assert "leaks" in output
    assert "optimistic" in output
    assert "sibling mean" in output
    (run,) = Path("runs").iterdir()
    assert {file.name for file in run.iterdir()} == {
        "config.json",
        "results.json",
        "predictions.csv",
        "splits.json",
        "curves.csv",
        "model.json",
        "model.safetensors",
        "rows.csv",
    }
    predictions = pd.read_csv(run / "predictions.csv")
    assert list(predictions) == [
        "name",
        "generator",
        "group",
        "benchmark",
        "repeat",
        "target",
        "truth",
        "prediction",
    ]
    assert len(predictions) == 2 * 3  # rows 3, 7, 11 in each repeat
    results = json.loads((run / "results.json").read_text())
    assert len(results["summaries"]["MOS_q"]["best_validation"]["srcc"]["values"]) == 2
    before = (run / "results.json").stat().st_mtime_ns
    assert "this run exists already" in succeed(*fit)
    assert (run / "results.json").stat().st_mtime_ns == before


FITS = """
import sys
from tier4k.tests.builders.commands import succeed
for head in ("mlp", "ridge"):
    succeed("fit-head", "Dataset", "--head", head, "--out", f"{sys.argv[1]} {head}", *sys.argv[2:])
"""


@pytest.mark.slow
def test_equal_fits_of_two_processes_write_equal_bytes_except_their_environment(project: Path) -> None:
    options = ["--split", "random", "--repeats", "2", "--target", "all", *ENCODERS]
    for out in ("first", "second"):
        done = run_python(FITS, out, *options)
        assert done.returncode == 0, done.stderr
    for head in ("mlp", "ridge"):
        (first,), (second,) = (list(Path(f"{out} {head}").iterdir()) for out in ("first", "second"))
        names = sorted(path.name for path in first.iterdir())
        assert {"results.json", "predictions.csv", "splits.json", "model.safetensors"} <= set(names)
        assert names == sorted(path.name for path in second.iterdir()) and first.name == second.name
        differing = [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()]
        assert differing == ["config.json"]
        configs = [json.loads((run / "config.json").read_text()) for run in (first, second)]
        environments = [config.pop("environment") for config in configs]
        assert configs[0] == configs[1] and all(environment["seconds"] > 0 for environment in environments)


@pytest.mark.parametrize("head", ["mlp", "ridge"])
def test_saved_heads_give_the_predictions_of_the_run(project: Path, head: str) -> None:
    succeed("fit-head", "Dataset", "--head", head, *RANDOM_SPLIT, *ENCODERS)
    succeed("features", "Dataset", "-o", "X.npz", *ENCODERS)
    (run,) = Path("runs").iterdir()
    matrix = arrays("X.npz")
    table = pd.read_csv(run / "predictions.csv")
    for (target, repeat), fitted in read_model(run).heads.items():
        own = table[(table["target"] == target) & (table["repeat"] == repeat)]
        expected = own.set_index("name")["prediction"]
        found = pd.Series(fitted.predict(matrix["X"]), index=matrix["name"])[expected.index]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_aigiqa4k_is_an_accepted_spelling_of_all_rows(project: Path) -> None:
    succeed("features", "Dataset", "-o", "X.npz", "--benchmark", "AIGIQA4K", *ENCODERS)
    succeed("features", "Dataset", "-o", "Y.npz", "--benchmark", "all", *ENCODERS)
    np.testing.assert_array_equal(arrays("X.npz")["X"], arrays("Y.npz")["X"])
    fit = ["fit-head", "Dataset", "--head", "ridge", *RANDOM_SPLIT, *ENCODERS]
    succeed(*fit, "--benchmark", "AIGIQA4K")
    assert "this run exists already" in succeed(*fit, "--benchmark", "all")


# Rows and tables with faults


def edit(column: str | list[str], row: int, value: object) -> Callable[[], None]:
    def spoil() -> None:
        table = pd.read_excel(ANNOTATION, dtype=object)
        table.loc[row, column] = value
        table.to_excel(ANNOTATION, index=False)

    return spoil


def write_bomb() -> None:
    """Write a PNG of a few hundred bytes that declares 30,000 x 30,000 pixels."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    FIRST_IMAGE.write_bytes(body)


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[], object]:
    return lambda: FIRST_IMAGE.write_bytes(change(FIRST_IMAGE.read_bytes()))


SPOILED = {
    "missing picture": (lambda: FIRST_IMAGE.unlink(), "there is no file"),
    "no score": (edit(["MOS_q", "MOS_a", "MOS_c"], 0, None), "MOS_q, MOS_a, MOS_c are empty"),
    "text as score": (edit("MOS_a", 0, "good"), "'good', not a finite number"),
    "duplicate name": (edit("Generated_image", 0, "SD_000_01.png"), "lines 2, 3"),
    "name in another case": (edit("Generated_image", 0, "MJ_000_00.PNG"), "nearest: "),
    "infinite score": (edit("MOS_c", 0, "inf"), "not a finite number"),
    "missing image prompt": (edit("Image_prompt", 0, "gone.png"), "there is no file"),
    "empty prompt": (edit("Text_prompt", 0, None), "text prompt is empty"),
}


UNDECODABLE = {
    "empty picture": (rewrite(lambda _: b""), "zero bytes"),
    "truncated picture": (rewrite(lambda data: data[: len(data) // 2]), "truncated"),
    "no picture": (rewrite(lambda _: b"GARBAGE" * 99), "not an image"),
    "another file": (edit("Generated_image", 0, str(Path(__file__))), "not an image"),
    "decompression bomb": (write_bomb, "decompression bomb"),
}


def require_left_out(expected: str) -> None:
    """Extract, and require that one image is left out with this reason."""
    code, output = tier("extract", "Dataset", "-F", "fresh", "--streams", "image", *ENCODERS[:2])
    assert code == 2
    assert expected in output
    assert "1 image was left out, and the features of all others are stored" in output
    assert "--on-error skip" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("case", UNDECODABLE)
def test_an_image_that_cannot_be_decoded_is_named_when_all_others_are_stored(
    project: Path, case: str
) -> None:
    spoil, expected = UNDECODABLE[case]
    spoil()
    require_left_out(expected)
    assert len(list(Path("fresh").glob("*/signature.json"))) == 1


@pytest.mark.slow
def test_a_damaged_image_stays_reported_until_it_is_skipped(project: Path) -> None:
    spoil, expected = UNDECODABLE["truncated picture"]
    spoil()
    for _ in range(2):
        require_left_out(expected)
    skipping = ["--streams", "image", *ENCODERS[:2], "--on-error", "skip"]
    assert "unreadable.csv lists them" in succeed("extract", "Dataset", "-F", "fresh", *skipping)
    (listed,) = pd.read_csv("fresh/unreadable.csv").to_dict("records")
    assert expected in listed["reason"]
    assert "No problems" in succeed("data", "check", "Dataset")
    code, output = tier("data", "check", "Dataset", "--decode")
    assert code == 2
    assert expected in output
    assert "line 2" in output


@pytest.mark.parametrize("case", SPOILED)
def test_a_faulty_row_stops_the_command_and_is_named_with_its_line_and_a_remedy(
    project: Path, case: str
) -> None:
    spoil, expected = SPOILED[case]
    spoil()
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS)
    assert code == 2
    assert expected in output
    assert "line 2" in output
    assert "--on-error skip" in output
    assert "Traceback" not in output
    assert not Path("fresh").exists()


def save(path: str, **columns: list[object]) -> Callable[[], object]:
    return lambda: pd.DataFrame(columns).to_csv(path, index=False)


TABLES = {
    "empty file": (lambda: ANNOTATION.write_bytes(b""), "Dataset", "is no workbook, or it is damaged"),
    "garbage": (lambda: ANNOTATION.write_bytes(b"GARBAGE"), "Dataset", "is no workbook, or it is damaged"),
    "no table": (ANNOTATION.unlink, "Dataset", "contains no table, but must contain annotation.xlsx"),
    "misspelt column": (save("t.csv", imge=["a.png"], prompt=["a"], mos=[1]), "t.csv", "nearest: imge"),
    "header alone": (save("t.csv", image=[], prompt=[]), "t.csv", "has a header but no rows"),
    "another encoding": (
        lambda: Path("t.csv").write_bytes("image,prompt\na.png,\xe9".encode("latin-1")),
        "t.csv",
        "not UTF-8",
    ),
    "another kind": (lambda: Path("t.txt").write_text("image"), "t.txt", "not a table"),
}


@pytest.mark.parametrize("case", TABLES)
def test_an_unusable_table_is_rejected_with_a_remedy(project: Path, case: str) -> None:
    spoil, data, expected = TABLES[case]
    spoil()
    for command in (["data", "check"], ["extract", "-F", "fresh", *ENCODERS], ["fit-head", *ENCODERS]):
        code, output = tier(*command, data)
        assert code == 2, output
        assert expected in " ".join(output.split())
        assert "Traceback" not in output
    assert not Path("runs").exists()
    assert not Path("fresh").exists()


def test_all_problems_are_listed_together_and_skip_leaves_their_rows_out(project: Path) -> None:
    UNDECODABLE["empty picture"][0]()
    SPOILED["text as score"][0]()
    edit("MOS_c", 5, "?")()
    code, output = tier("data", "check", "Dataset", "--decode")
    assert code == 2
    assert "3 problems in 2 of 12 rows" in output
    output = succeed("features", "Dataset", "--on-error", "skip", "-o", "X.npz", *ENCODERS)
    assert "Skipped 2 of 12 rows" in output
    assert len(arrays("X.npz")["X"]) == 10
    assert set(pd.read_csv("features/skipped.csv")["line"]) == {2, 7}


OTHER_WEIGHTS = ["--image-encoder", "timm:resnet34", "--image-weights", "pretrained/resnet18.pth"]
FIT = ["fit-head", "Dataset", *ENCODERS]
WRONG = {
    "no data": (["extract", "nowhere"], "does not exist"),
    "unknown image encoder": (["extract", "Dataset", "--image-encoder", "resnet19"], "nearest: resnet18"),
    "unknown text encoder": (["extract", "Dataset", "--text-encoder", "bert"], "bert-base-uncased"),
    "missing weights": (["extract", "Dataset", "--image-encoder", "resnet50"], "put resnet50.pth into"),
    "weights of another network": (
        ["extract", "Dataset", *OTHER_WEIGHTS, "-F", "fresh"],
        "tensors are missing, first 'layer1.2.conv1.weight'",
    ),
    "no features": (
        ["fit-head", "Dataset", "--features", "nowhere"],
        "tier extract Dataset --features nowhere",
    ),
    "not this preparation": ([*FIT, "--preprocessing", "native"], "is 'reference' instead of 'native'"),
    "FR on T2I": ([*FIT, "--method", "fr", "--benchmark", "T2I"], "use the benchmark I2I"),
    "unknown target": (
        [*FIT, *RANDOM_SPLIT, "--target", "MOS_x"],
        "pass MOS_q, MOS_a, MOS_c, or all",
    ),
    "unknown benchmark": ([*FIT, "--benchmark", "i2i"], "there is no benchmark 'i2i': use I2I, T2I, all"),
    "no value": ([*FIT, "--set", "hidden"], "not of the form NAME=VALUE"),
    "too few prompts": (FIT, "a prompt split into"),
    "unknown suffix": (["features", "Dataset", *ENCODERS, "-o", "X.csv"], ".npz or .parquet"),
    "no stores": (["store", "ls", "-F", "nowhere"], "there are no feature stores"),
    "no repeats": (["fit-head", "Dataset", "--repeats", "0"], "pass a whole number from 1 to 10,000"),
    "weights of a stored fit": ([*FIT, "--image-weights", "x.pth"], "pass --finetune too"),
    "raters of unknown spread": ([*FIT, "--raters", "21"], "add a column std_MOS_q, std_MOS_a, std_MOS_c"),
    "no sweep": (["sweep", "Dataset"], "pass either --paper or --grid FILE"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_rejected_with_a_remedy(project: Path, case: str) -> None:
    arguments, expected = WRONG[case]
    code, output = tier(*arguments)
    assert code == 2
    assert expected in on_one_line(output)
    assert "Traceback" not in output
    assert not Path("runs").exists()
    assert not Path("fresh").exists()


class Evil:
    """An object whose unpickling runs code."""

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (Path("executed"),)


def test_pickled_code_in_weights_is_refused_and_not_run(project: Path) -> None:
    torch.save({"fc.weight": Evil()}, "pretrained/resnet18.pth")
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS)
    assert code == 2
    assert "could run code" in output
    assert not Path("executed").exists()


@pytest.mark.slow
def test_parts_on_several_machines_make_the_whole(project: Path, encoded: dict[str, int]) -> None:
    for part in ("1/3", "2/3", "3/3"):
        succeed("extract", "Dataset", "-F", "parts", "--shard", part, *ENCODERS)
    assert encoded == {"image": 12 + 2, "text": 2 + 2}
    succeed("features", "Dataset", "-F", "parts", "-o", "parts.npz", *ENCODERS)
    succeed("features", "Dataset", "-o", "whole.npz", *ENCODERS)
    np.testing.assert_allclose(arrays("parts.npz")["X"], arrays("whole.npz")["X"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_part_that_does_not_exist_is_refused(project: Path, part: str) -> None:
    code, output = tier("extract", "Dataset", "-F", "fresh", f"--shard={part}", *ENCODERS)
    assert code == 2
    assert "for example, 1/4" in output
    assert {path.name for path in Path("fresh").glob("*")} <= {"hashes"}  # those of images that are not new


def test_damage_is_reported_set_aside_and_encoded_again(project: Path, encoded: dict[str, int]) -> None:
    features = ["features", "Dataset", "--method", "pr", *ENCODERS]  # pr reads the image prompts too
    succeed(*features, "-o", "before.npz")
    succeed("store", "verify")
    (shard,) = Path("features").glob("resnet18-*/*.h5")
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    for command in (["store", "verify"], [*features, "-o", "X.npz"]):
        code, output = tier(*command)
        assert code == 2
        assert shard.name in output
        assert "--repair" in output
    assert f"{shard.name}.damaged" in succeed("store", "verify", "--repair")
    assert not shard.exists()
    succeed("extract", "Dataset", *ENCODERS)
    assert encoded == {"image": 14, "text": 0}
    succeed(*features, "-o", "after.npz")
    np.testing.assert_allclose(arrays("after.npz")["X"], arrays("before.npz")["X"], rtol=1e-6)


def test_store_ls_shows_for_which_data_a_store_is_complete(project: Path) -> None:
    output = succeed("store", "ls")
    assert "PKU-AIGIQA-4K" in output
    assert "512" in output


def table_of_images(score: str) -> pd.DataFrame:
    """Return the annotation in the layout of a table, with one score column."""
    names = {"Generated_image": "image", "Text_prompt": "prompt", "MOS_q": score}
    return pd.read_excel(ANNOTATION).rename(columns=names)[["image", "prompt", score]]


def test_names_that_look_like_markup_are_printed_as_they_are(project: Path) -> None:
    table_of_images("mos[/b]").assign(generator="[red]sd").to_csv(IMAGES / "t.csv", index=False)
    data = str(IMAGES / "t.csv")
    output = succeed("data", "check", data)
    assert "mos[/b]" in output
    assert "[red]sd" in output
    succeed("extract", data, *ENCODERS)
    assert "[x].npz" in succeed("features", data, "-o", "[x].npz", *ENCODERS)
    assert "mos[/b]" in succeed("fit-head", data, *RANDOM_SPLIT, "--epochs", "1", *ENCODERS)


@pytest.mark.parametrize(("column", "file"), [("allow_pickle", "X.npz"), ("x0", "X.parquet")])
def test_a_score_with_a_name_that_the_matrix_uses_is_refused(project: Path, column: str, file: str) -> None:
    table_of_images(column).to_csv(IMAGES / "t.csv", index=False)
    code, output = tier("features", str(IMAGES / "t.csv"), "-o", file, *ENCODERS)
    assert code == 2
    assert f"the names {column} are reserved" in output
    assert not Path(file).exists()


def test_a_folder_of_runs_that_cannot_be_written_is_reported_before_any_fit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("runs").write_text("a file")
    monkeypatch.setattr("tier4k.heads.protocol.fit.run_trials", lambda *_: pytest.fail("a head was fitted"))
    code, output = tier("fit-head", "Dataset", "--split", "random", *ENCODERS)
    assert code == 2
    assert "cannot write to runs" in output


INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore Ctrl-C
from tier4k import cli
from tier4k.cache.writer import ShardWriter
from tier4k.extract.pipeline.units import IMAGES_PER_UNIT

IMAGES_PER_UNIT["cpu"] = 4
sent = int(sys.argv.pop(1))
add = ShardWriter.add

def add_and_interrupt(self, keys, features):
    add(self, keys, features)
    os.kill(os.getpid(), sent)

ShardWriter.add = add_and_interrupt
sys.argv[0] = "tier"
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_extract_keeps_what_it_encoded(project: Path, sent: signal.Signals) -> None:
    extract = ["extract", "Dataset", "-F", "fresh", *ENCODERS]
    result = run_python(INTERRUPTED, str(int(sent)), *extract, "--batch-size", "4")
    assert result.returncode == 130, result.stderr
    assert "images and prompts that were encoded are stored" in result.stderr
    assert "epoch" not in result.stderr and "Traceback" not in result.stderr
    (missing,) = re.findall(r"encoded (\d+) of 14 distinct inputs", succeed(*extract))
    assert 0 < int(missing) <= 10  # the next unit may have been encoded while the first one was written


@pytest.mark.slow
def test_the_demo_shows_all_tables_and_ends_with_commands_that_work(tmp_path: Path) -> None:
    output = succeed("demo", str(tmp_path), "--repeats", "1")
    for method in ("TIER-NR", "TIER-FR", "TIER-PR"):
        assert method in output
    commands = [shlex.split(line)[1:] for line in output.splitlines() if line.startswith("  tier ")]
    assert [command[0] for command in commands] == ["table", "compare", "fit-head", "predict"]
    for command in commands:
        succeed(*command)
    shutil.rmtree(tmp_path)


def test_a_command_says_which_spellings_it_takes_for_one_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{row}.png" for row in range(8)]
    spellings = ["SD 1.5", "sd1.5", "sd1.5", "MJ", "GLIDE", "glide", "MJ", "MJ"]
    write_table(Path("t.csv"), table_rows(names, generator=spellings))
    said = succeed("split", "t.csv", "--split", "generator", "-o", "splits.json")
    assert "Spellings of one generator: sd1.5 = SD 1.5; GLIDE = glide" in said
    splits = json.loads(Path("splits.json").read_text())
    assert {tuple(split["test"]) for split in splits} == {
        ("0.png", "1.png", "2.png"),
        ("3.png", "6.png", "7.png"),
        ("4.png", "5.png"),
    }
