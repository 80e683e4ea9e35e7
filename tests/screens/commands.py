"""The commands whose output is recorded, and the masks of what differs between two calls."""

import os
import re
from pathlib import Path

from tier4k.tests.builders.commands import ENCODERS

FOLDER = Path(__file__).parent

WIDTHS = (80, 120)

RECORD = "TIER_RECORD_SCREENS"
"""Environment variable that lets the test write the files instead of comparing them."""

ALL_RUNS = ("runs/fr", "runs/mlp", "runs/nr", "runs/pr")

SPLIT = ("--split", "random", "--repeats", "2")

COMMANDS = {
    "help": ("--help",),
    "data-check": ("data", "check", "Dataset", "--text-encoder", "bert-base-uncased"),
    "extract": ("extract", "Dataset", *ENCODERS),
    "fit-head": ("fit-head", "Dataset", *ENCODERS, *SPLIT, "--head", "ridge", "--out", "out-WIDTH"),
    "table": ("table", *ALL_RUNS),
    "table-by-generator": ("table", "runs/mlp", "runs/pr", "--by", "generator"),
    "compare": ("compare", "runs/nr", "runs/fr"),
    "sweep": ("sweep", "Dataset", *ENCODERS, *SPLIT, "--grid", "grid.toml", "--out", "sweep-WIDTH"),
    "store-ls": ("store", "ls"),
    "predict": ("predict", "runs/pr", "Dataset"),
    "quiet": ("evaluate", "runs/nr", "Dataset", "--quiet", "--out", "quiet-WIDTH"),
}

SLOW = ("data-check", "extract", "fit-head", "table-by-generator", "sweep", "predict", "quiet")
"""Commands that take longer, such as those that fit heads or load networks."""

GRID = 'head = "ridge"\nmethod = ["nr", "pr"]\npenalties = ["1", "10"]\ntarget = "MOS_q"\n'

STORE_AGE = 2 * 86400  # seconds


def arguments_of(name: str, width: int) -> list[str]:
    """Return the arguments of a command; its output folder is new for each width."""
    return [argument.replace("WIDTH", f"{width:03}") for argument in COMMANDS[name]]


def prepare(folder: Path) -> None:
    """Write the grid of the sweep, and let all stores be two days old."""
    (folder / "grid.toml").write_text(GRID, encoding="utf-8")
    for path in (folder / "features").rglob("*"):
        old = path.stat().st_mtime - STORE_AGE
        os.utime(path, (old, old))


def masked(text: str) -> str:
    """Replace what differs between machines: digits, signs of numbers, times, digests, the working folder."""
    text = re.sub(r"\s+/\S*/project/", " FOLDER/", text)
    text = re.sub(r"\b[0-9a-f]{10,64}\b", lambda found: "#" * len(found[0]), text)
    text = re.sub(r"\d+\.\d s\b", "0.0 s", text)
    text = re.sub(r"[+-](?=\d+\.\d)", "±", text)
    text = re.sub(r"\d", "0", text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
