"""Well-formed small files of every format that tier4k reads, in one project folder that cases damage."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import torch
from safetensors.torch import save_file

from tier4k.tests.builders.data import make_picture, write_state
from tier4k.tests.builders.forms import write_tar
from tier4k.tests.builders.layouts import save_sheet, write_aigiqa20k, write_evalmuse
from tier4k.tests.builders.own_heads import write_module
from tier4k.tests.builders.scorers import write_clip as write_scorer
from tier4k.tests.builders.text_models import write_sentence_folder, write_text_folder

ROWS = 12

IMAGE = ["--image-encoder", "timm:test_resnet", "--image-weights", "weights/net.pth"]
ENCODERS = [*IMAGE, "--text-encoder", "hf:text"]
"""The options that name the encoders of the project, for extraction."""

STORED_ENCODERS = ["--image-encoder", "timm:test_resnet", "--text-encoder", "hf:text"]
"""The same for commands that read stored features."""

GRID = """\
method = ["nr", "pr"]
head = "ridge"
repeats = 2
target = "mos"
image_encoder = "timm:test_resnet"
text_encoder = "hf:text"
penalties = "1,10"
"""

TEMPLATES = """\
quality = ["a good photo", "a bad photo"]
agreement = ["a photo that matches its description", "a photo that does not"]
"""

OPTIONS = """\
[fit-head]
data = ["data/table.csv"]
image-encoder = ["timm:test_resnet"]
text-encoder = ["hf:text"]
head = "ridge"
repeats = 1
seed = 3
set = ["penalties=1,10"]
out = "new"

[predict]
run = "runs/ridge"
inputs = ["data/table.csv"]
image-weights = "weights/net.pth"
output = "new.csv"

