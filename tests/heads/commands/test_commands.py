"""The commands as a user meets them: nothing heavy before it is needed, nothing encoded twice, and errors that can be mended."""

import json
import os
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
from typer.testing import CliRunner

from tier4k import cli
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork

ENCODERS = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]
DATA = Path("Dataset/PKU-AIGIQA-4K")


def tier(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = "import cli, sys; print([name for name in ('torch', 'timm', 'transformers', 'pandas', 'sklearn') if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many rows each network has encoded."""
    rows = {"image": 0, "text": 0}
    for stream, network, size in (
        ("image", ImageNetwork, len),
        ("text", TextNetwork, lambda batch: len(batch.ids)),
    ):

        def forward(
            self: torch.nn.Module, batch: object, stream: str = stream, size=size, original=network.forward
        ) -> torch.Tensor:
            rows[stream] += size(batch)
            return original(self, batch)

        monkeypatch.setattr(network, "forward", forward)
    return rows


def test_each_distinct_input_is_encoded_once(project: Path, encoded: dict[str, int]) -> None:
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS)
    assert code == 0, output
    assert encoded == {"image": 12 + 2, "text": 2 + 2}  # 12 rows share 2 image prompts and 4 text prompts


def test_a_second_extract_encodes_nothing_and_a_grown_and_renamed_data_set_only_what_is_new(
    project: Path, encoded: dict[str, int]
) -> None:
    assert tier("extract", "Dataset", *ENCODERS)[0] == 0
    assert encoded == {"image": 0, "text": 0}
    table = pd.read_excel(DATA / "annotation.xlsx")
    for row in range(10):  # ten files get new names
        name = table.loc[row, "Generated_image"]
        (DATA / "All" / name).rename(DATA / "All" / f"new_{name}")
        table.loc[row, "Generated_image"] = f"new_{name}"
    added = table.iloc[:10].assign(
        Generated_image=[f"added_{row}.png" for row in range(10)], Text_prompt="a new prompt"
    )
    for row, name in enumerate(added["Generated_image"]):
        pixels = np.random.default_rng(row).integers(0, 255, (240, 260, 3), np.uint8)
        from PIL import Image

        Image.fromarray(pixels).save(DATA / "All" / name)
    pd.concat([table, added]).to_excel(DATA / "annotation.xlsx", index=False)
    assert tier("extract", "Dataset", *ENCODERS)[0] == 0
    assert encoded == {"image": 10, "text": 1}