[store.gc]
runs = ["runs"]
older-than = 1.5
"""

SUFFIXES = (".png", ".jpg", ".webp", ".gif")


def build(folder: Path) -> None:
    """Write the project: data, weights, and what the commands make of them."""
    folder.mkdir(parents=True)
    with chdir(folder):
        frame = _write_tables(Path("data"))
        _write_forms(frame)
        _write_layouts()
        _write_networks()
        _write_settings(frame)
        write_module(Path("packages"), "own_heads")
        sys.path.insert(0, "packages")
        with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing):
            _run_commands()


def _write_tables(folder: Path) -> pd.DataFrame:
    names = [f"{('MJ', 'SD')[row % 2]}_{row:02d}{SUFFIXES[row % len(SUFFIXES)]}" for row in range(ROWS)]
    folder.mkdir()
    for row, name in enumerate(names):
        make_picture(row, (20 + row, 18)).save(folder / name)
    frame = pd.DataFrame(
        {
            "image": names,
            "prompt": [f"prompt number {row // 2}" for row in range(ROWS)],
            "generator": [name[:2] for name in names],
            "image_prompt": [names[row // 2 * 2] if row % 4 < 2 else None for row in range(ROWS)],
            "mos": np.linspace(1, 5, ROWS)[np.random.default_rng(0).permutation(ROWS)].round(3),
            "std_mos": 0.5,
            "raters": 7,
        }
    )
    frame.to_csv(folder / "table.csv", index=False)
    frame.to_csv(folder / "table.tsv", index=False, sep="\t")
    frame.to_excel(folder / "table.xlsx", index=False)
    frame.to_parquet(folder / "table.parquet", index=False)
    frame.to_json(folder / "table.json", orient="records")
    frame.to_json(folder / "table.jsonl", orient="records", lines=True)
    return frame


def _write_forms(frame: pd.DataFrame) -> None:
    Path("forms").mkdir()
    Path("prompted").mkdir()
    for name in frame["image"][:2]:
        shutil.copy(Path("data") / name, "prompted")
        (Path("prompted") / name).with_suffix(".txt").write_text("a prompt")
    contents = [(Path("data") / name).read_bytes() for name in frame["image"][:4]]
    members: dict[str, bytes] = {}
    for number, content in enumerate(contents):
        members[f"{number}{SUFFIXES[number]}"] = content
        members[f"{number}.txt"] = f"prompt {number}".encode()
        members[f"{number}.json"] = json.dumps({"prompt": f"prompt {number}", "mos": number}).encode()
    write_tar(Path("forms/samples.tar"), members)
    image = pa.array([{"bytes": content, "path": None} for content in contents])
    table = pa.table({"image": image, "prompt": [f"prompt {number}" for number in range(4)]})
    pq.write_table(table, "forms/images.parquet")
    saved = Path("forms/saved")
    saved.mkdir()
    path = str(saved / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
    (saved / "state.json").write_text(json.dumps(state))
    (saved / "dataset_info.json").write_text("{}")


def _write_layouts() -> None:
    write_evalmuse(Path("evalmuse"))
    write_aigiqa20k(Path("aigiqa20k"), {"train": 4, "val": 2, "test": 2})
    folder = Path("aigciqa2023")
    random = np.random.default_rng(1)
    for number in (1, 2, 3):
        _save_mat(folder / "DATA" / "MOS" / f"mosz{number}.mat", MOSz=random.uniform(20, 70, (2400, 1)))
        _save_mat(folder / "DATA" / "STD" / f"SD{number}.mat", SD=random.uniform(5, 20, (2400, 1)))
    (folder / "Image" / "allimg").mkdir(parents=True)
    rows = [("Basic", "Animals", f"scene {number}") for number in range(100)]
    save_sheet(folder / "AIGCIQA2023_Prompts.xlsx", rows)


def _save_mat(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays)


def _write_networks() -> None:
    state = torch.load(write_state("test_resnet", Path("weights/net.pth")))
    save_file(state, "weights/net.safetensors")
    arrays: Mapping[str, np.ndarray] = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez("weights/net.npz", **arrays)
    names = sorted(state)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    Path("sharded").mkdir()
    for file, part in halves.items():
        save_file({name: state[name] for name in part}, f"sharded/{file}")
    places = {name: file for file, part in halves.items() for name in part}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    Path("sharded/model.safetensors.index.json").write_text(json.dumps(index))
    write_text_folder(Path("text"), "bert")
    write_text_folder(Path("t5"), "t5")
    write_text_folder(Path("clip"), "clip")
    write_scorer(Path("scorer"))
    write_sentence_folder(Path("sentence"), layers=("Dense", "Normalize"))


def _write_settings(frame: pd.DataFrame) -> None:
    Path("settings").mkdir()
    Path("settings/grid.toml").write_text(GRID)
    Path("settings/options.toml").write_text(OPTIONS)
    Path("settings/templates.toml").write_text(TEMPLATES)
    names = list(frame["image"])
    parts = [
        {"seed": 0, "train": names[:6], "validation": names[6:8], "test": names[8:]},
        {"seed": 1, "train": names[6:], "validation": names[4:6], "test": names[:4]},
    ]
    Path("settings/splits.json").write_text(json.dumps(parts))
    scores = frame[["image"]].assign(score=frame["mos"] / 5)
    scores.to_csv("settings/scores.csv", index=False)
    scores.to_excel("settings/scores.xlsx", index=False)
    scores.to_parquet("settings/scores.parquet", index=False)


def _run_commands() -> None:
    tier("extract", "data/table.csv", *ENCODERS, "--workers", "0")
    tier("extract", "data/table.csv", "--encoder", "hf:clip", "--templates", "settings/templates.toml")
    tier("extract", "data/table.csv", *ENCODERS, "-F", "planned", "--plan-only")
    fit = ["fit-head", "data/table.csv", *STORED_ENCODERS, "--split", "settings/splits.json"]
    heads = {
        "ridge": ["--head", "ridge"],
        "mlp": ["--epochs", "2", "--set", "hidden=4"],
        "own": ["--head", "own_heads:linear"],
        "tuned": ["--finetune", "image", *IMAGE[2:], "--epochs", "1", "--train-batch-size", "4"],
    }
    for name, options in heads.items():
        tier(*fit, *options, "--out", f"out-{name}")
    tier(
        "score", "data/table.csv", "--scores", "settings/scores.csv", "--name", "given", "--out", "out-given"
    )
    for folder in Path().glob("out-*"):
        run = min(file.parent for file in folder.glob("*/config.json"))
        Path("runs").mkdir(exist_ok=True)
        run.rename(Path("runs") / folder.name.removeprefix("out-"))
        shutil.rmtree(folder)
    tier("export", "runs/mlp", "exported", *IMAGE[2:])
    tier("predict", "runs/ridge", "data/table.csv", *IMAGE[2:], "-o", "settings/predicted.parquet")


def tier(*arguments: str) -> None:
    """Run a command that must succeed, in this process."""
    from typer.testing import CliRunner

    from tier4k import cli

    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exit_code:
        raise RuntimeError(f"tier {' '.join(arguments)}: {result.output}") from result.exception