def test_a_run_has_the_promised_files_and_a_rerun_finds_it(project: Path) -> None:
    fit = ["fit-head", "Dataset", "--split", "published", "--repeats", "2", "--target", "MOS_q", *ENCODERS]
    code, output = tier(*fit)
    assert code == 0, output
    assert "leaks" in output and "floor: sibling mean" in output and "optimistic" in output
    (run,) = Path("runs").iterdir()
    files = {
        "config.json",
        "results.json",
        "predictions.csv",
        "splits.json",
        "curves.csv",
        "model.json",
        "model.safetensors",
    }
    assert {file.name for file in run.iterdir()} == files
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
    code, output = tier(*fit)
    assert code == 0 and "was there already" in output
    assert (run / "results.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("head", ["mlp", "ridge"])
def test_saved_heads_predict_what_the_run_says(project: Path, head: str) -> None:
    from tier4k.heads.results.model import read_model

    assert (
        tier("fit-head", "Dataset", "--head", head, "--split", "random", "--repeats", "1", *ENCODERS)[0] == 0
    )
    assert tier("features", "Dataset", "-o", "X.npz", *ENCODERS)[0] == 0
    (run,) = Path("runs").iterdir()
    matrix, table = arrays("X.npz"), pd.read_csv(run / "predictions.csv")
    for (target, repeat), head in read_model(run).heads.items():
        mine = table[(table["target"] == target) & (table["repeat"] == repeat)].set_index("name")[
            "prediction"
        ]
        found = pd.Series(head.predict(matrix["X"]), index=matrix["name"])[mine.index]
        np.testing.assert_allclose(found, mine, atol=1e-5)


def edit(column: str, row: int, value: object) -> Callable[[], None]:
    def spoil() -> None:
        table = pd.read_excel(DATA / "annotation.xlsx", dtype=object)
        table.loc[row, column] = value
        table.to_excel(DATA / "annotation.xlsx", index=False)

    return spoil


def bomb() -> None:
    """A PNG of a few hundred bytes that declares 30,000 x 30,000 pixels."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (DATA / "All" / "MJ_000_00.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def link_out() -> None:
    picture = DATA / "All" / "MJ_000_00.png"
    picture.rename("outside.png")
    picture.symlink_to(Path("outside.png").resolve())


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[], None]:
    def spoil() -> None:
        path = DATA / "All" / "MJ_000_00.png"
        path.write_bytes(change(path.read_bytes()))

    return spoil


SPOILED = {
    "missing picture": (lambda: (DATA / "All" / "MJ_000_00.png").unlink(), "there is no file"),
    "empty picture": (rewrite(lambda _: b""), "zero bytes"),
    "truncated picture": (rewrite(lambda data: data[: len(data) // 2]), "truncated"),
    "no picture": (rewrite(lambda _: b"GARBAGE" * 99), "not a picture"),
    "empty score": (edit("MOS_q", 0, None), "MOS_q is empty"),
    "text as score": (edit("MOS_a", 0, "good"), "'good', not a finite number"),
    "duplicate name": (edit("Generated_image", 0, "SD_000_01.png"), "lines 2, 3"),
    "path out": (edit("Generated_image", 0, "../../../etc/passwd"), "leads out of the data folder"),
    "absolute path": (edit("Generated_image", 0, "/etc/passwd"), "leads out of the data folder"),
    "link out": (link_out, "leads out of the data folder"),
    "decompression bomb": (bomb, "decompression bomb"),
    "infinite score": (edit("MOS_c", 0, "inf"), "not a finite number"),
    "missing image prompt": (edit("Image_prompt", 0, "gone.png"), "there is no file"),
    "empty prompt": (edit("Text_prompt", 0, None), "text prompt is empty"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_bad_row_stops_everything_with_its_line_and_remedy(project: Path, case: str) -> None:
    spoil, expected = SPOILED[case]
    spoil()
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS)
    assert code == 2 and expected in output and "line 2" in output and "--on-error skip" in output
    assert "Traceback" not in output and not Path("fresh").exists()


def save(path: str, frame: pd.DataFrame) -> Callable[[], object]:
    return lambda: frame.to_csv(path, index=False)


ANNOTATION = DATA / "annotation.xlsx"
TABLES = {
    "empty file": (lambda: ANNOTATION.write_bytes(b""), "Dataset", "cannot be read as .xlsx"),
    "garbage": (lambda: ANNOTATION.write_bytes(b"GARBAGE"), "Dataset", "cannot be read as .xlsx"),
    "no table": (ANNOTATION.unlink, "Dataset", "holds no table: expected annotation.xlsx"),
    "misspelt column": (
        save("t.csv", pd.DataFrame({"imge": ["a.png"], "prompt": ["a"], "mos": [1]})),
        "t.csv",
        "nearest: 'imge'",
    ),
    "header alone": (
        save("t.csv", pd.DataFrame({"image": [], "prompt": []})),
        "t.csv",
        "has a header but no rows",
    ),
    "another encoding": (
        lambda: Path("t.csv").write_bytes("image,prompt\na.png,\xe9".encode("latin-1")),
        "t.csv",
        "not UTF-8",
    ),
    "another kind": (lambda: Path("t.json").write_text("{}"), "t.json", "not a table"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_bad_table_is_told_with_its_remedy(project: Path, case: str) -> None:
    spoil, data, expected = TABLES[case]
    spoil()
    for command in (["data", "check"], ["extract", "-F", "fresh", *ENCODERS], ["fit-head", *ENCODERS]):
        code, output = tier(*command, data)
        assert code == 2 and expected in " ".join(output.split()) and "Traceback" not in output, output
    assert not Path("runs").exists() and not Path("fresh").exists()


def test_all_problems_come_together_and_skip_leaves_the_rows_out(project: Path) -> None:
    for case in ("empty picture", "text as score"):
        SPOILED[case][0]()
    edit("MOS_c", 5, "?")()
    code, output = tier("data", "check", "Dataset")
    assert code == 2 and "3 problems in 2 of 12 rows" in output
    code, output = tier("features", "Dataset", "--on-error", "skip", "-o", "X.npz", *ENCODERS)
    assert code == 0 and "Skipped 2 of 12 rows" in output
    assert len(arrays("X.npz")["X"]) == 10
    assert set(pd.read_csv("features/skipped.csv")["line"]) == {2, 7}


WRONG = {
    "no data": (["extract", "nowhere"], "does not exist"),
    "unknown image encoder": (["extract", "Dataset", "--image-encoder", "resnet19"], "nearest: resnet18"),
    "unknown text encoder": (["extract", "Dataset", "--text-encoder", "bert"], "bert-base-uncased"),
    "missing weights": (["extract", "Dataset", "--image-encoder", "resnet50"], "put resnet50.pth into"),
    "weights of another network": (
        [
            "extract",
            "Dataset",
            "--image-encoder",
            "timm:resnet34",
            "--image-weights",
            "pretrained/resnet18.pth",
            "-F",
            "fresh",
        ],
        "tensors are missing, first 'layer1.2.conv1.weight'",
    ),
    "no features": (["fit-head", "Dataset", "--features", "nowhere"], "tier extract DATA --features nowhere"),
    "not this preparation": (
        ["fit-head", "Dataset", *ENCODERS, "--preprocessing", "native"],
        "preparation is 'reference', asked for 'native'",
    ),
    "FR on T2I": (
        ["fit-head", "Dataset", *ENCODERS, "--method", "fr", "--benchmark", "T2I"],
        "use --benchmark I2I",
    ),
    "unknown target": (
        ["fit-head", "Dataset", *ENCODERS, "--target", "MOS_x"],
        "choose among MOS_q, MOS_a, MOS_c",
    ),
    "too few prompts": (["fit-head", "Dataset", *ENCODERS], "too few for a prompt split"),
    "unknown suffix": (["features", "Dataset", *ENCODERS, "-o", "X.csv"], ".npz or .parquet"),
    "no stores": (["store", "ls", "-F", "nowhere"], "there are no feature stores"),
    "no repeats": (["fit-head", "Dataset", "--repeats", "0"], "greater than or equal to 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_told_with_its_remedy(project: Path, case: str) -> None:
    arguments, expected = WRONG[case]
    code, output = tier(*arguments)
    assert code == 2 and expected in " ".join(output.split()) and "Traceback" not in output
    assert not Path("runs").exists() and not Path("fresh").exists()


def test_pickled_code_in_weights_is_refused_and_not_run(project: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path("executed"),)  # type: ignore[return-value]

    torch.save({"fc.weight": Evil()}, "pretrained/resnet18.pth")
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS)
    assert code == 2 and "could run code" in output and not Path("executed").exists()


def test_parts_on_several_machines_together_are_the_whole(project: Path, encoded: dict[str, int]) -> None:
    for part in ("1/3", "2/3", "3/3"):
        assert tier("extract", "Dataset", "-F", "parts", "--shard", part, *ENCODERS)[0] == 0
    assert encoded == {"image": 12 + 2, "text": 2 + 2}
    assert tier("features", "Dataset", "-F", "parts", "-o", "parts.npz", *ENCODERS)[0] == 0
    assert tier("features", "Dataset", "-o", "whole.npz", *ENCODERS)[0] == 0
    np.testing.assert_allclose(arrays("parts.npz")["X"], arrays("whole.npz")["X"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_part_that_does_not_exist_is_refused(project: Path, part: str) -> None:
    code, output = tier("extract", "Dataset", "-F", "fresh", f"--shard={part}", *ENCODERS)
    assert code == 2 and "such as 1/4" in output and not Path("fresh").exists()


def test_damage_is_named_set_aside_and_refilled(project: Path, encoded: dict[str, int]) -> None:
    assert tier("features", "Dataset", "-o", "before.npz", *ENCODERS)[0] == 0
    assert tier("store", "verify")[0] == 0
    (shard,) = Path("features").glob("resnet18-*/*.h5")
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    for command in (["store", "verify"], ["features", "Dataset", "-o", "X.npz", *ENCODERS]):
        code, output = tier(*command)
        assert code == 2 and shard.name in output and "--repair" in output
    code, output = tier("store", "verify", "--repair")
    assert code == 0 and f"{shard.name}.damaged" in output and not shard.exists()
    assert tier("extract", "Dataset", *ENCODERS)[0] == 0
    assert encoded == {"image": 14, "text": 0}
    assert tier("features", "Dataset", "-o", "after.npz", *ENCODERS)[0] == 0
    np.testing.assert_allclose(arrays("after.npz")["X"], arrays("before.npz")["X"], rtol=1e-6)


def test_store_ls_shows_for_which_data_a_store_is_complete(project: Path) -> None:
    code, output = tier("store", "ls")
    assert code == 0 and "PKU-AIGIQA-4K" in output and "512" in output


def test_names_that_look_like_markup_are_shown_as_they_are(project: Path) -> None:
    table = pd.read_excel(DATA / "annotation.xlsx").rename(
        columns={"Generated_image": "image", "Text_prompt": "prompt", "MOS_q": "mos[/b]"}
    )
    table[["image", "prompt", "mos[/b]"]].assign(generator="[red]sd").to_csv(
        DATA / "All" / "t.csv", index=False
    )
    data = str(DATA / "All" / "t.csv")
    fit = ["fit-head", "--split", "random", "--repeats", "1", "--epochs", "1"]
    for command in (["data", "check"], ["extract"], ["features", "-o", "[x].npz"], fit):
        code, output = tier(*command, data, *([] if command[0] == "data" else ENCODERS))
        assert code == 0, output
        assert command[0] == "extract" or any(name in output for name in ("mos[/b]", "[x].npz"))
    assert "[red]sd" in tier("data", "check", data)[1]


@pytest.mark.parametrize(("column", "file"), [("file", "X.npz"), ("x0", "X.parquet")])
def test_a_score_with_a_name_that_the_matrix_uses_is_refused(project: Path, column: str, file: str) -> None:
    table = pd.read_excel(DATA / "annotation.xlsx").rename(
        columns={"Generated_image": "image", "Text_prompt": "prompt", "MOS_q": column}
    )
    table[["image", "prompt", column]].to_csv(DATA / "All" / "t.csv", index=False)
    code, output = tier("features", str(DATA / "All" / "t.csv"), "-o", file, *ENCODERS)
    assert code == 2 and f"use the names {column}" in output and not Path(file).exists()


def test_a_folder_of_runs_that_cannot_be_written_is_told_before_any_fit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("runs").write_text("a file")
    monkeypatch.setattr("tier4k.heads.protocol.fit.run_trials", lambda *_: pytest.fail("fitted all the same"))
    code, output = tier("fit-head", "Dataset", "--split", "random", *ENCODERS)
    assert code == 2 and "cannot write to runs" in output


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_extract_keeps_what_it_encoded(project: Path, sent: signal.Signals) -> None:
    code = (
        # A shell's background job, as this suite may be one, ignores Ctrl-C; what is tested is a command in the foreground.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import cli, os, sys, tier4k.cache.store, tier4k.extract.pipeline.run; add = tier4k.cache.store.ShardWriter.add\n"
        f"def once(self, keys, features): add(self, keys, features); os.kill(os.getpid(), {int(sent)})\n"
        "tier4k.cache.store.ShardWriter.add = once; sys.argv[0] = 'tier'; cli.main()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "extract",
        "Dataset",
        "-F",
        "fresh",
        "--batch-size",
        "4",
        *ENCODERS,
    ]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parent)},
    )
    assert (
        result.returncode == 130
        and "the same command does the rest" in result.stderr
        and "Traceback" not in result.stderr
    )
    code, output = tier("extract", "Dataset", "-F", "fresh", *ENCODERS)
    assert code == 0 and "encoded 10 of 14 distinct inputs" in output


@pytest.mark.slow
def test_the_demo_ends_with_all_tables(tmp_path: Path) -> None:
    code, output = tier("demo", str(tmp_path), "--repeats", "1")
    assert code == 0, output
    for method in ("TIER-NR", "TIER-FR", "TIER-PR"):
        assert method in output
    shutil.rmtree(tmp_path)
